"""Create, read, change, delete: what happens to metadata, status and preconditions on the way."""

from __future__ import annotations

import base64
from concurrent.futures import ThreadPoolExecutor

import pytest

from netlab.apiserver.verbs.update import same
from tests.apiserver.conftest import Client, config_map, pod


def maps(ns: str, name: str = "") -> str:
    return f"/api/v1/namespaces/{ns}/configmaps" + (f"/{name}" if name else "")


def pods(ns: str, name: str = "") -> str:
    return f"/api/v1/namespaces/{ns}/pods" + (f"/{name}" if name else "")


def deployment(name: str, **spec: object) -> dict:
    return {"metadata": {"name": name}, "spec": {
        "selector": {"matchLabels": {"app": name}}, "template": {
            "metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "c", "image": "nginx:1"}]}}, **spec}}


def test_a_new_object_gets_its_metadata(client: Client, ns: str) -> None:
    made = client.post(maps(ns), config_map("a", k="v"))
    assert made.status == 201
    metadata = made.json["metadata"]
    assert len(metadata["uid"]) == 36
    assert metadata["creationTimestamp"].endswith("Z")
    assert metadata["namespace"] == ns
    assert int(metadata["resourceVersion"]) > 0
    assert "selfLink" not in metadata
    assert client.get(maps(ns, "a")).json == made.json
    assert made.json["kind"] == "ConfigMap"


def test_a_taken_name_is_refused(client: Client, ns: str) -> None:
    client.post(maps(ns), config_map("a"))
    again = client.post(maps(ns), config_map("a"))
    assert again.status == 409
    assert again.json["reason"] == "AlreadyExists"
    assert again.json["message"] == 'configmaps "a" already exists'
    assert again.json["details"] == {"name": "a", "kind": "configmaps"}


def test_generate_name_gives_each_another_one(client: Client, ns: str) -> None:
    names = {client.post(maps(ns), {"metadata": {"generateName": "x-"}}).json["metadata"]["name"] for _ in range(20)}
    assert len(names) == 20
    assert all(len(name) == 7 and name.startswith("x-") for name in names)


def test_an_absent_object_is_404(client: Client, ns: str) -> None:
    answer = client.get(maps(ns, "nope"))
    assert answer.status == 404
    assert answer.json["message"] == 'configmaps "nope" not found'
    assert client.get("/api/v1/namespaces/x/unicorns").json["message"] == "the server could not find the requested resource"


def test_a_stale_update_is_a_conflict(client: Client, ns: str) -> None:
    first = client.post(maps(ns), config_map("a", n="1")).json
    second = client.put(maps(ns, "a"), first | {"data": {"n": "2"}})
    assert second.status == 200
    stale = client.put(maps(ns, "a"), first | {"data": {"n": "3"}})
    assert stale.status == 409
    assert stale.json["message"] == ('Operation cannot be fulfilled on configmaps "a": the object has been modified; '
                                     "please apply your changes to the latest version and try again")
    blind = {"metadata": {"name": "a"}, "data": {"n": "4"}}
    assert client.put(maps(ns, "a"), blind).json["data"] == {"n": "4"}


def test_one_of_many_writers_wins_each_revision(client: Client, ns: str) -> None:
    """A counter that 8 clients raise by read-change-write ends at the number of successful writes."""
    client.post(maps(ns), config_map("n", n="0"))

    def raise_it(_: int) -> int:
        mine, won = client.again(), 0
        for _ in range(10):
            obj = mine.get(maps(ns, "n")).json
            obj["data"]["n"] = str(int(obj["data"]["n"]) + 1)
            status = mine.put(maps(ns, "n"), obj).status
            assert status in (200, 409)
            won += status == 200
        return won

    with ThreadPoolExecutor(8) as pool:
        won = sum(pool.map(raise_it, range(8)))
    assert client.get(maps(ns, "n")).json["data"]["n"] == str(won)


def test_a_put_that_changes_nothing_writes_nothing(client: Client, ns: str) -> None:
    first = client.post(maps(ns), config_map("a", n="1")).json
    again = client.put(maps(ns, "a"), first).json
    assert again["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]


def test_uid_and_name_must_fit(client: Client, ns: str) -> None:
    client.post(maps(ns), config_map("a"))
    wrong = client.put(maps(ns, "a"), {"metadata": {"name": "a", "uid": "nope"}})
    assert wrong.status == 409
    assert "Precondition failed: UID in precondition: nope" in wrong.json["message"]
    assert client.put(maps(ns, "a"), config_map("b")).status == 400
    assert client.post(maps(ns), {"metadata": {"name": "b", "namespace": "other"}}).status == 400


@pytest.mark.parametrize(("kind", "body", "wanted"), [
    pytest.param("merge", {"data": {"a": None, "b": "2"}}, {"b": "2"}, id="merge"),
    pytest.param("strategic", {"data": {"c": "3"}}, {"a": "1", "c": "3"}, id="strategic"),
    pytest.param("json", [{"op": "add", "path": "/data/d", "value": "4"}], {"a": "1", "d": "4"}, id="json patch"),
])
def test_patches(client: Client, ns: str, kind: str, body: object, wanted: dict) -> None:
    client.post(maps(ns), config_map("a", a="1"))
    answer = client.patch(maps(ns, "a"), body, kind)
    assert answer.status == 200
    assert answer.json["data"] == wanted


def test_server_side_apply_creates_and_finds_conflicts(client: Client, ns: str) -> None:
    path = f"{maps(ns, 'a')}?fieldManager=one"
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "1"}}
    assert client.patch(path, body, "apply").status == 201
    assert client.patch(path, body, "apply").status == 200
    other = client.patch(f"{maps(ns, 'a')}?fieldManager=two", body | {"data": {"k": "2"}}, "apply")
    assert other.status == 409
    assert other.json["details"]["causes"][0]["reason"] == "FieldManagerConflict"
    forced = client.patch(f"{maps(ns, 'a')}?fieldManager=two&force=true", body | {"data": {"k": "2"}}, "apply")
    assert forced.json["data"] == {"k": "2"}
    assert client.patch(maps(ns, "a"), body, "apply").status == 422


def _applied(client: Client, path: str, body: dict, manager: str = "one", force: str = "false") -> dict:
    answer = client.patch(f"{path}?fieldManager={manager}&force={force}", body, "apply")
    assert answer.status in (200, 201), answer.json
    return answer.json


def _owned(obj: dict, manager: str = "one") -> dict:
    return next((entry["fieldsV1"] for entry in obj["metadata"]["managedFields"] if entry["manager"] == manager), {})


def test_null_in_an_apply_is_a_value_that_is_owned(client: Client, ns: str) -> None:
    path = f"/apis/apps/v1/namespaces/{ns}/deployments/d"
    pod = {"containers": [{"name": "c", "image": "i"}]}
    body = deployment("d") | {"apiVersion": "apps/v1", "kind": "Deployment"}
    body["spec"] |= {"replicas": 3, "template": body["spec"]["template"] | {"spec": pod}}
    _applied(client, path, body)
    held = {**body, "spec": {"replicas": None}, "metadata": {"name": "d"}}
    taken = client.patch(f"{path}?fieldManager=two", held, "apply")
    assert taken.json["details"]["causes"][0]["field"] == ".spec.replicas"
    forced = _applied(client, path, held, "two", "true")
    assert forced["spec"]["replicas"] == 1, "no value: the default"
    assert _owned(forced, "two") == {"f:spec": {"f:replicas": {}}}
    assert "f:replicas" not in _owned(forced)["f:spec"]
    again = _applied(client, path, held, "two")
    assert again["metadata"]["resourceVersion"] == forced["metadata"]["resourceVersion"]


def test_null_over_a_map_takes_away_only_what_was_ones_own(client: Client, ns: str) -> None:
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}
    _applied(client, maps(ns, "a"), body | {"data": {"mine": "1"}})
    _applied(client, maps(ns, "a"), body | {"data": {"theirs": "2"}}, "two")
    left = _applied(client, maps(ns, "a"), body | {"data": None})
    assert left["data"] == {"theirs": "2"}
    assert _owned(left) == {"f:data": {}}
    assert "data" not in _applied(client, maps(ns, "a"), body | {"data": None}, "two")


def test_zeros_nulls_and_empty_maps_in_an_apply_are_owned_although_go_does_not_write_them(client: Client, ns: str) -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": {}, "creationTimestamp": None}, "spec": {
        "hostNetwork": False, "nodeSelector": None, "containers": [
            {"name": "c", "image": "i", "command": None, "resources": {"limits": {"cpu": "0.5"}}}]}}
    made = _applied(client, f"/api/v1/namespaces/{ns}/pods/p", pod)
    assert not {"hostNetwork", "nodeSelector"} & set(made["spec"])
    assert "labels" not in made["metadata"]
    assert made["metadata"]["creationTimestamp"]
    owned = _owned(made)
    assert owned["f:metadata"] == {"f:labels": {}}
    assert {"f:hostNetwork": {}, "f:nodeSelector": {}}.items() <= owned["f:spec"].items()
    assert owned["f:spec"]["f:containers"]['k:{"name":"c"}']["f:command"] == {}


