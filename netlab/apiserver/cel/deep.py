"""Expressions nested deeper than the parser goes: they are read in pieces, which are put together again.

The parser stops at 32 levels (cel-cpp's default, which its Python face can't change), upstream at 250. Here an
expression is cut at the operators that bind least, and what stands in brackets is read alone, with a name in its place.
https://github.com/google/cel-spec/blob/master/doc/langdef.md#syntax
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from netlab.apiserver.cel.ast import CelError, Fold, Node

DEEPEST = 250
"""Levels at most, as in upstream's parser; each operand of a chain of operators is one."""
_READ = 32
"""Levels that the parser goes."""
_CHUNK = 24
"""Operands of a chain that are read at once."""
_NAME = "__deep"
_TEXT = r"""\"\"\"[\s\S]*?\"\"\"|\'\'\'[\s\S]*?\'\'\'|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'"""
_RAW = r"""\"\"\"[\s\S]*?\"\"\"|\'\'\'[\s\S]*?\'\'\'|"[^"\n]*"|'[^'\n]*'"""
_TOKEN = re.compile(
    rf"(?P<space>\s+|//[^\n]*)|(?P<text>(?:[rR][bB]?|[bB][rR])(?:{_RAW})|[bB]?(?:{_TEXT}))"
    r"|(?P<number>\d[\w.]*(?:(?<=[eE])[+-]\d+)?)|(?P<name>[A-Za-z_]\w*|`[^`]*`)"
    r"|(?P<mark>\|\||&&|==|!=|<=|>=|\.\?|[-+*/%<>!?:.,()\[\]{}])")
_OPEN, _CLOSE = "([{", ")]}"
_LEVELS: tuple[tuple[str, ...], ...] = (
    ("||",), ("&&",), ("<", "<=", ">", ">=", "==", "!=", "in"), ("+", "-"), ("*", "/", "%"))
_MOST = 500_000
"""Tokens that are looked at, each as often as it is: some tenths of a second."""
_FUNCTIONS = {"in": "@in"}


class Tree(NamedTuple):
    """A piece that was read: its root, the places of its nodes, and the highest number of a node."""

    root: Node
    places: dict[int, int]


class TooDeep(Exception):
    """The parser does not go so deep."""


class _Token(NamedTuple):
    kind: str
    text: str
    start: int
    end: int
    depth: int


@dataclass(slots=True)
class _Piece:
    """Part of the text: tokens from `start` to before `end`."""

    tokens: Sequence[_Token]

    @property
    def start(self) -> int:
        return self.tokens[0].start

    @property
    def end(self) -> int:
        return self.tokens[-1].end


def parse(text: str, read: Callable[[str], Tree]) -> Tree:
    """Read an expression in pieces; `read` reads one that is not too deep.

    Raises:
        CelError: it is none, or is deeper than DEEPEST.
    """
    reader = _Deep(text, read)
    root = reader.read(_Piece(tuple(_tokens(text))), 0)
    return Tree(root, reader.places)


def _tokens(text: str) -> Iterator[_Token]:
    at = depth = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise _limit()
        kind, found = str(match.lastgroup), match.group()
        if found in _CLOSE and kind == "mark":
            depth -= 1
        if kind != "space":
            yield _Token(kind, found, at, match.end(), depth)
        if found in _OPEN and kind == "mark":
            depth += 1
            if depth > DEEPEST:
                raise _limit()
        at = match.end()


def _limit() -> CelError:
    return CelError(f"ERROR: <input>:1:1: expression recursion limit exceeded: {DEEPEST}")


