"""The types of an expression's parts, or what is wrong with them (cel-go/checker). No effects."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from netlab.apiserver import regular
from netlab.apiserver.cel import types
from netlab.apiserver.cel.ast import CelError, Fold, Node, Tree
from netlab.apiserver.cel.declarations import Does, Function, Overload
from netlab.apiserver.cel.types import (
    BOOL,
    DYN,
    ERROR,
    INT,
    NULL,
    STRING,
    TYPE,
    Solver,
    Type,
    any_kind,
    list_of,
    map_of,
)
from netlab.apiserver.cel.values import Kind, UInt, duration, timestamp

_CONSTANTS = {
    bool: BOOL,
    int: INT,
    UInt: types.UINT,
    float: types.DOUBLE,
    str: STRING,
    bytes: types.BYTES,
    type(None): NULL,
}
_KEYS = frozenset(("int", "uint", "bool", "string", "dyn", "!error!"))
_LITERALS: Mapping[str, tuple[int, Callable[[str], Any]]] = {
    "duration": (0, duration),
    "timestamp": (0, timestamp),
    "matches": (-1, regular.compile_),
}
"""Function → which of its arguments is checked here when it is a literal, and how."""
_MOST_ERRORS = 100
KINDS = {
    name: Kind(name)
    for name in (
        "bool",
        "int",
        "uint",
        "double",
        "string",
        "bytes",
        "list",
        "map",
        "type",
        "null_type",
        "optional_type",
    )
} | {
    "google.protobuf.Timestamp": Kind("timestamp"),
    "google.protobuf.Duration": Kind("duration"),
    "null_type": Kind("null"),
}
"""Names that stand for types."""


def _lazy(*_args: Any) -> Any:
    raise AssertionError("operators that choose their operands are evaluated elsewhere")


TABLE: list[tuple[str, Does]] = [
    ("_&&_(bool, bool) -> bool", _lazy),
    ("_||_(bool, bool) -> bool", _lazy),
    ("_?_:_(bool, A, A) -> A", _lazy),
    ("@not_strictly_false(bool) -> bool", _lazy),
]


@dataclass(frozen=True, slots=True)
class Checked:
    """An expression with the types of its parts, and what its calls and names mean, all by the nodes' numbers."""

    tree: Tree
    types: Mapping[int, Type]
    calls: Mapping[int, tuple[Function, tuple[Overload, ...], bool]]
    """The function, those of its overloads that fit, and whether it is called on its target."""
    names: Mapping[int, str] = field(default_factory=dict)
    """Of names with dots in them that stand for one thing: the name."""

    @property
    def type(self) -> Type:
        """Return the type of the whole."""
        return self.types[self.tree.root.id]


def check(
    tree: Tree,
    variables: Mapping[str, Type],
    functions: Mapping[str, Function],
    structs: Callable[[str], Type | None] = lambda _name: None,
) -> Checked:
    """Find the types.

    Raises:
        CelError: an unknown name, field or function, operands that do not fit; all that is found, in order.
    """
    checker = _Checker(tree, variables, functions, structs)
    checker.node(tree.root)
    if checker.errors:
        found = dict.fromkeys(said for _, said in sorted(checker.errors, key=lambda one: one[0]))
        raise CelError("\n".join([*found][:_MOST_ERRORS]))
    solved = {number: checker.solver.solved(one, final=True) for number, one in checker.types.items()}
    return Checked(tree, solved, checker.calls, checker.names)


