"""Old values, compressed where they lie: each reads as before, whatever it was compressed against."""

from __future__ import annotations

import os

from hypothesis import given, settings
from hypothesis import strategies as st

from netlab.store.model import KeyValue
from netlab.store.packing import Packed, Press, room

VALUES = st.one_of(st.binary(max_size=200), st.integers(0, 60).map(lambda at: b'{"kind":"Pod","metadata":{"name":"p%d"}}' % at * 30))


def kv(key: bytes, value: bytes) -> KeyValue:
    return KeyValue(key, value, 1, 1, 1)


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from([b"/a/1", b"/a/2", b"/b/1", b"x", b""]), VALUES), max_size=300))
def test_a_packed_value_reads_as_before(rows: list[tuple[bytes, bytes]]) -> None:
    press, kvs = Press(), [kv(key, value) for key, value in rows]
    for one in kvs:
        press.pack(one)
        press.pack(one)  # twice is fine
    assert [one.value for one in kvs] == [value for _, value in rows]
    assert all(room(one) <= len(value) for one, (_, value) in zip(kvs, rows, strict=True))


def test_objects_of_a_kind_are_compressed_against_each_other() -> None:
    """They have most of their bytes in common, also those that alone can not be made smaller."""
    press, common = Press(), os.urandom(3_000)
    kvs = [kv(b"/pods/%d" % at, b"%d" % at + common) for at in range(1_000)]
    for one in kvs:
        press.pack(one)
    assert sum(map(room, kvs)) < 3_100 + 1_000 * 100
    assert type(kvs[0]) is KeyValue
    assert all(type(one) is Packed for one in kvs[1:])
    assert kvs[777].value == b"777" + common


def test_an_example_that_serves_badly_is_replaced_but_not_for_each_value() -> None:
    """What is compressed against an example keeps it alive."""
    press = Press()
    kvs = [kv(b"/m/%d" % at, os.urandom(500).hex().encode()) for at in range(1_000)]
    for one in kvs:
        press.pack(one)
    examples = {id(kept[1]) for one in kvs if type(kept := KeyValue.__dict__["value"].__get__(one)) is tuple}
    assert 5 < len(examples) < 15
    for at in range(300):
        press.pack(kv(b"/%d/a" % at, b"x" * 100))
    assert len(press._examples) <= 256
