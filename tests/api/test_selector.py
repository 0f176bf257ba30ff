"""Label and field selectors."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netlab.api import fields, selector

from .oracle import kubectl

LABELS = [{}, {"a": "b"}, {"a": "c"}, {"a": ""}, {"b": "1"}, {"a": "b", "d": "x", "f": ""}, {"a": "c", "d": "", "e": "1", "f": "2"},
          {"in": "in"}, {"notin": ""}, {"c": "9"}]


@pytest.mark.parametrize("text", [
    "a=b", "a in (b,c),d notin (),!e,f", "a in b", "a in (", "a in (b", "a in (b c)", "a,,b", "a,", ",a", "=b", "a=b=c", "a b",
    "a>x", "!", "!a=b", "a=,b", "a=b c", "a==b", "x/y/z=1", "-a", "a=-b", "a in (x,-b)", "in in (in)", "notin", "a notin (b,)",
    "(a)", "a=(b)", " a = b , c ", "a in ()", "a in (b))", "a=in", "a!b", "a=!b", "a@b", "a in (,)", "A.b/c", "/a", "x/", "k" * 64,
    "a=" + "v" * 64, "example.com/a=b", "a in (b),,", "a in (!)", "! a", "a<", "a notin b", "a,b,!c"])
def test_label_selectors_are_read_as_kubectl_reads_them(text):
    done = kubectl("create", "poddisruptionbudget", "p", "--min-available=1", "--dry-run=client", "-o", "json",
                   f"--selector={text}")
    if done.returncode:
        wanted = re.fullmatch(r"error: couldn't parse the selector string .*?\": (found .*|unable .*)\n", done.stderr, re.DOTALL)
        assert wanted is not None, done.stderr
        with pytest.raises(ValueError) as error:
            selector.parse(text)
        assert str(error.value) == wanted[1]
    else:
        theirs = selector.from_object(json.loads(done.stdout)["spec"]["selector"])
        mine = selector.parse(text)
        assert [mine.matches(labels) for labels in LABELS] == [theirs.matches(labels) for labels in LABELS]


@pytest.mark.parametrize(("text", "labels", "selected"), [
    ("", {}, True), ("a!=b", {}, True), ("a!=b", {"a": "b"}, False), ("a notin (b)", {}, True), ("a", {"a": ""}, True),
    ("!a", {"a": ""}, False), ("n>5", {"n": "6"}, True), ("n>5", {"n": "5"}, False), ("n<5", {"n": "-6"}, True),
    ("n<5", {"n": "x"}, False), ("n<5", {}, False), ("a=b,c=d", {"a": "b"}, False)])
def test_what_is_selected(text, labels, selected):
    assert selector.parse(text).matches(labels) is selected


def test_selector_objects():
    assert selector.from_object({}).empty
    assert not selector.from_object(None).matches({"a": "b"})
    both = selector.from_object({"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "c", "operator": "Exists"}]})
    assert [both.matches(labels) for labels in ({"a": "b"}, {"a": "b", "c": ""})] == [False, True]
    for wrong in ({"key": "a", "operator": "Sings"}, {"key": "a", "operator": "In", "values": []},
                  {"key": "a", "operator": "Exists", "values": ["x"]}):
        with pytest.raises(ValueError):
            selector.from_object({"matchExpressions": [wrong]})


NAMES = st.sampled_from(["a", "b", "x.y/z"])
VALUES = st.sampled_from(["", "1", "v-v", "2"])
REQUIREMENTS = st.builds(
    lambda key, operator, values: selector.Requirement(key, operator, frozenset(values) if operator in {"in", "notin"}
                                                       else frozenset({values[0]} if operator in {"=", "!="} else ())),
    NAMES, st.sampled_from(["in", "notin", "=", "!=", "exists", "!"]), st.lists(VALUES, min_size=1, max_size=3))


@given(st.lists(REQUIREMENTS, max_size=4), st.dictionaries(NAMES, VALUES))
def test_a_selector_printed_and_read_selects_the_same(requirements, labels):
    original = selector.Selector(tuple(requirements))
    assert selector.parse(str(original)).matches(labels) == original.matches(labels)


@given(st.text(alphabet="ab=!<>,() in\t\\-/", max_size=15))
def test_no_text_makes_the_parsers_fall_over(text):
    for parse in (selector.parse, fields.parse):
        try:
            str(parse(text))
        except ValueError as error:
            assert str(error)  # noqa: PT017


POD = {"metadata": {"name": "p", "namespace": "n"}, "spec": {"nodeName": "w1"},
       "status": {"phase": "Running", "podIPs": [{"ip": "1.2.3.4"}, {"ip": "::1"}]}}


@pytest.mark.parametrize(("text", "selected"), [
    ("", True), ("metadata.name=p", True), ("metadata.name==p,metadata.namespace=n", True), ("metadata.name!=p", False),
    ("spec.nodeName=w1,status.phase!=Succeeded,status.phase!=Failed", True), ("spec.nodeName=", False),
    ("status.nominatedNodeName=", True), ("spec.hostNetwork=false", True), (r"status.podIPs=1.2.3.4\,::1", True)])
def test_field_selectors(text, selected):
    parsed = fields.parse(text)
    fields.check(parsed, "v1", "Pod")
    assert parsed.matches(POD) is selected
    assert fields.parse(str(parsed)) == parsed


def test_fields_that_a_kind_does_not_offer():
    with pytest.raises(ValueError, match=r"field label not supported: spec\.colour"):
        fields.check(fields.parse("spec.colour=red"), "v1", "Pod")
    with pytest.raises(ValueError, match=r'"spec\.colour" is not a known field selector: only "metadata\.name"'):
        fields.check(fields.parse("spec.colour=red"), "apps/v1", "DaemonSet")
    assert fields.parse("metadata.name=x,a!=b").exact("metadata.name") == "x"
    assert fields.parse("metadata.name!=x").exact("metadata.name") is None
    for text in ("a", "a=b\\", "a=b\\x", "a=b=c"):
        with pytest.raises(ValueError):
            fields.parse(text)


def test_events_are_found_by_what_they_are_about():
    event = {"metadata": {"name": "e"}, "involvedObject": {"name": "p", "kind": "Pod"}, "source": {"component": "kubelet"}}
    assert fields.parse("involvedObject.name=p,involvedObject.kind=Pod,source=kubelet").matches(event)
