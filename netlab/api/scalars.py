"""Which JSON values are what Go would decode into a scalar, and Go's words about those that are not."""

from __future__ import annotations

import binascii
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from netlab.api import quantity

LIMITS = {"int32": 1 << 31, "int64": 1 << 63}
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")


def fits(value: Any, code: str) -> bool:
    """Tell whether a value can be of a type that has no text of its own (see COMPLAINTS for those that have)."""
    if code in LIMITS:
        return type(value) is int and -LIMITS[code] <= value < LIMITS[code]
    if code == "boolean":
        return type(value) is bool
    if code in {"double", "float"}:
        return type(value) in {int, float}
    return isinstance(value, dict if code == "object" else str)


def json_kind(value: Any) -> str:
    """Return what Go calls a JSON value."""
    return {str: "string", bool: "bool", int: "number", float: "number", list: "array", dict: "object"}[type(value)]


def _quantity(value: Any) -> str:
    try:
        quantity.parse(json.dumps(value) if not isinstance(value, str) else value)
    except ValueError as error:
        return str(error)
    return ""


def _time(value: Any) -> str:
    if not isinstance(value, str):
        return f"json: cannot unmarshal {json_kind(value)} into Go value of type string"
    if _RFC3339.fullmatch(value):
        return ""
    return f'parsing time "{value}" as "2006-01-02T15:04:05Z07:00": cannot parse "{value}" as "2006"'


def _int_or_string(value: Any) -> str:
    if isinstance(value, str) or (type(value) is int and -(1 << 31) <= value < 1 << 31):
        return ""
    found = json_kind(value)
    return f"json: cannot unmarshal {found} {json.dumps(value)} into Go value of type int32" if found == "number" else \
        f"json: cannot unmarshal {found} into Go value of type int32"


def _base64(value: Any) -> str:
    if not isinstance(value, str):
        return f"json: cannot unmarshal {json_kind(value)} into Go value of type []uint8"
    try:
        binascii.a2b_base64(value.replace("\n", "").replace("\r", ""), strict_mode=True)
    except (binascii.Error, ValueError):
        bad = re.search(r"[^A-Za-z0-9+/=\r\n]", value)
        return f"illegal base64 data at input byte {bad.start() if bad else len(value) // 4 * 4}"
    return ""


COMPLAINTS: Mapping[str, Callable[[Any], str]] = {
    "quantity": _quantity, "time": _time, "micro-time": _time, "int-or-string": _int_or_string, "byte": _base64}
"""By type: returns what is wrong with a value, or ""."""
