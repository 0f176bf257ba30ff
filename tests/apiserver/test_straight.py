"""The straight way of decoding comes to what the long one does, or leaves the object to it."""

from __future__ import annotations

import copy
from random import Random
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netlab.api import validate
from netlab.api.schema import Struct, table
from netlab.apiserver import call, nulls, straight, zeros
from tests.api.random_objects import random_object
from tests.apiserver.conftest import Client

KINDS = sorted(table().kinds())
ODD = (None, "x", "", 0, 1.5, True, [], {}, [None], {"a": None}, "500m", "0.5", "2026-01-02T03:04:05.5+02:00")


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) in an object."""
    pairs = list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    return [(value, key) for key, _ in pairs] + [place for _, inner in pairs for place in places(inner)]


def long_way(obj: Any, shape: Struct) -> Any:
    return zeros.left_out(nulls.settled(obj, shape), shape)


@pytest.mark.parametrize("seed", range(4))
def test_both_ways_come_to_the_same(seed: int) -> None:
    dice, straight_on = Random(seed), 0
    for version, kind in KINDS:
        shape = table().kind(version, kind)
        assert shape is not None
        obj = random_object(shape, dice)
        for changed in (False, True):
            found = places(obj)
            if changed and found:
                where, key = dice.choice(found)
                where[key] = copy.deepcopy(dice.choice(ODD))
                if dice.random() < 0.1 and isinstance(where, dict):
                    where["unheard"] = 1
            before = copy.deepcopy(obj)
            read = straight.read(obj, shape)
            assert obj == before, "it is not changed"
            findings = validate.check(obj, version, kind)
            if read is None:
                assert findings.unknown or findings.errors or nulls.has_null(obj), (kind, obj)
            else:
                straight_on += 1
                assert findings == validate.Findings()
                assert orjson.dumps(read) == orjson.dumps(long_way(obj, shape)), (kind, obj)
    assert straight_on > len(KINDS) // 2


MEMBERS = st.recursive(st.sampled_from(('"a"', '"\\""', '"\\u0022"', "1", "1e9", "null", "{}", "[]")), lambda inner: st.lists(
    st.tuples(st.sampled_from(("a", "b", '\\"', "\\u0061", "\\u0022")), inner), max_size=4).map(
        lambda pairs: "{" + ", ".join(f'"{name}": {value}' for name, value in pairs) + "}"), max_leaves=8)


@given(MEMBERS)
def test_a_text_that_passes_at_a_glance_has_no_member_twice(text: str) -> None:
    if call._once(text.encode()):
        assert not validate.duplicates(text)


@pytest.mark.parametrize(("text", "once"), [
    ('{"a": {"b": "c \\" d"}, "e": [1, 2]}', True), ('{"a":1,"a":1e6}', False), ('{"a":"\\u0022","a":1}', False),
    ('{"a": {"b": 1, "b": "xy"}}', False), ("{a: b}", False)])
def test_what_passes_at_a_glance(text: str, once: bool) -> None:
    assert call._once(text.encode()) is once


def test_yaml_may_begin_with_a_brace(client: Client, ns: str) -> None:
    answer = client.post(f"/api/v1/namespaces/{ns}/configmaps", b"{metadata: {name: flow}, data: {a: 'b'}}",
                         kind="application/yaml")
    assert answer.status == 201, answer.json
    assert answer.json["data"] == {"a": "b"}
