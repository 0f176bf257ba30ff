"""Protobuf's bytes for messages that are written down as dataclasses.

A field's number stands in its annotation: `revision: Annotated[int, 3] = 0`. What a field may hold follows from its
type: bytes, str, bool, int (a varint; `Unsigned` for uint64), another message or None, and lists of these. Zero values
are left out, as proto3 does; a message that is present is written even when it is empty, which is how a `oneof` says
what it holds. Unknown fields are skipped.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Annotated, Any, TypeVar, Union

Message = TypeVar("Message")

UNSIGNED = "unsigned"
_MASK = (1 << 64) - 1
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class Malformed(ValueError):
    """These bytes are not a message of the type that was asked for."""


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    number: int
    tag: bytes
    kind: type
    repeated: bool
    unsigned: bool
    nested: bool
    numeric: bool


@dataclass(frozen=True, slots=True)
class _Layout:
    fields: tuple[_Field, ...]
    by_number: dict[int, _Field]


_layouts: dict[type, _Layout] = {}


def encode(message: Any) -> bytes:
    """Return a message's bytes."""
    parts: list[bytes] = []
    _encode(message, parts.append)
    return b"".join(parts)


def decode(data: bytes | memoryview, kind: type[Message]) -> Message:
    """Return the message in some bytes.

    Raises:
        Malformed: they are no such message.
    """
    try:
        return _decode(memoryview(data), kind)
    except (IndexError, UnicodeDecodeError) as error:
        raise Malformed(f"{kind.__name__}: {error}") from None


def _encode(message: Any, put: Callable[[bytes], None]) -> None:
    for field in _layout(type(message)).fields:
        value = getattr(message, field.name)
        if field.repeated:
            if value and field.kind is int:
                packed = b"".join(map(_varint, value))
                put(field.tag + _varint(len(packed)) + packed)
            else:
                for item in value:
                    _put(field, item, put)
        elif value if not field.nested else value is not None:
            _put(field, value, put)


def _put(field: _Field, value: Any, put: Callable[[bytes], None]) -> None:
    if field.kind is int or field.kind is bool:
        put(field.tag + (_SMALL[value] if 0 <= value < 0x80 else _varint(value)))
        return
    if field.nested:
        value = encode(value)
    elif field.kind is str:
        value = value.encode()
    size = len(value)
    put(field.tag + (_SMALL[size] if size < 0x80 else _varint(size)))
    put(value)


def _varint(value: int) -> bytes:
    value &= _MASK
    if value < 0x80:
        return _SMALL[value]
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


_SMALL = tuple(bytes((value,)) for value in range(0x80))


def _decode(data: memoryview, kind: type[Message]) -> Message:
    """Decode one message: numbers of one byte, which most are, without a call, since this runs for all that is read."""
    by_number = (_layouts.get(kind) or _layout(kind)).by_number
    given: dict[str, Any] = {}
    at, end = 0, len(data)
    while at < end:
        key = data[at]
        if key < 0x80:
            at += 1
        else:
            key, at = _read_varint(data, at)
        wire, field = key & 7, by_number.get(key >> 3)
        found: Any
        if wire == _VARINT:
            found = data[at]
            if found < 0x80:
                at += 1
            else:
                found, at = _read_varint(data, at)
            if field is None:
                continue
            if not field.numeric:
                raise Malformed(f"{field.name}: wire type {wire}")
            if field.kind is bool or found >= 1 << 63:
                found = _number(field, found)
        elif wire == _BYTES:
            size = data[at]
            if size < 0x80:
                at += 1
            else:
                size, at = _read_varint(data, at)
            value, at = data[at:at + size], at + size
            if at > end:
                raise Malformed(f"{kind.__name__}: cut off")
            if field is None:
                continue
            if field.nested:
                found = _decode(value, field.kind)
            elif field.numeric:
                given.setdefault(field.name, []).extend(_packed(field, value))
                continue
            else:
                found = bytes(value) if field.kind is bytes else str(value, "utf-8")
        elif wire in (_FIXED64, _FIXED32):
            at += 8 if wire == _FIXED64 else 4
            continue
        else:
            raise Malformed(f"{kind.__name__}: wire type {wire}")
        if field.repeated:
            given.setdefault(field.name, []).append(found)
        else:
            given[field.name] = found
    return kind(**given)


def _packed(field: _Field, data: memoryview) -> Iterator[int]:
    if not field.repeated:
        raise Malformed(f"{field.name}: wire type {_BYTES}")
    at = 0
    while at < len(data):
        one, at = _read_varint(data, at)
        yield _number(field, one)


def _number(field: _Field, value: int) -> int | bool:
    if field.kind is bool:
        return bool(value)
    return value if field.unsigned or value < 1 << 63 else value - (1 << 64)


def _read_varint(data: memoryview, at: int) -> tuple[int, int]:
    byte = data[at]
    if byte < 0x80:
        return byte, at + 1
    value, shift = byte & 0x7F, 7
    while True:
        at += 1
        byte = data[at]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & _MASK, at + 1
        shift += 7
        if shift > 63:
            raise Malformed("a number of more than 64 bits")


def _layout(kind: type) -> _Layout:
    found = _layouts.get(kind)
    if found is None:
        hints = typing.get_type_hints(kind, include_extras=True)
        rows = sorted((_field(field.name, hints[field.name]) for field in fields(kind)), key=lambda row: row.number)
        found = _layouts[kind] = _Layout(tuple(rows), {row.number: row for row in rows})
    return found


def _field(name: str, hint: Any) -> _Field:
    assert typing.get_origin(hint) is Annotated, name
    kind, number, *marks = typing.get_args(hint)
    repeated = typing.get_origin(kind) is list
    if repeated:
        kind, = typing.get_args(kind)
    elif typing.get_origin(kind) in (types.UnionType, Union):
        kind = next(part for part in typing.get_args(kind) if part is not type(None))
    nested = kind not in (int, bool, str, bytes)
    wire = _VARINT if kind in (int, bool) and not (repeated and kind is int) else _BYTES
    return _Field(name, number, _varint(number << 3 | wire), kind, repeated, UNSIGNED in marks, nested,
                  kind in (int, bool))