def test_a_write_after_which_only_times_differ_is_none() -> None:
    """A manager that applies the same again comes last in managedFields, which are in the order of time."""
    one, two = ({"manager": name, "operation": "Apply", "time": f"2026-01-01T00:00:0{at}Z", "fieldsV1": {f"f:{name}": {}}}
                for at, name in enumerate(("one", "two")))
    old = {"metadata": {"name": "a", "managedFields": [one, two]}}
    assert same({"metadata": {"name": "a", "managedFields": [two, one | {"time": "2026-01-01T00:00:09Z"}]}}, old)
    assert not same({"metadata": {"name": "a", "managedFields": [two, one | {"fieldsV1": {}}]}}, old)
    assert not same({"metadata": {"name": "a", "managedFields": [two]}}, old)


@pytest.mark.parametrize(("spec", "said"), [
    ({"containers": [None]}, "associative list with keys may not have a null element"),
    ({"containers": ["c"]}, "associative list with keys may not have non-map elements"),
])
def test_items_that_nobody_could_own(client: Client, ns: str, spec: dict, said: str) -> None:
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec}
    answer = client.patch(f"/api/v1/namespaces/{ns}/pods/p?fieldManager=one", body, "apply")
    assert answer.status == 400
    assert f".spec.containers: element 0: {said}" in answer.json["message"]


