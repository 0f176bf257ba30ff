"""What Go's decoder would say about an object."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netlab.api import fits, validate
from netlab.api.schema import Struct, Type, struct_of, table
from netlab.errors import ApiError


def deployment(**spec: Any) -> Any:
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x"}, "spec": spec}


def containers(*items: Any) -> Any:
    return {"template": {"spec": {"containers": list(items)}}}


PLACE = "Go struct field"


@pytest.mark.parametrize(("obj", "text"), [
    (deployment(replicas="3"), f"json: cannot unmarshal string into {PLACE} DeploymentSpec.spec.replicas of type int32"),
    (deployment(replicas=1.5), f"json: cannot unmarshal number 1.5 into {PLACE} DeploymentSpec.spec.replicas of type int32"),
    (deployment(replicas=1 << 31),
     f"json: cannot unmarshal number 2147483648 into {PLACE} DeploymentSpec.spec.replicas of type int32"),
    (deployment(paused=1), f"json: cannot unmarshal number into {PLACE} DeploymentSpec.spec.paused of type bool"),
    (deployment(**containers({"name": "c", "env": [{"name": "x", "value": True}]})),
     f"json: cannot unmarshal bool into {PLACE} EnvVar.spec.template.spec.containers.env.value of type string"),
    (deployment(**containers("c")),
     f"json: cannot unmarshal string into {PLACE} PodSpec.spec.template.spec.containers of type v1.Container"),
    (deployment(template={"spec": {"containers": {}}}),
     f"json: cannot unmarshal object into {PLACE} PodSpec.spec.template.spec.containers of type []v1.Container"),
    (deployment(template={"spec": {"restartPolicy": 3}}),
     f"json: cannot unmarshal number into {PLACE} PodSpec.spec.template.spec.restartPolicy of type v1.RestartPolicy"),
    (deployment(selector=[]), f"json: cannot unmarshal array into {PLACE} DeploymentSpec.spec.selector of type v1.LabelSelector"),
    (deployment(template={"spec": {"nodeSelector": {"a": 1}}}),
     f"json: cannot unmarshal number into {PLACE} PodSpec.spec.template.spec.nodeSelector of type string"),
    (deployment(**containers({"name": "c", "resources": {"limits": {"cpu": "x"}}})),
     "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"),
    (deployment(strategy={"rollingUpdate": {"maxSurge": True}}), "json: cannot unmarshal bool into Go value of type int32"),
    ({"kind": "Pod", "apiVersion": "v1", "metadata": {"creationTimestamp": "yesterday"}},
     'parsing time "yesterday" as "2006-01-02T15:04:05Z07:00": cannot parse "yesterday" as "2006"'),
    ({"kind": "Secret", "apiVersion": "v1", "data": {"a": "a*b="}}, "illegal base64 data at input byte 1"),
])
def test_a_value_of_a_wrong_type_is_refused_whatever_the_mode(obj, text):
    kind, version = obj["kind"], obj["apiVersion"]
    for mode in ("Strict", "Warn", "Ignore"):
        with pytest.raises(ApiError) as error:
            validate.handle(json.dumps(obj).encode(), obj, version, kind, mode)
        assert error.value.code == 400
        assert error.value.message == f'{kind} in version "{version.rpartition("/")[2]}" cannot be handled as a {kind}: {text}'


def test_unknown_and_doubled_fields_are_refused_told_or_dropped():
    raw = (b'{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"x","name":"y"},"spec":{"replcas":1,"template":'
           b'{"spec":{"containers":[{"name":"c"},{"name":"d","imgae":"x","ports":[{"containerPort":1,"containerPort":2}]}]}}}}')
    obj = json.loads(raw)
    before = copy.deepcopy(obj)
    problems = ('unknown field "spec.replcas"', 'unknown field "spec.template.spec.containers[1].imgae"',
                'duplicate field "metadata.name"', 'duplicate field "spec.template.spec.containers[1].ports[0].containerPort"')
    with pytest.raises(ApiError) as error:
        validate.handle(raw, obj, "apps/v1", "Deployment", "Strict")
    assert error.value.message == ('Deployment in version "v1" cannot be handled as a Deployment: strict decoding error: '
                                   + ", ".join(problems))
    assert validate.handle(raw, obj, "apps/v1", "Deployment", "Warn") == problems
    assert validate.handle(raw, obj, "apps/v1", "Deployment", "Ignore") == ()
    with pytest.raises(ApiError) as error:
        validate.handle_patch(b'{"spec":{"replcas":1}}', obj, "apps/v1", "Deployment", "Strict")
    assert (error.value.code, error.value.details["causes"][0]["field"]) == (422, "patch")
    pruned = validate.prune(obj, "apps/v1", "Deployment")
    assert pruned["spec"] == containers({"name": "c"}, {"name": "d", "ports": [{"containerPort": 2}]})
    assert obj == before


def test_what_fits_is_left_alone():
    obj = deployment(replicas=None, **containers({"name": "c", "resources": {"limits": {"cpu": 1, "x.y/z": "1Gi"}}}),
                     strategy={"rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 0}})
    assert validate.handle(json.dumps(obj).encode(), obj, "apps/v1", "Deployment", "Strict") == ()
    assert validate.prune(obj, "apps/v1", "Deployment") is obj
    foreign = {"kind": "Widget", "apiVersion": "example.com/v1", "anything": {"goes": [1]}}
    assert validate.handle(b"", foreign, "example.com/v1", "Widget", "Strict") == ()
    assert validate.prune(foreign, "example.com/v1", "Widget") is foreign


def test_depth():
    deep: Any = 1
    for _ in range(50):
        deep = {"a": [deep]}
    assert validate.depth(deep, 101)
    assert not validate.depth(deep, 100)


def values(kind: Type, depth: int) -> st.SearchStrategy[Any]:
    """Values that mostly fit a type."""
    odd = st.sampled_from([None, 1, -1, 1 << 40, 1.5, "x", True, [], {}, [1], {"a": "b"}])
    if (shape := struct_of(kind)) is not None:
        return structs(shape, depth - 1) | odd if depth else st.just({})
    if kind.item is not None:
        inner = values(kind.item, depth)
        return (st.lists(inner, max_size=2) if kind.code == "list" else st.dictionaries(st.sampled_from("ab"), inner, max_size=2)) | odd
    good = {"string": "s", "int32": 5, "int64": 6, "boolean": True, "quantity": "1", "time": "2020-01-01T00:00:00Z", "byte": "YQ==",
            "micro-time": "2020-01-01T00:00:00.000000Z", "int-or-string": "x", "raw": {"a": 1}}.get(kind.code, 1)
    return st.just(good) | st.just(good) | odd


def structs(shape: Struct, depth: int) -> st.SearchStrategy[Any]:
    fields = sorted(shape.fields)

    def build(names: list[str]) -> st.SearchStrategy[Any]:
        return st.fixed_dictionaries({name: values(shape.fields[name].type, depth) if name in shape.fields else st.just(1)
                                      for name in names})

    return st.lists(st.sampled_from([*fields, "unknown"] if fields else ["unknown"]), max_size=3, unique=True).flatmap(build)


@settings(deadline=None, max_examples=200)
@given(st.sampled_from(["Pod", "Service", "Secret", "Event", "Node"]).flatmap(
    lambda kind: st.tuples(st.just(kind), structs(table().kind("v1", kind), 5))))
def test_the_quick_look_and_the_close_one_agree(sample):
    kind, obj = sample
    shape = table().kind("v1", kind)
    walk = validate._Walk()
    walk.struct(obj, shape, "", "")
    assert fits.of_struct(shape)(obj) == (not walk.unknown and not walk.errors)
    kept = validate.prune(obj, "v1", kind)
    assert validate.check(kept, "v1", kind).unknown == ()
    assert validate.check(kept, "v1", kind).errors == validate.check(obj, "v1", kind).errors


@given(st.text(max_size=30) | st.binary(max_size=30))
def test_no_text_makes_the_search_for_doubles_fall_over(text):
    try:
        assert isinstance(validate.duplicates(text), tuple)
    except ValueError:
        return
