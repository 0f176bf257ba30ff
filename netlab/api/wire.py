"""Stored bytes and the bytes on the wire: the store keeps objects without their revision, readers get it put in."""

from __future__ import annotations

from netlab.api.meta import Object


def head(api_version: str, kind: str) -> bytes:
    """Return how every stored object of a kind begins: up to and with the brace that opens its metadata."""
    return b'{"kind":"%b","apiVersion":"%b","metadata":{' % (kind.encode(), api_version.encode())


def ordered(obj: Object) -> Object:
    """Return the object with kind, apiVersion and metadata first and without a revision, so that `head` fits it."""
    metadata = {key: value for key, value in obj.get("metadata", {}).items() if key != "resourceVersion"}
    first: Object = {"kind": obj.get("kind"), "apiVersion": obj.get("apiVersion"), "metadata": metadata}
    return first | {key: value for key, value in obj.items() if key not in first}


def stamp(value: bytes, head_length: int, revision: int) -> bytes:
    """Return stored bytes with metadata.resourceVersion put in behind `head`."""
    comma = b"" if value[head_length:head_length + 1] == b"}" else b","
    return b'%b"resourceVersion":"%d"%b%b' % (value[:head_length], revision, comma, value[head_length:])
