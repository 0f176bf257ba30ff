"""The real kubectl against the real server: what a learner types."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.apiserver.conftest import Client, Kubectl

MANIFEST = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: app, labels: {app: app}}
spec:
  replicas: 2
  selector: {matchLabels: {app: app}}
  template:
    metadata: {labels: {app: app}}
    spec:
      containers:
      - name: c
        image: netlab/agnhost
        ports: [{containerPort: 80}]
        env: [{name: A, value: "1"}, {name: B, value: "2"}]
---
apiVersion: v1
kind: Service
metadata: {name: app}
spec: {selector: {app: app}, ports: [{port: 80}]}
"""


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "app.yaml"
    path.write_text(MANIFEST)
    return path


def test_create_get_wide_and_delete(kubectl: Kubectl) -> None:
    assert kubectl("create", "deployment", "web", "--image=nginx", "--replicas=3") == "deployment.apps/web created\n"
    table = kubectl("get", "deploy").splitlines()
    assert table[0].split() == ["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE"]
    assert table[1].split()[:4] == ["web", "0/3", "0", "0"]
    assert kubectl("get", "deploy", "-o", "wide").splitlines()[0].split()[-3:] == ["CONTAINERS", "IMAGES", "SELECTOR"]
    kubectl("expose", "deployment", "web", "--port=80", "--type=NodePort")
    assert kubectl("get", "svc", "web", "-o", "jsonpath={.spec.ports[0].nodePort}").isdigit()
    assert kubectl("delete", "deploy/web", "svc/web").startswith('deployment.apps "web" deleted')
    assert kubectl("get", "all", "-o", "name") == ""


def test_apply_twice_and_change(kubectl: Kubectl, manifest: Path) -> None:
    assert "created" in kubectl("apply", "-f", str(manifest))
    assert kubectl("apply", "-f", str(manifest)).count("unchanged") == 2
    manifest.write_text(MANIFEST.replace("replicas: 2", "replicas: 4").replace('{name: A, value: "1"}, ', ""))
    diff = kubectl.run("diff", "-f", str(manifest))
    assert diff.returncode == 1, diff.stderr
    assert "+  replicas: 4" in diff.stdout
    assert "configured" in kubectl("apply", "-f", str(manifest))
    spec = json.loads(kubectl("get", "deploy", "app", "-o", "json"))["spec"]
    assert spec["replicas"] == 4
    assert spec["template"]["spec"]["containers"][0]["env"] == [{"name": "B", "value": "2"}]


def test_apply_server_side(kubectl: Kubectl, manifest: Path) -> None:
    assert kubectl("apply", "--server-side", "-f", str(manifest)).count("serverside-applied") == 2
    kubectl("scale", "deploy", "app", "--replicas=7")
    assert "conflict" in kubectl.fails("apply", "--server-side", "-f", str(manifest))
    kubectl("apply", "--server-side", "--force-conflicts", "-f", str(manifest))
    assert kubectl("get", "deploy", "app", "-o", "jsonpath={.spec.replicas}") == "2"


def test_small_changes(kubectl: Kubectl, manifest: Path) -> None:
    kubectl("apply", "-f", str(manifest))
    kubectl("scale", "deploy/app", "--replicas=5")
    kubectl("label", "deploy/app", "tier=front")
    kubectl("annotate", "deploy/app", "note=hello")
    kubectl("set", "image", "deploy/app", "c=nginx:2")
    kubectl("patch", "deploy", "app", "-p", '{"spec":{"minReadySeconds":3}}')
    kubectl("patch", "deploy", "app", "--type=merge", "-p", '{"spec":{"paused":true}}')
    kubectl("patch", "deploy", "app", "--type=json", "-p", '[{"op":"replace","path":"/spec/revisionHistoryLimit","value":2}]')
    kubectl("rollout", "resume", "deploy/app")
    kubectl("rollout", "restart", "deploy/app")
    obj = json.loads(kubectl("get", "deploy", "app", "-o", "json"))
    assert (obj["spec"]["replicas"], obj["spec"]["minReadySeconds"], obj["spec"]["revisionHistoryLimit"]) == (5, 3, 2)
    assert obj["metadata"]["labels"]["tier"] == "front"
    assert obj["metadata"]["annotations"]["note"] == "hello"
    assert obj["spec"]["template"]["spec"]["containers"][0]["image"] == "nginx:2"
    assert "kubectl.kubernetes.io/restartedAt" in obj["spec"]["template"]["metadata"]["annotations"]
    assert obj["metadata"]["generation"] == 9  # labels do not count, annotations of a Deployment do


