"""The admission plugins that complete objects: default classes, finalizers of volumes, runtime classes, nodes' facts."""

from __future__ import annotations

from typing import Any

import pytest

from netlab.apiserver.admission import plugins
from netlab.apiserver.admission.runtime_class import merged
from tests.apiserver.conftest import Client, Pki, Server, pod

CLASSES, INGRESS_CLASSES = "/apis/storage.k8s.io/v1/storageclasses", "/apis/networking.k8s.io/v1/ingressclasses"
OFF = ("TaintNodesByCondition,StorageObjectInUseProtection,DefaultStorageClass,DefaultIngressClass,RuntimeClass,"
       "PersistentVolumeClaimResize,PodTopologyLabels")


@pytest.fixture(scope="module")
def bare(pki: Pki, tmp_path_factory: pytest.TempPathFactory):
    """A server on which all of them are off."""
    running = Server(pki, tmp_path_factory.mktemp("bare"), f"--disable-admission-plugins={OFF},ServiceAccount")
    yield running
    assert running.stop() == 0


def core(ns: str, plural: str, name: str = "") -> str:
    return f"/api/v1/namespaces/{ns}/{plural}" + (f"/{name}" if name else "")


def claim(name: str, size: str = "1Gi", *, notes: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "annotations": notes or {}}, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}, **spec}}


def volume(name: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
                                                 "nfs": {"server": "s", "path": "/p"}}}


def test_the_order_is_upstreams() -> None:
    names = [step().name for step in plugins.ORDER]
    assert names == [
        "NamespaceLifecycle", "LimitRanger", "ServiceAccount", "NodeRestriction", "TaintNodesByCondition",
        "AlwaysPullImages", "PodSecurity", "Priority", "DefaultTolerationSeconds", "ExtendedResourceToleration",
        "DefaultStorageClass", "StorageObjectInUseProtection", "PersistentVolumeClaimResize", "RuntimeClass", "CertificateApproval",
        "CertificateSigning", "CertificateSubjectRestriction", "DefaultIngressClass", "DenyServiceExternalIPs", "PodTopologyLabels",
        "NodeDeclaredFeatureValidator", "MutatingAdmissionPolicy", "MutatingAdmissionWebhook", "ValidatingAdmissionPolicy",
        "ValidatingAdmissionWebhook", "ResourceQuota"]
    assert {step.name for step in plugins.chain().steps} == set(names) - {
        "NodeRestriction", "AlwaysPullImages", "ExtendedResourceToleration", "DenyServiceExternalIPs"}


def test_a_new_node_is_not_ready(client: Client, bare: Server) -> None:
    taint = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}
    other = {"key": "a", "value": "b", "effect": "NoSchedule"}
    assert client.post("/api/v1/nodes", {"metadata": {"name": "t1"}}).json["spec"]["taints"] == [taint]
    assert client.post("/api/v1/nodes", {"metadata": {"name": "t2"}, "spec": {"taints": [other]}}).json["spec"]["taints"] == [
        other, taint]
    same = {**taint, "value": "x"}
    assert client.post("/api/v1/nodes", {"metadata": {"name": "t3"}, "spec": {"taints": [same]}}).json["spec"]["taints"] == [same]
    updated = client.patch("/api/v1/nodes/t1", {"spec": {"taints": None}}).json
    assert "taints" not in updated["spec"]
    assert "taints" not in bare.client().post("/api/v1/nodes", {"metadata": {"name": "t"}}).json["spec"]


def test_storage_objects_are_protected(client: Client, ns: str, bare: Server) -> None:
    assert client.post(core(ns, "persistentvolumeclaims"), claim("c")).json["metadata"]["finalizers"] == ["kubernetes.io/pvc-protection"]
    both = {**volume("v"), "metadata": {"name": "v", "finalizers": ["a.b/c", "kubernetes.io/pv-protection"]}}
    assert client.post("/api/v1/persistentvolumes", both).json["metadata"]["finalizers"] == ["a.b/c", "kubernetes.io/pv-protection"]
    made = client.post("/apis/storage.k8s.io/v1/volumeattributesclasses", {
        "metadata": {"name": "gold"}, "driverName": "d.io", "parameters": {"a": "b"}})
    assert made.json["metadata"]["finalizers"] == ["kubernetes.io/vac-protection"]
    assert client.delete(core(ns, "persistentvolumeclaims", "c")).status == 200
    assert "deletionTimestamp" in client.get(core(ns, "persistentvolumeclaims", "c")).json["metadata"]
    free = bare.client()
    assert "finalizers" not in free.post("/api/v1/persistentvolumes", volume("v")).json["metadata"]


