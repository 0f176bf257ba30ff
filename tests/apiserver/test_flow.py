"""Priority and fairness: every answer names its FlowSchema and priority level; the server's own stay as they are."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from netlab.apiserver.auth.authorize import Attributes
from netlab.apiserver.flow.keeper import dangling, mending
from netlab.apiserver.flow.match import counted, matches
from netlab.apiserver.flow.objects import AUTOUPDATE, LEVELS, SCHEMAS
from netlab.apiserver.http import User
from tests.apiserver.conftest import Client, Pki, Server

ROOT = "/apis/flowcontrol.apiserver.k8s.io/v1"
SCHEMA, LEVEL = "X-Kubernetes-Pf-Flowschema-Uid", "X-Kubernetes-Pf-Prioritylevel-Uid"


@pytest.fixture(scope="module")
def server(pki: Pki, tmp_path_factory: pytest.TempPathFactory):
    pki.issue("jane", "jane")
    pki.issue("node", "system:node:n1", ("system:nodes",))
    pki.issue("scheduler", "system:kube-scheduler")
    running = Server(pki, tmp_path_factory.mktemp("flow"), "--authorization-mode=Node,RBAC")
    yield running
    assert running.stop() == 0
    assert "Traceback" not in running.log.read_text()


def until(condition: Callable[[], Any]) -> Any:
    end = time.monotonic() + 10
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return found


@pytest.fixture(scope="module")
def names(server: Server) -> dict[str, str]:
    client = server.client()
    return {obj["metadata"]["uid"]: obj["metadata"]["name"] for plural in ("flowschemas", "prioritylevelconfigurations")
            for obj in client.get(f"{ROOT}/{plural}").json["items"]}


@pytest.mark.parametrize(("user", "method", "path", "status", "flow"), [
    ("admin", "GET", "/api/v1/pods", 200, ("exempt", "exempt")),
    ("jane", "GET", "/api/v1/pods", 403, ("global-default", "global-default")),
    ("jane", "GET", "/apis", 200, ("global-default", "global-default")),
    (None, "GET", "/healthz", 200, ("probes", "exempt")),
    (None, "GET", "/readyz/ping", 403, ("probes", "exempt")),
    ("jane", "GET", "/version", 200, ("global-default", "global-default")),
    ("node", "GET", "/api/v1/nodes/n1", 404, ("system-node-high", "node-high")),
    ("node", "PATCH", "/api/v1/nodes/n1/status", 404, ("system-node-high", "node-high")),
    ("node", "GET", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n1", 404, ("system-node-high", "node-high")),
    ("node", "GET", "/api/v1/pods?fieldSelector=spec.nodeName%3Dn1", 200, ("system-nodes", "system")),
    ("scheduler", "GET", "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/kube-scheduler", 404,
     ("system-leader-election", "leader-election")),
    ("scheduler", "GET", "/api/v1/nodes", 200, ("kube-scheduler", "workload-high")),
])
def test_an_answer_names_its_flow(server: Server, names: dict[str, str], user: str | None, method: str, path: str, status: int,
                                  flow: tuple[str, str]) -> None:
    body = b"{}" if method == "PATCH" else None
    answer = server.client(user=user).request(method, path, body, kind="application/merge-patch+json")
    assert answer.status == status, answer.body
    assert (names[answer.headers[SCHEMA]], names[answer.headers[LEVEL]]) == flow


def test_who_is_nobody_has_no_flow_and_long_requests_neither(server: Server) -> None:
    assert SCHEMA not in server.client(user=None, token="x").get("/api").headers
    path = "/api/v1/namespaces/default/pods/p"
    for rest in ("log", "proxy/", "exec?command=x"):
        assert SCHEMA not in server.client().get(f"{path}/{rest}").headers
    with server.client().watch("/api/v1/pods?watch=1&timeoutSeconds=1") as watching:
        assert watching.reply.headers[SCHEMA]


def test_a_schema_of_ones_own_counts_at_once(server: Server) -> None:
    client, jane = server.client(), server.client(user="jane")
    rules = [{"subjects": [{"kind": "User", "user": {"name": "jane"}}],
              "resourceRules": [{"verbs": ["list"], "apiGroups": [""], "resources": ["secrets"], "namespaces": ["a"]}]}]

    def flow(path: str) -> str:
        return jane.get(path).headers[SCHEMA]

    spec = {"priorityLevelConfiguration": {"name": "later"}, "matchingPrecedence": 7, "rules": rules}
    made = client.post(f"{ROOT}/flowschemas", {"metadata": {"name": "mine"}, "spec": spec}).json
    state = until(lambda: client.get(f"{ROOT}/flowschemas/mine").json["status"].get("conditions"))
    assert [(row["type"], row["status"], row["reason"]) for row in state] == [("Dangling", "True", "NotFound")]
    assert flow("/api/v1/namespaces/a/secrets") != made["metadata"]["uid"]
    client.post(f"{ROOT}/prioritylevelconfigurations", {"metadata": {"name": "later"}, "spec": {
        "type": "Limited", "limited": {"limitResponse": {"type": "Reject"}}}})
    until(lambda: flow("/api/v1/namespaces/a/secrets") == made["metadata"]["uid"])
    until(lambda: client.get(f"{ROOT}/flowschemas/mine").json["status"]["conditions"][0]["status"] == "False")
    assert flow("/api/v1/namespaces/b/secrets") != made["metadata"]["uid"]
    client.delete(f"{ROOT}/flowschemas/mine")
    until(lambda: flow("/api/v1/namespaces/a/secrets") != made["metadata"]["uid"])


def test_all_of_the_servers_own_are_there(server: Server) -> None:
    client = server.client()
    for plural, wanted in (("flowschemas", SCHEMAS), ("prioritylevelconfigurations", LEVELS)):
        there = {obj["metadata"]["name"]: obj for obj in client.get(f"{ROOT}/{plural}").json["items"]}
        for obj in wanted:
            assert there[obj["metadata"]["name"]]["spec"] == obj["spec"]
            assert there[obj["metadata"]["name"]]["metadata"]["annotations"] == {AUTOUPDATE: "true"}
            assert there[obj["metadata"]["name"]]["metadata"]["generation"] == 1
    for obj in client.get(f"{ROOT}/flowschemas").json["items"]:
        assert obj["status"]["conditions"][0]["status"] == "False"


def test_what_somebody_changes_is_put_back_where_it_is_the_servers() -> None:
    level = {obj["metadata"]["name"]: obj for obj in LEVELS}
    schema = {obj["metadata"]["name"]: obj for obj in SCHEMAS}

    def stored(wanted: dict[str, Any], said: str | None, generation: int, **spec: Any) -> dict[str, Any]:
        notes = {} if said is None else {AUTOUPDATE: said}
        return {**wanted, "metadata": {**wanted["metadata"], "annotations": notes, "generation": generation},
                "spec": wanted["spec"] | spec}

    assert mending(stored(schema["probes"], "true", 1), schema["probes"]) is None
    assert mending(stored(schema["probes"], "false", 2, matchingPrecedence=3), schema["probes"]) is None
    assert mending(stored(schema["probes"], "true", 2, matchingPrecedence=3), schema["probes"])["spec"]["matchingPrecedence"] == 2
    assert mending(stored(schema["probes"], None, 2, matchingPrecedence=3), schema["probes"]) == {
        "metadata": {"annotations": {AUTOUPDATE: "false"}}}
    assert mending(stored(schema["probes"], None, 1), schema["probes"]) == {"metadata": {"annotations": {AUTOUPDATE: "true"}}}
    back = mending(stored(schema["catch-all"], "false", 2, matchingPrecedence=3), schema["catch-all"])
    assert back["spec"]["matchingPrecedence"] == 10000
    assert back["metadata"] == {"annotations": {AUTOUPDATE: "true"}}
    assert mending(stored(level["exempt"], "true", 2, exempt={"lendablePercent": 5}), level["exempt"]) is None


def test_a_condition_keeps_its_time() -> None:
    schema = {"metadata": {"name": "s"}, "spec": {"priorityLevelConfiguration": {"name": "p"}}}
    first = dangling(schema, False, "t1")
    assert first[0]["message"] == ('This FlowSchema references the PriorityLevelConfiguration object named "p" but there is no such '
                                   "object")
    schema["status"] = {"conditions": first}
    assert dangling(schema, False, "t2") is None
    assert dangling(schema, True, "t2")[0]["lastTransitionTime"] == "t2"


@pytest.mark.parametrize(("rule", "asked", "wanted"), [
    ({"namespaces": ["*"]}, {"namespace": "a"}, True), ({"namespaces": ["*"]}, {}, False),
    ({"clusterScope": True}, {}, True), ({"clusterScope": True}, {"namespace": "a"}, False),
    ({"namespaces": ["a"]}, {"namespace": "b"}, False), ({"namespaces": ["*"], "resources": ["pods/status"]}, {"namespace": "a"}, False),
    ({"namespaces": ["*"], "resources": ["pods/status"]}, {"namespace": "a", "subresource": "status"}, True),
    ({"namespaces": ["*"], "verbs": ["list"]}, {"namespace": "a"}, False),
])
def test_rules_about_resources(rule: dict[str, Any], asked: dict[str, Any], wanted: bool) -> None:
    row = {"verbs": ["*"], "apiGroups": [""], "resources": ["pods"], **rule}
    spec = {"rules": [{"subjects": [{"kind": "Group", "group": {"name": "*"}}], "resourceRules": [row]}]}
    assert matches(spec, Attributes(User("u"), "get", resource="pods", **asked)) is wanted


@pytest.mark.parametrize(("url", "path", "wanted"), [
    ("*", "/x", True), ("/healthz", "/healthz", True), ("/healthz", "/healthz/ping", True), ("/healthz", "/healthzz", False),
    ("/a/*", "/a/b", True), ("/a/*", "/a", False)])
def test_rules_about_pages(url: str, path: str, wanted: bool) -> None:
    spec = {"rules": [{"subjects": [{"kind": "User", "user": {"name": "*"}}],
                       "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": [url]}]}]}
    assert matches(spec, Attributes(User("u"), "get", path=path)) is wanted


@pytest.mark.parametrize(("subject", "wanted"), [
    ({"kind": "ServiceAccount", "serviceAccount": {"namespace": "ns", "name": "*"}}, True),
    ({"kind": "ServiceAccount", "serviceAccount": {"namespace": "ns", "name": "sa"}}, True),
    ({"kind": "ServiceAccount", "serviceAccount": {"namespace": "n", "name": "*"}}, False),
    ({"kind": "ServiceAccount", "serviceAccount": {"namespace": "ns", "name": "s"}}, False),
    ({"kind": "Group", "group": {"name": "g"}}, True), ({"kind": "Group", "group": {"name": "h"}}, False)])
def test_subjects(subject: dict[str, Any], wanted: bool) -> None:
    spec = {"rules": [{"subjects": [subject], "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}]}]}
    assert matches(spec, Attributes(User("system:serviceaccount:ns:sa", ("g",)), "get", path="/")) is wanted


def test_the_health_pages_list_upstreams_hooks(client: Client) -> None:
    hooks = [line.split()[0].removeprefix("[+]poststarthook/") for line in client.get("/livez?verbose").body.decode().splitlines()
             if "poststarthook" in line]
    assert hooks == [
        "start-apiserver-admission-initializer", "generic-apiserver-start-informers", "priority-and-fairness-config-consumer",
        "priority-and-fairness-filter", "storage-object-count-tracker-hook",
        "start-apiextensions-informers", "start-apiextensions-controllers", "crd-informer-synced",
        "start-system-namespaces-controller", "start-cluster-authentication-info-controller",
        "start-legacy-token-tracking-controller", "start-service-ip-repair-controllers", "rbac/bootstrap-roles",
        "scheduling/bootstrap-system-priority-classes", "priority-and-fairness-config-producer", "bootstrap-controller",
        "start-kubernetes-service-cidr-controller", "start-kube-aggregator-informers",
        "apiservice-status-local-available-controller", "apiservice-status-remote-available-controller",
        "apiservice-registration-controller", "apiservice-discovery-controller", "kube-apiserver-autoregistration",
        "apiservice-openapi-controller", "apiservice-openapiv3-controller"]
    assert client.get("/healthz/poststarthook/generic-apiserver-start-informers").body == b"ok"


def test_watches_are_counted_and_connections_not() -> None:
    assert counted(Attributes(User("u"), "watch", resource="pods"))
    assert not counted(Attributes(User("u"), "create", resource="pods", subresource="exec"))