def test_edit_and_replace(kubectl: Kubectl, manifest: Path, tmp_path: Path) -> None:
    kubectl("apply", "-f", str(manifest))
    editor = tmp_path / "editor"
    editor.write_text("#!/bin/sh\nsed -i 's/replicas: 2/replicas: 6/' \"$1\"\n")
    editor.chmod(0o755)
    kubectl("edit", "deploy", "app", env={"KUBE_EDITOR": str(editor)})
    obj = json.loads(kubectl("get", "deploy", "app", "-o", "json"))
    assert obj["spec"]["replicas"] == 6
    obj["spec"]["replicas"] = 1
    kubectl("replace", "-f", "-", stdin=json.dumps(obj))
    assert "the object has been modified" in kubectl.fails("replace", "-f", "-", stdin=json.dumps(obj))


def test_what_kubectl_creates_by_protobuf(kubectl: Kubectl) -> None:
    kubectl.since(24, "create token, and asks for kinds in versions that are gone")
    kubectl("create", "configmap", "cm", "--from-literal=a=b")
    kubectl("create", "secret", "generic", "s", "--from-literal=a=b")
    kubectl("create", "serviceaccount", "sa")
    kubectl("create", "service", "clusterip", "svc", "--tcp=80:8080")
    kubectl("create", "role", "r", "--verb=get", "--resource=pods")
    kubectl("create", "rolebinding", "rb", "--role=r", "--serviceaccount=default:sa")
    kubectl("create", "quota", "q", "--hard=pods=3")
    kubectl("create", "job", "j", "--image=busybox")
    kubectl("create", "cronjob", "cj", "--image=busybox", "--schedule=* * * * *")
    kubectl("create", "ingress", "i", "--rule=x.org/*=svc:80")
    kubectl("create", "pdb", "p", "--selector=a=b", "--min-available=1")
    assert kubectl("create", "token", "sa").count(".") == 2
    found = kubectl("get", "cm,secret,sa,svc,role,rolebinding,quota,job,cronjob,ingress,pdb", "-o", "name").split()
    assert len(found) == 12
    assert kubectl("get", "secret", "s", "-o", "jsonpath={.data.a}") == "Yg=="


def test_run_and_describe(kubectl: Kubectl) -> None:
    kubectl("run", "p", "--image=busybox", "--", "sleep", "1000")
    assert kubectl("get", "pods", "-o", "wide").splitlines()[1].split()[:4] == ["p", "0/1", "Pending", "0"]
    said = kubectl("describe", "pod", "p")
    assert "Service Account:  default" in said or kubectl.minor < 27
    assert "kube-api-access-" in said
    kubectl("delete", "pod", "p")


def test_get_watch_shows_changes(kubectl: Kubectl) -> None:
    kubectl("create", "configmap", "a")
    process = kubectl.popen("get", "configmaps", "-w")
    assert process.stdout is not None
    try:
        assert process.stdout.readline().split() == ["NAME", "DATA", "AGE"]
        assert process.stdout.readline().split()[0] == "a"
        kubectl("create", "configmap", "b", "--from-literal=x=y")
        assert process.stdout.readline().split()[:2] == ["b", "1"]
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def test_events_are_watched(kubectl: Kubectl, client: Client, ns: str) -> None:
    kubectl.since(26, "events")
    process = kubectl.popen("events", "--watch")
    assert process.stdout is not None
    try:
        assert "No resources found" not in kubectl("get", "ns", ns)
        client.post(f"/api/v1/namespaces/{ns}/events", {
            "metadata": {"name": "e1"}, "involvedObject": {"kind": "Pod", "name": "p", "namespace": ns},
            "reason": "Pulled", "message": "it is here", "type": "Normal", "count": 1,
            "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:00:00Z"})
        lines = [process.stdout.readline(), process.stdout.readline()]
        assert "it is here" in lines[1]
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def test_wait_and_rollout_status(kubectl: Kubectl, client: Client, ns: str, manifest: Path) -> None:
    kubectl("apply", "-f", str(manifest))
    path = f"/apis/apps/v1/namespaces/{ns}/deployments/app"
    waiting = kubectl.popen("wait", "--for=condition=Available", "deploy/app", "--timeout=30s")
    rolling = kubectl.popen("rollout", "status", "deploy/app", "--timeout=30s")
    assert rolling.stdout is not None
    assert rolling.stdout.readline().startswith("Waiting for deployment")
    client.patch(f"{path}/status", {"status": {
        "observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2, "availableReplicas": 2,
        "conditions": [{"type": "Available", "status": "True"}, {"type": "Progressing", "status": "True"}]}})
    rolled, _ = rolling.communicate(timeout=30)
    assert "successfully rolled out" in rolled
    waited, _ = waiting.communicate(timeout=30)
    assert waited == "deployment.apps/app condition met\n"


