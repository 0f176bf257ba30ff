"""Affinity, spreading, tolerations."""

from __future__ import annotations

from typing import Any

import pytest

from netlab.apiserver.validation import names
from tests.apiserver.validation.cases import a_pod, bad, pod

REQUIRED, PREFERRED = "requiredDuringSchedulingIgnoredDuringExecution", "preferredDuringSchedulingIgnoredDuringExecution"
OPERATORS = '"Equal", "Exists"'
EFFECTS = '"NoSchedule", "PreferNoSchedule", "NoExecute"'


def nodes(*rules: dict[str, Any], fields: tuple[dict[str, Any], ...] = ()) -> list[str]:
    term = {"matchExpressions": list(rules), "matchFields": list(fields)}
    found = pod(affinity={"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [term]}}})
    return [text.removeprefix(f"spec.affinity.nodeAffinity.{REQUIRED}.nodeSelectorTerms[0].") for text in found]


def near(labels: dict[str, str] | None = None, **term: Any) -> list[str]:
    found = pod({"labels": labels or {}}, affinity={"podAntiAffinity": {REQUIRED: [{"topologyKey": "zone", **term}]}})
    return [text.removeprefix(f"spec.affinity.podAntiAffinity.{REQUIRED}[0].") for text in found]


def spread(*constraints: dict[str, Any], labels: dict[str, str] | None = None) -> list[str]:
    base = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}
    found = pod({"labels": labels or {}}, topologySpreadConstraints=[{**base, **one} for one in constraints])
    return [text.removeprefix("spec.topologySpreadConstraints") for text in found]


def tolerate(**toleration: Any) -> list[str]:
    return [text.removeprefix("spec.tolerations[0].") for text in pod(tolerations=[toleration])]


@pytest.mark.parametrize(("found", "wanted"), [
    (nodes({"key": "a", "operator": "In", "values": ["b"]}, {"key": "a", "operator": "Gt", "values": ["1"]},
           fields=({"key": "metadata.name", "operator": "In", "values": ["n"]},)), []),
    (nodes({"key": "a", "operator": "In"}),
     ["matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'"]),
    (nodes({"key": "a", "operator": "Exists", "values": ["b"]}), [
        "matchExpressions[0].values: Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'"]),
    (nodes({"key": "a", "operator": "Lt", "values": ["1", "2"]}), [
        "matchExpressions[0].values: Required value: must be specified single value when `operator` is 'Lt' or 'Gt'"]),
    (nodes({"key": "a b", "operator": "in"}), [
        'matchExpressions[0].operator: Invalid value: "in": not a valid selector operator',
        *bad("matchExpressions[0].key", "a b", names.qualified_name)]),
    (nodes({"key": "a", "operator": "In", "values": ["-"]}),
     bad("matchExpressions[0].values[0]", "-", names.label_value)),
    (nodes(fields=({"key": "metadata.name", "operator": "Exists"},)),
     ['matchFields[0].operator: Invalid value: "Exists": not a valid selector operator']),
    (nodes(fields=({"key": "metadata.name", "operator": "In", "values": ["a", "b"]},)), [
        ("matchFields[0].values: Required value: must be only one value when `operator` is 'In' or 'NotIn' for node field "
        "selector")]),
    (nodes(fields=({"key": "metadata.uid", "operator": "In", "values": ["a"]},)),
     ['matchFields[0].key: Invalid value: "metadata.uid": not a valid field selector key']),
    (nodes(fields=({"key": "metadata.name", "operator": "In", "values": ["A"]},)),
     bad("matchFields[0].values[0]", "A", names.dns_subdomain)),
    (pod(affinity={"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": []}}}), [
        (f"spec.affinity.nodeAffinity.{REQUIRED}.nodeSelectorTerms: Required value: must have at least one node selector "
        "term")]),
    (pod(affinity={"nodeAffinity": {PREFERRED: [{"weight": 101, "preference": {"matchExpressions": [
        {"key": "a", "operator": "In", "values": ["-"]}]}}]}}), [
        f"spec.affinity.nodeAffinity.{PREFERRED}[0].weight: Invalid value: 101: must be in the range 1-100"]),
    (pod(nodeSelector={"a b": "-"}), [
        *bad("spec.nodeSelector", "a b", names.qualified_name), *bad("spec.nodeSelector", "-", names.label_value)]),
    (near(topologyKey=""), ["topologyKey: Required value: can not be empty",
                            *bad("topologyKey", "", names.qualified_name)]),
    (near(namespaces=["A"], labelSelector={"matchLabels": {"a": "-"}},
          namespaceSelector={"matchExpressions": [{"key": "a", "operator": "In"}]}), [
        *bad("labelSelector.matchLabels", "-", names.label_value),
        "namespaceSelector.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'",
        *bad("namespace", "A", names.dns_label)]),
    (near(matchLabelKeys=["a"], mismatchLabelKeys=["b"]), [
        "matchLabelKeys: Forbidden: must not be specified when labelSelector is not set",
        "mismatchLabelKeys: Forbidden: must not be specified when labelSelector is not set"]),
    (near(matchLabelKeys=["a b"], labelSelector={}), bad("matchLabelKeys[0]", "a b", names.qualified_name)),
    (near(matchLabelKeys=["a"], mismatchLabelKeys=["a"], labelSelector={}),
     ['matchLabelKeys[0]: Invalid value: "a": exists in both matchLabelKeys and mismatchLabelKeys']),
    (pod(affinity={"podAffinity": {PREFERRED: [{"weight": 0, "podAffinityTerm": {"topologyKey": "z"}}]}}), [
        f"spec.affinity.podAffinity.{PREFERRED}[0].weight: Invalid value: 0: must be in the range 1-100"]),
])
def test_affinity(found: list[str], wanted: list[str]) -> None:
    assert found == wanted


