"""Pods that are alike: what was found good and owned of one holds for the next, and for nothing else."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

import orjson
import pytest

from netlab.api import kinds
from netlab.api.meta import Object
from netlab.apiserver.admission import plugins
from netlab.apiserver.admission.base import Attempt, Step
from netlab.apiserver.admission.escalation import Escalation
from netlab.apiserver.validation import pods
from netlab.apiserver.validation.errors import FieldError, invalid
from netlab.apiserver.validation.remembered import Passed, digest
from tests.apiserver.conftest import Client, pod
from tests.apiserver.validation.cases import a_pod, texts


def fields(client: Client, ns: str, name: str, spec: Object, **metadata: Any) -> bytes:
    made = client.post(f"/api/v1/namespaces/{ns}/pods", {"metadata": {"name": name, **metadata}, "spec": spec})
    assert made.status == 201, made.json
    [entry] = made.json["metadata"]["managedFields"]
    return orjson.dumps(entry["fieldsV1"])


def test_replicas_have_the_owners_of_the_first_pod_and_metadata_of_their_own(client: Client, ns: str) -> None:
    spec = pod("x")["spec"] | {"nodeSelector": {"disk": ns}}  # no other test has such a Pod
    first = fields(client, ns, "first", spec, labels={"a": "1"})
    assert fields(client, ns, "second", spec, labels={"a": "2"}) == first
    noted = orjson.loads(fields(client, ns, "noted", spec, labels={"b": "1"}, annotations={"n": "1"}))
    assert noted == orjson.loads(first) | {"f:metadata": {
        "f:labels": {".": {}, "f:b": {}}, "f:annotations": {".": {}, "f:n": {}}}}
    without = fields(client, ns, "without", spec)
    assert orjson.loads(without) == {part: owned for part, owned in orjson.loads(first).items() if part != "f:metadata"}
    assert fields(client, ns, "again", spec) == without
    other = orjson.loads(fields(client, ns, "other", spec | {"hostNetwork": True}, labels={"a": "1"}))
    assert other["f:spec"] == {**orjson.loads(first)["f:spec"], "f:hostNetwork": {}}
    client.request("DELETE", f"/api/v1/namespaces/{ns}/pods?gracePeriodSeconds=0")


def test_what_passed_is_not_checked_again_and_what_failed_is() -> None:
    passed, asked = Passed(), []

    def check(value: Any) -> list[FieldError]:
        def found() -> list[FieldError]:
            asked.append(value)
            return [] if value == 1 else [invalid("f", value, "is not one")]
        return passed.errors(found, value)

    assert [len(check(value)) for value in (1, 1, 2, 2, "1", True, 1.0)] == [0, 0, 1, 1, 1, 0, 0]
    assert asked == [1, 2, 2, "1", True, 1.0], "nothing passes for something else"
    assert len({digest(*values) for values in ((1,), (1.0,), ("1",), (True,), (None,), ([1],), (1, 1), ({"a": 1},), ({},))}) == 9


def test_a_pod_that_differs_from_a_good_one_is_looked_at() -> None:
    good = a_pod(nodeSelector={"seldom": "x"})
    assert pods.pod(good) == pods.pod(good) == []
    bad = copy.deepcopy(good)
    bad["spec"]["nodeSelector"]["seldom"] = "not a value"
    assert "nodeSelector" in texts(pods.pod(bad))[0]
    assert texts(pods.pod(bad)) == texts(pods.pod(bad))


def test_what_a_pods_name_has_a_part_in_is_asked_of_each() -> None:
    volume = {"name": "v", "ephemeral": {"volumeClaimTemplate": {"spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}}}
    assert pods.pod(a_pod(volumes=[volume])) == []
    long = a_pod({"name": "p" * 252}, volumes=[volume])
    assert "PVC name" in texts(pods.pod(long))[0]


STEPS = [step for step in (*(make() for make in plugins.ORDER), Escalation(None)) if step.kinds is not None]  # type: ignore[arg-type]


@pytest.mark.parametrize("step", STEPS, ids=lambda step: type(step).__name__)
def test_a_step_does_nothing_to_kinds_that_it_is_not_about(step: Step) -> None:
    async def look() -> None:
        for row in kinds.RESOURCES:
            for operation in ("CREATE", "UPDATE", "DELETE", "CONNECT") if row.kind not in about else ():
                for part in ("", *row.subresources):
                    attempt = Attempt(None, operation, {}, {}, row, "n", "x", part)  # type: ignore[arg-type]
                    await step.mutate(attempt)  # who looked at anything would fall over it
                    await step.validate(attempt)
                    assert attempt.obj == {}

    about = step.kinds or frozenset()
    assert about <= {row.kind for row in kinds.RESOURCES}
    asyncio.run(look())
