"""Decoded JSON as Go's fmt package writes it: what error texts show of a value."""

from __future__ import annotations

from typing import Any

_TYPES = {str: "string", bool: "bool", int: "int64", float: "float64", list: "[]interface {}",
          dict: "map[string]interface {}"}


def type_name(value: Any) -> str:
    """Return a value's type as %T writes it."""
    return _TYPES.get(type(value), "<nil>")


def plain(value: Any) -> str:
    """Return a value as %v writes it."""
    if isinstance(value, list):
        return f"[{' '.join(map(plain, value))}]"
    if isinstance(value, dict):
        return f"map[{' '.join(f'{key}:{plain(value[key])}' for key in sorted(value))}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return "<nil>" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def syntax(value: Any) -> str:
    """Return a value as %#v writes it."""
    if isinstance(value, list):
        return f"[]interface {{}}{{{', '.join(map(syntax, value))}}}"
    if isinstance(value, dict):
        inner = ", ".join(f'"{key}":{syntax(value[key])}' for key in sorted(value))
        return f"map[string]interface {{}}{{{inner}}}"
    if isinstance(value, str):
        return f'"{value}"'
    return "interface {}(nil)" if value is None else plain(value)
