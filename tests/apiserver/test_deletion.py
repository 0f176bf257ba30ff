"""Deletion: at once, after a grace, when finalizers are gone, many at a time."""

from __future__ import annotations

import pytest

from tests.apiserver.conftest import Client, config_map, pod
from tests.apiserver.test_objects import deployment, maps, pods


def test_delete_answers_a_status_or_the_object(client: Client, ns: str) -> None:
    made = client.post(maps(ns), config_map("a")).json
    gone = client.delete(maps(ns, "a"))
    assert gone.json["status"] == "Success"
    assert gone.json["details"] == {"name": "a", "kind": "configmaps", "uid": made["metadata"]["uid"]}
    client.post(pods(ns), pod("p"))
    assert client.delete(pods(ns, "p")).json["kind"] == "Pod"


def test_delete_honours_preconditions(client: Client, ns: str) -> None:
    made = client.post(maps(ns), config_map("a")).json
    assert client.delete(maps(ns, "a"), {"preconditions": {"uid": "other"}}).status == 409
    assert client.delete(maps(ns, "a"), {"preconditions": {"resourceVersion": "1"}}).status == 409
    assert client.delete(maps(ns, "a"), {"preconditions": {"uid": made["metadata"]["uid"]}}).status == 200


def test_a_finalizer_holds_the_object(client: Client, ns: str) -> None:
    client.post(maps(ns), {"metadata": {"name": "a", "finalizers": ["example.com/wait"]}})
    marked = client.delete(maps(ns, "a")).json
    assert marked["metadata"]["deletionTimestamp"]
    assert marked["metadata"]["deletionGracePeriodSeconds"] == 0
    assert client.patch(maps(ns, "a"), {"metadata": {"finalizers": ["example.com/wait", "a/b"]}}).status == 422
    assert client.patch(maps(ns, "a"), {"metadata": {"finalizers": None}}).status == 200
    assert client.get(maps(ns, "a")).status == 404


@pytest.mark.parametrize(("policy", "finalizer"), [("Foreground", "foregroundDeletion"), ("Orphan", "orphan")])
def test_propagation_is_left_to_the_garbage_collector(client: Client, ns: str, policy: str, finalizer: str) -> None:
    base = f"/apis/apps/v1/namespaces/{ns}/deployments"
    client.post(base, deployment("d"))
    client.delete(f"{base}/d", {"propagationPolicy": policy})
    assert client.get(f"{base}/d").json["metadata"]["finalizers"] == [finalizer]
    assert client.get(f"{base}/d").json["metadata"]["generation"] == 2
    bad = client.delete(f"{base}/d", {"propagationPolicy": "Sideways"})
    assert bad.status == 422


def test_who_says_nothing_keeps_the_pods_of_a_job_or_replication_controller(client: Client, ns: str) -> None:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    job = {**template, "spec": {**template["spec"], "restartPolicy": "Never"}}
    for base, spec in ((f"/api/v1/namespaces/{ns}/replicationcontrollers", {"template": template}),
                       (f"/apis/batch/v1/namespaces/{ns}/jobs", {"template": job})):
        for name in ("a", "b"):
            assert client.post(base, {"metadata": {"name": name}, "spec": spec}).status == 201
        left = client.delete(f"{base}/a")
        assert client.get(f"{base}/a").json["metadata"]["finalizers"] == ["orphan"]
        assert ("child pods are preserved by default" in str(left.warnings)) is base.endswith("jobs")
        taken = client.delete(f"{base}/b", {"propagationPolicy": "Background"})
        assert not taken.warnings
        assert client.get(f"{base}/b").status == 404


def test_a_running_pod_gets_its_grace(client: Client, ns: str) -> None:
    client.post(pods(ns), pod("p", nodeName="n1", terminationGracePeriodSeconds=17))
    marked = client.delete(pods(ns, "p")).json["metadata"]
    assert marked["deletionGracePeriodSeconds"] == 17
    shorter = client.delete(pods(ns, "p"), {"gracePeriodSeconds": 5}).json["metadata"]
    assert shorter["deletionGracePeriodSeconds"] == 5
    assert shorter["deletionTimestamp"] < marked["deletionTimestamp"]
    longer = client.delete(pods(ns, "p"), {"gracePeriodSeconds": 50}).json["metadata"]
    assert longer["deletionGracePeriodSeconds"] == 5
    assert client.delete(pods(ns, "p"), {"gracePeriodSeconds": 0}).status == 200  # the kubelet's last word
    assert client.get(pods(ns, "p")).status == 404


def test_a_pod_that_never_ran_goes_at_once(client: Client, ns: str) -> None:
    client.post(pods(ns), pod("p"))
    client.delete(pods(ns, "p"))
    assert client.get(pods(ns, "p")).status == 404


def test_delete_collection_takes_what_is_selected(client: Client, ns: str) -> None:
    for number in range(4):
        body = config_map(f"c{number}") | {"metadata": {"name": f"c{number}", "labels": {"odd": str(number % 2)}}}
        client.post(maps(ns), body)
    deleted = client.request("DELETE", f"{maps(ns)}?labelSelector=odd%3D1")
    assert {item["metadata"]["name"] for item in deleted.json["items"]} == {"c1", "c3"}
    assert {item["metadata"]["name"] for item in client.get(maps(ns)).json["items"]} == {"c0", "c2"}


def test_a_namespace_waits_for_its_controller(client: Client) -> None:
    made = client.post("/api/v1/namespaces", {"metadata": {"name": "going"}}).json
    assert made["metadata"]["labels"] == {"kubernetes.io/metadata.name": "going"}
    assert made["spec"]["finalizers"] == ["kubernetes"]
    marked = client.delete("/api/v1/namespaces/going").json
    assert marked["status"]["phase"] == "Terminating"
    refused = client.post(maps("going"), config_map("a"))
    assert refused.status == 403
    assert refused.json["message"] == ('configmaps "a" is forbidden: unable to create new content in namespace going '
                                       "because it is being terminated")
    assert refused.json["details"]["causes"][0]["reason"] == "NamespaceTerminating"
    marked["spec"]["finalizers"] = []
    assert client.put("/api/v1/namespaces/going/finalize", marked).status == 200
    assert client.get("/api/v1/namespaces/going").status == 404
