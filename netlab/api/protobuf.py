"""Kubernetes' protobuf request bodies, decoded to the JSON object they stand for.

kubectl 1.32 and later, and Go programs, send them; pack.py writes them. The layout is told by the table's field
numbers (schema.py), so no generated code is needed. A body is the bytes `k8s` and zero and a runtime.Unknown message:
{1: {1: apiVersion, 2: kind}, 2: the object, 3: contentEncoding, 4: contentType}.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from netlab.api.meta import Object
from netlab.api.schema import ARRAY, BOOLEAN, STRINGS, Field, Struct, Type, struct_of, table
from netlab.errors import ApiError

MAGIC = b"k8s\0"
CONTENT_TYPE = "application/vnd.kubernetes.protobuf"
_SIGNED = ("int32", "int64")
_VARINTS = ("int32", "int64", "uint32", "uint64", "boolean")
_FIXED = {1: 8, 5: 4}


class _Malformed(ValueError):
    pass


def is_protobuf(body: bytes) -> bool:
    """Tell whether a body carries Kubernetes' protobuf envelope."""
    return body.startswith(MAGIC)


def decode(body: bytes, *, api_version: str = "", kind: str = "") -> Object:
    """Return the object in a body, with apiVersion and kind.

    Args:
        body: envelope and message.
        api_version: used if the envelope names none.
        kind: used if the envelope names none.

    Raises:
        ApiError: 400, the body is not what it should be, or of an unknown kind.
    """
    if not is_protobuf(body):
        raise _bad("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")
    try:
        envelope = dict(wire_fields(body[4:]))
        meta = dict(wire_fields(_chunk(envelope.get(1, b""))))
        api_version = _chunk(meta.get(1, b"")).decode() or api_version
        kind = _chunk(meta.get(2, b"")).decode() or kind
        found = table().kind(api_version, kind)
        if found is None:
            raise _bad(f'no kind "{kind}" is registered for version "{api_version}" in scheme')
        obj: Object = {"kind": kind, "apiVersion": api_version}
        _message(found, _chunk(envelope.get(2, b"")), obj)
    except (ValueError, TypeError, IndexError, struct.error, OverflowError) as error:
        raise _bad(f"the object provided is unrecognized (must be of type {kind or 'runtime.Unknown'}): "
                   f"{error or 'unexpected EOF'}") from error
    return obj


def _bad(message: str) -> ApiError:
    return ApiError(400, "BadRequest", message)


