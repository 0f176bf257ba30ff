"""What …/scale reads has to be such in every custom resource (apiextensions-apiserver/pkg/registry/customresource)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from netlab.api import gotext
from netlab.apiserver.strategies.base import ScalePaths
from netlab.apiserver.validation.errors import FieldError, invalid

_MOST = 2**31 - 1


def check(obj: Any, paths: ScalePaths | None, *, status_only: bool = False) -> Iterator[FieldError]:
    """Yield what is wrong with an object's replicas and selector; a write of the status leaves what is wanted alone."""
    if paths is None:
        return
    if not status_only:
        yield from _replicas(obj, paths.wanted)
    yield from _replicas(obj, paths.present)
    if paths.selector:
        _, said = _at(obj, paths.selector, str)
        if said:
            yield invalid(_name(paths.selector), "", said)


def _replicas(obj: Any, path: tuple[str, ...]) -> Iterator[FieldError]:
    found, said = _at(obj, path, int)
    if said:
        yield invalid(_name(path), 0, said)
    elif found is not None and found < 0:
        yield invalid(_name(path), found, "should be a non-negative integer")
    elif found is not None and found > _MOST:
        yield invalid(_name(path), found, f"should be less than or equal to {_MOST}")


def _at(obj: Any, path: tuple[str, ...], kind: type) -> tuple[Any, str]:
    """Return what stands at a path (None: nothing), and why that can't be read."""
    for at, name in enumerate(path):
        if not isinstance(obj, dict):
            return None, (f"{_name(path[:at + 1])} accessor error: {gotext.plain(obj)} is of the type "
                          f"{gotext.type_name(obj)}, expected map[string]interface{{}}")
        if name not in obj:
            return None, ""
        obj = obj[name]
    if not isinstance(obj, kind) or isinstance(obj, bool):
        wanted = "int64" if kind is int else "string"
        return None, (f"{_name(path)} accessor error: {gotext.plain(obj)} is of the type {gotext.type_name(obj)}, "
                      f"expected {wanted}")
    return obj, ""


def _name(path: tuple[str, ...]) -> str:
    return "".join(f".{name}" for name in path)
