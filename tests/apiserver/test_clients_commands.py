"""The forms of kubectl's commands that are typed less often, held against the kubectl of every release with `-m soak`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.apiserver.conftest import Client, Kubectl
from tests.apiserver.test_kubectl import MANIFEST, manifest

__all__ = ["manifest"]  # the fixture

METRICS = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: {plural}.metrics.k8s.io
  annotations: {{api-approved.kubernetes.io: unapproved}}
spec:
  group: metrics.k8s.io
  scope: {scope}
  names: {{plural: {plural}, singular: {singular}, kind: {kind}, listKind: {kind}List}}
  versions:
  - name: v1beta1
    served: true
    storage: true
    schema: {{openAPIV3Schema: {{type: object, x-kubernetes-preserve-unknown-fields: true}}}}
"""


def editor(folder: Path, *changes: str) -> dict[str, str]:
    """Return the environment of an editor that makes changes, given as sed's commands."""
    path = folder / "editor"
    path.write_text("#!/bin/sh\n" + "".join(f"sed -i '{change}' \"$1\"\n" for change in changes))
    path.chmod(0o755)
    return {"KUBE_EDITOR": str(path)}


def test_every_kind_that_is_created_by_flags(kubectl: Kubectl, ns: str, tmp_path: Path) -> None:
    (tmp_path / "a.properties").write_text("x=1\n")
    (tmp_path / "b.env").write_text("K=v\nL=w\n")
    (tmp_path / "raw").write_bytes(b"\xff\x00")
    name = kubectl("create", "configmap", "files", f"--from-file={tmp_path / 'a.properties'}",
                   f"--from-file=raw={tmp_path / 'raw'}", "--append-hash", "-o", "name").strip()
    found = json.loads(kubectl("get", name, "-o", "json"))
    assert (found["data"], found["binaryData"]) == ({"a.properties": "x=1\n"}, {"raw": "/wA="})
    kubectl("create", "configmap", "env", f"--from-env-file={tmp_path / 'b.env'}")
    kubectl("create", "secret", "generic", "typed", "--type=example.com/own", "--from-literal=a=b")
    kubectl("create", "secret", "docker-registry", "pull", "--docker-server=x", "--docker-username=u", "--docker-password=p")
    assert kubectl("get", "secret", "pull", "-o", "jsonpath={.type}") == "kubernetes.io/dockerconfigjson"
    kubectl("create", "namespace", f"{ns}-more")
    kubectl("create", "deployment", "d", "--image=busybox", "--port=80", "--replicas=2", "--", "sleep", "9")
    assert kubectl("get", "deploy", "d", "-o", "jsonpath={.spec.template.spec.containers[0].command}") == '["sleep","9"]'
    for kind, more in (("clusterip", ["--tcp=80:8080", "--tcp=81"]), ("nodeport", ["--tcp=80", "--node-port=31987"]),
                       ("loadbalancer", ["--tcp=80"]), ("externalname", ["--external-name=example.com"])):
        kubectl("create", "service", kind, kind, *more)
    assert kubectl("get", "svc", "nodeport", "-o", "jsonpath={.spec.ports[0].nodePort}") == "31987"
    kubectl("delete", "svc", "nodeport")
    kubectl("create", "service", "clusterip", "headless", "--clusterip=None")
    kubectl("create", "quota", "scoped", "--hard=pods=3,requests.cpu=1", "--scopes=NotBestEffort")
    kubectl("create", "clusterrole", f"{ns}-all", "--verb=*", "--resource=*.*")
    kubectl("create", "clusterrole", f"{ns}-sum", "--aggregation-rule=rbac.example.com/to=sum")
    kubectl("create", "role", "one", "--verb=get", "--resource=configmaps", "--resource-name=a", "--resource-name=b")
    kubectl("create", "clusterrolebinding", f"{ns}-b", f"--clusterrole={ns}-all", "--user=u", "--group=g",
            f"--serviceaccount={ns}:default")
    kubectl("create", "rolebinding", "b", f"--clusterrole={ns}-all", "--group=g")
    kubectl("create", "job", "j", "--image=busybox", "--", "date")
    kubectl("create", "priorityclass", f"{ns}-never", "--value=7", "--preemption-policy=Never", "--description=d")
    kubectl("create", "serviceaccount", "sa")
    kubectl("create", "-f", "-", stdin=MANIFEST)
    assert "already exists" in kubectl.fails("create", "-f", "-", stdin=MANIFEST)
    kubectl("delete", "ns", f"{ns}-more", "--wait=false")
    for each in (f"clusterrole/{ns}-all", f"clusterrole/{ns}-sum", f"clusterrolebinding/{ns}-b", f"priorityclass/{ns}-never"):
        kubectl("delete", each)
    kubectl.since(21, "CronJob, Ingress and PodDisruptionBudget in versions that are served")
    kubectl("create", "cronjob", "cj", "--image=busybox", "--schedule=@daily", "--restart=Never", "--", "date")
    kubectl("create", "job", "from", "--from=cronjob/cj")
    assert kubectl("get", "job", "from", "-o", "jsonpath={.metadata.ownerReferences[0].name}") == "cj"
    kubectl("create", "ingress", "i", "--class=nginx", "--default-backend=d:80", "--rule=a.org/x=d:http", "--annotation=k=v",
            "--rule=b.org/*=d:80,tls=t")
    kubectl("create", "pdb", "p", "--selector=a=b", "--min-available=50%")
    assert kubectl("get", "pdb", "p", "--no-headers").split()[1] == "50%"