def _chunk(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise _Malformed("proto: wrong wireType")
    return value


def varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at
        shift += 7
        if shift > 63:
            raise _Malformed("proto: integer overflow")


def wire_fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield (field number, varint or bytes)."""
    at, end = 0, len(data)
    while at < end:
        tag, at = data[at], at + 1  # most varints are one byte: a call for each would double the time
        if tag > 0x7F:
            tag, at = varint(data, at - 1)
        wire = tag & 7
        if wire == 2:
            size, at = data[at], at + 1
            if size > 0x7F:
                size, at = varint(data, at - 1)
        elif wire == 0:
            value, at = data[at], at + 1
            if value > 0x7F:
                value, at = varint(data, at - 1)
            yield tag >> 3, value
            continue
        elif wire in _FIXED:
            size = _FIXED[wire]
        else:
            raise _Malformed(f"proto: illegal wireType {wire}")
        stop = at + size
        if stop > end:
            raise _Malformed("unexpected EOF")
        yield tag >> 3, data[at:stop]
        at = stop


def _message(shape: Struct, data: bytes, into: Object) -> None:
    fields = shape.by_number
    for number, raw in wire_fields(data):
        field = fields.get(number)
        if field is not None:  # an unknown one comes from a newer client: dropped, as Go does
            _field(field, raw, into)


def _field(field: Field, raw: int | bytes, into: Object) -> None:
    kind = field.type
    if kind.code == "string" and isinstance(raw, bytes):  # as the last but one case below, for most fields
        if raw or field.pointer or field.required:
            into[field.name] = raw.decode()
        else:
            into.pop(field.name, None)
    elif field.inline:
        shape = struct_of(kind)
        if shape is not None:
            _message(shape, _chunk(raw), into)
    elif kind.item is None:
        value = _value(kind, raw)
        # Go always writes what is no pointer: a zero that JSON would omit means that nothing was said
        if value is None or (not value and not field.pointer and not field.required and kind.code != "struct"):
            into.pop(field.name, None)
        else:
            into[field.name] = value
    elif kind.code == "list" and field.pointer:  # a list that is a message of its own in Go
        into[field.name] = [_value(kind.item, item) for number, item in wire_fields(_chunk(raw)) if number == 1]
    elif kind.code == "map":
        key, value = _entry(kind.item, _chunk(raw))
        into.setdefault(field.name, {})[key] = value
    else:
        items = into.setdefault(field.name, [])
        if kind.item.code in _VARINTS and isinstance(raw, bytes):
            at = 0
            while at < len(raw):  # packed
                number, at = varint(raw, at)
                items.append(_value(kind.item, number))
        else:
            items.append(_value(kind.item, raw))


def _entry(kind: Type, data: bytes) -> tuple[str, Any]:
    """Return one entry of a map: {1: key, 2: value}."""
    parts = dict(wire_fields(data))
    key = _chunk(parts.get(1, b"")).decode()
    if kind.code == "list" and kind.item is not None:  # a list in a map is a message of its own: {1: items}
        return key, [_value(kind.item, raw) for number, raw in wire_fields(_chunk(parts.get(2, b""))) if number == 1]
    return key, _value(kind, parts.get(2, 0 if kind.code in _VARINTS else b""))


def _value(kind: Type, raw: int | bytes) -> Any:
    code = kind.code
    if code in _VARINTS:
        if not isinstance(raw, int):
            raise _Malformed("proto: wrong wireType")
        if code == "boolean":
            return bool(raw)
        return raw - (1 << 64) if code in _SIGNED and raw >> 63 else raw
    data = _chunk(raw)
    if code == "string":
        return data.decode()
    if code == "struct":
        obj: Object = {}
        shape = struct_of(kind)
        if shape is not None:
            _message(shape, data, obj)
        return obj
    if code == "byte":
        return base64.b64encode(data).decode()
    if code in {"double", "float"}:
        return struct.unpack("<d" if code == "double" else "<f", data)[0]
    if kind.reference in (ARRAY, BOOLEAN, STRINGS):
        return _either(kind.reference, data)
    return _scalar(code, dict(wire_fields(data)))


def _either(reference: str, data: bytes) -> Any:
    """Return a schema, or what stands in its place: schemas, a boolean, texts."""
    parts = list(wire_fields(data))
    schema_at, other = (2, 1) if reference == BOOLEAN else (1, 2)
    schema = Type("struct", struct=ARRAY.removesuffix("OrArray"))
    found = next((raw for number, raw in parts if number == schema_at), None)
    if found is not None:
        return _value(schema, found)
    inner = {ARRAY: schema, BOOLEAN: Type("boolean"), STRINGS: Type("string")}[reference]
    others = [_value(inner, raw) for number, raw in parts if number == other]
    return others if reference != BOOLEAN else bool(others and others[-1])


def _scalar(code: str, parts: dict[int, int | bytes]) -> Any:
    """Return the JSON form of what is a message on the wire only."""
    if code in {"time", "micro-time"}:
        return _time(parts, micro=code == "micro-time")
    if code == "quantity":
        return _chunk(parts.get(1, b"")).decode()
    if code == "int-or-string":
        if parts.get(1, 0):
            return _chunk(parts.get(3, b"")).decode()
        number = parts.get(2, 0)
        return _value(Type("int32"), number)
    content = _chunk(parts.get(1, b""))  # raw, any: JSON inside, or an envelope again
    if is_protobuf(content):
        return decode(content)
    return json.loads(content) if content else None


def _time(parts: dict[int, int | bytes], *, micro: bool) -> str | None:
    """Return RFC 3339; None for the zero time, which is an empty message."""
    if not parts:
        return None
    seconds, nanos = _value(Type("int64"), parts.get(1, 0)), _value(Type("int32"), parts.get(2, 0))
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds, microseconds=nanos // 1000)
    return f"{moment.year:04}" + moment.strftime("-%m-%dT%H:%M:%S.%fZ" if micro else "-%m-%dT%H:%M:%SZ")
