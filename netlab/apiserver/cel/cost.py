"""What an expression costs at worst, before any value is known (cel-go/checker/cost.go).

Sizes and costs are ranges (least, most). The sizes of what comes from outside are what its declared type says (`most`);
upstream's limits are stated in this unit, so that the sums must be upstream's as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from netlab.apiserver.cel.ast import Fold, Node
from netlab.apiserver.cel.charges import LIST, MAP, STRUCT
from netlab.apiserver.cel.check import Checked
from netlab.apiserver.cel.estimates import ESTIMATES, MOST, ONE, UNKNOWN, ZERO, Estimate, Part, Range, items, known
from netlab.apiserver.cel.types import Type

_SCALARS = frozenset(("bool", "double", "duration", "int", "timestamp", "uint"))


@dataclass(frozen=True, slots=True)
class _Entry:
    """Sizes of the keys and values of a list or map that the expression makes."""

    key: Range
    value: Range

    def either(self, other: _Entry) -> _Entry:
        return _Entry(self.key.either(other.key), self.value.either(other.value))


def estimate(checked: Checked, variables: Mapping[str, Type]) -> int:
    """Return the most that an expression can cost."""
    return _Coster(checked, variables).cost(checked.tree.root).most


@dataclass(slots=True)
class _Local:
    declared: Type | None
    size: Range | None
    entry: _Entry | None


class _Coster:
    def __init__(self, checked: Checked, variables: Mapping[str, Type]) -> None:
        self._checked, self._variables = checked, variables
        self._declared: dict[int, Type] = {}
        self._sizes: dict[int, Range] = {}
        self._entries: dict[int, _Entry] = {}
        self._locals: dict[str, list[_Local]] = {}

    def cost(self, node: Node) -> Range:
        if node.id in self._checked.names:
            declared = self._variables.get(self._checked.names[node.id])
            if declared is not None:
                self._declared[node.id] = declared
            return ONE
        found: Range = getattr(self, f"_{node.kind}")(node)
        return found

    def _type(self, node: Node) -> Type:
        return self._checked.types[node.id]

    # --- the kinds of nodes ---

    def _const(self, _node: Node) -> Range:
        return ZERO

    def _ident(self, node: Node) -> Range:
        local = self._local(node)
        declared = local.declared if local is not None else self._variables.get(node.name)
        if declared is not None:
            self._declared[node.id] = declared
        return ONE

    def _select(self, node: Node) -> Range:
        assert node.target is not None
        found = self.cost(node.target)
        if node.test:
            return found
        inside = self._type(node.target)
        if inside.name == "map" or inside.fields is not None or inside.name == "dyn":
            found = found.plus(ONE)
        outer = self._path(node.target)
        inner = _inside(outer, node.name) if outer is not None else None
        if inner is not None:
            self._declared[node.id] = inner
        return found

    def _list(self, node: Node) -> Range:
        found, item = Range(LIST, LIST), Range(MOST if node.args else 0, 0)
        for arg in node.args:
            found = found.plus(self.cost(arg))
            item = item.either(self._size_of(arg))
        self._entries[node.id] = _Entry(ONE, item)
        return found

    def _map(self, node: Node) -> Range:
        start = Range(MOST if node.entries else 0, 0)
        found, keys, values = Range(MAP, MAP), start, start
        for key, value, _ in node.entries:
            found = found.plus(self.cost(key)).plus(self.cost(value))
            keys, values = keys.either(self._size_of(key)), values.either(self._size_of(value))
        self._entries[node.id] = _Entry(keys, values)
        return found

    def _struct(self, node: Node) -> Range:
        found = Range(STRUCT, STRUCT)
        for _, value, _ in node.entries:
            found = found.plus(self.cost(value))
        return found

    def _fold(self, node: Node) -> Range:
        fold = node.fold
        assert fold is not None
        found = self.cost(fold.over).plus(self.cost(fold.init))
        self._push(fold.accu, _Local(self._path(fold.init), self._size(fold.init), self._entry(fold.init)))
        if _binds(fold):
            found = found.plus(self.cost(fold.result))
            self._copy(node, fold.result)
            self._pop(fold.accu)
            return found
        for name, local in self._iterated(fold):
            self._push(name, local)
        condition, step = self.cost(fold.condition), self.cost(fold.step)
        entry = self._entry(fold.step)
        for name, _ in self._iterated(fold):
            self._pop(name)
        found = found.plus(self.cost(fold.result))
        self._pop(fold.accu)
        rounds = self._size_of(fold.over)
        if fold.init.kind in ("list", "map"):
            self._sizes[node.id] = rounds
            if entry is not None:
                self._entries[node.id] = entry
        elif (size := self._size(fold.init)) is not None:
            self._sizes[node.id] = size
        return found.plus(rounds.times(condition.plus(step)))

    def _iterated(self, fold: Fold) -> list[tuple[str, _Local]]:
        entry, outer = self._entry(fold.over), self._path(fold.over)
        is_list = self._type(fold.over).name == "list"
        found = items(outer) if outer is not None else None
        value = _Local(found, entry.value if entry else None, None)
        key_type = outer.params[0] if outer is not None and outer.name == "map" else None
        key = _Local(key_type, entry.key if entry else None, None)
        if fold.second:
            return [(fold.first, key), (fold.second, value)]
        return [(fold.first, value if is_list else key)]

    def _call(self, node: Node) -> Range:
        if node.name == "dyn" and node.args:
            found = self.cost(node.args[0]).plus(ONE)
            self._copy(node, node.args[0])
            return found
        if node.name == "_?._":
            return self.cost(node.args[0]).plus(ONE)
        args = [self.cost(arg) for arg in node.args]
        function, overloads, member = self._checked.calls[node.id]
        target, found = None, ZERO
        if member and node.target is not None:
            found = self.cost(node.target)
            target = self._part(node.target)
        parts = [self._part(arg) for arg in node.args]
        call: Range | None = None
        size: Range | None = None
        for overload in overloads:
            one = self._overload(node, function.name, [one.name for one in overload.takes], target, parts, args)
            call = one.cost if call is None else call.either(one.cost)
            if one.size is not None:
                size = one.size if size is None else size.either(one.size)
            if function.name in ("_[_]", "_[?_]"):
                self._indexed(node)
        if size is None:
            size = self._size(node)
        if size is not None:
            self._sizes[node.id] = size
        return found.plus(call or ZERO)

    def _indexed(self, node: Node) -> None:
        outer, entry = self._path(node.args[0]), self._entry(node.args[0])
        found = items(outer) if outer is not None else None
        if found is not None:
            self._declared[node.id] = found
        if entry is not None:
            self._sizes[node.id] = entry.value

    def _overload(
        self,
        node: Node,
        name: str,
        takes: Sequence[str],
        target: Part | None,
        parts: Sequence[Part],
        args: Sequence[Range],
    ) -> Estimate:
        if name in ("_&&_", "_||_"):
            return Estimate(Range(args[0].least, args[0].plus(args[1]).most))
        if name == "_?_:_":
            one, other = self._entry(node.args[1]), self._entry(node.args[2])
            if one is not None and other is not None:
                self._entries[node.id] = one.either(other)
            return Estimate(args[0].plus(args[1].either(args[2])), known(parts[1]).either(known(parts[2])))
        estimator = ESTIMATES.get(name)
        found = estimator(takes, target, parts) if estimator is not None else Estimate(ONE)
        if name == "_+_":
            one, other = self._entry(node.args[0]), self._entry(node.args[1])
            if one is not None and other is not None:
                self._entries[node.id] = one.either(other)
        cost = found.cost
        for arg in args:
            cost = cost.plus(arg)
        return Estimate(cost, found.size)

    # --- what is known ---

    def _local(self, node: Node) -> _Local | None:
        stack = self._locals.get(node.name) if node.kind == "ident" else None
        return stack[-1] if stack else None

    def _push(self, name: str, local: _Local) -> None:
        self._locals.setdefault(name, []).append(local)

    def _pop(self, name: str) -> None:
        self._locals[name].pop()

    def _path(self, node: Node) -> Type | None:
        local = self._local(node)
        return local.declared if local is not None else self._declared.get(node.id)

    def _part(self, node: Node) -> Part:
        return Part(self._path(node), self._type(node), self._size(node))

    def _size_of(self, node: Node) -> Range:
        found = self._size(node)
        return UNKNOWN if found is None else found

    def _size(self, node: Node) -> Range | None:
        if node.id in self._sizes:
            return self._sizes[node.id]
        if (found := _literal(node)) is not None:
            return found
        declared = self._path(node)
        if declared is not None and declared.most is not None:
            return Range(0, declared.most)
        if _scalar(self._type(node)):
            return ONE
        local = self._local(node)
        return local.size if local is not None else None

    def _entry(self, node: Node) -> _Entry | None:
        if node.id in self._entries:
            return self._entries[node.id]
        local = self._local(node)
        return local.entry if local is not None else None

    def _copy(self, node: Node, other: Node) -> None:
        size, entry = self._size(other), self._entry(other)
        if size is not None:
            self._sizes[node.id] = size
        if entry is not None:
            self._entries[node.id] = entry


def _binds(fold: Fold) -> bool:
    """Tell whether a loop of no rounds only gives a name to a value."""
    return (
        fold.over.kind == "list"
        and not fold.over.args
        and fold.condition.kind == "const"
        and fold.condition.value is False
        and not fold.accu.startswith("@")
    )


def _inside(outer: Type, name: str) -> Type | None:
    if outer.name == "optional_type":
        outer = outer.params[0]
    if outer.fields is not None:
        return outer.field(name)
    return outer.params[1] if outer.name == "map" else None


def _literal(node: Node) -> Range | None:
    if node.kind == "const":
        size = len(node.value) if isinstance(node.value, (str, bytes)) else 1
    elif node.kind in ("list", "map"):
        size = len(node.args) or len(node.entries)
    else:
        return None
    return Range(size, size)


def _scalar(found: Type) -> bool:
    if found.name == "optional_type":
        return _scalar(found.params[0])
    return found.name in _SCALARS