def test_create_does_not_create_on_a_dry_run(kubectl: Kubectl) -> None:
    for way in ("client", "server"):
        made = yaml.safe_load(kubectl("create", "deployment", "d", "--image=busybox", f"--dry-run={way}", "-o", "yaml"))
        assert ("uid" in made["metadata"]) == (way == "server")
    assert "(server dry run)" in kubectl("run", "p", "--image=busybox", "--dry-run=server")
    assert kubectl("get", "deploy,pods", "-o", "name") == ""
    kubectl("create", "cm", "c")
    for words in (("delete", "cm/c"), ("label", "cm/c", "a=b"), ("annotate", "cm/c", "a=b"), ("patch", "cm/c", "-p", '{"data":{"a":"b"}}')):
        kubectl(*words, "--dry-run=server")
    assert kubectl("get", "cm/c", "-o", "jsonpath={.data}{.metadata.labels}{.metadata.annotations}") == ""


def test_raw_requests_and_files(kubectl: Kubectl, ns: str, tmp_path: Path) -> None:
    maps = f"/api/v1/namespaces/{ns}/configmaps"
    (tmp_path / "cm.json").write_text('{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"raw"}}')
    assert json.loads(kubectl("create", "--raw", maps, "-f", str(tmp_path / "cm.json")))["metadata"]["name"] == "raw"
    kubectl("replace", "--raw", f"{maps}/raw", "-f", str(tmp_path / "cm.json"))
    assert json.loads(kubectl("delete", "--raw", f"{maps}/raw"))["status"] == "Success"
    assert "ok" in kubectl("get", "--raw", "/readyz?verbose")
    assert "apiserver_request" in kubectl("get", "--raw", "/metrics")
    (tmp_path / "columns").write_text("NAME  KIND\nmetadata.name kind\n")
    (tmp_path / "template").write_text("{{range .items}}{{.metadata.name}} {{end}}")
    (tmp_path / "path").write_text("{.items[*].metadata.name}")
    for name in ("b", "a"):
        kubectl("create", "cm", name, f"--from-literal=n={'10' if name == 'a' else '2'}")
    assert kubectl("get", "cm", "-o", f"custom-columns-file={tmp_path / 'columns'}").split() == \
        ["NAME", "KIND", "a", "ConfigMap", "b", "ConfigMap"]
    assert kubectl("get", "cm", "-o", f"go-template-file={tmp_path / 'template'}").split() == ["a", "b"]
    assert kubectl("get", "cm", "--template", "{{len .items}}") == "2"
    assert kubectl("get", "cm", "-o", f"jsonpath-file={tmp_path / 'path'}").split() == ["a", "b"]
    if kubectl.minor >= 21:  # 1.20 has no such output
        assert json.loads(kubectl("get", "cm/a", "-o", "jsonpath-as-json={.data.n}")) == ["10"]
    order = ("get", "cm", "--no-headers", "-o", "custom-columns=A:.metadata.name")
    assert kubectl(*order, "--sort-by={.data.n}").split() == ["b", "a"]  # as people sort: 2 before 10
    assert kubectl("get", "cm", "--sort-by=.metadata.name", "-o", "name").split() == ["configmap/a", "configmap/b"]
    assert kubectl("get", "cm/a", "cm/b", "-o", "name").split() == ["configmap/a", "configmap/b"]
    assert kubectl("get", "-f", str(tmp_path / "cm.json"), "--ignore-not-found") == ""
    if kubectl.minor >= 35:  # kyaml is on by default
        assert "kind: \"ConfigMap\"" in kubectl("get", "cm/a", "-o", "kyaml")


