"""Numbers and percentages, as the workload kinds have them (apps/validation, apimachinery's IsValidPercent)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from netlab.api.meta import Object
from netlab.apiserver.validation.errors import FieldError, invalid

NEGATIVE = "must be greater than or equal to 0"
_PERCENT = re.compile(r"[0-9]+%\Z")
_NO_PERCENT = ("a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex "
               "used for validation is '[0-9]+%')")


def counts(spec: Object, parts: Iterable[str], path: str) -> list[FieldError]:
    """Check that none of these numbers is below zero; those that are absent are fine."""
    return [invalid(f"{path}.{part}", value, NEGATIVE) for part in parts
            if isinstance(value := spec.get(part), int) and value < 0]


def amount(value: Any, path: str) -> list[FieldError]:
    """Check a number from 0, or a percentage."""
    if isinstance(value, str):
        return [] if _PERCENT.match(value) else [invalid(path, value, _NO_PERCENT)]
    return [invalid(path, value, NEGATIVE)] if value < 0 else []


def at_most_all(value: Any, path: str) -> list[FieldError]:
    """Check that a percentage is no more than 100%."""
    over = isinstance(value, str) and _PERCENT.match(value) and int(value[:-1]) > 100
    return [invalid(path, value, "must not be greater than 100%")] if over else []


def is_nothing(value: Any) -> bool:
    """Tell whether an amount is 0 or 0%; a text that is no percentage counts as 0, as Go reads it."""
    if isinstance(value, str):
        return not _PERCENT.match(value) or int(value[:-1]) == 0
    return not value