def test_explain_and_api_resources(kubectl: Kubectl) -> None:
    assert "containerPort" in kubectl("explain", "pod.spec.containers.ports")
    assert "maxSurge" in kubectl("explain", "deployment.spec.strategy", "--recursive")
    resources = kubectl("api-resources", "-o", "name").split()
    assert {"pods", "deployments.apps", "endpointslices.discovery.k8s.io", "leases.coordination.k8s.io"} <= set(resources)
    assert "apps/v1" in kubectl("api-versions").split()
    assert "v1.36" in kubectl("version")


def test_dry_run_and_validation(kubectl: Kubectl, manifest: Path) -> None:
    kubectl.since(25, "validation by the server")
    assert "created (server dry run)" in kubectl("apply", "--dry-run=server", "-f", str(manifest))
    assert "NotFound" in kubectl.fails("get", "deploy", "app")
    wrong = MANIFEST.replace("replicas: 2", "replicaz: 2")
    assert 'unknown field "spec.replicaz"' in kubectl.fails("create", "-f", "-", stdin=wrong)
    empty = MANIFEST.replace("netlab/agnhost", '""')
    assert "spec.template.spec.containers[0].image: Required value" in kubectl.fails("create", "-f", "-", stdin=empty)


def test_who_am_i_and_may_i(kubectl: Kubectl) -> None:
    assert kubectl("auth", "can-i", "create", "pods").strip() == "yes"
    kubectl.since(28, "auth whoami in a version that is served")
    assert "kubernetes-admin" in kubectl("auth", "whoami")


def test_sorting_columns_and_selectors(kubectl: Kubectl) -> None:
    for name in ("b", "a"):
        kubectl("create", "configmap", name)
    kubectl("label", "cm", "b", "x=y")
    assert kubectl("get", "cm", "--sort-by=.metadata.name", "--no-headers").split()[0] == "a"
    assert kubectl("get", "cm", "-l", "x=y", "-o", "custom-columns=N:.metadata.name").split() == ["N", "b"]
    assert kubectl("get", "cm", "--field-selector", "metadata.name=a", "-o", "name") == "configmap/a\n"
    assert kubectl("get", "cm", "--chunk-size=1", "-o", "name").split() == ["configmap/a", "configmap/b"]


def test_nodes_are_cordoned_and_tainted(kubectl: Kubectl, client: Client) -> None:
    client.post("/api/v1/nodes", {"metadata": {"name": "n9", "labels": {"node-role.kubernetes.io/control-plane": ""}}})
    kubectl("cordon", "n9")
    kubectl("taint", "node", "n9", "a=b:NoSchedule")
    row = kubectl("get", "node", "n9", "--no-headers").split()
    assert row[:3] == ["n9", "Unknown,SchedulingDisabled", "control-plane"]
    assert "Unschedulable:      true" in kubectl("describe", "node", "n9")
    kubectl("uncordon", "n9")
    kubectl("drain", "n9", "--ignore-daemonsets")
    kubectl("delete", "node", "n9")


def test_rollout_history_and_undo(kubectl: Kubectl, client: Client, ns: str, manifest: Path) -> None:
    kubectl("apply", "-f", str(manifest))
    deployment = json.loads(kubectl("get", "deploy", "app", "-o", "json"))
    template = deployment["spec"]["template"]
    owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "app", "uid": deployment["metadata"]["uid"],
             "controller": True}
    for revision, image in ((1, "old:1"), (2, "new:2")):
        labels = {"app": "app", "pod-template-hash": f"h{revision}"}
        old = json.loads(json.dumps(template))
        old["metadata"]["labels"] = labels
        old["spec"]["containers"][0]["image"] = image
        client.post(f"/apis/apps/v1/namespaces/{ns}/replicasets", {
            "metadata": {"name": f"app-{revision}", "labels": labels, "ownerReferences": [owner],
                         "annotations": {"deployment.kubernetes.io/revision": str(revision)}},
            "spec": {"replicas": 0, "selector": {"matchLabels": labels}, "template": old}})
    client.patch(f"/apis/apps/v1/namespaces/{ns}/deployments/app",
                 {"metadata": {"annotations": {"deployment.kubernetes.io/revision": "2"}}})
    assert "1" in kubectl("rollout", "history", "deploy/app")
    kubectl("rollout", "undo", "deploy/app", "--to-revision=1")
    assert kubectl("get", "deploy", "app", "-o", "jsonpath={.spec.template.spec.containers[0].image}") == "old:1"