def test_scale_has_preconditions(kubectl: Kubectl, client: Client, ns: str, manifest: Path) -> None:
    kubectl("apply", "-f", str(manifest))
    assert "Expected replicas to be 5, was 2" in kubectl.fails("scale", "deploy/app", "--replicas=3", "--current-replicas=5")
    kubectl("scale", "deploy/app", "--replicas=3", "--current-replicas=2")
    assert "Expected resource version" in kubectl.fails("scale", "deploy/app", "--replicas=4", "--resource-version=1")
    version = kubectl("get", "deploy/app", "-o", "jsonpath={.metadata.resourceVersion}")
    kubectl("scale", "deploy/app", "--replicas=4", f"--resource-version={version}")
    kubectl("scale", "deploy", "--all", "--replicas=1")
    kubectl("scale", "deploy", "-l", "app=app", "--replicas=0")
    template = yaml.safe_load(MANIFEST.split("---")[0])["spec"]["template"]
    for path, more in (("apps/v1/namespaces/{}/replicasets", {"selector": {"matchLabels": {"app": "app"}}}),
                       ("apps/v1/namespaces/{}/statefulsets", {"selector": {"matchLabels": {"app": "app"}}, "serviceName": "app"})):
        assert client.post(f"/apis/{path.format(ns)}", {"metadata": {"name": "x"}, "spec": {"template": template, **more}}).status == 201
    assert client.post(f"/api/v1/namespaces/{ns}/replicationcontrollers",
                       {"metadata": {"name": "x"}, "spec": {"template": template}}).status == 201
    kubectl("scale", "rs/x", "sts/x", "rc/x", "--replicas=4")
    for kind in ("rs", "sts", "rc"):
        assert kubectl("get", f"{kind}/x", "-o", "jsonpath={.spec.replicas}") == "4"
        if kind != "sts":
            kubectl("expose", f"{kind}/x", f"--name={kind}", "--port=80")
        assert "x" in kubectl("describe", kind, "x")
    if kubectl.minor >= 27:
        kubectl("autoscale", "rs/x", "--min=1", "--max=3", "--cpu-percent=50", "--name=h")
        assert kubectl("get", "hpa/h", "--no-headers").split()[:5] == ["h", "ReplicaSet/x", "cpu:", "<unknown>/50%", "1"]
    else:
        kubectl("autoscale", "rs/x", "--max=3", "--name=h")