def test_a_claim_gets_the_newest_default_class(client: Client, ns: str, bare: Server) -> None:
    def asked(name: str, **more: Any) -> str | None:
        answer = client.post(core(ns, "persistentvolumeclaims"), claim(name, **more))
        assert answer.status == 201, answer.body
        return answer.json["spec"].get("storageClassName")

    def a_class(name: str, mark: str = "storageclass.kubernetes.io/is-default-class", value: str = "true") -> dict[str, Any]:
        return {"metadata": {"name": name, "annotations": {mark: value}}, "provisioner": "a.b/c"}

    assert asked("before") is None
    client.post(CLASSES, a_class("zz"))
    client.post(CLASSES, a_class("no", value="false"))
    assert asked("one") == "zz"
    client.post(CLASSES, a_class("aa", "storageclass.beta.kubernetes.io/is-default-class"))
    times = {name: client.get(f"{CLASSES}/{name}").json["metadata"]["creationTimestamp"] for name in ("zz", "aa")}
    assert asked("two") == "aa"  # newer, or made in the same second and before it by name
    assert times["zz"] <= times["aa"]
    assert asked("none", storageClassName="") == ""
    assert asked("own", storageClassName="mine") == "mine"
    assert asked("old", notes={"volume.beta.kubernetes.io/storage-class": "mine"}) is None
    for name in ("zz", "aa", "no"):
        client.delete(f"{CLASSES}/{name}")
    assert asked("after") is None


def test_an_ingress_gets_the_default_class(client: Client, ns: str) -> None:
    path = f"/apis/networking.k8s.io/v1/namespaces/{ns}/ingresses"

    def asked(name: str, notes: dict[str, str], **spec: Any) -> str | None:
        backend = {"service": {"name": "s", "port": {"number": 80}}}
        return client.post(path, {"metadata": {"name": name, "annotations": notes}, "spec": {
            "defaultBackend": backend, **spec}}).json["spec"].get("ingressClassName")

    client.post(INGRESS_CLASSES, {"metadata": {"name": "main", "annotations": {
        "ingressclass.kubernetes.io/is-default-class": "true"}}, "spec": {"controller": "a.b/c"}})
    assert asked("one", {}) == "main"
    assert asked("own", {}, ingressClassName="mine") == "mine"
    assert asked("old", {"kubernetes.io/ingress.class": "mine"}) is None
    client.delete(f"{INGRESS_CLASSES}/main")
    assert asked("after", {}) is None


