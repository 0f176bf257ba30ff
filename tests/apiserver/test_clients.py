"""What else people type into kubectl, held against the kubectl of every release with `-m soak`."""

from __future__ import annotations

import base64
import json
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.apiserver.conftest import Client, Kubectl, Pki, Server
from tests.apiserver.test_kubectl import MANIFEST, manifest

__all__ = ["manifest"]  # the fixture

@pytest.fixture(scope="module")
def server(pki: Pki, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(pki, tmp_path_factory.mktemp("apiserver"), "--authorization-mode=RBAC")
    yield running
    assert running.stop() == 0
    log = running.log.read_text()
    assert "Traceback" not in log, log


def test_get_in_every_format(kubectl: Kubectl, manifest: Path) -> None:
    kubectl("apply", "-f", str(manifest))
    one = ("get", "deploy/app", "-o")
    assert yaml.safe_load(kubectl(*one, "yaml"))["kind"] == "Deployment"
    assert json.loads(kubectl("get", "deploy,svc", "-o", "json"))["kind"] == "List"
    assert kubectl(*one, "jsonpath={range .spec.template.spec.containers[*]}{.name}={.image}{end}") == "c=netlab/agnhost"
    assert kubectl(*one, "go-template={{.spec.replicas}}") == "2"
    assert kubectl(*one, "custom-columns=A:.metadata.name,B:.spec.replicas").split() == ["A", "B", "app", "2"]
    assert kubectl(*one, "custom-columns=A:.metadata.name", "--no-headers") == "app\n"
    assert kubectl(*one, "name") == "deployment.apps/app\n"
    assert "app=app" in kubectl("get", "deploy", "--show-labels")
    assert kubectl("get", "deploy", "-L", "app").splitlines()[0].endswith("APP")
    assert "deployment.apps/app" in kubectl("get", "deploy,svc", "--show-kind", "--no-headers")
    assert kubectl("get", "svc", "-A", "--sort-by=.metadata.creationTimestamp").splitlines()[0].startswith("NAMESPACE")
    assert "managedFields" in kubectl(*one, "yaml", *(["--show-managed-fields"] if kubectl.minor >= 21 else []))
    assert json.loads(kubectl("get", "--raw", "/api/v1/namespaces/kube-system"))["kind"] == "Namespace"
    assert kubectl("get", "cm", "absent", "--ignore-not-found") == ""
    assert "NotFound" in kubectl.fails("get", "cm", "absent")
    assert "doesn't have a resource type" in kubectl.fails("get", "absents")
    assert "HEALTHY" in kubectl("get", "componentstatuses").upper()


def test_get_watch_in_other_ways(kubectl: Kubectl) -> None:
    kubectl("create", "configmap", "a")
    for words, first in ((("-w", "-o", "name"), "configmap/a"), (("a", "-w", "-o", "json"), "{")):
        process = kubectl.popen("get", "configmaps", *words)
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith(first)
        finally:
            process.terminate()
            process.communicate()
    events = kubectl.popen("get", "configmaps", "-w", "--output-watch-events")
    try:
        assert events.stdout is not None
        assert events.stdout.readline().split()[0] == "EVENT"
        assert events.stdout.readline().split()[:2] == ["ADDED", "a"]
        kubectl("delete", "configmap", "a")
        assert events.stdout.readline().split()[:2] == ["DELETED", "a"]
    finally:
        events.terminate()
        events.communicate()


def test_chunks_and_selectors(kubectl: Kubectl) -> None:
    for number in range(7):
        kubectl("run", f"p{number}", "--image=busybox", f"--labels=n={number % 2},all=yes")
    assert len(kubectl("get", "pods", "--chunk-size=2", "--no-headers").splitlines()) == 7
    assert len(kubectl("get", "pods", "-l", "n in (1),all", "-o", "name").split()) == 3
    assert len(kubectl("get", "pods", "-l", "n notin (1),!none", "-o", "name").split()) == 4
    assert kubectl("get", "pods", "--field-selector=status.phase=Pending,metadata.name!=p1", "-o", "name").count("pod/") == 6
    assert kubectl("get", "pods", "--field-selector=spec.nodeName=n9") == ""
    assert "field label not supported" in kubectl.fails("get", "pods", "--field-selector=spec.volumes=x")
    kubectl("delete", "pods", "-l", "n=1", "--now")
    kubectl("delete", "pods", "--all", "--force", "--grace-period=0")
    assert kubectl("get", "pods", "-o", "name") == ""


def test_all_four_patches(kubectl: Kubectl, client: Client, ns: str, manifest: Path, tmp_path: Path) -> None:
    kubectl("apply", "-f", str(manifest))
    kubectl("patch", "deploy/app", "-p", '{"spec":{"template":{"spec":{"containers":[{"name":"c","image":"x:2"}]}}}}')
    kubectl("patch", "deploy/app", "--type=merge", "-p", '{"metadata":{"annotations":{"a":"b"}}}')
    kubectl("patch", "deploy/app", "--type=json", "-p", '[{"op":"test","path":"/spec/replicas","value":2},'
                                                       '{"op":"replace","path":"/spec/replicas","value":3}]')
    assert "The request is invalid" in kubectl.fails(
        "patch", "deploy/app", "--type=json", "-p", '[{"op":"remove","path":"/spec/absent"}]')
    if kubectl.minor >= 24:  # no --subresource before
        kubectl("patch", "deploy/app", "--subresource=status", "--type=merge", "-p", '{"status":{"replicas":9}}')
        assert kubectl("get", "deploy/app", "-o", "jsonpath={.status.replicas}") == "9"
        assert json.loads(kubectl("get", "deploy/app", "--subresource=scale", "-o", "json"))["kind"] == "Scale"
    found = json.loads(kubectl("get", "deploy/app", "-o", "json"))
    container = found["spec"]["template"]["spec"]["containers"][0]
    assert (container["image"], container["env"][1]["name"], found["spec"]["replicas"]) == ("x:2", "B", 3)
    assert found["metadata"]["annotations"]["a"] == "b"
    assert "no change" in kubectl("patch", "deploy/app", "-p", '{"spec":{"replicas":3}}')
    assert kubectl("patch", "-f", str(manifest), "--local", "-p", '{"metadata":{"labels":{"l":"m"}}}', "-o",
                   "jsonpath={.metadata.labels.l}").startswith("m")


def test_set_things(kubectl: Kubectl, manifest: Path) -> None:
    kubectl("apply", "-f", str(manifest))
    kubectl("set", "env", "deploy/app", "A-", "C=3")
    kubectl("set", "resources", "deploy/app", "--limits=cpu=200m,memory=64Mi", "--requests=cpu=100m")
    kubectl("create", "serviceaccount", "robot")
    kubectl("set", "serviceaccount", "deploy/app", "robot")
    kubectl("set", "selector", "svc/app", "app=other")
    spec = json.loads(kubectl("get", "deploy/app", "-o", "json"))["spec"]["template"]["spec"]
    assert {each["name"]: each["value"] for each in spec["containers"][0]["env"]} == {"B": "2", "C": "3"}
    assert spec["containers"][0]["resources"]["limits"] == {"cpu": "200m", "memory": "64Mi"}
    assert spec["serviceAccountName"] == "robot"
    kubectl("create", "role", "r", "--verb=get,list", "--resource=pods,deployments.apps")
    kubectl("create", "rolebinding", "b", "--role=r", "--user=jane")
    kubectl("set", "subject", "rolebinding/b", "--user=joe")
    assert "joe" in kubectl("get", "rolebinding", "b", "-o", "wide")


def test_replace_by_force_and_apply_with_prune(kubectl: Kubectl, manifest: Path, tmp_path: Path) -> None:
    kubectl.since(27, "list of kinds to prune in versions that are served")
    kubectl("create", "-f", str(manifest), "--save-config")
    before = kubectl("get", "deploy/app", "-o", "jsonpath={.metadata.uid}")
    said = kubectl("replace", "--force", "-f", str(manifest))
    assert "replaced" in said
    assert before != kubectl("get", "deploy/app", "-o", "jsonpath={.metadata.uid}")
    kubectl("delete", "-f", str(manifest))
    deployment, service = (yaml.safe_load(part) for part in MANIFEST.split("---"))
    for each in (deployment, service):
        each["metadata"]["labels"] = {"set": "one"}
    both, less = tmp_path / "both.yaml", tmp_path / "less.yaml"
    both.write_text(yaml.safe_dump_all([deployment, service]))
    less.write_text(yaml.safe_dump(deployment))
    kubectl("apply", "-f", str(both), "--prune", "-l", "set=one")
    assert "service/app pruned" in kubectl("apply", "-f", str(less), "--prune", "-l", "set=one")
    last = kubectl("apply", "view-last-applied", "deploy/app", "-o", "json")
    assert json.loads(last)["metadata"]["name"] == "app"
    kubectl("apply", "set-last-applied", "-f", str(less))


def test_a_directory_and_kustomize(kubectl: Kubectl, tmp_path: Path) -> None:
    (tmp_path / "k").mkdir()
    (tmp_path / "k" / "kustomization.yaml").write_text("resources: [app.yaml]\nnamePrefix: dev-\n")
    (tmp_path / "k" / "app.yaml").write_text(MANIFEST)
    kubectl("apply", "-k", str(tmp_path / "k"))
    assert kubectl("get", "deploy", "-o", "name") == "deployment.apps/dev-app\n"
    kubectl("delete", "-k", str(tmp_path / "k"))
    (tmp_path / "k" / "kustomization.yaml").unlink()
    assert kubectl("apply", "-R", "-f", str(tmp_path / "k")).count("created") == 2


def test_diff_says_what_would_change(kubectl: Kubectl, manifest: Path) -> None:
    new = kubectl.run("diff", "-f", str(manifest))
    assert new.returncode == 1, new.stderr
    assert "+kind: Deployment" in new.stdout
    kubectl("apply", "-f", str(manifest))
    assert kubectl.run("diff", "-f", str(manifest)).returncode == 0
    manifest.write_text(MANIFEST.replace("replicas: 2", "replicas: 4"))
    for words in ((), ("--server-side", "--force-conflicts")):
        done = kubectl.run("diff", "-f", str(manifest), *words)
        assert done.returncode == 1, done.stderr
        assert "+  replicas: 4" in done.stdout


@pytest.mark.parametrize("wanted", ["jsonpath={.spec.minReadySeconds}=7", "delete", "condition=Ready=False"])
def test_wait_for(kubectl: Kubectl, client: Client, ns: str, manifest: Path, wanted: str) -> None:
    if wanted.startswith("jsonpath"):
        kubectl.since(23, "wait for a value")
    kubectl("apply", "-f", str(manifest))
    waiting = kubectl.popen("wait", f"--for={wanted}", "deploy/app", "--timeout=30s")
    path = f"/apis/apps/v1/namespaces/{ns}/deployments/app"
    if wanted == "delete":
        assert client.delete(path).status == 200
    elif wanted.startswith("jsonpath"):
        assert client.patch(path, {"spec": {"minReadySeconds": 7}}).status == 200
    else:
        condition = {"conditions": [{"type": "Ready", "status": "False"}], "observedGeneration": 1}
        assert client.patch(f"{path}/status", {"status": condition}).status == 200
    out, err = waiting.communicate(timeout=40)
    if wanted == "delete" and not out:  # it was gone before kubectl looked: an error for old ones, fine for others
        assert waiting.returncode == 0 or "no matching resources found" in err
    else:
        assert waiting.returncode == 0, err
        assert "condition met" in out


def test_wait_gives_up(kubectl: Kubectl, manifest: Path) -> None:
    kubectl("apply", "-f", str(manifest))
    assert "timed out waiting" in kubectl.fails("wait", "--for=condition=Never", "deploy/app", "--timeout=1s")


def test_pause_resume_and_status_of_other_workloads(kubectl: Kubectl, client: Client, ns: str, manifest: Path) -> None:
    kubectl("apply", "-f", str(manifest))
    kubectl("rollout", "pause", "deploy/app")
    assert "paused" in kubectl.fails("rollout", "restart", "deploy/app")
    kubectl("rollout", "resume", "deploy/app")
    template = yaml.safe_load(MANIFEST.split("---")[0])["spec"]["template"]
    spec = {"selector": {"matchLabels": {"app": "app"}}, "template": template}
    for kind, more in (("daemonsets", {}), ("statefulsets", {"serviceName": "app", "replicas": 1})):
        made = client.post(f"/apis/apps/v1/namespaces/{ns}/{kind}", {"metadata": {"name": "x"}, "spec": spec | more})
        assert made.status == 201
        client.patch(f"/apis/apps/v1/namespaces/{ns}/{kind}/x/status", {"status": {
            "observedGeneration": 1, "desiredNumberScheduled": 1, "updatedNumberScheduled": 1, "numberAvailable": 1,
            "currentNumberScheduled": 1, "numberMisscheduled": 0, "numberReady": 1} if kind == "daemonsets" else {
            "observedGeneration": 1, "replicas": 1, "readyReplicas": 1, "updatedReplicas": 1, "availableReplicas": 1,
            "currentRevision": "r", "updateRevision": "r"}})
        assert "roll" in kubectl("rollout", "status", f"{kind}/x", "--timeout=20s")
        kubectl("rollout", "restart", f"{kind}/x")
        kubectl("rollout", "history", f"{kind}/x")


def test_permissions_are_listed(kubectl: Kubectl, ns: str) -> None:
    kubectl("create", "role", "reader", "--verb=get,list,watch", "--resource=pods,pods/log,deployments.apps")
    kubectl("create", "clusterrole", f"{ns}-nodes", "--verb=get", "--resource=nodes", "--non-resource-url=/logs")
    kubectl("create", "rolebinding", "jane", "--role=reader", "--user=jane")
    kubectl("create", "clusterrolebinding", f"{ns}-jane", f"--clusterrole={ns}-nodes", "--user=jane")
    listed = kubectl("auth", "can-i", "--list", "--as=jane")
    assert "deployments.apps" in listed
    assert "[get list watch]" in listed
    assert "/logs" in listed
    assert kubectl("auth", "can-i", "get", "pods", "--subresource=log", "--as=jane").strip() == "yes"
    assert kubectl.run("auth", "can-i", "delete", "pods", "--as=jane").stdout.strip() == "no"
    assert "Forbidden" in kubectl.fails("get", "secrets", "--as=jane")
    assert "*.*" in kubectl("auth", "can-i", "--list")
    rules = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
             "metadata": {"name": "reader", "namespace": ns},
             "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]}
    kubectl("auth", "reconcile", "-f", "-", stdin=json.dumps(rules))
    assert "secrets" in kubectl("describe", "role", "reader")
    assert "pods/log" in kubectl("describe", "role", "reader")  # reconcile adds, it does not take away


def test_certificates_are_approved_and_denied(kubectl: Kubectl, client: Client, ns: str) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "jane")])
    asked = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    pem = base64.b64encode(asked.public_bytes(serialization.Encoding.PEM)).decode()
    for verb, condition in (("approve", "Approved"), ("deny", "Denied")):
        made = f"{ns}-{verb}"
        kubectl("create", "-f", "-", stdin=json.dumps({
            "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"name": made},
            "spec": {"request": pem, "signerName": "kubernetes.io/kube-apiserver-client", "usages": ["client auth"]}}))
        kubectl("certificate", verb, made)
        assert condition in kubectl("get", "csr", made, "--no-headers")
        assert condition in kubectl("describe", "csr", made)