class _Checker:
    def __init__(
        self,
        tree: Tree,
        variables: Mapping[str, Type],
        functions: Mapping[str, Function],
        structs: Callable[[str], Type | None],
    ) -> None:
        self._tree, self._functions, self._structs = tree, functions, structs
        self._scopes: list[dict[str, Type]] = [dict(variables)]
        self.solver = Solver()
        self.types: dict[int, Type] = {}
        self.calls: dict[int, tuple[Function, tuple[Overload, ...], bool]] = {}
        self.names: dict[int, str] = {}
        self.errors: list[tuple[int, str]] = []

    def node(self, node: Node) -> Type:
        found = getattr(self, f"_{node.kind}")(node)
        self.types[node.id] = found
        return found  # type: ignore[no-any-return]

    def _wrong(self, node: Node, said: str) -> Type:
        self.errors.append(self._tree.error(node, said))
        return ERROR

    def _shown(self, found: Type) -> str:
        return str(self.solver.solved(found))

    def _undeclared(self, node: Node, name: str) -> Type:
        return self._wrong(node, f"undeclared reference to '{name}' (in container '')")

    def _variable(self, name: str) -> Type | None:
        for scope in reversed(self._scopes):
            if name in scope:
                return scope[name]
        return Type("type", (Type(name),)) if name in KINDS else None

    # --- the kinds of nodes ---

    def _const(self, node: Node) -> Type:
        return _CONSTANTS[type(node.value)]

    def _ident(self, node: Node) -> Type:
        return self._variable(node.name.removeprefix(".")) or self._undeclared(node, node.name)

    def _select(self, node: Node) -> Type:
        name = qualified(node)
        if name and not node.test and (found := self._variable(name)) is not None:
            self.names[node.id] = name
            return found
        assert node.target is not None
        inside = self.solver.solved(self.node(node.target))
        result = self._selected(node, inside, node.name)
        return BOOL if node.test else result

    def _selected(self, node: Node, inside: Type, name: str) -> Type:
        if inside.free:
            self.solver.fits([DYN], [inside])
            return DYN
        if any_kind(inside):
            return DYN
        if inside.name == "optional_type":
            return _optional(self._selected(node, self.solver.solved(inside.params[0]), name))
        if inside.name == "map":
            return inside.params[1]
        if inside.fields is not None:
            return inside.field(name) or self._wrong(node, f"undefined field '{name}'")
        return self._wrong(node, f"type '{self._shown(inside)}' does not support field selection")

    def _call(self, node: Node) -> Type:
        if node.name == "_?._":
            inside = self.solver.solved(self.node(node.args[0]))
            field_ = node.args[1]
            if field_.kind != "const" or not isinstance(field_.value, str):
                return self._wrong(node, "unsupported optional field selection")
            self.types[field_.id] = STRING
            return _optional(self._selected(node, inside, field_.value))
        if node.name.startswith("@argument"):
            return self._wrong(node, node.name[1:])
        given = [self.node(arg) for arg in node.args]
        self._literal(node)
        if node.target is not None:
            name = qualified(node.target)
            static = self._functions.get(f"{name}.{node.name}") if name else None
            if static is not None:
                return self._resolved(node, static, given, member=False)
            given = [self.node(node.target), *given]
        function = self._functions.get(node.name.removeprefix("."))
        if function is None:
            return self._undeclared(node, node.name)
        return self._resolved(node, function, given, member=node.target is not None)

    def _resolved(self, node: Node, function: Function, given: list[Type], *, member: bool) -> Type:
        fitting, result = [], None
        for overload in function.overloads:
            if overload.member != member or len(overload.takes) != len(given):
                continue
            *wanted, returns = self.solver.renamed([*overload.takes, overload.returns])
            if self.solver.fits(given, wanted):
                fitting.append(overload)
                found = self.solver.solved(returns)
                result = found if result is None or result == found else DYN
        if result is None:
            shown = [self._shown(one) for one in given]
            said = f"{shown[0]}.({', '.join(shown[1:])})" if member else f"({', '.join(shown)})"
            return self._wrong(node, f"found no matching overload for '{function.name}' applied to '{said}'")
        self.calls[node.id] = function, tuple(fitting), member
        return result

    def _literal(self, node: Node) -> None:
        number, read = _LITERALS.get(node.name, (0, str))
        arg = node.args[number] if node.args else None
        if arg is not None and arg.kind == "const" and isinstance(arg.value, str):
            try:
                read(arg.value)
            except ValueError:
                self._wrong(arg, f"invalid {node.name} argument")

    def _list(self, node: Node) -> Type:
        item = self._common((arg, at in node.optional) for at, arg in enumerate(node.args))
        return list_of(item or self.solver.fresh())

    def _map(self, node: Node) -> Type:
        key = self._common((one, False) for one, _, _ in node.entries)
        if key is not None and self.solver.solved(key).name not in _KEYS:
            key = self._wrong(node, f"unsupported map key type '{self._shown(key)}'")
        value = self._common((one, optional) for _, one, optional in node.entries)
        return map_of(key or self.solver.fresh(), value or self.solver.fresh())

    def _common(self, nodes: Iterable[tuple[Node, bool]]) -> Type | None:
        """Return the one type that several nodes have."""
        common: Type | None = None
        for node, optional in nodes:
            found = self.node(node)
            if optional:
                found = self._unwrapped(node, found)
            if common is None:
                common = found
            elif self.solver.fits([common], [found]):
                common = self.solver.joined(common, found)
            else:
                self._wrong(node, f"expected type '{self._shown(common)}' but found '{self._shown(found)}'")
        return common

    def _unwrapped(self, node: Node, found: Type) -> Type:
        found = self.solver.solved(found)
        if found.name == "optional_type":
            return found.params[0]
        if any_kind(found):
            return DYN
        return self._wrong(
            node, f"expected type 'optional_type({self._shown(found)})' but found '{self._shown(found)}'"
        )

    def _struct(self, node: Node) -> Type:
        found = self._structs(node.name)
        if found is None:
            self._undeclared(node, node.name)
        for name, value, optional in node.entries:
            given = self.node(value)
            if optional:
                given = self._unwrapped(value, given)
            wanted = found.field(name) if found is not None else DYN
            if wanted is None:
                self._wrong(value, f"undefined field '{name}'")
            elif not self.solver.fits([wanted], [given]):
                self._wrong(
                    value,
                    f"expected type of field '{name}' is '{self._shown(wanted)}' but provided type is "
                    f"'{self._shown(given)}'",
                )
        return found or ERROR

    def _fold(self, node: Node) -> Type:
        fold = node.fold
        assert fold is not None
        over = self.solver.solved(self.node(fold.over))
        init = self.node(fold.init)
        self._scopes.append({fold.accu: init})
        self._scopes.append(self._loop(fold, over))
        self._be(fold.condition, BOOL)
        self._be(fold.step, init)
        self._scopes.pop()
        result = self.node(fold.result)
        self._scopes.pop()
        return self.solver.solved(result)

    def _loop(self, fold: Fold, over: Type) -> dict[str, Type]:
        first, second = DYN, DYN
        if over.free:
            self.solver.fits([DYN], [over])
        elif over.name == "list":
            first, second = (INT, over.params[0]) if fold.second else (over.params[0], DYN)
        elif over.name == "map":
            first, second = over.params
        elif not any_kind(over):
            self._wrong(
                fold.over,
                f"expression of type '{self._shown(over)}' cannot be range of a comprehension (must "
                "be list, map, or dynamic)",
            )
        return {fold.first: first, **({fold.second: second} if fold.second else {})}

    def _be(self, node: Node, wanted: Type) -> None:
        found = self.node(node)
        if not self.solver.fits([wanted], [found]):
            self._wrong(node, f"expected type '{self._shown(wanted)}' but found '{self._shown(found)}'")


def _optional(found: Type) -> Type:
    return found if found.name == "optional_type" else Type("optional_type", (found,))


def qualified(node: Node) -> str:
    """Return a chain of names as one, "" when it is something else."""
    parts = []
    while node.kind == "select" and not node.test and node.target is not None:
        parts.append(node.name)
        node = node.target
    return ".".join([node.name, *reversed(parts)]) if node.kind == "ident" else ""


__all__ = ["KINDS", "TABLE", "TYPE", "Checked", "check", "qualified"]
