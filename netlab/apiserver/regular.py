"""Regular expressions that users give, by RE2: as upstream reads them, in linear time and bounded memory."""

from __future__ import annotations

from functools import lru_cache
from itertools import islice
from typing import Any

_MEMORY = 1 << 20
"""Bytes that one expression may take once compiled; `(((a{100}){100}){100})` would take gigabytes."""

_WORDS = {"missing ]": "missing closing ]", "missing )": "missing closing )",
          "no argument for repetition operator": "missing argument to repetition operator",
          "bad repetition operator": "invalid nested repetition operator",
          "invalid repetition size": "invalid repeat count",
          "invalid perl operator": "invalid or unsupported Perl syntax",
          "trailing \\": "trailing backslash at end of expression"}
"""What Go calls what RE2 calls otherwise."""


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
        said = error.args[0] if error.args else b"invalid"
        what, _, where = (said.decode(errors="replace") if isinstance(said, bytes) else str(said)).partition(": ")
        shown = f": `{where}`" if where else ""
        raise ValueError(f"error parsing regexp: {_WORDS.get(what, what)}{shown}") from None


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
