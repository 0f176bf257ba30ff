"""Programs that nobody here wrote live on the API: helm, the official Python client, kubernetes-asyncio, kopf."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from tests import client_binaries
from tests.apiserver.conftest import Client, Server
from tests.apiserver.test_crd import definition, established, gone, version

pytestmark = [pytest.mark.soak, pytest.mark.timeout(400)]
DATA = Path(__file__).parent / "data"
PACKAGES = ("kubernetes", "kubernetes-asyncio", "kopf")
CHART = {
    "Chart.yaml": "apiVersion: v2\nname: shop\nversion: 1.0.0\nappVersion: '1'\n",
    "values.yaml": "replicas: 2\nimage: shop:1\n",
    "crds/gizmos.yaml": yaml.safe_dump(definition("gizmos", group="helm.example.com")),
    "templates/deployment.yaml": """
apiVersion: apps/v1
kind: Deployment
metadata: {name: {{ .Release.Name }}}
spec:
  replicas: {{ .Values.replicas }}
  selector: {matchLabels: {app: {{ .Release.Name }}}}
  template:
    metadata: {labels: {app: {{ .Release.Name }}}}
    spec: {containers: [{name: c, image: {{ .Values.image }}}]}
""",
    "templates/service.yaml": """
apiVersion: v1
kind: Service
metadata: {name: {{ .Release.Name }}}
spec: {selector: {app: {{ .Release.Name }}}, ports: [{port: 80}]}
""",
    "templates/gizmo.yaml": """
apiVersion: helm.example.com/v1
kind: Gizmo
metadata: {name: {{ .Release.Name }}}
spec: {replicas: {{ .Values.replicas }}}
""",
    "templates/hook.yaml": """
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ .Release.Name }}-hook
  annotations: {helm.sh/hook: "pre-install,pre-upgrade", helm.sh/hook-delete-policy: before-hook-creation}
data: {revision: "{{ .Release.Revision }}"}
""",
}


@pytest.mark.parametrize("release", ["1.29", "1.33", "1.36", "1.37"])
def test_helm_keeps_a_release(server: Server, client: Client, ns: str, tmp_path: Path, release: str) -> None:
    chart = tmp_path / "shop"
    for name, text in CHART.items():
        (chart / name).parent.mkdir(parents=True, exist_ok=True)
        (chart / name).write_text(text)
    binary, kubeconfig = client_binaries.helm(release), server.kubeconfig(tmp_path / "kubeconfig")

    def helm(*words: str) -> str:
        done = subprocess.run([binary, f"--kubeconfig={kubeconfig}", f"--namespace={ns}", *words], capture_output=True,
                              text=True, timeout=100, check=False, env={"HOME": str(tmp_path), "PATH": os.environ["PATH"]})
        assert done.returncode == 0, f"helm {words}: {done.stdout}{done.stderr}"
        return done.stdout

    def replicas() -> int:
        return client.get(f"/apis/apps/v1/namespaces/{ns}/deployments/web").json["spec"]["replicas"]

    assert "deployed" in helm("install", "web", str(chart))
    assert replicas() == 2
    helm("upgrade", "web", str(chart), "--set=replicas=3,image=shop:2")
    assert replicas() == 3
    gizmos = f"/apis/helm.example.com/v1/namespaces/{ns}/gizmos/web"
    assert client.get(gizmos).json["spec"]["replicas"] == 3
    hook = f"/api/v1/namespaces/{ns}/configmaps/web-hook"
    assert client.get(hook).json["data"] == {"revision": "2"}
    helm("rollback", "web", "1")
    assert replicas() == 2
    assert [each["revision"] for each in json.loads(helm("history", "web", "-o", "json"))] == [1, 2, 3]
    assert [each["name"] for each in json.loads(helm("list", "-o", "json"))] == ["web"]
    assert json.loads(helm("status", "web", "-o", "json"))["info"]["status"] == "deployed"
    assert "kind: Gizmo" in helm("get", "manifest", "web")
    helm("upgrade", "--install", "web", str(chart), "--dry-run=server", "--set=replicas=5")
    assert replicas() == 2
    helm("uninstall", "web")
    for path in (f"/apis/apps/v1/namespaces/{ns}/deployments/web", f"/api/v1/namespaces/{ns}/services/web", gizmos):
        gone(client, path)
    assert helm("list", "-q") == ""


@pytest.mark.parametrize("program", ["python_client", "asyncio_client"])
def test_a_python_client(server: Server, ns: str, tmp_path: Path, program: str) -> None:
    python, kubeconfig = client_binaries.python(*PACKAGES), server.kubeconfig(tmp_path / "kubeconfig")
    done = subprocess.run([python, str(DATA / f"{program}.py"), str(kubeconfig), ns], capture_output=True, text=True,
                          timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_operator_with_kopf(server: Server, client: Client, ns: str, tmp_path: Path) -> None:
    shape = {"type": "object", "properties": {
        "spec": {"type": "object", "properties": {"size": {"type": "integer"}}},
        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}}
    established(client, definition("gadgets", version(schema=shape, subresources={"status": {}})))
    python, log = client_binaries.python(*PACKAGES), tmp_path / "log"
    with log.open("wb") as out:
        operator = subprocess.Popen(
            [python, "-m", "kopf", "run", str(DATA / "gadgets.py"), "--namespace", ns, "--standalone"], stdout=out, stderr=out,
            env=os.environ | {"KUBECONFIG": str(server.kubeconfig(tmp_path / "kubeconfig")), "PYTHONPATH": ""})
    gadgets, maps = f"/apis/example.com/v1/namespaces/{ns}/gadgets", f"/api/v1/namespaces/{ns}/configmaps"

    def until(path: str, *keys: str, value: object) -> None:
        end = time.monotonic() + 60
        while True:
            found = client.get(path).json
            for key in keys:
                found = found.get(key) or {}
            if found == value:
                return
            assert time.monotonic() < end and operator.poll() is None, f"{path}: {found}\n{log.read_text()}"  # noqa: PT018
            time.sleep(0.1)

    try:
        assert client.post(gadgets, {"apiVersion": "example.com/v1", "kind": "Gadget", "metadata": {"name": "one"},
                                     "spec": {"size": 3}}).status == 201
        until(f"{gadgets}/one", "status", "size", value=3)
        until(f"{maps}/one", "data", value={"size": "3"})
        made = client.get(f"{gadgets}/one").json
        assert made["metadata"]["finalizers"] == ["gadgets.example.com/finalizer"]
        assert client.get(f"{maps}/one").json["metadata"]["ownerReferences"][0]["uid"] == made["metadata"]["uid"]
        client.patch(f"{gadgets}/one", {"spec": {"size": 4}})
        until(f"{gadgets}/one", "status", "size", value=4)
        until(f"{maps}/one", "data", value={"size": "4"})
        client.delete(f"{gadgets}/one")
        gone(client, f"{gadgets}/one", seconds=60)
        assert client.get(f"{maps}/one-was-here").status == 200
    finally:
        operator.terminate()
        operator.wait(timeout=30)