def test_tokens_are_created(kubectl: Kubectl, ns: str) -> None:
    kubectl.since(24, "create token")
    token = kubectl("create", "token", "default", "--audience=vault", "--duration=20m").strip()
    claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    assert claims["aud"] == ["vault"]
    assert claims["exp"] - claims["iat"] == 1200
    assert claims["sub"] == f"system:serviceaccount:{ns}:default"


def test_proxy_serves_the_api(kubectl: Kubectl, ns: str) -> None:
    process = kubectl.popen("proxy", "--port=0")
    try:
        assert process.stdout is not None
        address = process.stdout.readline().split()[-1]
        with urllib.request.urlopen(f"http://{address}/api/v1/namespaces/{ns}", timeout=20) as reply:
            assert json.load(reply)["metadata"]["name"] == ns
        with urllib.request.urlopen(f"http://{address}/version", timeout=20) as reply:
            assert json.load(reply)["minor"] == "36"
    finally:
        process.terminate()
        process.communicate()


def test_cluster_info_is_dumped(kubectl: Kubectl, tmp_path: Path, ns: str) -> None:
    assert "is running at" in kubectl("cluster-info")
    kubectl("create", "deployment", "d", "--image=busybox")
    kubectl("cluster-info", "dump", f"--namespaces={ns}", f"--output-directory={tmp_path / 'dump'}")
    assert json.loads((tmp_path / "dump" / ns / "deployments.json").read_text())["items"][0]["metadata"]["name"] == "d"
    assert (tmp_path / "dump" / "nodes.json").exists()


