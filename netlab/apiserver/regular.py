"""Regular expressions that users give, by RE2: as upstream reads them, in linear time and bounded memory."""

from __future__ import annotations

from functools import lru_cache
from itertools import islice
from typing import Any

_MEMORY = 1 << 20
"""Bytes that one expression may take once compiled; `(((a{100}){100}){100})` would take gigabytes."""


@lru_cache(maxsize=512)
def compile_(text: str) -> Any:
    """Return a compiled expression: `search` and `finditer` as Python's `re` has them.

    Raises:
        ValueError: it is none, or too large.
    """
    import re2

    options = re2.Options()
    options.max_mem, options.log_errors = _MEMORY, False
    try:
        return re2.compile(text, options)
    except re2.error as error:
        said = error.args[0] if error.args else "invalid"
        raise ValueError(f"error parsing regexp: {said.decode() if isinstance(said, bytes) else said}") from None


def find(text: str, form: str) -> str:
    """Return the first that an expression finds in a text, "" for none. Raises ValueError, as `compile_`."""
    found = compile_(form).search(text)
    return str(found.group()) if found is not None else ""


def find_all(text: str, form: str, most: int = -1) -> list[str]:
    """Return what an expression finds in a text, without overlaps; at most `most` unless negative.

    Raises:
        ValueError: as `compile_`.
    """
    found = compile_(form).finditer(text)
    return [one.group() for one in (found if most < 0 else islice(found, most))]
