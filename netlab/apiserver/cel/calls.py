"""Calls: which overload takes the values, what that costs, and how its errors end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from netlab.apiserver.cel.ast import CelError
from netlab.apiserver.cel.charges import CHARGES, Charge
from netlab.apiserver.cel.declarations import Does, Function
from netlab.apiserver.cel.run import EXCEEDED, Exceeded, Run
from netlab.apiserver.cel.text import TooLarge
from netlab.apiserver.cel.values import Opaque, UInt

_SCALARS = frozenset((int, float, bool, UInt, type(None)))
_LARGE = frozenset((str, bytes, list))
Step = Callable[[Run], Any]


class _Site:
    """Where one function is called: by the types of the arguments, what is done, metered or not, and its charge."""

    def __init__(self, function: Function, member: bool) -> None:
        self._function, self._member = function, member
        self._charge = CHARGES.get(function.name)
        self.known: dict[Any, tuple[Does, bool, Charge | None]] = {}

    def find(self, args: tuple[Any, ...]) -> tuple[Does, bool, Charge | None]:
        """Return it for these arguments. Raises ValueError, there is no such overload."""
        does = self._function.does(self._member, args)
        types = tuple(map(type, args))
        scalar = self._function.name.startswith("_") and all(one in _SCALARS for one in types)
        found = does, hasattr(does, "metered"), None if scalar else self._charge
        if Opaque not in types:
            self.known[types] = found
        return found


def called(function: Function, member: bool, args: Sequence[Step]) -> Step:
    """Return the step that calls a function on what other steps return."""
    site = _Site(function, member)
    known, find, name = site.known, site.find, function.name

    def call(run: Run, *given: Any) -> Any:
        try:
            does, metered, charge = known.get(tuple(map(type, given))) or find(given)
            result = does(run, *given) if metered else does(*given)
        except TooLarge as error:
            raise Exceeded(str(error)) from None
        except CelError:
            raise
        except (ValueError, OverflowError) as error:
            run.spend(1)
            raise CelError(str(error) or name) from None
        except TypeError:  # items of a list that do not go together: of a list only that it is one is asked before
            run.spend(1)
            raise CelError(f"no such overload: {name}") from None
        run.left -= 1 if charge is None else charge(given, result)
        if run.left < 0:
            raise Exceeded(EXCEEDED)
        if type(result) in _LARGE:
            run.grow(result)
        return result

    if len(args) == 1:
        only = args[0]
        return lambda run: call(run, only(run))
    if len(args) == 2:
        first, second = args
        return lambda run: call(run, first(run), second(run))
    return lambda run: call(run, *[arg(run) for arg in args])