def test_a_claim_grows_only_where_it_can(client: Client, ns: str) -> None:
    for name, grows in (("grows", True), ("stays", False)):
        client.post(CLASSES, {"metadata": {"name": f"{name}-{ns}"}, "provisioner": "a.b/c", "allowVolumeExpansion": grows})

    def grow(name: str, size: str = "2Gi") -> str:
        answer = client.patch(core(ns, "persistentvolumeclaims", name), {"spec": {"resources": {"requests": {"storage": size}}}})
        return "" if answer.status == 200 else answer.json["message"]

    for name, of in (("a", f"grows-{ns}"), ("b", f"stays-{ns}"), ("c", "nowhere")):
        client.post(core(ns, "persistentvolumeclaims"), claim(name, storageClassName=of, volumeName="v"))
    assert "spec is immutable after creation except" in grow("a")  # the checks of the object come first
    for name in ("a", "b", "c"):
        client.patch(core(ns, "persistentvolumeclaims", name) + "/status", {"status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}})
    assert grow("a") == ""
    for name in ("b", "c"):
        assert grow(name) == (f'persistentvolumeclaims "{name}" is forbidden: only dynamically provisioned pvc can be resized and the '
                              "storageclass that provisions the pvc must support resize")


def test_a_runtime_class_tells_cost_and_place(client: Client, ns: str) -> None:
    name = f"heavy-{ns}"
    client.post("/apis/node.k8s.io/v1/runtimeclasses", {
        "metadata": {"name": name}, "handler": "h", "overhead": {"podFixed": {"cpu": "1500m"}}, "scheduling": {
            "nodeSelector": {"runtime": "heavy"}, "tolerations": [{"key": "heavy", "operator": "Exists"}]}})
    made = client.post(core(ns, "pods"), pod("p", runtimeClassName=name, nodeSelector={"a": "b"},
                                             tolerations=[{"key": "heavy", "operator": "Equal", "value": "x", "effect": "NoSchedule"}])).json
    assert made["spec"]["overhead"] == {"cpu": "1500m"}
    assert made["spec"]["nodeSelector"] == {"a": "b", "runtime": "heavy"}
    assert {"key": "heavy", "operator": "Exists"} in made["spec"]["tolerations"]
    assert not any(row.get("value") == "x" for row in made["spec"]["tolerations"])

    def refused(**spec: Any) -> str:
        answer = client.post(core(ns, "pods"), pod("q", **spec))
        assert answer.status == 403, answer.body
        return answer.json["message"].removeprefix('pods "q" is forbidden: ')

    assert client.post(core(ns, "pods"), pod("r", runtimeClassName=name, overhead={"cpu": "1.5"})).status == 201
    assert refused(runtimeClassName="ghost") == 'pod rejected: RuntimeClass "ghost" not found'
    assert refused(runtimeClassName=name, overhead={"cpu": "2"}) == (
        "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead")
    assert refused(overhead={"cpu": "2"}) == "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"
    assert refused(runtimeClassName=name, nodeSelector={"runtime": "light"}) == (
        "conflict: runtimeClass.scheduling.nodeSelector[runtime] = heavy; pod.spec.nodeSelector[runtime] = light")


@pytest.mark.parametrize(("given", "left"), [
    ([{"key": "a", "operator": "Exists"}, {"key": "a", "operator": "Equal", "value": "v"}], [0]),
    ([{"key": "a", "operator": "Equal", "value": "v"}, {"operator": "Exists"}], [1]),
    ([{"key": "a", "operator": "Exists"}, {"key": "a", "operator": "Exists"}], [0]),
    ([{"key": "a", "operator": "Exists", "effect": "NoSchedule"}, {"key": "a", "operator": "Exists", "effect": "NoExecute"}], [0, 1]),
    ([{"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5},
      {"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 9}], [1]),
    ([{"key": "a", "operator": "Exists", "effect": "NoExecute"},
      {"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 9}], [0]),
    ([{"key": "a", "operator": "Equal", "value": "v"}, {"key": "a", "operator": "Equal", "value": "w"}], [0, 1]),
])
def test_tolerations_that_others_cover_go(given: list[dict[str, Any]], left: list[int]) -> None:
    assert merged(given) == [given[at] for at in left]


def test_a_pod_is_told_its_zone(client: Client, ns: str) -> None:
    node = f"n-{ns}"
    labels = {"topology.kubernetes.io/zone": "z1", "topology.kubernetes.io/region": "r1", "other": "x"}
    client.post("/api/v1/nodes", {"metadata": {"name": node, "labels": labels}})
    told = {key: value for key, value in labels.items() if key != "other"}

    def bind(name: str, own: dict[str, str], **metadata: Any) -> dict[str, str]:
        client.post(core(ns, "pods"), {**pod(name), "metadata": {"name": name, "labels": own}})
        answer = client.post(core(ns, "pods", name) + "/binding", {"metadata": {"name": name, **metadata},
                                                                   "target": {"kind": "Node", "name": node}})
        assert answer.status == 201, answer.body
        return client.get(core(ns, "pods", name)).json["metadata"]["labels"]

    assert bind("plain", {"a": "b"}) == {"a": "b"} | told
    assert bind("forged", {"topology.kubernetes.io/zone": "z9"}) == told
    assert bind("labelled", {}, labels={"topology.kubernetes.io/zone": "z2", "k": "v"}) == told | {
        "topology.kubernetes.io/zone": "z2", "k": "v"}
    static = client.post(core(ns, "pods"), {**pod("static", nodeName=node),
                                            "metadata": {"name": "static", "labels": {"topology.kubernetes.io/zone": "z9"}}})
    assert static.json["metadata"]["labels"] == told | {"topology.kubernetes.io/zone": "z9"}


def test_what_is_off_does_nothing(bare: Server) -> None:
    client = bare.client()
    client.post(CLASSES, {"metadata": {"name": "d", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
                          "provisioner": "a.b/c"})
    assert "storageClassName" not in client.post(core("default", "persistentvolumeclaims"), claim("c")).json["spec"]
    assert client.post(core("default", "pods"), pod("p", runtimeClassName="ghost", overhead={"cpu": "1"})).status == 201


def test_a_pod_grows_only_where_its_node_can_do_that(client: Client, ns: str) -> None:
    node = f"n-{ns}"
    client.post("/api/v1/nodes", {"metadata": {"name": node}})

    def grow(name: str, cpu: str, memory: str = "10Mi") -> str:
        amounts = {"cpu": cpu, "memory": memory}
        answer = client.patch(core(ns, "pods", name) + "/resize", {"spec": {"containers": [
            {"name": "c", "resources": {"requests": amounts, "limits": amounts}}]}}, "strategic")
        return answer.json["message"] if answer.status != 200 else ""

    amounts = {"cpu": "1", "memory": "10Mi"}
    for name, where in (("bound", {"nodeName": node}), ("free", {})):
        sized = [{"name": "c", "image": "i", "resources": {"requests": amounts, "limits": amounts}}]
        made = client.post(core(ns, "pods"), pod(name, containers=sized, **where))
        assert made.json["status"]["qosClass"] == "Guaranteed", made.json
    assert grow("bound", "2") == (f'pods "bound" is forbidden: pod update requires features GuaranteedQoSPodCPUResize which are '
                                  f'not available on node "{node}"')
    assert grow("bound", "1", "20Mi") == ""
    assert grow("free", "2") == ""
    client.patch(f"/api/v1/nodes/{node}/status", {"status": {"declaredFeatures": ["GuaranteedQoSPodCPUResize"]}})
    assert grow("bound", "2") == ""
