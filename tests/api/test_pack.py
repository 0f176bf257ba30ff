"""Objects written as protobuf: read again they are the same, and Kubernetes' own descriptors find the same bytes."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from netlab.api import generate, numbers, pack, protobuf
from netlab.api.kinds import RESOURCES
from netlab.api.schema import field_struct, table
from tests import client_binaries

from .random_objects import random_object, told

KINDS = sorted({*table().kinds(), *((api, f"{kind}List") for api, kind in table().kinds() if table().kind(api, f"{kind}List")),
                ("meta.k8s.io/v1", "PartialObjectMetadata"), ("meta.k8s.io/v1", "PartialObjectMetadataList")})
WRITTEN = [kind for kind in KINDS if pack.knows(*kind)]


def an_object(api_version: str, kind: str, seed: int) -> Any:
    found = random_object(table().kind(api_version, kind), Random(f"{api_version} {kind} {seed}"))
    return {"kind": kind, "apiVersion": api_version, **{name: value for name, value in found.items() if name not in ("kind", "apiVersion")}}


def test_every_resource_has_a_form_and_what_has_none_says_so():
    assert {(row.api_version, row.kind) for row in RESOURCES} <= set(WRITTEN)
    for row in RESOURCES:
        assert "list" not in row.verbs or pack.knows(row.api_version, f"{row.kind}List"), row
    assert not pack.knows("meta.k8s.io/v1", "Table")
    assert not pack.knows("example.com/v1", "Widget")
    with pytest.raises(pack.Unpackable, match='no protobuf is known of kind "Widget"'):
        pack.encode({"kind": "Widget", "apiVersion": "example.com/v1"})


@pytest.mark.parametrize("kind", WRITTEN, ids=" ".join)
def test_what_is_written_is_read_again(kind):
    shape = table().kind(*kind)
    for seed in range(6):
        obj = an_object(*kind, seed)
        wanted = {name: value for name, value in told(shape, obj).items() if name not in ("kind", "apiVersion")}
        assert protobuf.decode(pack.encode(obj)) == {"kind": kind[1], "apiVersion": kind[0], **wanted}


def test_the_bytes_of_a_small_object():
    metadata = "0a0178 1200 1a00 2200 2a00 3200 3800 4200 5a050a01611200 5a060a0162120132"  # generation, creationTimestamp: zero
    assert pack.encode({"kind": "Lease", "apiVersion": "coordination.k8s.io/v1", "metadata": {"name": "x", "labels": {"b": "2", "a": ""}}}) == (
        b"k8s\0" + bytes.fromhex("0a1f0a16") + b"coordination.k8s.io/v1" + bytes.fromhex("1205") + b"Lease"
        + bytes.fromhex(f"1224 0a20 {metadata} 1200 1a00 2200"))


def test_an_event_of_a_watch_is_framed():
    raw = pack.encode({"kind": "Status", "apiVersion": "v1", "code": 410})
    framed = pack.event("ERROR", raw)
    assert struct.unpack(">I", framed[:4])[0] == len(framed) - 4
    parts = dict(protobuf.wire_fields(framed[4:]))
    assert parts[1] == b"ERROR"
    assert dict(protobuf.wire_fields(parts[2])) == {1: raw}


@pytest.mark.parametrize("obj", [
    {"spec": {"containers": "x"}}, {"spec": 1}, {"metadata": {"name": 5}}, {"metadata": {"labels": {"a": 1}}},
    {"metadata": {"creationTimestamp": "yesterday"}}, {"spec": {"priority": "high"}}, {"metadata": {"labels": ["a"]}},
    {"metadata": {"creationTimestamp": 5}}, {"spec": {"containers": [None]}},
])
def test_what_does_not_fit_is_said(obj):
    with pytest.raises(pack.Unpackable, match="Pod v1 can't be written as protobuf"):
        pack.encode({"kind": "Pod", "apiVersion": "v1", **obj})


@pytest.fixture(scope="module")
def upstream() -> descriptor_pool.DescriptorPool:
    """Return the descriptors in a kubectl 1.34, as classes of google.protobuf can be made of them."""
    files = dict(_files(Path(client_binaries.kubectl("1.34")).read_bytes()))
    pool = descriptor_pool.DescriptorPool()
    added: set[str] = set()

    def add(name: str) -> None:
        if name in added or name not in files:
            return
        added.add(name)
        known = [other for other in files[name].dependency if other in files]  # all but gogo's options
        for other in known:
            add(other)
        files[name].dependency[:] = known
        pool.Add(files[name])

    for name in files:
        add(name)
    return pool


def _files(binary: bytes) -> Iterator[tuple[str, Any]]:
    for match in generate._GZIP.finditer(binary):
        try:
            data = zlib.decompressobj(31).decompress(binary[match.start():match.start() + (1 << 20)])
            file = descriptor_pb2.FileDescriptorProto.FromString(data)
        except (zlib.error, DecodeError):
            continue
        if file.name.endswith("generated.proto"):
            yield file.name, file


@pytest.mark.soak
def test_upstreams_descriptors_read_and_write_the_same_bytes(upstream):
    compared = 0
    for kind in WRITTEN:
        name = table().kind(*kind).name.replace("io.k8s.", "k8s.io.", 1)
        try:
            made = message_factory.GetMessageClass(upstream.FindMessageTypeByName(name))
        except KeyError:  # of another program's, or of a later version
            assert "apiextensions" in name or "apiregistration" in name or "MutatingAdmissionPolicy" in name, name
            continue
        for seed in range(30):
            raw = pack.message(*kind, older(table().kind(*kind), an_object(*kind, seed)))
            read = made.FromString(raw)
            assert not _unknown(read), kind
            assert read.SerializeToString(deterministic=True) == raw, kind
            compared += 1
    assert compared > 3000


@pytest.mark.parametrize(("kind", "status", "wire"), [
    ("v1.Pod", {"containerStatuses": [{"allocatedResourcesStatus": [{"name": "n", "resources": [{"message": "m"}]}]}]},
     b"\x0a\x01n\x12\x07\x0a\x00\x12\x00\x32\x01m"),
    ("v1.Pod", {"nodeAllocatableResourceClaimStatuses": [{"resourceClaimName": "c", "containers": ["x"]}]},
     b"\xaa\x01\x06\x0a\x01c\x12\x01x"),
    ("policy/v1.PodDisruptionBudget", {"disruptedPods": {"p": None}}, b"\x12\x05\x0a\x01p\x12\x00"),
])
def test_bytes_of_newer_fields(kind: str, status: dict, wire: bytes) -> None:
    """As in the fixtures of k8s.io/api v0.36."""
    api_version, _, name = kind.rpartition(".")
    assert wire in pack.encode({"apiVersion": api_version, "kind": name, "status": status})


NEWER = numbers.rows()
"""Fields that kubectl 1.34 does not know."""


def older(shape: Any, obj: Any) -> Any:
    """Return an object without what kubectl 1.34 does not know."""
    new = NEWER.get(shape.name, {})
    found = {}
    for name, value in obj.items():
        field = shape.fields.get(name)
        inner = None if field is None else field_struct(field)
        if name in new:
            continue
        if inner is not None and isinstance(value, list):
            value = [older(inner, one) for one in value]
        elif inner is not None and field.type.code == "map":
            value = {key: older(inner, one) for key, one in value.items()}
        elif inner is not None:
            value = older(inner, value)
        found[name] = value
    return found


def _unknown(message: Any) -> bool:
    from google.protobuf import unknown_fields

    if len(unknown_fields.UnknownFieldSet(message)):
        return True
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        if field.message_type.GetOptions().map_entry:
            values = list(value.values()) if field.message_type.fields_by_name["value"].message_type else []
        else:
            values = list(value) if field.is_repeated else [value]
        if any(map(_unknown, values)):
            return True
    return False
