"""The protobuf decoder on bytes that no client would send."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netlab.api import protobuf
from netlab.errors import ApiError


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def chunk(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


def envelope(kind: str, data: bytes, api_version: str = "v1") -> bytes:
    return b"k8s\0" + chunk(1, chunk(1, api_version.encode()) + chunk(2, kind.encode())) + chunk(2, data)


def test_every_wire_form():
    meta = chunk(1, b"x") + chunk(8, varint(1 << 3) + varint(1_700_000_000)) + chunk(11, chunk(1, b"k") + chunk(2, b"v"))
    negative = varint(4 << 3) + varint((1 << 64) - 5)
    container = chunk(1, b"c") + chunk(8, chunk(1, chunk(1, b"cpu") + chunk(2, chunk(1, b"1"))))
    probe = chunk(1, chunk(2, chunk(2, varint(1 << 3) + varint(1) + chunk(3, b"http"))))  # an embedded handler
    body = envelope("Pod", chunk(1, meta) + chunk(2, negative + chunk(2, container + chunk(10, probe)) + varint(999 << 3) + b"\1"))
    assert protobuf.decode(body) == {
        "kind": "Pod", "apiVersion": "v1",
        "metadata": {"name": "x", "creationTimestamp": "2023-11-14T22:13:20Z", "labels": {"k": "v"}},
        "spec": {"terminationGracePeriodSeconds": -5, "containers": [
            {"name": "c", "resources": {"limits": {"cpu": "1"}}, "livenessProbe": {"httpGet": {"port": "http"}}}]}}


def test_numbers_may_be_packed_and_maps_may_hold_lists():
    spec = chunk(7, chunk(1, b"scopes") + chunk(2, chunk(1, b"a") + chunk(1, b"b")))
    assert protobuf.decode(envelope("SubjectAccessReview", chunk(2, chunk(5, spec[2:])), "authorization.k8s.io/v1"))["spec"] == {
        "extra": {"scopes": ["a", "b"]}}
    packed = chunk(4, varint(1) + varint(300))
    found = protobuf.decode(envelope("Pod", chunk(2, chunk(14, packed))))
    assert found["spec"]["securityContext"]["supplementalGroups"] == [1, 300]


def test_zeros_are_kept_where_they_say_something():
    spec = varint(1 << 3) + b"\0" + varint(5 << 3) + b"\0"  # replicas is a pointer in Go, minReadySeconds is none
    assert protobuf.decode(envelope("Deployment", chunk(2, spec), "apps/v1"))["spec"] == {"replicas": 0}


@pytest.mark.parametrize(("body", "text"), [
    (b"", "expected prefix"), (b"{}", "expected prefix"), (b"k8s\0\xff", "unrecognized"),
    (envelope("Nonsense", b""), 'no kind "Nonsense" is registered for version "v1"'),
    (envelope("Pod", b"\x0a\xff"), "EOF|unrecognized"), (envelope("Pod", b"\x0b"), "illegal wireType"),
    (envelope("Pod", b"\xff" * 12), "overflow"), (envelope("Pod", chunk(1, chunk(1, b"\xff"))), "utf-8"),
    (envelope("Pod", varint(1 << 3) + b"\1"), "wireType"), (envelope("Pod", chunk(2, chunk(4, b"x"))), "wireType"),
])
def test_what_is_malformed_is_refused(body, text):
    with pytest.raises(ApiError, match=text) as error:
        protobuf.decode(body)
    assert error.value.code == 400


KINDS = st.sampled_from([("Pod", "v1"), ("Deployment", "apps/v1"), ("Event", "v1"), ("DeleteOptions", "v1"), ("Status", "v1"),
                         ("SelfSubjectAccessReview", "authorization.k8s.io/v1"), ("ControllerRevision", "apps/v1")])
MESSAGES = st.recursive(
    st.binary(max_size=20), lambda inner: st.lists(st.tuples(st.integers(1, 30), inner), max_size=4).map(
        lambda parts: b"".join(chunk(number, data) for number, data in parts)), max_leaves=10)


@given(KINDS, MESSAGES)
def test_no_bytes_make_it_fall_over(kind, data):
    try:
        assert protobuf.decode(envelope(kind[0], data, kind[1]))["kind"] == kind[0]
    except ApiError as error:
        code = error.code
    else:
        code = 400
    assert code == 400
