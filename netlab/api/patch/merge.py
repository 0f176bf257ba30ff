"""JSON merge patch, RFC 7386, as evanphx/json-patch v4 has it: a null inside of a list's items deletes, too."""

from __future__ import annotations

from typing import Any


def apply(target: Any, patch: Any) -> Any:
    """Return the target with the patch merged in: a null deletes a key, a list or scalar replaces."""
    if not isinstance(patch, dict):
        return _without_nulls(patch)
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = apply(result.get(key), value)
    return result


def _without_nulls(value: Any) -> Any:
    """Return a value whose maps have no nulls; those in lists stay."""
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    if isinstance(value, dict):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    return value
