"""Webhooks about what is no object of its own: connections, evictions, bindings, scales, deletions; what changes leave."""

from __future__ import annotations

from typing import Any

import pytest

from tests.apiserver.conftest import Client, config_map, pod
from tests.apiserver.hook_server import HookServer, patch
from tests.apiserver.test_crd import definition, established, version
from tests.apiserver.test_webhooks import allow, maps, register

__all__ = ["register"]  # the fixture


@pytest.mark.parametrize(("part", "query", "kind", "fields"), [
    ("attach", "container=c&stdin=true&stdout=true", "PodAttachOptions", {"container": "c", "stdin": True, "stdout": True}),
    ("exec", "command=echo&command=hi&container=c&stdout=1", "PodExecOptions", {
        "command": ["echo", "hi"], "container": "c", "stdout": True}),
    ("portforward", "ports=80,81", "PodPortForwardOptions", {"ports": [80, 81]}),
    ("proxy/some/where", "", "PodProxyOptions", {"path": "some/where"}),
])
def test_connections_are_asked_about(client: Client, ns: str, register: Any, hooks: HookServer, part: str, query: str, kind: str,
                                     fields: dict[str, Any]) -> None:
    name = part.partition("/")[0]
    register("validating", "no", lambda _: {"allowed": False, "status": {"message": "not into this one"}}, resources=(f"pods/{name}",),
             operations=("CONNECT",))
    client.post(f"/api/v1/namespaces/{ns}/pods", pod("p"))
    answer = client.request("POST", f"/api/v1/namespaces/{ns}/pods/p/{part}?{query}")
    assert (answer.status, answer.json["message"]) == (
        403, 'admission webhook "no.example.com" denied the request: not into this one')
    asked = hooks.asked[0]
    assert (asked["operation"], asked["name"], asked["subResource"], asked["options"]) == ("CONNECT", "p", name, None)
    assert asked["kind"] == {"group": "", "version": "v1", "kind": kind}
    assert asked["object"] == {"kind": kind, "apiVersion": "v1", **fields}


def test_an_eviction_is_asked_about_and_not_its_deletion(client: Client, ns: str, register: Any, hooks: HookServer) -> None:
    register("validating", "see", allow, resources=("pods", "pods/eviction"), operations=("CREATE", "DELETE"))
    client.post(f"/api/v1/namespaces/{ns}/pods", pod("p"))
    eviction = {"kind": "Eviction", "apiVersion": "policy/v1", "metadata": {"name": "p", "namespace": ns}}
    assert client.post(f"/api/v1/namespaces/{ns}/pods/p/eviction", eviction).status == 201
    assert [(asked["operation"], asked["kind"]["kind"], asked["object"]["kind"]) for asked in hooks.asked] == [
        ("CREATE", "Pod", "Pod"), ("CREATE", "Eviction", "Eviction")]
    register("validating", "stay", lambda _: {"allowed": False}, resources=("pods/eviction",))
    client.post(f"/api/v1/namespaces/{ns}/pods", pod("q"))
    assert client.post(f"/api/v1/namespaces/{ns}/pods/q/eviction", eviction | {"metadata": {"name": "q"}}).status == 403
    assert client.get(f"/api/v1/namespaces/{ns}/pods/q").status == 200


def test_a_binding_is_asked_about_and_may_be_turned(client: Client, ns: str, register: Any, hooks: HookServer) -> None:
    register("mutating", "turn", lambda _: patch({"op": "replace", "path": "/target/name", "value": "n2"}), resources=("pods/binding",))
    client.post(f"/api/v1/namespaces/{ns}/pods", pod("p"))
    binding = {"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n1"}}
    assert client.post(f"/api/v1/namespaces/{ns}/pods/p/binding", binding).status == 201
    assert [(asked["operation"], asked["object"]["target"]["name"]) for asked in hooks.asked] == [("CREATE", "n1")]
    assert client.get(f"/api/v1/namespaces/{ns}/pods/p").json["spec"]["nodeName"] == "n2"


