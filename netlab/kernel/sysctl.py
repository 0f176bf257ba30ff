"""Kernel settings of a network namespace (/proc/sys/net shows the namespace of the thread that looks).

Some settings exist in the initial namespace only, or are read-only in others: `set_if_possible` says so by its result
instead of failing.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

from netlab.errors import KernelError
from netlab.kernel import netns as namespaces

T = TypeVar("T")


def path(name: str) -> str:
    """Return the file of a setting: `net.ipv4.ip_forward`, or with slashes where a name holds dots (`eth0.1`)."""
    return "/proc/sys/" + (name if "/" in name else name.replace(".", "/"))


def read(name: str, netns: int | str | os.PathLike[str] | None = None) -> str:
    """Return the value, without the newline.

    Raises:
        KernelError: there is no such setting in this namespace.
    """
    return _in(netns, lambda: _read(name))


def read_all(names: Iterable[str], netns: int | str | os.PathLike[str] | None = None) -> dict[str, str]:
    """Return the values of those settings that there are."""
    def found() -> Iterator[tuple[str, str]]:
        for name in names:
            with contextlib.suppress(KernelError):
                yield name, _read(name)

    return _in(netns, lambda: dict(found()))


def write(name: str, value: str | int, netns: int | str | os.PathLike[str] | None = None) -> None:
    """Set a value; one that is as wanted is left alone (its file may be read-only).

    Raises:
        KernelError: there is no such setting in this namespace, or it takes no such value.
    """
    _in(netns, lambda: _write(name, str(value)))


def repair(wanted: Mapping[str, str | int], netns: int | str | os.PathLike[str] | None = None) -> dict[str, str]:
    """Set what differs from `wanted`; return the names that had to be changed, with what was there before.

    Raises:
        KernelError: as `write`.
    """
    def body() -> dict[str, str]:
        changed = {}
        for name, value in wanted.items():
            before = _read(name)
            if before != str(value):
                _write(name, str(value))
                changed[name] = before
        return changed
    return _in(netns, body)


def set_if_possible(name: str, value: str | int, netns: int | str | os.PathLike[str] | None = None) -> bool:
    """Set a value where this namespace has the setting and lets us; tell whether it has that value now."""
    try:
        write(name, value, netns)
    except KernelError:
        return False
    return True


def _in(netns: int | str | os.PathLike[str] | None, body: Callable[[], T]) -> T:
    with namespaces.within(netns):
        return body()


def _read(name: str) -> str:
    try:
        with open(path(name), encoding="ascii") as file:
            return file.read().strip()
    except OSError as error:
        raise KernelError(f"cannot read the setting {name}: {error.strerror}", errno=error.errno or 0) from None


def _write(name: str, value: str) -> None:
    try:
        if _read(name) == value:
            return
        with open(path(name), "w", encoding="ascii") as file:
            file.write(value)
    except OSError as error:
        raise KernelError(f"cannot set {name} to {value}: {error.strerror}", errno=error.errno or 0) from None