def test_concurrent_patches_all_land(client: Client, ns: str) -> None:
    client.post(maps(ns), config_map("a"))

    def add(number: int) -> int:
        return client.again().patch(maps(ns, "a"), {"data": {f"k{number}": "x"}}).status

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(add, range(40))) == {200}
    assert len(client.get(maps(ns, "a")).json["data"]) == 40


def test_generation_counts_changes_of_the_spec_only(client: Client, ns: str) -> None:
    base = f"/apis/apps/v1/namespaces/{ns}/deployments"
    made = client.post(base, deployment("d")).json
    assert made["metadata"]["generation"] == 1
    assert made["status"] == {}
    labelled = client.patch(f"{base}/d", {"metadata": {"labels": {"a": "b"}}}).json
    assert labelled["metadata"]["generation"] == 1
    scaled = client.patch(f"{base}/d", {"spec": {"replicas": 3}}).json
    assert scaled["metadata"]["generation"] == 2
    reported = client.patch(f"{base}/d/status", {"status": {"replicas": 3}, "spec": {"replicas": 9}}).json
    assert reported["metadata"]["generation"] == 2
    assert reported["spec"]["replicas"] == 3
    assert reported["status"]["replicas"] == 3
    spec_only = client.patch(f"{base}/d", {"status": {"replicas": 7}}).json
    assert spec_only["status"]["replicas"] == 3


