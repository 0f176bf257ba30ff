"""Comprehensions: `all`, `exists`, `map`, `filter` and their kin, and what any other loop of the language does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from netlab.apiserver.cel.ast import CelError, Fold, Node
from netlab.apiserver.cel.check import qualified
from netlab.apiserver.cel.run import Run
from netlab.apiserver.cel.standard import insert
from netlab.apiserver.cel.values import kind

Step = Callable[[Run], Any]
_QUANTIFIERS = {"_&&_": (False, 3, 2), "_||_": (True, 4, 3)}
"""How a step is joined → the value that settles it, what a round costs besides the predicate, and what the end does."""
_TICK = 127


class Failed:
    """Stands in an accumulator for the error that its step ended with."""

    __slots__ = ("error",)

    def __init__(self, error: CelError) -> None:
        self.error = error


def truth(value: Any) -> bool:
    """Return a value that must be true or false. Raises CelError."""
    if value is True or value is False:
        return bool(value)
    raise CelError("no such overload")


def fold(found: Fold, compiled: Callable[[Node], Step]) -> Step:
    """Return the step that a comprehension is; `compiled` makes steps of its parts."""
    collect = _collector(found, compiled)
    if collect is not None:
        return _collecting(found, compiled, collect)
    step = found.step
    if step.kind == "call" and step.name in _QUANTIFIERS and found.init.kind == "const" and _is_accu(
            step.args[0], found) and _is_accu(found.result, found):
        return _quantifying(found, compiled(found.over), compiled(step.args[1]), *_QUANTIFIERS[step.name])
    return _any(found, compiled)


def _is_accu(node: Node, found: Fold) -> bool:
    return qualified(node) == found.accu


@contextmanager
def _scope(run: Run, found: Fold) -> Iterator[None]:
    """Give the outer variables of the loop's names back at the end."""
    names = [name for name in (found.first, found.second, found.accu) if name]
    before = {name: run.vars[name] for name in names if name in run.vars}
    try:
        yield
    finally:
        for name in names:
            run.vars.pop(name, None)
        run.vars.update(before)


def _rounds(run: Run, over: Any, found: Fold) -> Iterator[None]:
    """Set the loop's variables, round by round."""
    first, second, names = found.first, found.second, run.vars
    if not isinstance(over, (list, Mapping)):
        raise CelError(f"no such overload: {kind(over)} is no range")
    if second:
        pairs = enumerate(over) if isinstance(over, list) else [*over.items()]
        for count, (names[first], names[second]) in enumerate(pairs):
            if count & _TICK == _TICK:
                run.tick()
            yield
        return
    for count, names[first] in enumerate(over if isinstance(over, list) else [*over]):
        if count & _TICK == _TICK:
            run.tick()
        yield


def _any(found: Fold, compiled: Callable[[Node], Step]) -> Step:
    over, init, result = compiled(found.over), compiled(found.init), compiled(found.result)
    condition, step, accu = compiled(found.condition), compiled(found.step), found.accu

    def loop(run: Run) -> Any:
        items = over(run)
        with _scope(run, found):
            run.vars[accu] = init(run)
            for _ in _rounds(run, items, found):
                if condition(run) is False:
                    break
                try:
                    run.vars[accu] = step(run)
                except CelError as error:
                    run.vars[accu] = Failed(error)
            return result(run)
    return loop


def _quantifying(found: Fold, over: Step, predicate: Step, settles: bool, cost: int, end: int) -> Step:
    """An error in one round does not matter if another settles it."""
    def loop(run: Run) -> bool:
        items = over(run)
        failed: CelError | None = None
        with _scope(run, found):
            run.spend(1)
            for _ in _rounds(run, items, found):
                run.left -= cost  # the predicate's own steps look whether that was too much
                try:
                    if truth(predicate(run)) is settles:
                        run.spend(end)
                        return settles
                except CelError as error:
                    failed = failed or error
            run.spend(0)
        if failed is not None:
            raise failed
        return not settles
    return loop


def _collecting(found: Fold, compiled: Callable[[Node], Step], collect: Callable[[Run, Any], None]) -> Step:
    over, init, result, accu = compiled(found.over), compiled(found.init), compiled(found.result), found.accu

    def loop(run: Run) -> Any:
        items = over(run)
        with _scope(run, found):
            made = init(run)
            for _ in _rounds(run, items, found):
                collect(run, made)
            run.vars[accu] = made
            return result(run)
    return loop


def _collector(found: Fold, compiled: Callable[[Node], Step]) -> Callable[[Run, Any], None] | None:
    """Return what adds to the accumulator in place: a new list per round would make `map` quadratic."""
    step, when = found.step, None
    if step.kind == "call" and step.name == "_?_:_" and _is_accu(step.args[2], found):
        when, step = compiled(step.args[0]), step.args[1]
    if step.kind != "call" or not step.args or not _is_accu(step.args[0], found):
        return None
    if step.name == "_+_" and found.init.kind == "list" and step.args[1].kind == "list":
        items = compiled(step.args[1])

        def add(run: Run, made: list[Any]) -> None:
            if when is None or truth(when(run)):
                run.spend(2)
                made.extend(items(run))
        return add
    if step.name != "cel.@mapInsert":
        return None
    parts = [compiled(arg) for arg in step.args[1:]]

    def put(run: Run, made: dict[Any, Any]) -> None:
        if when is None or truth(when(run)):
            run.spend(2)
            given = [part(run) for part in parts]
            try:
                for key, value in given[0].items() if len(given) == 1 else [given]:
                    insert(made, key, value)
            except ValueError as error:
                raise CelError(str(error)) from None
            run.grow({})
    return put
