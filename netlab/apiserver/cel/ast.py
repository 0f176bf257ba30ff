"""What an expression says, as a tree. The parser is cel-expr-python's; comprehensions of two variables are added here.

The library expands the macros of the language (`all`, `map`, `has`, …) itself and hands the tree over as protobuf
(cel.expr.ParsedExpr), which is read here by field numbers: https://github.com/google/cel-spec/tree/master/proto/cel/expr.
Two-variable macros arrive as ordinary calls and become folds: cel-go/ext/comprehensions.go.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from netlab.api.protobuf import varint, wire_fields
from netlab.apiserver.cel.values import UInt

if TYPE_CHECKING:
    from netlab.apiserver.cel import deep

LONGEST = 64 * 1024
ACCU = "@result"
_SHOWN = 1024
"""Characters of a line that errors show; each of a hundred would repeat a longer one."""


class CelError(ValueError):
    """An expression does not compile, or has no value for these inputs."""


@dataclass(slots=True, eq=False)
class Node:
    """One part of an expression. What the fields mean depends on `kind`:

    const (value), ident (name), select (target, name; `test` for has()), call (target or None, name, args),
    list (args, optional indices), map (entries of key, value, optional), struct (name, entries of field name, …),
    fold (a comprehension).
    """

    id: int
    kind: str
    name: str = ""
    value: Any = None
    target: Node | None = None
    args: Sequence[Node] = ()
    test: bool = False
    entries: Sequence[tuple[Any, Node, bool]] = ()
    optional: frozenset[int] = frozenset()
    fold: Fold | None = None


@dataclass(slots=True, eq=False)
class Fold:
    """`accu = init; for first[, second] in over: if not condition: break; accu = step`, then `result`."""

    first: str
    second: str
    over: Node
    accu: str
    init: Node
    condition: Node
    step: Node
    result: Node


@dataclass(frozen=True, slots=True)
class Tree:
    """A parsed expression; `places` says at which character (from 0) a node is."""

    text: str
    root: Node
    places: dict[int, int]

    def error(self, node: Node, said: str) -> tuple[int, str]:
        """Return where an error is, and its text as compilers of the language show it."""
        at = self.places.get(node.id, 0)
        before = self.text[:at]
        number, start = before.count("\n") + 1, before.rfind("\n") + 1
        end = self.text.find("\n", at)
        line = self.text[start:end if end >= 0 else None].replace("\t", " ")
        shown = f"\n | {line}\n | {'.' * (at - start)}^" if len(line) <= _SHOWN else ""
        return at, f"ERROR: <input>:{number}:{at - start + 1}: {said}{shown}"


@cache
def _parser() -> Any:
    from cel_expr_python import cel
    from cel_expr_python.ext import ext_optional

    return cel.NewEnv(extensions=[ext_optional.ExtOptional()])


def parse(text: str) -> Tree:
    """Read an expression.

    Raises:
        CelError: it is none, is too long or too deeply nested.
    """
    from netlab.apiserver.cel import deep

    if len(text) > LONGEST:
        raise CelError(f"the expression is longer than {LONGEST} characters")
    try:
        root, places = _read(text)
    except deep.TooDeep:
        root, places = deep.parse(text, _read)
    return Tree(text, root, places)


def _read(text: str) -> deep.Tree:
    """Read an expression, or a piece of one.

    Raises:
        CelError: it is none.
        TooDeep: the parser does not go so deep.
    """
    from netlab.apiserver.cel import deep

    try:
        raw = _parser().compile(text, disable_check=True).serialize()
    except (RuntimeError, ValueError, TypeError) as error:  # the last two: text that is no Unicode
        if not isinstance(error, RuntimeError):
            raise CelError("ERROR: <input>:1:1: Syntax error: the text is no UTF-8") from None
        said = str(error)
        if "recursion" in said:
            raise deep.TooDeep from None
        raise CelError(said.removeprefix("INVALID_ARGUMENT: ").removesuffix(" [INVALID_ARGUMENT]").strip()) from None
    parts = dict(_fields(dict(_fields(raw))[2]))
    places: dict[int, int] = {}
    for number, piece in _fields(parts[3]):
        if number == 4:
            entry = dict(_fields(piece))
            places[entry.get(1, 0)] = entry.get(2, 0)
    reader = _Reader(places)
    return deep.Tree(reader.node(parts[2]), places)


# --- protobuf ---------------------------------------------------------------------------------------------------------


def _fields(raw: Any) -> Iterator[tuple[int, Any]]:
    yield from wire_fields(raw)


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


_CONST: dict[int, Callable[[Any], Any]] = {
    1: lambda _: None,
    2: bool,
    3: _signed,
    4: UInt,
    5: lambda raw: struct.unpack("<d", raw)[0],
    6: lambda raw: bytes(raw).decode("utf-8", "replace"),
    7: bytes,
}


class _Reader:
    """Reads one tree; `places` learns where the nodes are that macros add."""

    def __init__(self, places: dict[int, int]) -> None:
        self._places = places
        self._fresh = itertools.count(max(places, default=0) + 1_000_000)

    def node(self, raw: Any) -> Node:
        parts = dict(_fields(raw))
        identity = parts.pop(2, 0)
        number, body = next(iter(parts.items()))
        return getattr(self, "_" + _KINDS[number])(identity, body)  # type: ignore[no-any-return]

    def _const(self, identity: int, body: Any) -> Node:
        number, value = next(_fields(body))
        return Node(identity, "const", value=_CONST[number](value))

    def _ident(self, identity: int, body: Any) -> Node:
        return Node(identity, "ident", name=_text(dict(_fields(body)).get(1, b"")))

    def _select(self, identity: int, body: Any) -> Node:
        parts = dict(_fields(body))
        return Node(
            identity, "select", name=_text(parts.get(2, b"")), target=self.node(parts[1]), test=bool(parts.get(3))
        )

    def _call(self, identity: int, body: Any) -> Node:
        target, name, args = None, "", []
        for number, value in _fields(body):
            if number == 1:
                target = self.node(value)
            elif number == 2:
                name = _text(value)
            else:
                args.append(self.node(value))
        found = Node(identity, "call", name=name, target=target, args=args)
        return self._two(found) if target is not None and (name, len(args)) in _TWO else found

    def _list(self, identity: int, body: Any) -> Node:
        items, optional = [], []
        for number, value in _fields(body):
            if number == 1:
                items.append(self.node(value))
            elif isinstance(value, int):
                optional.append(value)
            else:
                at = 0
                while at < len(value):
                    index, at = varint(value, at)
                    optional.append(index)
        return Node(identity, "list", args=items, optional=frozenset(optional))

    def _struct(self, identity: int, body: Any) -> Node:
        name, entries = "", []
        for number, value in _fields(body):
            if number == 1:
                name = _text(value)
                continue
            parts = dict(_fields(value))
            key = self.node(parts[3]) if 3 in parts else _text(parts.get(2, b""))
            entries.append((key, self.node(parts[4]), bool(parts.get(5))))
        return Node(identity, "struct" if name else "map", name=name, entries=entries)

    def _fold(self, identity: int, body: Any) -> Node:
        parts = dict(_fields(body))
        over, init, condition, step, result = (self.node(parts[number]) for number in (2, 4, 5, 6, 7))
        return Node(
            identity,
            "fold",
            fold=Fold(
                _text(parts.get(1, b"")),
                _text(parts.get(8, b"")),
                over,
                _text(parts.get(3, b"")),
                init,
                condition,
                step,
                result,
            ),
        )

    # --- comprehensions of two variables ---

    def _two(self, call: Node) -> Node:
        """Return what a macro of two variables stands for."""
        *names, last = call.args
        if any(one.kind != "ident" for one in names[:2]):
            wrong = next(one for one in names[:2] if one.kind != "ident")
            return self._at(wrong, "call", name="@argument must be a simple name")
        assert call.target is not None
        init, condition, step, result = getattr(self, _MACROS[call.name])(
            call, names[0], names[2] if len(names) > 2 else None, last
        )
        return Node(
            call.id, "fold", fold=Fold(names[0].name, names[1].name, call.target, ACCU, init, condition, step, result)
        )

    def _at(self, near: Node, kind: str, **parts: Any) -> Node:
        identity = next(self._fresh)
        self._places[identity] = self._places.get(near.id, 0)
        return Node(identity, kind, **parts)

    def _accu(self, near: Node) -> Node:
        return self._at(near, "ident", name=ACCU)

    def _is(self, near: Node, value: Any) -> Node:
        return self._at(near, "const", value=value)

    def _does(self, near: Node, name: str, *args: Node) -> Node:
        return self._at(near, "call", name=name, args=list(args))

    def _all(self, near: Node, _first: Node, _when: Node | None, last: Node) -> Sequence[Node]:
        return (
            self._is(near, True),
            self._does(near, "@not_strictly_false", self._accu(near)),
            self._does(near, "_&&_", self._accu(near), last),
            self._accu(near),
        )

    def _exists(self, near: Node, _first: Node, _when: Node | None, last: Node) -> Sequence[Node]:
        return (
            self._is(near, False),
            self._does(near, "@not_strictly_false", self._does(near, "!_", self._accu(near))),
            self._does(near, "_||_", self._accu(near), last),
            self._accu(near),
        )

    def _exists_one(self, near: Node, _first: Node, _when: Node | None, last: Node) -> Sequence[Node]:
        more = self._does(near, "_+_", self._accu(near), self._is(near, 1))
        return (
            self._is(near, 0),
            self._is(near, True),
            self._does(near, "_?_:_", last, more, self._accu(near)),
            self._does(near, "_==_", self._accu(near), self._is(near, 1)),
        )

    def _transform_list(self, near: Node, _first: Node, when: Node | None, last: Node) -> Sequence[Node]:
        return self._collected(
            near,
            self._at(near, "list"),
            when,
            self._does(near, "_+_", self._accu(near), self._at(near, "list", args=[last])),
        )

    def _transform_map(self, near: Node, first: Node, when: Node | None, last: Node) -> Sequence[Node]:
        key = self._at(near, "ident", name=first.name)
        return self._collected(
            near, self._at(near, "map"), when, self._does(near, "cel.@mapInsert", self._accu(near), key, last)
        )

    def _transform_map_entry(self, near: Node, _first: Node, when: Node | None, last: Node) -> Sequence[Node]:
        return self._collected(
            near, self._at(near, "map"), when, self._does(near, "cel.@mapInsert", self._accu(near), last)
        )

    def _collected(self, near: Node, init: Node, when: Node | None, step: Node) -> Sequence[Node]:
        if when is not None:
            step = self._does(near, "_?_:_", when, step, self._accu(near))
        return init, self._is(near, True), step, self._accu(near)


def _text(raw: Any) -> str:
    return bytes(raw).decode("utf-8", "replace")


_KINDS = {3: "const", 4: "ident", 5: "select", 6: "call", 7: "list", 8: "struct", 9: "fold"}
_MACROS = {
    "all": "_all",
    "exists": "_exists",
    "existsOne": "_exists_one",
    "exists_one": "_exists_one",
    "transformList": "_transform_list",
    "transformMap": "_transform_map",
    "transformMapEntry": "_transform_map_entry",
}
_TWO = frozenset([*((name, 3) for name in _MACROS), *((name, 4) for name in _MACROS if name.startswith("transform"))])
