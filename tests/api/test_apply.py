"""Server-side apply: who owns what, who conflicts, what goes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netlab.api.patch import apply as ssa
from netlab.api.patch import fieldset, typed
from netlab.api.patch import shape as shapes
from netlab.errors import ApiError

T1, T2, T3 = "2026-01-01T00:00:01Z", "2026-01-01T00:00:02Z", "2026-01-01T00:00:03Z"


def deployment(spec: Any = None, **metadata: Any) -> Any:
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "default", **metadata},
            "spec": spec or {}}


def config_map(data: Any, **metadata: Any) -> Any:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", **metadata}, "data": data}


def apply(live: Any, wanted: Any, manager: str = "me", *, force: bool = False, now: str = T2) -> Any:
    return ssa.apply(live, wanted, manager=manager, force=force, api_version=wanted["apiVersion"], kind=wanted["kind"], now=now)


def track(old: Any, new: Any, manager: str = "other", *, subresource: str = "", now: str = T1) -> Any:
    return ssa.track(old, new, manager=manager, api_version=new["apiVersion"], kind=new["kind"], subresource=subresource, now=now)


def owners(obj: Any) -> dict[str, Any]:
    return {f"{entry['manager']}/{entry['operation']}": entry["fieldsV1"] for entry in obj["metadata"].get("managedFields", ())}


def without_managers(obj: Any) -> Any:
    return obj | {"metadata": {key: value for key, value in obj["metadata"].items() if key != "managedFields"}}


def test_a_created_deployment_is_owned_as_upstream_writes_it():
    created = track(None, deployment({
        "progressDeadlineSeconds": 600, "replicas": 1, "revisionHistoryLimit": 10, "selector": {"matchLabels": {"app": "n"}},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
        "template": {"metadata": {"labels": {"app": "n"}}, "spec": {
            "containers": [{"name": "nginx", "image": "nginx", "imagePullPolicy": "Always", "resources": {},
                            "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"}],
            "dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "schedulerName": "default-scheduler",
            "securityContext": {}, "terminationGracePeriodSeconds": 30}}},
        labels={"app": "n"}, uid="u", creationTimestamp=T1, generation=1) | {"status": {}}, "kubectl-create")
    assert created["metadata"]["managedFields"] == [{
        "manager": "kubectl-create", "operation": "Update", "apiVersion": "apps/v1", "time": T1, "fieldsType": "FieldsV1",
        "fieldsV1": {
            "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
            "f:spec": {
                "f:progressDeadlineSeconds": {}, "f:replicas": {}, "f:revisionHistoryLimit": {}, "f:selector": {},
                "f:strategy": {"f:rollingUpdate": {".": {}, "f:maxSurge": {}, "f:maxUnavailable": {}}, "f:type": {}},
                "f:template": {
                    "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
                    "f:spec": {
                        "f:containers": {'k:{"name":"nginx"}': {
                            ".": {}, "f:image": {}, "f:imagePullPolicy": {}, "f:name": {}, "f:resources": {},
                            "f:terminationMessagePath": {}, "f:terminationMessagePolicy": {}}},
                        "f:dnsPolicy": {}, "f:restartPolicy": {}, "f:schedulerName": {}, "f:securityContext": {},
                        "f:terminationGracePeriodSeconds": {}}}}}}]


def test_a_status_write_is_an_entry_of_its_own():
    live = track(None, deployment({"replicas": 1}), "kubectl")
    new = live | {"status": {"replicas": 1, "conditions": [{"type": "Available", "status": "True"}]},
                  "spec": {"replicas": 9}}  # what a status write can't change it never owns
    entry = track(live, new, "kcm", subresource="status", now=T2)["metadata"]["managedFields"][1]
    assert entry == {
        "manager": "kcm", "operation": "Update", "apiVersion": "apps/v1", "time": T2, "fieldsType": "FieldsV1",
        "subresource": "status", "fieldsV1": {"f:status": {"f:replicas": {}, "f:conditions": {
            ".": {}, 'k:{"type":"Available"}': {".": {}, "f:type": {}, "f:status": {}}}}}}


def test_applying_creates_and_owns_what_was_named():
    made = apply(None, deployment({"replicas": 3, "template": {"spec": {"containers": [
        {"name": "c", "ports": [{"containerPort": 80}], "env": []}]}}}, labels={"a": "b"}, finalizers=["x/y"]))
    assert owners(made) == {"me/Apply": {
        "f:metadata": {"f:labels": {"f:a": {}}, "f:finalizers": {'v:"x/y"': {}}},
        "f:spec": {"f:replicas": {}, "f:template": {"f:spec": {"f:containers": {'k:{"name":"c"}': {
            ".": {}, "f:name": {}, "f:ports": {'k:{"containerPort":80,"protocol":"TCP"}': {".": {}, "f:containerPort": {}}}}}}}}}}
    assert without_managers(made)["spec"]["replicas"] == 3


def test_applying_the_same_again_changes_nothing_not_even_the_time():
    made = apply(None, deployment({"replicas": 3}), now=T1)
    assert apply(made, deployment({"replicas": 3}), now=T3) == made
    assert apply(made, deployment({"replicas": 4}), now=T3)["metadata"]["managedFields"][0]["time"] == T3


def test_what_is_no_longer_applied_goes_unless_somebody_else_owns_it():
    live = apply(None, config_map({"a": "1", "b": "1", "c": "1"}), "me")
    live = apply(live, config_map({"b": "1"}), "you")
    live = track(live, live | {"data": live["data"] | {"d": "1"}}, "other")
    after = apply(live, config_map({"c": "1"}), "me")
    assert after["data"] == {"b": "1", "c": "1", "d": "1"}
    assert owners(after) == {"me/Apply": {"f:data": {"f:c": {}}}, "you/Apply": {"f:data": {"f:b": {}}},
                             "other/Update": {"f:data": {"f:d": {}}}}
    assert apply(after, config_map({}), "me")["data"] == {"b": "1", "d": "1"}


def test_an_item_of_a_list_goes_with_its_last_owner_and_keeps_what_others_own():
    live = apply(None, deployment({"template": {"spec": {"containers": [
        {"name": "a", "image": "1"}, {"name": "b", "image": "1"}]}}}), "me")
    live = apply(live, deployment({"template": {"spec": {"containers": [{"name": "b", "command": ["x"]}]}}}), "you")
    after = apply(live, deployment({"template": {"spec": {"containers": []}}}), "me")
    assert after["spec"]["template"]["spec"]["containers"] == [{"name": "b", "command": ["x"]}]


def test_an_empty_map_that_was_applied_away_does_not_stay():
    live = apply(None, deployment({"template": {"spec": {"securityContext": {"runAsUser": 1}, "hostname": "h"}}}), "me")
    after = apply(live, deployment({"template": {"spec": {"hostname": "h"}}}), "me")
    assert after["spec"] == {"template": {"spec": {"hostname": "h"}}}


def test_another_owner_of_another_value_is_a_conflict():
    live = track(None, deployment({"replicas": 1, "paused": True}), "kubectl-client-side-apply")
    with pytest.raises(ApiError) as one:
        apply(live, deployment({"replicas": 2}))
    assert (one.value.code, one.value.reason) == (409, "Conflict")
    assert one.value.message == ('Apply failed with 1 conflict: conflict with "kubectl-client-side-apply" using apps/v1: '
                                 ".spec.replicas")
    assert one.value.details["causes"] == [{
        "reason": "FieldManagerConflict", "field": ".spec.replicas",
        "message": 'conflict with "kubectl-client-side-apply" using apps/v1'}]
    live = apply(live, deployment({"template": {"spec": {"containers": [{"name": "c", "image": "1"}]}}}), "helm")
    with pytest.raises(ApiError) as several:
        apply(live, deployment({"replicas": 2, "template": {"spec": {"containers": [{"name": "c", "image": "2"}]}}}))
    assert several.value.message == (
        'Apply failed with 2 conflicts: conflicts with "helm":\n- .spec.template.spec.containers[name="c"].image\n'
        'conflicts with "kubectl-client-side-apply" using apps/v1:\n- .spec.replicas')


def test_the_same_value_is_shared_and_force_takes_over():
    live = track(None, deployment({"replicas": 1, "paused": True}), "a")
    shared = apply(live, deployment({"replicas": 1}))
    assert owners(shared) == {"me/Apply": {"f:spec": {"f:replicas": {}}},
                              "a/Update": {"f:spec": {"f:replicas": {}, "f:paused": {}}}}
    forced = apply(live, deployment({"replicas": 2}), force=True)
    assert owners(forced) == {"me/Apply": {"f:spec": {"f:replicas": {}}}, "a/Update": {"f:spec": {"f:paused": {}}}}


def test_an_update_takes_fields_from_appliers_and_drops_removed_ones():
    live = apply(None, config_map({"a": "1", "b": "1"}))
    after = track(live, live | {"data": {"a": "2"}}, "editor", now=T3)
    assert owners(after) == {"editor/Update": {"f:data": {"f:a": {}}}}
    with pytest.raises(ApiError):
        apply(after, config_map({"a": "1"}))


def test_kubectl_moves_over_from_client_side_apply_without_conflicts():
    applied = deployment({"replicas": 1})
    live = track(None, deployment({"replicas": 1, "paused": True}, annotations={ssa.LAST_APPLIED: json.dumps(applied)}),
                 "kubectl-client-side-apply")
    after = apply(live, deployment({"replicas": 2}), "kubectl")
    assert after["spec"] == {"replicas": 2, "paused": True}
    assert json.loads(after["metadata"]["annotations"][ssa.LAST_APPLIED])["spec"] == {"replicas": 2}
    with pytest.raises(ApiError):
        apply(live, deployment({"paused": False}), "kubectl")
    with pytest.raises(ApiError):
        apply(live, deployment({"replicas": 2}), "somebody")


def test_the_client_may_edit_and_reset_managed_fields():
    live = track(None, config_map({"a": "1"}), "x")
    edited = json.loads(json.dumps(live))
    edited["metadata"]["managedFields"][0]["manager"] = "y"
    assert set(owners(track(live, edited, "z"))) == {"y/Update"}
    edited["metadata"]["managedFields"] = [{}]
    assert owners(track(live, edited, "z")) == {}
    edited["metadata"]["managedFields"] = []
    assert set(owners(track(live, edited, "z"))) == {"x/Update"}


@pytest.mark.parametrize("fields", [{"a": 1}, {"f:data": 1}, {"f:data": {"k:x": {}}}, {"f:data": {"k:[]": {}}}, {"x:y": {}}, {"i:x": {}},
                                    {"f:data": {"v:": {}}}, [1], {"f": {}}])
def test_managed_fields_that_cannot_be_read_change_nothing(fields: Any) -> None:
    live = track(None, config_map({"a": "1"}), "x", now=T1)
    edited = json.loads(json.dumps(live))
    edited["metadata"]["managedFields"][0]["fieldsV1"] = fields
    assert track(live, edited, "y", now=T2) == live



def test_many_updaters_are_folded_into_one():
    live: Any = None
    data: dict[str, str] = {}
    for at in range(15):
        data = data | {f"k{at}": "1"}
        live = track(live, config_map(data, managedFields=(live or {"metadata": {}})["metadata"].get("managedFields")),
                     f"m{at:02}", now=f"2026-01-01T00:00:{at:02}Z")
    found = owners(live)
    assert len(found) == 10
    assert {f"f:k{at}" for at in range(6)} <= set(found["ancient-changes/Update"]["f:data"])


@pytest.mark.parametrize(("wanted", "text"), [
    (deployment({"template": {"spec": {"containers": [{"image": "x"}]}}}), 'omits all key fields \\["name"\\]'),
    (deployment({"template": {"spec": {"containers": [{"name": "x"}, {"name": "x"}]}}}), "duplicate entries for key"),
    (deployment(managedFields=[{}]), "managedFields must be nil"),
])
def test_what_makes_no_sense_is_refused(wanted, text):
    with pytest.raises(ApiError, match=text) as error:
        apply(None, wanted)
    assert error.value.code == 400


def test_list_order_follows_the_applier_and_leaves_others_in_place():
    def containers(*names: str) -> Any:
        return deployment({"template": {"spec": {"containers": [{"name": name} for name in names]}}})

    live = track(None, containers("a", "x", "b", "y"))
    after = apply(live, containers("b", "a", "c"))
    assert [one["name"] for one in after["spec"]["template"]["spec"]["containers"]] == ["x", "b", "y", "a", "c"]


def test_a_kind_without_a_schema_is_owned_by_field_too():
    wanted = {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w", "labels": {"a": "b"}},
              "spec": {"size": 1, "list": [1, 2], "deep": {"x": {}}}}
    made = apply(None, wanted)
    assert owners(made)["me/Apply"] == {
        "f:metadata": {"f:labels": {"f:a": {}}},
        "f:spec": {".": {}, "f:size": {}, "f:list": {}, "f:deep": {".": {}, "f:x": {}}}}
    assert apply(made, wanted | {"spec": {"size": 1}})["spec"] == {"size": 1}


SETS = st.recursive(st.just({}), lambda inner: st.dictionaries(st.sampled_from(["f:a", "f:b", "v:1", "."]), inner, max_size=3),
                    max_leaves=12).map(fieldset.below)


def members(node: Any, prefix: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    out: set[tuple[str, ...]] = set()
    for element, inner in node.items():
        if element != ".":
            if fieldset.is_member(inner):
                out.add((*prefix, element))
            out |= members(fieldset.below(inner), (*prefix, element))
    return out


@given(SETS, SETS)
def test_field_sets_are_sets(left, right):
    assert members(fieldset.union(left, right)) == members(left) | members(right)
    assert members(fieldset.difference(left, right)) == members(left) - members(right)
    assert members(fieldset.intersection(left, right)) == members(left) & members(right)
    gone = members(right)
    assert members(fieldset.without(left, right)) == {
        path for path in members(left) if not any(path[:length] in gone for length in range(1, len(path) + 1))}


CONTAINER = st.fixed_dictionaries({"name": st.sampled_from("abc")}, optional={
    "image": st.sampled_from(["1", "2"]), "command": st.just(["x"]), "env": st.lists(
        st.fixed_dictionaries({"name": st.sampled_from("PQ"), "value": st.sampled_from("12")}), max_size=2,
        unique_by=lambda item: item["name"])})
CONFIGS = st.fixed_dictionaries({}, optional={
    "replicas": st.integers(0, 2), "paused": st.booleans(), "template": st.fixed_dictionaries({}, optional={
        "metadata": st.fixed_dictionaries({"labels": st.dictionaries(st.sampled_from("xy"), st.sampled_from("12"), max_size=2)}),
        "spec": st.fixed_dictionaries({"containers": st.lists(CONTAINER, max_size=3, unique_by=lambda item: item["name"])})})})


def included(wanted: Any, actual: Any) -> bool:
    """Everything that was applied is there."""
    if isinstance(wanted, dict):
        return all(inner in ({}, []) or included(inner, actual.get(name)) for name, inner in wanted.items())
    if isinstance(wanted, list) and wanted and isinstance(wanted[0], dict):
        found = {item["name"]: item for item in actual}
        return all(included(item, found.get(item["name"], {})) for item in wanted)
    return wanted == actual


def nothing(value: Any) -> bool:
    return value == [] or (isinstance(value, dict) and all(map(nothing, value.values())))


@settings(deadline=None, max_examples=150)
@given(st.lists(st.tuples(st.sampled_from(["a", "b"]), CONFIGS), max_size=6))
def test_appliers_get_what_they_want_and_leave_nothing_behind(steps):
    live: Any = None
    for manager, config in steps:
        wanted = deployment(config)
        live = apply(live, wanted, manager, force=True)
        assert included(config, live.get("spec", {}))
        assert apply(live, wanted, manager, force=True, now=T3) == live
    for manager in ("a", "b"):
        if live is not None:
            live = apply(live, deployment(), manager, force=True)
    assert live is None or nothing(live["spec"])
    if live is not None:
        assert all(fields == {"f:spec": {}} for fields in owners(live).values())


@settings(deadline=None)
@given(CONFIGS, CONFIGS)
def test_a_comparison_tells_what_changed(old, new):
    shape = shapes.root("apps/v1", "Deployment")
    before, after = deployment(old), deployment(new)
    found = typed.compare(before, after, shape)
    assert typed.compare(before, json.loads(json.dumps(before)), shape) == typed.Comparison({}, {}, {})
    reverse = typed.compare(after, before, shape)
    assert members(found.added) == members(reverse.removed)
    assert members(found.modified) == members(reverse.modified)


def test_conflicts_are_told_level_by_level():
    fields = {"f:spec": {"f:containers": {'k:{"name":"c"}': {".": {}, "f:image": {}}}, "f:tolerations": {}}}
    assert list(fieldset.paths(fields)) == [
        ".spec.tolerations", '.spec.containers[name="c"]', '.spec.containers[name="c"].image']
