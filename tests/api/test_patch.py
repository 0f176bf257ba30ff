"""The three client-side patches, beside kubectl's own."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from netlab.api.patch import jsonpatch, merge, strategic
from netlab.api.schema import table
from netlab.errors import ApiError

from . import oracle

POD = table().kind("v1", "Pod")


def pod(spec: Any, **metadata: Any) -> Any:
    return {"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "x", **metadata}, "spec": spec}


def outcome(apply: Any, *arguments: Any) -> tuple[Any, str]:
    """Return (result, "") or (None, error); arguments must come out unchanged."""
    before = copy.deepcopy(arguments[:2])
    try:
        result = apply(*arguments)
    except ApiError as error:
        return None, error.details["causes"][0]["message"] if error.details else error.message
    finally:
        assert arguments[:2] == before
    return result, ""


def settled(answer: tuple[Any, str]) -> tuple[Any, str]:
    """Nulls go when the API server decodes what a patch made; texts end without white space."""
    def bare(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: bare(inner) for key, inner in value.items() if inner is not None}
        return [bare(inner) for inner in value] if isinstance(value, list) else value

    return bare(answer[0]), answer[1].rstrip()


class Name(str):
    """A key that counts how often it is looked at."""

    looks = 0

    def __eq__(self, other: object) -> bool:
        Name.looks += 1
        return str.__eq__(self, other)

    __hash__ = str.__hash__


@pytest.mark.parametrize("change", [
    pytest.param(lambda names: {"containers": [{"name": name, "image": "2"} for name in names]}, id="change"),
    pytest.param(lambda names: {"containers": [{"name": Name(f"new-{name}")} for name in names]}, id="add"),
    pytest.param(lambda names: {"containers": [{"name": name, "$patch": "delete"} for name in names]}, id="delete"),
    pytest.param(lambda names: {"containers": [{"name": name, "$patch": "delete"} for name in names],
                                "$setElementOrder/containers": []}, id="delete in order"),
    pytest.param(lambda names: {"$setElementOrder/containers": [{"name": name} for name in names]}, id="order"),
    pytest.param(lambda names: {"$deleteFromPrimitiveList/hosts": names}, id="delete from a list"),
])
def test_big_lists_are_not_compared_item_by_item(change):
    """One request could hold up all others for minutes."""
    names = [Name(f"c{at}") for at in range(500)]
    target = pod({"containers": [{"name": Name(name), "image": "1"} for name in names], "hosts": [Name(name) for name in names]})
    Name.looks = 0
    strategic.apply(target, {"spec": change(names)}, POD)
    assert Name.looks < 20 * len(names)


TWO = {"containers": [{"name": "a", "image": "1", "ports": [{"containerPort": 80}]}, {"name": "b", "image": "2"}],
       "volumes": [{"name": "v", "emptyDir": {"medium": "Memory"}}], "nodeSelector": {"x": "1", "y": "2"},
       "tolerations": [{"key": "a"}]}


@pytest.mark.parametrize("change", [
    pytest.param({"spec": {"containers": [{"name": "a", "image": "9"}]}}, id="merge by key"),
    pytest.param({"spec": {"containers": [{"name": "c", "image": "9", "command": None}]}}, id="a new item, without its null"),
    pytest.param({"spec": {"containers": [{"name": "a", "$patch": "delete"}]}}, id="delete an item"),
    pytest.param({"spec": {"containers": [{"name": "n"}, {"$patch": "replace"}]}}, id="replace a list"),
    pytest.param({"spec": {"containers": [{"name": "a", "$patch": "merge"}]}}, id="merge is no directive of lists"),
    pytest.param({"spec": {"containers": [{"name": "a", "$patch": "sing"}]}}, id="an unknown directive"),
    pytest.param({"spec": {"$patch": "replace", "hostNetwork": True}}, id="replace a map"),
    pytest.param({"spec": {"nodeSelector": {"$patch": "delete"}}}, id="empty a map"),
    pytest.param({"spec": {"$patch": "sing"}}, id="an unknown directive in a map"),
    pytest.param({"spec": {"nodeSelector": {"x": None, "z": "3"}}}, id="null deletes"),
    pytest.param({"spec": {"tolerations": [{"key": "b"}]}}, id="an atomic list is replaced"),
    pytest.param({"spec": {"containers": None}}, id="null deletes a list"),
    pytest.param({"spec": {"affinity": {"nodeAffinity": {"x": None}}}}, id="nulls in what is new vanish"),
    pytest.param({"spec": {"volumes": [{"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/"}}]}},
                 id="retain keys"),
    pytest.param({"spec": {"volumes": [{"name": "v", "$retainKeys": ["name"], "hostPath": {"path": "/"}}]}},
                 id="retain keys must name what is set"),
    pytest.param({"metadata": {"finalizers": ["n/n", "c/d"]}}, id="merge a list of strings"),
    pytest.param({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a/b"]}}, id="delete from a list of strings"),
    pytest.param({"metadata": {"$setElementOrder/finalizers": ["n/n", "c/d"], "finalizers": ["n/n"],
                               "$deleteFromPrimitiveList/finalizers": ["a/b"]}}, id="order of strings"),
    pytest.param({"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "c"}, {"name": "a"}],
                           "containers": [{"name": "c", "image": "3"}]}}, id="order of items"),
    pytest.param({"spec": {"$setElementOrder/containers": [{"name": "b"}]}}, id="order without a change"),
    pytest.param({"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}],
                           "containers": [{"name": "a", "image": "9"}, {"name": "b", "image": "9"}]}}, id="order disagrees"),
    pytest.param({"spec": {"$setElementOrder/containers": [{"name": "b"}], "containers": [
        {"name": "b", "image": "9"}, {"name": "a", "$patch": "delete"}]}}, id="order and deletion"),
    pytest.param({"spec": {"$setElementOrder/containers": [{"name": "c"}], "containers": [
        {"name": "a", "$patch": "delete"}, {"name": "c"}]}}, id="order, deletion and something new"),
    pytest.param({"spec": {"containers": [{"image": "9"}]}}, id="an item without its key"),
    pytest.param({"spec": {"containers": [{"name": "a", "ports": [
        {"containerPort": 80, "hostPort": 1}, {"containerPort": 81}]}]}}, id="items in items"),
    pytest.param({"spec": {"containers": "none"}}, id="another type replaces"),
])
def test_strategic_merge_does_what_kubectl_does(change):
    original = pod(TWO, finalizers=["a/b", "c/d"])
    assert settled(outcome(strategic.apply, original, change, POD)) == settled(oracle.patch(original, change, "strategic"))


NAMES = st.sampled_from("abcd")
PORTS = st.lists(st.fixed_dictionaries({"containerPort": st.integers(1, 4)}, optional={"hostPort": st.integers(1, 2)}),
                 max_size=3, unique_by=lambda port: port["containerPort"])
ITEM = {"image": st.sampled_from("12"), "ports": PORTS, "command": st.lists(NAMES, max_size=2)}
CONTAINERS = st.lists(st.fixed_dictionaries({"name": NAMES}, optional=ITEM), max_size=4, unique_by=lambda item: item["name"])
SPEC = st.fixed_dictionaries({"containers": CONTAINERS}, optional={
    "nodeSelector": st.dictionaries(NAMES, NAMES, max_size=3), "hostNetwork": st.booleans()})
FINALIZERS = st.lists(st.sampled_from(["p/1", "p/2", "p/3", "p/4"]), max_size=4, unique=True)
OBJECTS = st.builds(lambda spec, finalizers: pod(spec, finalizers=finalizers), SPEC, FINALIZERS)


@st.composite
def changes(draw: Any) -> Any:
    """A patch: items merged, deleted, added, ordered; keys set and removed; finalizers likewise."""
    items = draw(CONTAINERS)
    spec: dict[str, Any] = {"containers": [
        {"name": item["name"], "$patch": "delete"} if draw(st.integers(0, 4)) == 0 else item | (
            {"command": None} if draw(st.booleans()) else {}) for item in items]}
    if draw(st.booleans()):
        kept = [{"name": item["name"]} for item in spec["containers"] if "$patch" not in item]
        extra = [{"name": name} for name in draw(st.lists(NAMES, max_size=2, unique=True)) if {"name": name} not in kept]
        at = draw(st.integers(0, len(kept)))
        spec["$setElementOrder/containers"] = kept[:at] + extra + kept[at:]
    if draw(st.booleans()):
        spec["nodeSelector"] = draw(st.none() | st.dictionaries(NAMES, st.none() | NAMES, max_size=3))
    gone = draw(FINALIZERS)
    metadata: dict[str, Any] = {"$deleteFromPrimitiveList/finalizers": gone} if draw(st.booleans()) else {}
    if draw(st.booleans()):  # not what is deleted too: Go walks a map in any order, and kubectl decides by chance
        metadata["finalizers"] = [one for one in draw(FINALIZERS) if one not in gone]
        if draw(st.booleans()):
            metadata["$setElementOrder/finalizers"] = metadata["finalizers"] + draw(FINALIZERS)
    return {"metadata": metadata, "spec": spec}


@settings(deadline=None, max_examples=40)
@given(OBJECTS, changes())
def test_strategic_merge_agrees_with_kubectl_on_anything(original, change):
    mine, theirs = settled(outcome(strategic.apply, original, change, POD)), settled(oracle.patch(original, change, "strategic"))
    assume("in any of the given slices" not in theirs[1])  # an order for a list that is empty, and stays so
    assert mine == theirs


@pytest.mark.parametrize(("target", "change", "wanted"), [  # the examples of RFC 7386, appendix A
    ({"a": "b"}, {"a": "c"}, {"a": "c"}), ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}), ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}), ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}), ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}), (["a", "b"], ["c", "d"], ["c", "d"]), ({"a": "b"}, ["c"], ["c"]),
    ({"a": "foo"}, None, None), ({"a": "foo"}, "bar", "bar"), ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}), ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
])
def test_merge_patch(target, change, wanted):
    assert outcome(merge.apply, target, change) == (wanted, "")


JSON = st.recursive(st.none() | st.booleans() | st.integers(0, 3) | st.sampled_from("xy"),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=8)


@given(st.dictionaries(NAMES, JSON, max_size=3), st.dictionaries(NAMES, JSON, max_size=3))
def test_a_merge_patch_applied_twice_is_applied_once(target, change):
    once = merge.apply(target, change)
    assert merge.apply(once, change) == once
    assert merge.apply(target, {}) == target


DOCUMENT = pod({"containers": [{"name": "a"}, {"name": "b"}], "a/b": {"m~n": 1}, "none": None, "yes": True})


def steps(text: str) -> Any:
    """`add /path 1; move /from /path`: one operation per part, values as JSON."""
    found = []
    for part in text.split(";"):
        op, path, *more = part.split(" ", 2)
        one = {"op": op, "path": path}
        if more:
            one |= {"from": path, "path": more[0]} if op in {"move", "copy"} else {"value": json.loads(more[0])}
        found.append(one)
    return found


@pytest.mark.parametrize("text", [
    'add /spec/new {"x":1}', 'add /spec/containers/1 {"name":"c"}', 'add /spec/containers/- {"name":"c"}',
    'add /spec/containers/-1 {"name":"c"}', 'add /spec/containers/9 {"name":"c"}', 'add /spec/containers/x {"name":"c"}',
    'add /spec/containers/-9 {"name":"c"}', 'add /spec/containers/01 {"name":"c"}', "add /no/where 1",
    "add /spec/containers/9/x 1", "add /metadata/name/x 1", "add  1", "add spec 1", "add x/spec/new 1", "add /spec/new",
    "remove /spec/containers/0", "remove /spec/containers/-1", "remove /spec/containers/9", "remove /spec/containers/x",
    "remove /spec/nothing", "remove /no/where", "remove ", "replace /spec/a~1b/m~0n 2", "replace /spec/nothing 2",
    "replace /no/where 1", "replace /spec/containers/0/name", 'replace  {"kind":"Pod","apiVersion":"v1","metadata":{"name":"y"}}',
    "move /spec/containers/0 /spec/containers/1", "move /spec/a~1b /spec/moved", "move /spec/nothing /spec/moved",
    "move /no/where /spec/moved", "move /spec/a~1b /no/where", "move /spec/containers/0 /spec/containers/5",
    "copy /spec/containers /spec/copied;remove /spec/copied/0", "copy /no /spec/copied", "copy /no/where /spec/copied",
    "copy /spec/containers/9 /spec/copied", "copy /spec/yes /no/where", "copy /spec/yes /spec/containers/9",
    'test /spec/containers/0/name "a"', 'test /spec/containers/0/name "b"', "test /spec/containers/0/name",
    "test /spec/containers/9 1", "test /spec/containers/x 1", "test /no/where 1", "test /spec/nothing null",
    "test /spec/yes 1", "test /spec/none null;remove /spec/none", "remove /spec/yes;test /spec/yes true",
    "test /spec/a~1b {\"m~n\":1.0}", "sing /spec 1"])
def test_json_patch_does_what_kubectl_does(text):
    mine, theirs = outcome(jsonpatch.apply, DOCUMENT, steps(text)), oracle.patch(DOCUMENT, steps(text), "json")
    assert mine[0] == theirs[0]
    if theirs[1].startswith("Object to be patched"):  # kubectl's own words for what it reads from the library's
        assert "replace operation does not apply: doc is missing key" in mine[1]
    else:
        assert mine[1] == theirs[1]


@pytest.mark.parametrize(("operations", "code"), [
    ({"op": "add"}, 400), ([1], 400), (None, 400), ([{"op": "sing", "path": "/x"}], 422), ([{"op": "add", "value": 1}], 422),
    ([{"op": [], "path": "/x"}], 422), ([{"op": "add", "path": 5, "value": 1}], 422),
    ([{"op": "test", "path": "/a"}] * 10_001, 413),
    ([{"op": "copy", "from": "/big", "path": f"/big/k{at}"} for at in range(40)], 422),
])
def test_json_patches_that_are_none_or_too_much(operations, code):
    with pytest.raises(ApiError) as error:
        jsonpatch.apply({"big": {"x": "x" * 1000}}, operations)
    assert error.value.code == code


@given(st.dictionaries(NAMES, JSON, max_size=3), JSON)
def test_no_json_makes_a_patch_fall_over(target, anything):
    for apply in (lambda: jsonpatch.apply(target, anything), lambda: strategic.apply(target, anything, POD),
                  lambda: merge.apply(target, anything)):
        try:
            apply()
        except ApiError as error:
            code = error.code
        else:
            code = 0
        assert code in {0, 400, 422}