def test_scale_is_the_same_number(client: Client, ns: str) -> None:
    base = f"/apis/apps/v1/namespaces/{ns}/deployments"
    client.post(base, deployment("d", replicas=2))
    scale = client.get(f"{base}/d/scale").json
    assert (scale["kind"], scale["apiVersion"]) == ("Scale", "autoscaling/v1")
    assert scale["spec"]["replicas"] == 2
    assert scale["status"]["selector"] == "app=d"
    assert client.patch(f"{base}/d/scale", {"spec": {"replicas": 5}}).json["spec"]["replicas"] == 5
    assert client.get(f"{base}/d").json["spec"]["replicas"] == 5
    assert client.put(f"{base}/d/scale", scale).status == 409
    assert client.patch(f"{base}/d/scale", {"spec": {"replicas": -1}}).status == 422


def test_a_dry_run_stores_nothing(client: Client, ns: str) -> None:
    assert client.post(f"{maps(ns)}?dryRun=All", config_map("a")).status == 201
    assert client.get(maps(ns, "a")).status == 404
    client.post(maps(ns), config_map("a", n="1"))
    assert client.patch(f"{maps(ns, 'a')}?dryRun=All", {"data": {"n": "2"}}).json["data"] == {"n": "2"}
    assert client.request("DELETE", f"{maps(ns, 'a')}?dryRun=All").status == 200
    assert client.get(maps(ns, "a")).json["data"] == {"n": "1"}
    assert client.post(f"{maps(ns)}?dryRun=Some", config_map("b")).status == 422


@pytest.mark.parametrize(("mode", "status"), [("Strict", 400), ("Warn", 201), ("Ignore", 201)])
def test_unknown_fields(client: Client, ns: str, mode: str, status: int) -> None:
    body = {"metadata": {"name": "a"}, "dta": {"k": "v"}}
    answer = client.post(f"{maps(ns)}?fieldValidation={mode}", body)
    assert answer.status == status
    if mode == "Strict":
        assert 'unknown field "dta"' in answer.json["message"]
    else:
        assert ("unknown field" in answer.warnings) == (mode == "Warn")
        assert "dta" not in answer.json


def test_a_secret_swallows_string_data(client: Client, ns: str) -> None:
    made = client.post(f"/api/v1/namespaces/{ns}/secrets", {"metadata": {"name": "s"}, "stringData": {"k": "v"}}).json
    assert made["data"] == {"k": base64.b64encode(b"v").decode()}
    assert "stringData" not in made
    assert made["type"] == "Opaque"


def test_nothing_is_made_where_there_is_no_namespace(client: Client) -> None:
    answer = client.post(maps("nowhere"), config_map("a"))
    assert answer.status == 404
    assert answer.json["message"] == 'namespaces "nowhere" not found'


def test_some_namespaces_stay(client: Client) -> None:
    answer = client.delete("/api/v1/namespaces/kube-system")
    assert answer.status == 403
    assert answer.json["message"] == 'namespaces "kube-system" is forbidden: this namespace may not be deleted'


def test_what_the_server_needs_is_there(client: Client) -> None:
    names = {item["metadata"]["name"] for item in client.get("/api/v1/namespaces").json["items"]}
    assert {"default", "kube-system", "kube-public", "kube-node-lease"} <= names
    assert client.get("/api/v1/namespaces/default/services/kubernetes").json["spec"]["clusterIP"] == "10.96.0.1"