@pytest.mark.parametrize("cascade", ["background", "foreground", "orphan"])
def test_delete_cascades(kubectl: Kubectl, client: Client, ns: str, cascade: str) -> None:
    kubectl("create", "deployment", "d", "--image=busybox")
    if cascade == "background":
        kubectl("delete", "deploy/d", f"--cascade={cascade}")
        assert kubectl("get", "deploy", "-o", "name") == ""
        return
    kubectl("delete", "deploy/d", f"--cascade={cascade}", "--wait=false")
    metadata = client.get(f"/apis/apps/v1/namespaces/{ns}/deployments/d").json["metadata"]
    assert metadata["finalizers"] == [{"foreground": "foregroundDeletion", "orphan": "orphan"}[cascade]]
    assert "deletionTimestamp" in metadata
    kubectl("patch", "deploy/d", "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
    if kubectl.minor >= 27:  # 1.20 takes it for an error that nothing is there any more
        kubectl("wait", "--for=delete", "deploy/d", "--timeout=20s")
    assert kubectl("get", "deploy", "-o", "name") == ""


def test_delete_in_other_ways(kubectl: Kubectl, client: Client, ns: str) -> None:
    kubectl("run", "p", "--image=busybox", "--labels=a=b")
    assert client.post(f"/api/v1/namespaces/{ns}/pods/p/binding", {"target": {"name": "n1"}}).status == 201
    kubectl("delete", "pod/p", "--grace-period=25", "--wait=false")
    metadata = client.get(f"/api/v1/namespaces/{ns}/pods/p").json["metadata"]
    assert metadata["deletionGracePeriodSeconds"] == 25
    assert kubectl("get", "pod/p", "--no-headers").split()[2] == "Terminating"
    said = kubectl.fails("delete", "pod/p", "--timeout=1s")
    assert "timed out waiting" in said
    kubectl("delete", "pod/p", "--now", "--wait=false")
    assert client.get(f"/api/v1/namespaces/{ns}/pods/p").json["metadata"]["deletionGracePeriodSeconds"] == 1
    kubectl("delete", "pod/p", "--grace-period=0", "--force")
    assert kubectl("get", "pods", "-o", "name") == ""
    assert "NotFound" in kubectl.fails("delete", "pod/p")
    kubectl("delete", "pod/p", "--ignore-not-found")
    kubectl("create", "cm", "a")
    assert kubectl("delete", "cm", "--field-selector=metadata.name=a", "-o", "name") == "configmap/a\n"
    assert kubectl("delete", "cm", "-l", "no=such") == "No resources found\n"


def test_set_reads_and_writes(kubectl: Kubectl, manifest: Path) -> None:
    kubectl("apply", "-f", str(manifest))
    kubectl("create", "cm", "source", "--from-literal=key=v")
    kubectl("create", "secret", "generic", "s", "--from-literal=word=v")
    kubectl("set", "env", "deploy/app", "--from=configmap/source", "--prefix=P_")
    kubectl("set", "env", "deploy/app", "--from=secret/s", "--keys=word")
    listed = kubectl("set", "env", "deploy/app", "--list")
    assert "# P_KEY from configmap source, key key" in listed
    assert "# WORD from secret s, key word" in listed
    assert "P_KEY=v" in kubectl("set", "env", "deploy/app", "--list", "--resolve")
    kubectl("set", "image", "deploy", "*=busybox:9", "--all")
    assert kubectl("get", "deploy/app", "-o", "jsonpath={..image}") == "busybox:9"
    assert "nginx:3" in kubectl("set", "image", "-f", "-", "c=nginx:3", "--local", "-o", "yaml", stdin=MANIFEST.split("---")[0])
    kubectl("set", "resources", "deploy", "app", "-c=c", "--limits=memory=1Gi")
    assert "must be less than or equal to memory limit" in kubectl.fails(
        "set", "resources", "deploy", "app", "--requests=memory=2Gi")
    kubectl("label", "deploy/app", "tier=a")
    assert "tier=a" in kubectl("label", "deploy/app", "--list")
    if kubectl.minor >= 27:  # annotate --list is of 1.20, too; its words are not
        assert "last-applied-configuration" in kubectl("annotate", "deploy/app", "--list")
    version = kubectl("get", "deploy/app", "-o", "jsonpath={.metadata.resourceVersion}")
    kubectl("label", "deploy/app", "tier=b", "--overwrite", f"--resource-version={version}")
    assert "the object has been modified" in kubectl.fails("label", "deploy/app", "tier=c", "--overwrite", f"--resource-version={version}")
    kubectl("annotate", "deploy,svc", "--all", "by=me", "--overwrite")
    kubectl("label", "-f", str(manifest), "tier-")


def test_what_was_applied_last_is_edited(kubectl: Kubectl, manifest: Path, tmp_path: Path) -> None:
    kubectl("apply", "-f", str(manifest))
    kubectl("apply", "edit-last-applied", "deploy/app", env=editor(tmp_path, "s/replicas: 2/replicas: 8/"))
    assert yaml.safe_load(kubectl("apply", "view-last-applied", "deploy/app"))["spec"]["replicas"] == 8
    assert kubectl("get", "deploy/app", "-o", "jsonpath={.spec.replicas}") == "2"
    assert kubectl("apply", "view-last-applied", "-f", str(manifest)).count("kind: ") == 2


def test_edit_in_other_ways(kubectl: Kubectl, manifest: Path, tmp_path: Path) -> None:
    kubectl("apply", "-f", str(manifest))
    kubectl("edit", "deploy/app", "-o", "json", env=editor(tmp_path, 's/"replicas": 2/"replicas": 3/'))
    assert kubectl("get", "deploy/app", "-o", "jsonpath={.spec.replicas}") == "3"
    kubectl("edit", "-f", str(manifest), env=editor(tmp_path, "s/replicas: 3/replicas: 4/", "s/port: 80$/port: 81/"))
    assert kubectl("get", "deploy/app", "-o", "jsonpath={.spec.replicas}") == "4"
    assert kubectl("get", "svc/app", "-o", "jsonpath={.spec.ports[0].port}") == "81"
    wrong = editor(tmp_path, f"w {tmp_path / 'seen'}", "s/replicas: 4/replicas: -4/")
    assert kubectl.run("edit", "deploy/app", env=wrong).returncode != 0
    assert "must be greater than or equal to 0" in (tmp_path / "seen").read_text()  # it opens once more and says why
    assert "no changes made" in kubectl.run("edit", "deploy/app", env=editor(tmp_path, "s/nothing/at all/")).stderr
    if kubectl.minor >= 27:
        kubectl("edit", "deploy/app", "--subresource=status", "-o", "json",
                env=editor(tmp_path, 's/"status": {}/"status": {"replicas": 6}/'))
        assert kubectl("get", "deploy/app", "-o", "jsonpath={.status.replicas}") == "6"
    kubectl("create", "--edit", "-f", str(manifest), env=editor(tmp_path, "s/name: app$/name: other/"))
    assert kubectl("get", "deploy/other", "-o", "name")


def test_rollouts_go_back(kubectl: Kubectl, client: Client, ns: str, manifest: Path) -> None:
    kubectl("apply", "-f", str(manifest))
    deployment = json.loads(kubectl("get", "deploy", "app", "-o", "json"))
    owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "app", "uid": deployment["metadata"]["uid"],
             "controller": True}
    for revision, image in ((1, "old:1"), (2, "netlab/agnhost")):
        labels = {"app": "app", "pod-template-hash": f"h{revision}"}
        old = json.loads(json.dumps(deployment["spec"]["template"]))
        old["metadata"]["labels"] = labels
        old["spec"]["containers"][0]["image"] = image
        client.post(f"/apis/apps/v1/namespaces/{ns}/replicasets", {
            "metadata": {"name": f"app-{revision}", "labels": labels, "ownerReferences": [owner],
                         "annotations": {"deployment.kubernetes.io/revision": str(revision)}},
            "spec": {"replicas": 0, "selector": {"matchLabels": labels}, "template": old}})
    client.patch(f"/apis/apps/v1/namespaces/{ns}/deployments/app",
                 {"metadata": {"annotations": {"deployment.kubernetes.io/revision": "2"}}})
    assert "old:1" in kubectl("rollout", "history", "deploy/app", "--revision=1")
    assert "old:1" in kubectl("rollout", "undo", "deploy/app", "--dry-run=client")
    kubectl("rollout", "undo", "deploy/app", "--dry-run=server")
    assert "unable to find specified revision 9" in kubectl.fails("rollout", "undo", "deploy/app", "--to-revision=9")
    kubectl("rollout", "undo", "deploy/app")
    assert kubectl("get", "deploy", "app", "-o", "jsonpath={..image}") == "old:1"
    assert "Waiting for deployment" in kubectl("rollout", "status", "deploy/app", "--watch=false")
    assert kubectl("annotate", "deploy/app", "kubernetes.io/change-cause=because")
    if kubectl.minor >= 27:
        kubectl("rollout", "restart", "deploy", "-l", "app=app")