class _Deep:
    def __init__(self, text: str, read: Callable[[str], Tree]) -> None:
        self._text, self._read = text, read
        self.places: dict[int, int] = {}
        self._last = self._work = 0

    def read(self, piece: _Piece, depth: int) -> Node:
        self._work += len(piece.tokens)
        if depth > DEEPEST or not piece.tokens or self._work > _MOST:
            raise _limit()
        base, tokens = piece.tokens[0].depth, piece.tokens
        if max(token.depth for token in tokens) - base < _READ:
            try:
                return self._taken(self._read(self._text[piece.start:piece.end]), piece.start)
            except TooDeep:
                pass
        marks = {at for at, token in enumerate(tokens)
                 if token.depth == base and (token.kind == "mark" or token.text == "in")}
        if (at := next((at for at in sorted(marks) if tokens[at].text == "?" and self._operand(tokens, at)), 0)):
            return self._choice(piece, at, depth)
        for names in _LEVELS:
            places = [at for at in sorted(marks) if tokens[at].text in names and self._operand(tokens, at)]
            if places:
                return self._chain(piece, places, depth)
        if tokens[0].text in ("!", "-"):
            name = "!_" if tokens[0].text == "!" else "-_"
            return self._made(tokens[0], name, self.read(_Piece(tokens[1:]), depth + 1))
        if tokens[0].text == "(" and self._closing(tokens, 0) == len(tokens) - 1:
            return self.read(_Piece(tokens[1:-1]), depth + 1)
        return self._skeleton(piece, depth)

    @staticmethod
    def _operand(tokens: Sequence[_Token], at: int) -> bool:
        """Tell whether an operand ends before this place: else a sign stands there, and no operator."""
        if not at:
            return False
        before = tokens[at - 1]
        return (before.kind in ("text", "number") or before.text in _CLOSE
                or (before.kind == "name" and before.text != "in"))

    @staticmethod
    def _closing(tokens: Sequence[_Token], at: int) -> int:
        return next((place for place in range(at + 1, len(tokens)) if tokens[place].depth == tokens[at].depth
                     and tokens[place].text in _CLOSE and tokens[place].kind == "mark"), len(tokens))

    def _choice(self, piece: _Piece, at: int, depth: int) -> Node:
        tokens, base, inner = piece.tokens, piece.tokens[0].depth, 0
        for place in range(at + 1, len(tokens)):
            if tokens[place].depth == base and tokens[place].kind == "mark":
                inner += tokens[place].text == "?"
                if tokens[place].text == ":":
                    if not inner:
                        parts = tokens[:at], tokens[at + 1:place], tokens[place + 1:]
                        return self._made(tokens[at], "_?_:_", *(self.read(_Piece(part), depth + 1) for part in parts))
                    inner -= 1
        raise _limit()

    def _chain(self, piece: _Piece, places: Sequence[int], depth: int) -> Node:
        if depth + len(places) > DEEPEST:
            raise _limit()
        tokens = piece.tokens
        first = min(_CHUNK, len(places) - 1) if len(places) > 1 else 0
        found = self.read(_Piece(tokens[:places[first]]), depth + len(places))
        for number in range(first, len(places)):
            at, end = places[number], places[number + 1] if number + 1 < len(places) else len(tokens)
            right = self.read(_Piece(tokens[at + 1:end]), depth + 1)
            found = self._made(tokens[at], _FUNCTIONS.get(tokens[at].text, f"_{tokens[at].text}_"), found, right)
        return found

    def _skeleton(self, piece: _Piece, depth: int) -> Node:
        """Read a chain of members with names in place of what stands in its brackets."""
        text, hidden = list(self._text[piece.start:piece.end]), dict[str, _Piece]()
        tokens, base = piece.tokens, piece.tokens[0].depth
        members = [at for at, token in enumerate(tokens) if at and token.kind == "mark" and token.depth == base
                   and token.text in (".", ".?", "[")]
        if len(members) > DEEPEST:
            raise _limit()
        if len(members) > _CHUNK:
            cut = members[-_CHUNK]
            self._replace(_Piece(tokens[:cut]), piece.start, text, hidden)
            depth += _CHUNK
            self._hide(_Piece(tokens[cut:]), piece.start, text, hidden)
        else:
            self._hide(piece, piece.start, text, hidden)
        if not hidden:
            raise _limit()
        try:
            root = self._taken(self._read("".join(text)), piece.start)
        except TooDeep:
            raise _limit() from None
        known = {name: self.read(part, depth + 1) for name, part in hidden.items()}
        return _put(root, known)

    def _hide(self, piece: _Piece, start: int, text: list[str], hidden: dict[str, _Piece]) -> None:
        tokens, base = piece.tokens, piece.tokens[0].depth
        for at, token in enumerate(tokens):
            if token.depth != base or token.kind != "mark" or token.text not in _OPEN:
                continue
            end = self._closing(tokens, at)
            macro = at and tokens[at - 1].text == "has"
            for part in _parts(tokens[at + 1:end]):
                inner = _Piece(part)
                if not any(one.kind == "mark" and one.text in _OPEN for one in part):
                    continue
                if macro:  # its argument has to stay a selection
                    self._hide(inner, start, text, hidden)
                    continue
                self._replace(inner, start, text, hidden)

    @staticmethod
    def _replace(piece: _Piece, start: int, text: list[str], hidden: dict[str, _Piece]) -> None:
        """Put a name in place of a piece; all else keeps its place."""
        name, room = f"{_NAME}{len(hidden)}", piece.end - piece.start
        if room >= len(name):
            text[piece.start - start:piece.end - start] = list(name.ljust(room))
            hidden[name] = piece

    def _made(self, near: _Token, name: str, *args: Node) -> Node:
        self._last += 1
        self.places[self._last] = near.start
        return Node(self._last, "call", name=name, args=list(args))

    def _taken(self, tree: Tree, start: int) -> Node:
        """Take over a piece that begins there: its nodes get numbers that nobody has."""
        base = self._last
        for node in _nodes(tree.root):
            node.id += base
            self._last = max(self._last, node.id)
        for identity, place in tree.places.items():
            self.places[identity + base] = place + start
            self._last = max(self._last, identity + base)
        return tree.root