def test_a_label_of_the_selector_is_not_repeated() -> None:
    found = near({"a": "1"}, matchLabelKeys=["a"], labelSelector={"matchLabels": {"a": "1"}})
    assert found == [(f'spec.affinity.podAntiAffinity.{REQUIRED}[0][0]: Invalid value: "a": exists in both matchLabelKeys '
                     "and labelSelector")]


@pytest.mark.parametrize(("found", "wanted"), [
    (spread({"minDomains": 1, "nodeAffinityPolicy": "Honor", "nodeTaintsPolicy": "Ignore"}), []),
    (spread({"maxSkew": 0}), ["[0].maxSkew: Invalid value: 0: must be greater than zero"]),
    (spread({"topologyKey": ""}), ["[0].topologyKey: Required value: can not be empty"]),
    (spread({"whenUnsatisfiable": "x"}), [
        '[0].whenUnsatisfiable: Unsupported value: "x": supported values: "DoNotSchedule", "ScheduleAnyway"']),
    (spread({}, {}), ['[0].{topologyKey, whenUnsatisfiable}: Duplicate value: "{zone, DoNotSchedule}"']),
    (spread({"minDomains": 0}), ["[0].minDomains: Invalid value: 0: must be greater than zero"]),
    (spread({"minDomains": 2, "whenUnsatisfiable": "ScheduleAnyway"}), [
        ("[0].minDomains: Invalid value: 2: can only use minDomains if whenUnsatisfiable=DoNotSchedule, not "
        "ScheduleAnyway")]),
    (spread({"nodeAffinityPolicy": "x", "nodeTaintsPolicy": "y"}), [
        '[0].nodeAffinityPolicy: Unsupported value: "x": supported values: "Honor", "Ignore"',
        '[0].nodeTaintsPolicy: Unsupported value: "y": supported values: "Honor", "Ignore"']),
    (spread({"matchLabelKeys": ["a"]}),
     ["[0].matchLabelKeys: Forbidden: must not be specified when labelSelector is not set"]),
    (spread({"labelSelector": {"matchLabels": {"a": "-"}}}),
     bad("[0].labelSelector.matchLabels", "-", names.label_value)),
])
def test_spreading(found: list[str], wanted: list[str]) -> None:
    assert found == wanted


@pytest.mark.parametrize(("found", "wanted"), [
    (tolerate(), [('operator: Invalid value: "": operator must be Exists when `key` is empty, which means "match all '
                  'values and all keys"')]),
    (tolerate(operator="Exists"), []),
    (tolerate(key="a b"), bad("key", "a b", names.qualified_name)),
    (tolerate(key="a", tolerationSeconds=1), [
        'effect: Invalid value: "": effect must be \'NoExecute\' when `tolerationSeconds` is set']),
    (tolerate(key="a", effect="NoExecute", tolerationSeconds=-1), []),
    (tolerate(key="a", value="-"), bad("operator", "-", names.label_value)),
    (tolerate(key="a", operator="Exists", value="b"), [
        'operator: Invalid value: "b": value must be empty when `operator` is \'Exists\'']),
    (tolerate(key="a", operator="x"), [f'operator: Unsupported value: "x": supported values: {OPERATORS}']),
    (tolerate(key="a", operator="Lt", value="1"), [
        f'operator: Unsupported value: "Lt": supported values: {OPERATORS}, "Lt", "Gt"']),
    (tolerate(key="a", effect="x"), [f'effect: Unsupported value: "x": supported values: {EFFECTS}']),
])
def test_tolerations(found: list[str], wanted: list[str]) -> None:
    assert found == wanted


def test_own_labels_go_into_the_selectors() -> None:
    made = a_pod({"labels": {"a": "1", "b": "2"}}, topologySpreadConstraints=[
        {"maxSkew": 1, "topologyKey": "z", "whenUnsatisfiable": "DoNotSchedule", "matchLabelKeys": ["a", "none"],
         "labelSelector": {"matchLabels": {"c": "3"}}}], affinity={"podAffinity": {REQUIRED: [
             {"topologyKey": "z", "labelSelector": {}, "mismatchLabelKeys": ["b"]}]}})
    assert made["spec"]["topologySpreadConstraints"][0]["labelSelector"] == {
        "matchLabels": {"c": "3"}, "matchExpressions": [{"key": "a", "operator": "In", "values": ["1"]}]}
    assert made["spec"]["affinity"]["podAffinity"][REQUIRED][0]["labelSelector"] == {
        "matchExpressions": [{"key": "b", "operator": "NotIn", "values": ["2"]}]}