def test_patches_and_values_of_parts(kubectl: Kubectl, manifest: Path, tmp_path: Path) -> None:
    kubectl.since(32, "apply and replace of subresources as they are today")
    kubectl("apply", "-f", str(manifest))
    found = json.loads(kubectl("get", "deploy/app", "-o", "json"))
    found["status"]["replicas"] = 5
    kubectl("replace", "--subresource=status", "-f", "-", stdin=json.dumps(found))
    kubectl("patch", "deploy/app", "--subresource=scale", "--type=merge", "-p", '{"spec":{"replicas":6}}')
    (tmp_path / "patch.yaml").write_text("spec: {minReadySeconds: 4}\n")
    kubectl("patch", "deploy/app", "--patch-file", str(tmp_path / "patch.yaml"))
    assert kubectl("get", "deploy/app", "-o", "jsonpath={.status.replicas},{.spec.replicas},{.spec.minReadySeconds}") == "5,6,4"
    kubectl("apply", "--server-side", "--subresource=status", "-f", "-", stdin=yaml.safe_dump(
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "app"}, "status": {"readyReplicas": 1}}))
    assert kubectl("get", "deploy/app", "-o", "jsonpath={.status.readyReplicas}") == "1"


def test_the_two_applies_meet(kubectl: Kubectl, manifest: Path) -> None:
    kubectl("apply", "-f", str(manifest))
    manifest.write_text(MANIFEST.replace('{name: A, value: "1"}, ', ""))
    kubectl("apply", "--server-side", "-f", str(manifest), *([] if kubectl.minor >= 27 else ["--force-conflicts"]))
    env = json.loads(kubectl("get", "deploy/app", "-o", "jsonpath={.spec.template.spec.containers[0].env}"))
    assert [each["name"] for each in env] == (["B"] if kubectl.minor >= 27 else ["A", "B"])
    kubectl("apply", "--server-side", "--field-manager=other", "--force-conflicts", "-f", str(manifest))
    manifest.write_text(MANIFEST.replace("matchLabels: {app: app}", "matchLabels: {app: new}").replace(
        "template:\n    metadata: {labels: {app: app}}", "template:\n    metadata: {labels: {app: new}}"))
    assert "field is immutable" in kubectl.fails("apply", "-f", str(manifest))
    kubectl("apply", "--force", "-f", str(manifest))
    assert kubectl("get", "deploy/app", "-o", "jsonpath={.spec.selector.matchLabels.app}") == "new"