def test_every_kind_is_listed_and_described(kubectl: Kubectl) -> None:
    """What api-resources names can be listed, as a table and whole, and described."""
    named = kubectl("api-resources", "--verbs=list", "-o", "name").split()
    assert len(named) > 40
    kubectl("get", ",".join(named))
    kubectl("get", ",".join(named), "-o", "name", "-A")
    assert "deployments" in kubectl("api-resources", "-o", "wide", "--sort-by=kind")
    assert "deploy" in kubectl("api-resources", "--api-group=apps", "--namespaced=true", "--no-headers")
    known = {"clusterroles.rbac.authorization.k8s.io", "namespaces", "storageclasses.storage.k8s.io",
             "priorityclasses.scheduling.k8s.io", "configmaps", "services"}
    for kind in sorted(known & set(named)):
        kubectl("describe", kind)


def test_every_kind_is_explained(kubectl: Kubectl) -> None:
    for kind in ("pods", "services", "deployments", "ingresses.spec.rules.http.paths.backend", "networkpolicies.spec",
                 "endpointslices.endpoints", "leases", "customresourcedefinitions.spec.versions", "hpa.spec.metrics",
                 "validatingwebhookconfigurations.webhooks", "apiservices.spec", "nodes.status"):
        assert "FIELD" in kubectl("explain", kind), kind
    assert "Deployment" in kubectl("explain", "deployments", "--api-version=apps/v1")
    assert "does not exist" in kubectl.fails("explain", "pods.spec.absent")


