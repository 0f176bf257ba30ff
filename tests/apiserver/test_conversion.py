"""Conversion webhooks: what one version of a definition stores is read and written in another."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.apiserver.conftest import Client, Pki
from tests.apiserver.hook_server import HookServer
from tests.apiserver.test_crd import CRDS, definition, established, version

PORT = {"type": "object", "properties": {"spec": {"type": "object", "properties": {"hostPort": {"type": "string"}}}}}
APART = {"type": "object", "properties": {"spec": {"type": "object", "properties": {
    "host": {"type": "string"}, "port": {"type": "string"}}}}}


def convert(review: dict) -> dict:
    """Join or part spec.hostPort, as the tutorial's webhook does."""
    asked = review["request"]
    found = []
    for obj in asked["objects"]:
        obj = {**obj, "apiVersion": asked["desiredAPIVersion"], "spec": dict(obj.get("spec") or {})}
        spec = obj["spec"]
        if asked["desiredAPIVersion"].endswith("v1") and "hostPort" in spec:
            spec["host"], _, spec["port"] = spec.pop("hostPort").partition(":")
        elif asked["desiredAPIVersion"].endswith("v1beta1") and "host" in spec:
            spec["hostPort"] = f"{spec.pop('host')}:{spec.pop('port')}"
        found.append(obj)
    return {"kind": "ConversionReview", "apiVersion": "apiextensions.k8s.io/v1", "response": {
        "uid": asked["uid"], "result": {"status": "Success"}, "convertedObjects": found}}


@pytest.fixture(scope="module")
def hook(pki: Pki) -> Iterator[HookServer]:
    running = HookServer(pki)
    running.raw["/convert"] = convert
    yield running
    running.close()


@pytest.fixture(scope="module")
def kind(server: Any, hook: HookServer) -> Any:
    made = definition("crontabs", version("v1beta1", storage=False, schema=PORT), version("v1", schema=APART))
    made["spec"]["conversion"] = {"strategy": "Webhook", "webhook": {
        "conversionReviewVersions": ["v1"], "clientConfig": hook.config("/convert")}}
    established(server.client(), made)
    return made


def path(which: str, ns: str, name: str = "") -> str:
    return f"/apis/example.com/{which}/namespaces/{ns}/crontabs" + (f"/{name}" if name else "")


def test_every_version_reads_and_writes(client: Client, ns: str, kind: Any, hook: HookServer) -> None:
    made = client.post(path("v1beta1", ns), {"metadata": {"name": "a", "labels": {"x": "y"}}, "spec": {"hostPort": "h:80"}})
    assert made.status == 201, made.json
    assert made.json["spec"] == {"hostPort": "h:80"}
    new = client.get(path("v1", ns, "a")).json
    assert (new["apiVersion"], new["spec"], new["metadata"]["labels"]) == ("example.com/v1", {"host": "h", "port": "80"}, {"x": "y"})
    assert new["metadata"]["resourceVersion"] == made.json["metadata"]["resourceVersion"]
    assert client.patch(path("v1", ns, "a"), {"spec": {"port": "81"}}).json["spec"]["port"] == "81"
    old = client.get(path("v1beta1", ns)).json
    assert old["items"][0]["spec"] == {"hostPort": "h:81"}
    changed = client.patch(path("v1beta1", ns, "a"), {"spec": {"hostPort": "g:82"}})
    assert changed.json["spec"] == {"hostPort": "g:82"}
    assert client.get(path("v1", ns, "a")).json["spec"] == {"host": "g", "port": "82"}
    assert client.delete(path("v1beta1", ns, "a")).status == 200


def test_watches_are_converted(client: Client, ns: str, kind: Any) -> None:
    with client.again().watch(path("v1beta1", ns) + "?watch=1") as watching:
        client.post(path("v1", ns), {"metadata": {"name": "w"}, "spec": {"host": "h", "port": "1"}})
        event = watching.take(1)[0]
        assert (event["type"], event["object"]["spec"]) == ("ADDED", {"hostPort": "h:1"})
        client.delete(path("v1", ns, "w"))
        event = watching.take(1)[0]
        assert (event["type"], event["object"]["spec"]) == ("DELETED", {"hostPort": "h:1"})


@pytest.mark.parametrize(("change", "said"), [
    (lambda review: {**convert(review), "kind": "Pod"}, "expected a response"),
    (lambda review: {**convert(review), "response": {**convert(review)["response"], "result": {"status": "Failed", "message": "no way"}}}, "no way"),
    (lambda review: {**convert(review), "response": {**convert(review)["response"], "convertedObjects": []}}, "returned 0 objects"),
])
def test_a_webhook_that_fails(client: Client, ns: str, kind: Any, hook: HookServer, change: Any, said: str) -> None:
    hook.raw["/convert"] = change
    try:
        answer = client.post(path("v1beta1", ns), {"metadata": {"name": "f"}, "spec": {"hostPort": "h:80"}})
    finally:
        hook.raw["/convert"] = convert
    assert answer.status == 500
    assert "conversion webhook for example.com/v1beta1, Kind=Crontab failed: " in answer.json["message"]
    assert said in answer.json["message"]


def test_an_answer_about_another_object_is_refused(client: Client, ns: str, kind: Any, hook: HookServer) -> None:
    def rename(review: dict) -> dict:
        found = convert(review)
        for obj in found["response"]["convertedObjects"]:
            obj["metadata"] = {**obj["metadata"], "name": "other"}
        return found

    hook.raw["/convert"] = rename
    try:
        answer = client.post(path("v1beta1", ns), {"metadata": {"name": "f"}, "spec": {"hostPort": "h:80"}})
    finally:
        hook.raw["/convert"] = convert
    assert "must have the same name: other != f" in answer.json["message"]
    assert client.get(CRDS + "/crontabs.example.com").status == 200