def test_a_pod_is_completed(client: Client, ns: str) -> None:
    made = client.post(pods(ns), pod("p")).json
    spec = made["spec"]
    assert (spec["restartPolicy"], spec["dnsPolicy"], spec["terminationGracePeriodSeconds"]) == ("Always", "ClusterFirst", 30)
    assert spec["serviceAccountName"] == "default"
    volume = spec["volumes"][0]
    assert volume["name"].startswith("kube-api-access-")
    assert spec["containers"][0]["volumeMounts"][0]["mountPath"] == "/var/run/secrets/kubernetes.io/serviceaccount"
    assert [item["key"] for item in spec["tolerations"]] == ["node.kubernetes.io/not-ready",
                                                              "node.kubernetes.io/unreachable"]
    assert (spec["priority"], spec["preemptionPolicy"]) == (0, "PreemptLowerPriority")
    assert made["status"] == {"phase": "Pending", "qosClass": "BestEffort"}


def test_a_pod_without_an_account_is_refused(client: Client, ns: str) -> None:
    answer = client.post(pods(ns), pod("p", serviceAccountName="ghost"))
    assert answer.status == 403
    assert answer.json["message"] == (f'pods "p" is forbidden: error looking up service account {ns}/ghost: '
                                      'serviceaccount "ghost" not found')


def test_binding_sets_the_node_once(client: Client, ns: str) -> None:
    client.post(pods(ns), pod("p"))
    body = {"target": {"kind": "Node", "name": "n1"}}
    assert client.post(f"{pods(ns, 'p')}/binding", body).status == 201
    bound = client.get(pods(ns, "p")).json
    assert bound["spec"]["nodeName"] == "n1"
    assert bound["status"]["conditions"][0]["type"] == "PodScheduled"
    assert bound["metadata"]["generation"] == 2
    again = client.post(f"{pods(ns, 'p')}/binding", body)
    assert again.status == 409
    assert 'pod p is already assigned to node "n1"' in again.json["message"]


def test_a_binding_of_old_schedulers(client: Client, ns: str) -> None:
    client.post(pods(ns), pod("p"))
    path = f"/api/v1/namespaces/{ns}/bindings"
    row = next(item for item in client.get("/api/v1").json["resources"] if item["name"] == "bindings")
    assert row == {"name": "bindings", "singularName": "binding", "namespaced": True, "kind": "Binding", "verbs": ["create"]}
    body = {"kind": "Binding", "apiVersion": "v1", "metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n1"}}
    made = client.post(path, body)
    assert (made.status, made.json["status"]) == (201, "Success")
    assert client.get(pods(ns, "p")).json["spec"]["nodeName"] == "n1"
    assert client.post(path, body).status == 409
    assert client.post(path, {**body, "metadata": {"name": "q"}}).json["message"] == 'pods "q" not found'
    assert client.post(path, {**body, "metadata": {}}).status == 400
    assert client.get(path).status == 405


def test_a_pod_cannot_move(client: Client, ns: str) -> None:
    client.post(pods(ns), pod("p"))
    moved = client.patch(pods(ns, "p"), {"spec": {"hostNetwork": True}})
    assert moved.status == 422
    assert "pod updates may not change fields other than `spec.containers[*].image`" in moved.json["message"]
    assert client.patch(pods(ns, "p"), {"spec": {"containers": [{"name": "c", "image": "nginx"}]}}, "strategic").status == 200


def test_an_ephemeral_container_joins_a_pod(client: Client, ns: str) -> None:
    client.post(pods(ns), pod("p"))
    body = {"spec": {"ephemeralContainers": [{"name": "debug", "image": "busybox"}]}}
    joined = client.patch(f"{pods(ns, 'p')}/ephemeralcontainers", body, "strategic")
    assert joined.status == 200
    assert joined.json["spec"]["ephemeralContainers"][0]["terminationMessagePath"] == "/dev/termination-log"
    assert client.patch(pods(ns, "p"), {"spec": {"ephemeralContainers": None}}).status == 422