def test_describe_of_what_was_made(kubectl: Kubectl, client: Client, ns: str, manifest: Path) -> None:
    kubectl("apply", "-f", str(manifest))
    kubectl("create", "quota", "q", "--hard=pods=3,count/configmaps=5")
    kubectl("create", "secret", "tls", "t", *_pair(manifest.parent))
    kubectl.since(21, "CronJob, PodDisruptionBudget and Ingress of the versions served")
    kubectl("create", "secret", "docker-registry", "d", "--docker-server=x", "--docker-username=u", "--docker-password=p")
    kubectl("create", "cronjob", "cj", "--image=busybox", "--schedule=*/5 * * * *")
    kubectl("create", "job", "from", "--from=cronjob/cj")
    kubectl("create", "service", "nodeport", "np", "--tcp=80:8080")
    kubectl("create", "service", "externalname", "en", "--external-name=example.com")
    kubectl("create", "service", "loadbalancer", "lb", "--tcp=80")
    kubectl("create", "priorityclass", f"{ns}-high", "--value=10")
    kubectl("create", "ingress", "i", "--rule=x.org/*=app:80,tls=t")
    kubectl("create", "pdb", "p", "--selector=app=app", "--max-unavailable=1")
    kubectl("autoscale", "deploy/app", "--max=3")
    kubectl("expose", "deploy/app", "--name=again", "--port=80", "--target-port=8080", "--type=NodePort")
    for kind in ("deploy", "svc", "quota", "secret", "cronjob", "job", "ingress", "pdb", "hpa", "sa", "ns"):
        assert "Name:" in kubectl("describe", kind, *([ns] if kind == "ns" else [])), kind
    assert "10" in kubectl("describe", "priorityclass", f"{ns}-high")
    kubectl("delete", "priorityclass", f"{ns}-high")
    kubectl("delete", "all", "--all")


def _pair(folder: Path) -> list[str]:
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x", "-days", "1",
                    "-keyout", folder / "key", "-out", folder / "crt"], check=True, capture_output=True)
    return [f"--cert={folder / 'crt'}", f"--key={folder / 'key'}"]


def test_labels_and_annotations(kubectl: Kubectl) -> None:
    kubectl("create", "configmap", "a")
    kubectl("label", "cm/a", "x=1")
    assert "already has a value" in kubectl.fails("label", "cm/a", "x=2")
    kubectl("label", "cm/a", "x=2", "--overwrite")
    kubectl("label", "cm", "--all", "y=3")
    kubectl("label", "cm/a", "x-")
    kubectl("annotate", "cm/a", "note=1")
    kubectl("annotate", "cm/a", "note-")
    assert kubectl("get", "cm/a", "-o", "jsonpath={.metadata.labels}{.metadata.annotations}") == '{"y":"3"}'
    assert "invalid label value" in kubectl.fails("label", "cm/a", "x=/bad/").lower()