def _parts(tokens: Sequence[_Token]) -> Iterator[Sequence[_Token]]:
    """Yield what commas and colons part in a pair of brackets."""
    begin = questions = 0
    for at, token in enumerate(tokens):
        if token.depth == tokens[0].depth and token.kind == "mark":
            questions += token.text == "?" and at > begin
            if token.text == "," or (token.text == ":" and not questions):
                if tokens[begin:at]:
                    yield tokens[begin:at]
                begin, questions = at + 1, 0
            elif token.text == ":":
                questions -= 1
            elif token.text == "?" and at == begin:
                begin = at + 1  # an optional element
    if tokens[begin:]:
        yield tokens[begin:]


def _nodes(root: Node) -> Iterator[Node]:
    """Yield every node once."""
    seen: set[int] = set()
    left = [root]
    while left:
        node = left.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        yield node
        left += _below(node)


def _below(node: Node) -> list[Node]:
    found = [*node.args]
    if node.target is not None:
        found.append(node.target)
    for key, value, _ in node.entries:
        found += [key, value] if isinstance(key, Node) else [value]
    if node.fold is not None:
        fold = node.fold
        found += [fold.over, fold.init, fold.condition, fold.step, fold.result]
    return found


def _put(root: Node, known: dict[str, Node]) -> Node:
    """Return the tree with what was read alone in place of its names."""
    def instead(node: Node) -> Node:
        return known.get(node.name, node) if node.kind == "ident" else node

    for node in tuple(_nodes(root)):
        node.args = [instead(one) for one in node.args]
        if node.target is not None:
            node.target = instead(node.target)
        if node.entries:
            node.entries = [(instead(key) if isinstance(key, Node) else key, instead(value), optional)
                            for key, value, optional in node.entries]
        if node.fold is not None:
            fold = node.fold
            node.fold = Fold(fold.first, fold.second, instead(fold.over), fold.accu, instead(fold.init),
                             instead(fold.condition), instead(fold.step), instead(fold.result))
    return instead(root)