def test_eviction_asks_the_budget(client: Client, ns: str) -> None:
    budgets = f"/apis/policy/v1/namespaces/{ns}/poddisruptionbudgets"
    client.post(budgets, {"metadata": {"name": "b"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"a": "b"}}}})
    client.post(pods(ns), pod("p") | {"metadata": {"name": "p", "labels": {"a": "b"}}})
    client.patch(f"{pods(ns, 'p')}/status", {"status": {"phase": "Running"}})
    client.patch(f"{budgets}/b/status", {"status": {"observedGeneration": 1, "disruptionsAllowed": 0}})
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}}
    refused = client.post(f"{pods(ns, 'p')}/eviction", body)
    assert refused.status == 429
    assert refused.json["message"] == "Cannot evict pod as it would violate the pod's disruption budget."
    client.patch(f"{budgets}/b/status", {"status": {"disruptionsAllowed": 1}})
    assert client.post(f"{pods(ns, 'p')}/eviction", body).status == 201
    assert client.get(pods(ns, "p")).status == 404
    assert client.get(f"{budgets}/b").json["status"]["disruptionsAllowed"] == 0


def test_events_are_the_same_in_both_apis(client: Client, ns: str) -> None:
    client.post(f"/api/v1/namespaces/{ns}/events", {
        "metadata": {"name": "e"}, "involvedObject": {"kind": "Pod", "name": "p", "namespace": ns}, "reason": "Testing",
        "message": "hello", "type": "Normal", "firstTimestamp": "2026-01-01T00:00:00Z"})
    new = client.get(f"/apis/events.k8s.io/v1/namespaces/{ns}/events/e").json
    assert new["apiVersion"] == "events.k8s.io/v1"
    assert (new["note"], new["regarding"]["name"]) == ("hello", "p")
    made = client.post(f"/apis/events.k8s.io/v1/namespaces/{ns}/events", {
        "metadata": {"name": "f"}, "regarding": {"kind": "Pod", "name": "p", "namespace": ns}, "reason": "Testing",
        "note": "new", "type": "Normal", "eventTime": "2026-01-01T00:00:00.000000Z", "action": "Test",
        "reportingController": "test", "reportingInstance": "t1"})
    assert made.status == 201
    assert client.get(f"/api/v1/namespaces/{ns}/events/f").json["message"] == "new"
    stray = client.post(f"/api/v1/namespaces/{ns}/events", {
        "metadata": {"name": "g"}, "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"}})
    assert stray.status == 422


@pytest.mark.parametrize("mode", ["Strict", "Warn", "Ignore"])
def test_keys_that_come_twice_in_yaml_are_told(client: Client, ns: str, mode: str) -> None:
    body = b"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: twice\ndata:\n  a: x\n  a: y\n"
    said = 'yaml: unmarshal errors:\n  line 7: key "a" already set in map'
    sent = client.request("POST", f"{maps(ns)}?fieldValidation={mode}&dryRun=All", body, kind="application/yaml")
    path = f"{maps(ns, 'twice')}?fieldManager=m&fieldValidation={mode}"
    applied = client.request("PATCH", path, body, kind="application/apply-patch+yaml")
    line = b'{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"twice"},"data":{"a":"x","a":"y"}}'
    as_json = client.request("PATCH", path, line, kind="application/apply-patch+yaml")
    if mode == "Strict":
        assert sent.json["message"] == (
            f'ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: {said}')
        assert applied.json["message"] == f"error strict decoding YAML: error converting YAML to JSON: {said}"
        assert 'line 1: key "a" already set in map' in as_json.json["message"]
    else:
        assert (sent.status, applied.status, as_json.status) == (201, 201, 200)
        for answer in (sent, applied, as_json):
            assert ("already set in map" in answer.warnings) == (mode == "Warn")
        assert applied.json["data"] == {"a": "y"}


def test_yaml_bodies_are_read_and_written(client: Client, ns: str) -> None:
    body = f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: y, namespace: {ns}}}\ndata: {{day: '2026-01-01'}}\n"
    assert client.request("POST", maps(ns), body.encode(), kind="application/yaml").status == 201
    answer = client.get(maps(ns, "y"), Accept="application/yaml")
    assert answer.headers["Content-Type"] == "application/yaml"
    assert b"day: '2026-01-01'" in answer.body


