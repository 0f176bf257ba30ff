"""Paths and file modes inside volumes."""

from __future__ import annotations

from collections.abc import Iterator

from netlab.apiserver.validation.errors import FieldError, invalid

MODE_TEXT = "must be a number between 0 and 0777 (octal), both inclusive"


def no_backsteps(path: str, field: str) -> Iterator[FieldError]:
    """Refuse `..` as a part of a path."""
    if ".." in path and ".." in path.split("/"):
        yield invalid(field, path, "must not contain '..'")


def descending(path: str, field: str) -> Iterator[FieldError]:
    """Refuse what is no relative path that stays below where it starts."""
    if path.startswith("/"):
        yield invalid(field, path, "must be a relative path")
    yield from no_backsteps(path, field)


def not_reserved(path: str, field: str) -> Iterator[FieldError]:
    """Refuse what `descending` does, and what begins with `..`: the kubelet keeps such names for itself."""
    yield from descending(path, field)
    if path.startswith("..") and not path.startswith("../"):
        yield invalid(field, path, "must not start with '..'")


def mode(value: int | None, field: str) -> Iterator[FieldError]:
    """Refuse what is no file mode; an absent one is fine."""
    if value is not None and not 0 <= value <= 0o777:
        yield invalid(field, value, MODE_TEXT)
