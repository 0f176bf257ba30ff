"""Evaluation: an expression becomes a tree of Python functions, each of which takes the run and returns a value.

Every step is charged as upstream charges it, and what an expression builds is counted: a run that takes too much ends
with an error, whatever the expression makes of errors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from netlab.apiserver.cel import folds
from netlab.apiserver.cel.ast import CelError, Node
from netlab.apiserver.cel.calls import called
from netlab.apiserver.cel.charges import LIST, MAP, STRUCT
from netlab.apiserver.cel.check import KINDS, Checked
from netlab.apiserver.cel.folds import Failed, Step, truth
from netlab.apiserver.cel.run import EXCEEDED, Exceeded, Run
from netlab.apiserver.cel.standard import has, insert
from netlab.apiserver.cel.values import Optional


def compile_(checked: Checked) -> Step:
    """Return the function that evaluates an expression."""
    return _Compiler(checked).node(checked.tree.root)


class _Compiler:
    def __init__(self, checked: Checked) -> None:
        self._checked = checked

    def node(self, node: Node) -> Step:
        if node.id in self._checked.names:
            return self._name(self._checked.names[node.id])
        return getattr(self, f"_{node.kind}")(node)  # type: ignore[no-any-return]

    def _name(self, name: str) -> Step:
        def read(run: Run) -> Any:
            run.left -= 1
            if run.left < 0:
                raise Exceeded(EXCEEDED)
            try:
                return run.vars[name]
            except KeyError:
                if name in KINDS:
                    return KINDS[name]
                raise CelError(f"no such attribute(s): {name}") from None

        return read

    def _const(self, node: Node) -> Step:
        value = node.value
        return lambda _run: value

    def _ident(self, node: Node) -> Step:
        name = node.name.removeprefix(".")
        if not name.startswith("@"):
            return self._name(name)

        def accumulated(run: Run) -> Any:
            run.spend(1)
            found = run.vars[name]
            if type(found) is Failed:
                raise found.error
            return found

        return accumulated

    def _select(self, node: Node) -> Step:
        assert node.target is not None
        inner, name, test = self.node(node.target), node.name, node.test

        def present(run: Run) -> bool:
            return _present(inner(run), name)

        def select(run: Run) -> Any:
            found = inner(run)
            run.spend(1)
            return selected(found, name)

        return present if test else select

    def _list(self, node: Node) -> Step:
        if all(arg.kind == "const" for arg in node.args):
            return _constants([arg.value for arg in node.args])
        items = [(self.node(arg), at in node.optional) for at, arg in enumerate(node.args)]

        def make(run: Run) -> list[Any]:
            run.spend(LIST)
            made = []
            for item, optional in items:
                value = item(run)
                if not optional:
                    made.append(value)
                elif value.there:
                    made.append(value.value)
            run.grow(made)
            return made

        return make

    def _map(self, node: Node) -> Step:
        entries = [(self.node(key), self.node(value), optional) for key, value, optional in node.entries]

        def make(run: Run) -> dict[Any, Any]:
            run.spend(MAP)
            made: dict[Any, Any] = {}
            for key, value, optional in entries:
                found, under = value(run), key(run)
                if optional and not found.there:
                    continue
                try:
                    insert(made, under, found.value if optional else found)
                except ValueError as error:
                    raise CelError(
                        str(error)
                        .replace("insert failed: key", "Failed with repeated key:")
                        .removesuffix(" already exists")
                    ) from None
            run.grow(made)
            return made

        return make

    def _struct(self, node: Node) -> Step:
        entries = [(name, self.node(value), optional) for name, value, optional in node.entries]

        def make(run: Run) -> dict[str, Any]:
            run.spend(STRUCT)
            made = {}
            for name, value, optional in entries:
                found = value(run)
                if not optional:
                    made[name] = found
                elif found.there:
                    made[name] = found.value
            run.grow(made)
            return made

        return make

    def _call(self, node: Node) -> Step:
        special = _SPECIAL.get(node.name)
        if special is not None:
            return special([self.node(arg) for arg in node.args])
        if node.name == "_?._":
            inner, name = self.node(node.args[0]), node.args[1].value

            def maybe(run: Run) -> Optional:
                found = inner(run)
                run.spend(1)
                return _maybe(found, name)

            return maybe
        function, _, member = self._checked.calls[node.id]
        nodes = [node.target, *node.args] if member and node.target is not None else node.args
        return called(function, member, [self.node(arg) for arg in nodes])

    def _fold(self, node: Node) -> Step:
        assert node.fold is not None
        return folds.fold(node.fold, self.node)


def _constants(values: list[Any]) -> Step:
    """Return the step that makes a list of what is known."""
    def make(run: Run) -> list[Any]:
        run.spend(LIST)
        made = [*values]
        run.grow(made)
        return made
    return make


def selected(found: Any, name: str) -> Any:
    """Return a field. Raises CelError."""
    if isinstance(found, Mapping):
        try:
            return found[name]
        except KeyError:
            raise CelError(f"no such key: {name}") from None
    if isinstance(found, Optional):
        return _maybe(found, name)
    raise CelError("no such overload" if found is not None else f"no such key: {name}")


def _maybe(found: Any, name: str) -> Optional:
    if isinstance(found, Optional):
        return _maybe(found.value, name) if found.there else found
    if isinstance(found, Mapping):
        return Optional(found[name], True) if _present(found, name) else Optional()
    raise CelError("no such overload")


def _present(found: Any, name: str) -> bool:
    if isinstance(found, Optional):
        return found.there and _present(found.value, name)
    if isinstance(found, Mapping):
        return has(found, name) and found[name] is not None
    raise CelError("no such overload")


def _either(decides: bool) -> Callable[[list[Step]], Step]:
    """Return `||` (decides: True) or `&&`: an error counts only if the other side does not settle it."""

    def made(sides: list[Step]) -> Step:
        left, right = sides

        def ask(run: Run) -> Any:
            try:
                if truth(left(run)) is decides:
                    return decides
            except CelError:
                if right(run) is not decides:
                    raise
                return decides
            return truth(right(run))

        return ask

    return made


def _choice(parts: list[Step]) -> Step:
    condition, yes, no = parts
    return lambda run: yes(run) if truth(condition(run)) else no(run)


def _not_strictly_false(parts: list[Step]) -> Step:
    inner = parts[0]

    def ask(run: Run) -> bool:
        run.spend(1)
        try:
            return inner(run) is not False
        except CelError:
            return True

    return ask


_SPECIAL: dict[str, Callable[[list[Step]], Step]] = {
    "_&&_": _either(False),
    "_||_": _either(True),
    "_?_:_": _choice,
    "@not_strictly_false": _not_strictly_false,
}