def test_pruning_by_lists_and_sets(kubectl: Kubectl, ns: str, tmp_path: Path) -> None:
    two = tmp_path / "two.yaml"
    maps = [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"set": ns}}} for name in ("a", "b")]
    flag = "--prune-allowlist=core/v1/ConfigMap" if kubectl.minor >= 27 else "--prune-whitelist=core/v1/ConfigMap"
    two.write_text(yaml.safe_dump_all(maps))
    kubectl("apply", "-f", str(two), "--prune", "-l", f"set={ns}", flag)
    two.write_text(yaml.safe_dump_all(maps[:1]))
    assert "configmap/b pruned" in kubectl("apply", "-f", str(two), "--prune", "-l", f"set={ns}", flag)
    kubectl.since(27, "ApplySets")
    kubectl("delete", "cm", "--all")
    two.write_text(yaml.safe_dump_all(maps))
    words, env = ("apply", "-f", str(two), "--prune", "--applyset=secrets/set"), {"KUBECTL_APPLYSET": "true"}
    kubectl(*words, env=env)
    two.write_text(yaml.safe_dump_all(maps[1:]))
    assert "configmap/a pruned" in kubectl(*words, env=env)
    assert kubectl("get", "cm", "-o", "name") == "configmap/b\n"
    assert "configmap" in kubectl("get", "secret", "set", "-o", "jsonpath={.metadata.annotations}").lower()


def test_top_reads_metrics(kubectl: Kubectl, client: Client, ns: str) -> None:
    """Definitions of the metrics API answer as well as an extension server."""
    for plural, singular, kind, scope in (("nodes", "node", "NodeMetrics", "Cluster"), ("pods", "pod", "PodMetrics", "Namespaced")):
        kubectl("apply", "-f", "-", stdin=METRICS.format(plural=plural, singular=singular, kind=kind, scope=scope))
    try:
        kubectl("wait", "--for=condition=Established", "crd/nodes.metrics.k8s.io", "crd/pods.metrics.k8s.io", "--timeout=20s")
        about = {"timestamp": "2026-01-01T00:00:00Z", "window": "10s"}
        usage = {"cpu": "250m", "memory": "100Mi"}
        client.post("/api/v1/nodes", {"metadata": {"name": ns}})
        client.patch(f"/api/v1/nodes/{ns}/status", {"status": {"capacity": {"cpu": "2", "memory": "1Gi"},
                                                               "allocatable": {"cpu": "1", "memory": "200Mi"}}})
        assert client.post("/apis/metrics.k8s.io/v1beta1/nodes", {"apiVersion": "metrics.k8s.io/v1beta1", "kind": "NodeMetrics",
                                                                  "metadata": {"name": ns}, "usage": usage, **about}).status == 201
        kubectl("run", "p", "--image=busybox", "--labels=a=b")
        assert client.post(f"/apis/metrics.k8s.io/v1beta1/namespaces/{ns}/pods", {
            "apiVersion": "metrics.k8s.io/v1beta1", "kind": "PodMetrics", "metadata": {"name": "p", "labels": {"a": "b"}},
            "containers": [{"name": "p", "usage": usage}], **about}).status == 201
        assert kubectl("top", "node", ns, "--no-headers").split() == [ns, "250m", "25%", "100Mi", "50%"]
        for words in (("p",), ("-l", "a=b"), ("--sort-by=cpu",)):
            assert kubectl("top", "pod", "--no-headers", *words).split() == ["p", "250m", "100Mi"]
        assert kubectl("top", "pods", "--containers", "--no-headers").split() == ["p", "p", "250m", "100Mi"]
        kubectl("delete", "node", ns)
    finally:
        client.delete("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/nodes.metrics.k8s.io")
        client.delete("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/pods.metrics.k8s.io")