def test_a_scale_is_shown_as_one_and_may_be_changed(client: Client, ns: str, register: Any, hooks: HookServer) -> None:
    register("mutating", "most", lambda _: patch({"op": "replace", "path": "/spec/replicas", "value": 5}), groups=("apps",),
             resources=("deployments/scale",))
    spec = {"selector": {"matchLabels": {"a": "b"}}, "template": {
        "metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "busybox"}]}}}
    path = f"/apis/apps/v1/namespaces/{ns}/deployments"
    assert client.post(path, {"metadata": {"name": "d"}, "spec": spec}).status == 201
    assert client.patch(f"{path}/d/scale", {"spec": {"replicas": 9}}).json["spec"]["replicas"] == 5
    asked = hooks.asked[0]
    assert asked["kind"] == {"group": "autoscaling", "version": "v1", "kind": "Scale"}
    assert (asked["object"]["spec"], asked["oldObject"]["spec"]) == ({"replicas": 9}, {"replicas": 1})
    assert client.get(f"{path}/d").json["spec"]["replicas"] == 5


def test_mutating_webhooks_are_asked_about_deletions(client: Client, ns: str, register: Any, hooks: HookServer) -> None:
    register("mutating", "stay", lambda _: {"allowed": False, "status": {"message": "it stays"}}, operations=("DELETE",))
    client.post(maps(ns), config_map("a"))
    assert "it stays" in client.delete(maps(ns, "a")).json["message"]
    assert hooks.asked[0]["oldObject"]["metadata"]["name"] == "a"
    assert client.get(maps(ns, "a")).status == 200


def test_what_a_change_makes_is_read_as_if_it_were_sent(client: Client, ns: str, register: Any) -> None:
    """Fields that the kind does not have are gone; values that it cannot have are the webhook's fault."""
    register("mutating", "odd", lambda _: patch({"op": "add", "path": "/odd", "value": "1"},
                                                {"op": "add", "path": "/metadata/odd", "value": "1"}))
    made = client.post(maps(ns), config_map("a"))
    assert made.status == 201
    assert "odd" not in made.body.decode()
    register("mutating", "wrong", lambda _: patch({"op": "add", "path": "/data", "value": "text"}))
    refused = client.post(maps(ns), config_map("b"))
    assert refused.status == 500
    assert "wrong.example.com" in refused.json["message"]


def test_what_a_change_adds_to_a_custom_resource_is_pruned(client: Client, ns: str, register: Any) -> None:
    established(client, definition("prunes", version(schema={
        "type": "object", "properties": {"data": {"type": "object", "properties": {"kept": {"type": "string"}}}}})))
    register("mutating", "adds", lambda _: patch({"op": "add", "path": "/data/kept", "value": "1"},
                                                 {"op": "add", "path": "/data/unknown", "value": "2"}),
             groups=("example.com",), resources=("prunes",))
    path = f"/apis/example.com/v1/namespaces/{ns}/prunes"
    made = client.post(path, {"apiVersion": "example.com/v1", "kind": "Prune", "metadata": {"name": "x"}, "data": {}})
    assert made.json["data"] == {"kept": "1"}
    assert client.get(f"{path}/x").json["data"] == {"kept": "1"}


@pytest.mark.parametrize(("path", "said"), [
    ("", ""), ("/", ""), ("/a/b.c/", ""), ("//", "segment[0] may not be empty"), ("a", "must start with a '/'"),
    ("/a//b", "segment[1] may not be empty"), ("/a/B", "segment[1]: a lowercase RFC 1123 subdomain must consist of"),
])
def test_paths_of_services(client: Client, ns: str, hooks: HookServer, path: str, said: str) -> None:
    config = {"service": {"namespace": ns, "name": "hook", "path": path}}
    answer = client.post("/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations?dryRun=All", {
        "metadata": {"name": "paths"}, "webhooks": [{"name": "a.example.com", "sideEffects": "None",
                                                     "admissionReviewVersions": ["v1"], "clientConfig": config}]})
    assert answer.status == (422 if said else 201), answer.json
    assert said in answer.json.get("message", "")