def test_a_protobuf_body_is_read(client: Client, ns: str) -> None:
    """The Namespace that `kubectl create namespace` sends, byte for byte: TypeMeta, then ObjectMeta with a name."""
    name = b"proto"
    metadata = b"\x0a" + bytes([len(name)]) + name
    raw = b"\x0a" + bytes([len(metadata)]) + metadata + b"\x12\x00\x1a\x00"
    kind = b"\x0a\x02v1\x12\x09Namespace"
    body = b"k8s\x00" + b"\x0a" + bytes([len(kind)]) + kind + b"\x12" + bytes([len(raw)]) + raw + b"\x1a\x00\x22\x00"
    made = client.request("POST", "/api/v1/namespaces", body, kind="application/vnd.kubernetes.protobuf")
    assert made.status == 201, made.body
    assert made.json["metadata"]["name"] == "proto"
    assert ns != "proto"


def test_apply_takes_no_unknown_field(client: Client, ns: str) -> None:
    body = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {"sandwich": 1}}
    refused = client.patch(f"/apis/apps/v1/namespaces/{ns}/deployments/d?fieldManager=m&fieldValidation=Ignore", body, "apply")
    assert (refused.status, refused.json["message"]) == (400, (
        "failed to create typed patch object (/d; apps/v1, Kind=Deployment): .spec.sandwich: field not declared in schema"))


@pytest.mark.parametrize(("method", "query", "body", "message"), [
    ("POST", "?dryRun=Some", {"metadata": {"name": "b"}}, 'CreateOptions.meta.k8s.io "" is invalid: dryRun: Unsupported value: ["Some"]'),
    ("DELETE", "/absent?dryRun=Some", None, 'DeleteOptions.meta.k8s.io "" is invalid: dryRun: Unsupported value: ["Some"]'),
    ("DELETE", "/absent", {"propagationPolicy": "Background", "orphanDependents": True},
     'DeleteOptions.meta.k8s.io "" is invalid: propagationPolicy: Invalid value: "Background": orphanDependents and'),
    ("GET", "?resourceVersion=99999999", None, "Timeout: Too large resource version: 99999999, current: "),
    ("GET", "?limit=1&continue=rubbish", None, "invalid continue token: continue key is not valid: "),
])
def test_options_are_refused_in_upstreams_words(client: Client, ns: str, method: str, query: str, body: object, message: str) -> None:
    assert client.request(method, f"{maps(ns)}{query}", body).json["message"].startswith(message)


def test_a_client_that_knows_one_address_can_not_change_it(client: Client, ns: str) -> None:
    services = f"/api/v1/namespaces/{ns}/services"
    made = client.post(services, {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}}).json
    made["spec"]["clusterIP"] = "10.96.77.77"
    assert "spec.clusterIPs[0]: Invalid value: [\"10.96.77.77\"]: may not change once set" in client.put(f"{services}/s", made).json["message"]


def test_the_first_year_in_protobuf(client: Client, ns: str) -> None:
    """Go's zero time and two seconds, as a Lease of upstream's tests has it."""
    seconds = (-62135596800 + 2) % 2**64
    varint = b""
    while seconds > 127:
        varint, seconds = varint + bytes((seconds & 127 | 128,)), seconds >> 7
    time = b"\x08" + varint + bytes((seconds,))

    def field(number: int, data: bytes) -> bytes:
        return bytes((number << 3 | 2, len(data))) + data

    lease = field(1, field(1, b"old")) + field(2, field(3, time))
    body = b"k8s\0" + field(1, field(1, b"coordination.k8s.io/v1") + field(2, b"Lease")) + field(2, lease)
    made = client.request("POST", f"/apis/coordination.k8s.io/v1/namespaces/{ns}/leases", body, kind="application/vnd.kubernetes.protobuf")
    assert (made.status, made.json["spec"]["acquireTime"]) == (201, "0001-01-01T00:00:02.000000Z")
