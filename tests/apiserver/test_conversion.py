"""Conversion webhooks: what one version of a definition stores is read and written in another."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.apiserver.conftest import Client, Pki
from tests.apiserver.hook_server import HookServer, patch
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


def hook_on(client: Client, hook: HookServer, ns: str, kind_: str, answer: Any, versions: tuple[str, ...] = ("v1beta1",), **spec: Any) -> str:
    hook.answers[f"/{ns}/{kind_}"] = answer
    place = f"/apis/admissionregistration.k8s.io/v1/{kind_}webhookconfigurations"
    made = client.post(place, {"metadata": {"name": f"{kind_}-{ns}"}, "webhooks": [{
        "name": f"{kind_}.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"], "clientConfig": hook.config(f"/{ns}/{kind_}"),
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": ns}},
        "rules": [{"apiGroups": ["example.com"], "apiVersions": list(versions), "resources": ["crontabs"], "operations": ["*"]}], **spec}]})
    assert made.status == 201, made.json
    return f"{place}/{kind_}-{ns}"


def test_webhooks_see_the_version_they_asked_for(client: Client, ns: str, kind: Any, hook: HookServer) -> None:
    validating = hook_on(client, hook, ns, "validating", lambda asked: {"allowed": True}, matchConditions=[
        {"name": "old", "expression": "object == null || object.spec.hostPort != ''"}])
    mutating = hook_on(client, hook, ns, "mutating", lambda asked: patch({"op": "replace", "path": "/spec/hostPort", "value": "changed:99"}))
    hook.asked.clear()
    made = client.post(path("v1", ns), {"metadata": {"name": "m"}, "spec": {"host": "h", "port": "1"}})
    assert made.json["spec"] == {"host": "changed", "port": "99"}, made.json
    reviews = [asked for asked in hook.asked if "operation" in asked]
    assert [review["object"]["spec"] for review in reviews] == [{"hostPort": "h:1"}, {"hostPort": "changed:99"}]
    for review in reviews:
        assert review["object"]["apiVersion"] == "example.com/v1beta1"
        assert (review["kind"]["version"], review["requestKind"]["version"]) == ("v1beta1", "v1")
        assert (review["resource"]["version"], review["requestResource"]["version"]) == ("v1beta1", "v1")
    client.delete(mutating)
    hook.asked.clear()
    client.patch(path("v1", ns, "m"), {"spec": {"port": "7"}})
    review = next(asked for asked in hook.asked if "operation" in asked)
    assert (review["object"]["spec"], review["oldObject"]["spec"]) == ({"hostPort": "changed:7"}, {"hostPort": "changed:99"})
    hook.asked.clear()
    client.delete(path("v1", ns, "m"))
    review = next(asked for asked in hook.asked if "operation" in asked)
    assert (review["object"], review["oldObject"]["spec"]) == (None, {"hostPort": "changed:7"})
    client.delete(validating)
    exact = hook_on(client, hook, ns, "validating", lambda asked: {"allowed": False}, matchPolicy="Exact")
    assert client.post(path("v1", ns), {"metadata": {"name": "e"}, "spec": {"host": "h", "port": "1"}}).status == 201
    client.delete(exact)


def test_policies_see_the_version_they_asked_for(client: Client, ns: str, kind: Any) -> None:
    api = "/apis/admissionregistration.k8s.io/v1"
    match = {"resourceRules": [{"apiGroups": ["example.com"], "apiVersions": ["v1beta1"], "operations": ["CREATE"], "resources": ["crontabs"]}]}
    chosen = {"matchResources": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": ns}}}}
    made = []
    for plural, spec, binding in (
            ("validatingadmissionpolicies", {"validations": [{"expression": "object.spec.hostPort.endsWith(':99') && request.kind.version == 'v1beta1'"}]},
             {"validationActions": ["Deny"]}),
            ("mutatingadmissionpolicies", {"mutations": [{"patchType": "JSONPatch", "jsonPatch": {
                "expression": "[JSONPatch{op: 'replace', path: '/spec/hostPort', value: object.spec.hostPort + '9'}]"}}]}, {})):
        for place, body in ((plural, {"matchConstraints": match, **spec}),
                            (plural.replace("policies", "policybindings"), {"policyName": f"old-{ns}", **chosen, **binding})):
            answer = client.post(f"{api}/{place}", {"metadata": {"name": f"old-{ns}"}, "spec": body})
            assert answer.status == 201, answer.json
            made.append(f"{api}/{place}/old-{ns}")
    good = client.post(path("v1", ns), {"metadata": {"name": "g"}, "spec": {"host": "h", "port": "9"}})
    assert good.json["spec"] == {"host": "h", "port": "99"}, good.json
    bad = client.post(path("v1", ns), {"metadata": {"name": "b"}, "spec": {"host": "h", "port": "1"}})
    assert bad.status == 422
    for one in made:
        client.delete(one)


def test_what_hangs_or_babbles_is_said_and_holds_up_nobody(client: Client, ns: str, kind: Any, hook: HookServer) -> None:
    going = threading.Event()

    def hang(review: dict) -> dict:
        going.wait(60)
        return convert(review)

    client.post(path("v1", ns), {"metadata": {"name": "h"}, "spec": {"host": "h", "port": "1"}})
    hook.raw["/convert"] = hang
    try:
        with ThreadPoolExecutor(110) as pool:  # more than a client keeps connections by default
            waiting = [pool.submit(client.again().post, path("v1beta1", ns), {"metadata": {"name": f"x{number}"}, "spec": {"hostPort": "a:1"}})
                       for number in range(110)]
            other = hook_on(client, hook, ns, "validating", lambda asked: {"allowed": False}, versions=("v1",), matchPolicy="Exact")
            refused = client.post(path("v1", ns), {"metadata": {"name": "n"}, "spec": {"host": "h", "port": "2"}})
            assert refused.status == 403  # by a webhook of the same server, while the others wait
            client.delete(other)
            assert client.get(path("v1", ns, "h")).status == 200
            assert not any(one.done() for one in waiting)
            going.set()
            assert {one.result().status for one in waiting} == {201}
    finally:
        going.set()
        hook.raw["/convert"] = convert
    for garbage, said in (([], "expected a review in JSON, got something else"), ({"kind": "ConversionReview", "response": 5}, "expected a response"),
                          ({"kind": "ConversionReview", "response": {"uid": None}}, "expected a response")):
        hook.raw["/convert"] = lambda review, garbage=garbage: garbage
        try:
            answer = client.post(path("v1beta1", ns), {"metadata": {"name": "g"}, "spec": {"hostPort": "h:80"}})
        finally:
            hook.raw["/convert"] = convert
        assert answer.status == 500
        assert answer.json["message"].startswith("Internal error occurred: conversion webhook for example.com/v1beta1, Kind=Crontab failed: ")
        assert said in answer.json["message"]


def test_a_webhook_that_is_not_there(client: Client, ns: str) -> None:
    made = definition("lonelies", version("v1beta1", storage=False, schema=PORT), version("v1", schema=APART))
    made["spec"]["conversion"] = {"strategy": "Webhook", "webhook": {
        "conversionReviewVersions": ["v1"], "clientConfig": {"url": "https://127.0.0.1:1/convert"}}}
    established(client, made)
    answer = client.post(f"/apis/example.com/v1beta1/namespaces/{ns}/lonelies", {"metadata": {"name": "a"}, "spec": {"hostPort": "h:1"}})
    assert answer.status == 500
    assert answer.json["message"] == (
        "Internal error occurred: conversion webhook for example.com/v1beta1, Kind=Lonelie failed: "
        'Post "https://127.0.0.1:1/convert?timeout=30s": dial tcp 127.0.0.1:1: connect: connection refused')
    client.delete(f"{CRDS}/lonelies.example.com")


def test_a_long_list_is_asked_for_in_pieces(client: Client, ns: str, kind: Any, hook: HookServer) -> None:
    for number in range(260):
        client.post(path("v1", ns), {"metadata": {"name": f"l{number}"}, "spec": {"host": "h", "port": str(number)}})
    hook.asked.clear()
    items = client.get(path("v1beta1", ns)).json["items"]
    assert {item["spec"]["hostPort"] for item in items} == {f"h:{number}" for number in range(260)}
    assert [len(asked["objects"]) for asked in hook.asked] == [250, 10]
    hook.asked.clear()
    with client.again().watch(path("v1beta1", ns) + "?watch=1") as watching:
        assert len(watching.take(260)) == 260


def test_a_definition_goes_without_its_webhook(client: Client, ns: str, pki: Pki) -> None:
    made = definition("goners", version("v1beta1", storage=False, schema=PORT), version("v1", schema=APART))
    made["spec"]["conversion"] = {"strategy": "Webhook", "webhook": {
        "conversionReviewVersions": ["v1"], "clientConfig": {"url": "https://127.0.0.1:1/"}}}
    established(client, made)
    client.post(f"/apis/example.com/v1/namespaces/{ns}/goners", {"metadata": {"name": "a"}, "spec": {"host": "h"}})
    client.delete(f"{CRDS}/goners.example.com")
    with client.again().watch(f"{CRDS}?watch=1&fieldSelector=metadata.name%3Dgoners.example.com") as watching:
        if client.get(f"{CRDS}/goners.example.com").status == 200:
            watching.until(lambda event: event["type"] == "DELETED")
    assert client.get(f"{CRDS}/goners.example.com").status == 404
