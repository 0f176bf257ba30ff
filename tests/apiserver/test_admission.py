"""The admission plugins that are part of the server: limits, quotas, Pod Security Standards, what nodes may do."""

from __future__ import annotations

import base64
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from netlab.api import kinds, quota
from netlab.apiserver.admission import pod_standards
from tests.apiserver.conftest import Client, Pki, Server, config_map, pod


def core(ns: str, plural: str, name: str = "") -> str:
    return f"/api/v1/namespaces/{ns}/{plural}" + (f"/{name}" if name else "")


def asks(cpu: str = "", memory: str = "", limit: str = "") -> dict[str, Any]:
    resources: dict[str, Any] = {}
    if cpu or memory:
        resources["requests"] = {name: text for name, text in (("cpu", cpu), ("memory", memory)) if text}
    if limit:
        resources["limits"] = {"cpu": limit}
    return {"containers": [{"name": "c", "image": "i", "resources": resources}]}


# --- LimitRanger -------------------------------------------------------------------------------------------------------

def limit_range(name: str, **item: Any) -> dict:
    return {"metadata": {"name": name}, "spec": {"limits": [{"type": "Container", **item}]}}


def test_a_limit_range_fills_itself_in(client: Client, ns: str) -> None:
    made = client.post(core(ns, "limitranges"), limit_range("l", max={"cpu": "1"}, min={"memory": "1Mi"})).json
    assert made["spec"]["limits"][0]["default"] == {"cpu": "1"}
    assert made["spec"]["limits"][0]["defaultRequest"] == {"cpu": "1", "memory": "1Mi"}


def test_limits_are_filled_in_and_kept(client: Client, ns: str) -> None:
    client.post(core(ns, "limitranges"), limit_range("l", default={"cpu": "500m"}, defaultRequest={"cpu": "100m"}, max={"cpu": "1"}))
    made = client.post(core(ns, "pods"), pod("p")).json
    assert made["spec"]["containers"][0]["resources"] == {"requests": {"cpu": "100m"}, "limits": {"cpu": "500m"}}
    assert made["metadata"]["annotations"]["kubernetes.io/limit-ranger"] == (
        "LimitRanger plugin set: cpu request for container c; cpu limit for container c")
    nameless = client.post(core(ns, "pods"), pod("p", containers=[{"image": "i"}]))
    assert nameless.json["details"]["causes"][0]["field"] == "spec.containers[0].name"
    answer = client.post(core(ns, "pods"), pod("big", **asks(limit="2")))
    assert answer.status == 403
    assert answer.json["message"] == 'pods "big" is forbidden: maximum cpu usage per Container is 1, but limit is 2'


def test_limits_of_whole_pods_and_claims(client: Client, ns: str) -> None:
    client.post(core(ns, "limitranges"), {"metadata": {"name": "l"}, "spec": {"limits": [
        {"type": "Pod", "max": {"cpu": "1"}, "maxLimitRequestRatio": {"cpu": "2"}},
        {"type": "PersistentVolumeClaim", "min": {"storage": "1Gi"}}]}})
    both = {"containers": [{"name": name, "image": "i", "resources": {"requests": {"cpu": "200m"}, "limits": {"cpu": "600m"}}}
                           for name in ("a", "b")]}
    said = client.post(core(ns, "pods"), pod("p", **both)).json["message"]
    assert "maximum cpu usage per Pod is 1, but limit is 1200m" in said
    assert "cpu max limit to request ratio per Pod is 2, but provided ratio is 3.000000" in said
    claim = client.post(core(ns, "persistentvolumeclaims"), {"metadata": {"name": "c"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}})
    assert "minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 1Mi" in claim.json["message"]


# --- ResourceQuota -----------------------------------------------------------------------------------------------------

def quota_of(client: Client, ns: str, name: str, **hard: str) -> None:
    """Make a quota whose status is as the controller would have it."""
    made = client.post(core(ns, "resourcequotas"), {"metadata": {"name": name}, "spec": {"hard": hard}}).json
    made["status"] = {"hard": hard, "used": dict.fromkeys(hard, "0")}
    assert client.put(core(ns, "resourcequotas", f"{name}/status"), made).status == 200


def test_a_quota_is_used_up(client: Client, ns: str) -> None:
    quota_of(client, ns, "q", **{"count/configmaps": "2", "services": "1"})
    assert [client.post(core(ns, "configmaps"), config_map(f"c{n}")).status for n in range(2)] == [201, 201]
    answer = client.post(core(ns, "configmaps"), config_map("c2"))
    assert answer.status == 403
    assert answer.json["message"] == ('configmaps "c2" is forbidden: exceeded quota: q, requested: count/configmaps=1, '
                                      "used: count/configmaps=2, limited: count/configmaps=2")
    assert client.get(core(ns, "resourcequotas", "q")).json["status"]["used"]["count/configmaps"] == "2"


def test_a_dry_run_books_nothing(client: Client, ns: str) -> None:
    quota_of(client, ns, "q", configmaps="1")
    assert client.post(core(ns, "configmaps") + "?dryRun=All", config_map("a")).status == 201
    assert client.get(core(ns, "resourcequotas", "q")).json["status"]["used"]["configmaps"] == "0"


def test_pods_say_what_they_use(client: Client, ns: str) -> None:
    quota_of(client, ns, "q", **{"requests.cpu": "1", "limits.cpu": "2", "pods": "5"})
    silent = client.post(core(ns, "pods"), pod("p"))
    assert silent.json["message"].endswith("failed quota: q: must specify limits.cpu for: c; requests.cpu for: c")
    assert client.post(core(ns, "pods"), pod("p", **asks(cpu="600m", limit="1"))).status == 201
    over = client.post(core(ns, "pods"), pod("o", **asks(cpu="500m", limit="1")))
    assert "exceeded quota: q, requested: requests.cpu=500m, used: requests.cpu=600m, limited: requests.cpu=1" in over.json["message"]


def test_nobody_gets_the_last_one_twice(client: Client, ns: str) -> None:
    quota_of(client, ns, "q", configmaps="5")

    def make(number: int) -> int:
        return client.again().post(core(ns, "configmaps"), config_map(f"c{number}")).status

    with ThreadPoolExecutor(8) as pool:
        codes = list(pool.map(make, range(20)))
    assert sorted(codes) == [201] * 5 + [403] * 15
    assert client.get(core(ns, "resourcequotas", "q")).json["status"]["used"]["configmaps"] == "5"


PODS = kinds.resource("pods")


@pytest.mark.parametrize(("spec", "scopes", "counts"), [
    ({"activeDeadlineSeconds": 5}, ["Terminating"], True), ({}, ["Terminating"], False), ({}, ["NotTerminating"], True),
    (asks(), ["BestEffort"], True), (asks(cpu="1"), ["BestEffort"], False), (asks(cpu="1"), ["NotBestEffort"], True),
    ({"priorityClassName": "a"}, ["PriorityClass"], True), ({}, ["PriorityClass"], False),
])
def test_scopes(spec: dict, scopes: list, counts: bool) -> None:
    assert quota.concerns({"spec": {"scopes": scopes}}, PODS, {"spec": spec}) == counts


@pytest.mark.parametrize(("hard", "spec", "lacking"), [
    (["requests.cpu", "limits.memory"], {"containers": [{"name": "b"}, {"name": "a"}]},
     {"limits.memory": ["a", "b"], "requests.cpu": ["a", "b"]}),
    (["memory"], {"containers": [asks(cpu="1")["containers"][0] | {"name": "a"}], "initContainers": [{"name": "i"}]}, {"memory": ["a", "i"]}),
    (["requests.cpu", "requests.memory"], {"containers": [{"name": "a"}], "resources": {"requests": {"cpu": "1"}}}, {}),
    (["requests.ephemeral-storage", "pods", "requests.example.com/gpu"], {"containers": [{"name": "a"}]}, {}),
])
def test_what_containers_must_speak_of(hard: list, spec: dict, lacking: dict) -> None:
    assert quota.missing(hard, {"spec": spec}) == lacking


def test_pods_as_a_whole_and_ended_ones_count() -> None:
    whole = {"containers": [{"name": "a", "resources": {"requests": {"cpu": "100m", "example.com/gpu": "1"}}}],
             "resources": {"requests": {"cpu": "2"}, "limits": {"memory": "1Gi"}}}
    used = quota.used(PODS, {"spec": whole})
    assert {name: str(used[name]) for name in ("requests.cpu", "limits.memory", "requests.example.com/gpu")} == {
        "requests.cpu": "2", "limits.memory": "1Gi", "requests.example.com/gpu": "1"}
    assert quota.used(PODS, {"spec": whole, "status": {"phase": "Failed"}}) == {"count/pods": quota.ONE}


def test_init_containers_and_sidecars_count() -> None:
    def container(name: str, cpu: str, **more: Any) -> dict:
        return {"name": name, "resources": {"requests": {"cpu": cpu}}, **more}

    spec = {"containers": [container("a", "100m")], "initContainers": [
        container("side", "50m", restartPolicy="Always"), container("init", "300m")]}
    used = quota.used(PODS, {"spec": spec})
    assert str(used["requests.cpu"]) == "350m"  # the init container runs beside the sidecar
    assert quota.used(PODS, {"spec": spec, "status": {"phase": "Succeeded"}}) == {"count/pods": quota.ONE}


# --- PodSecurity -------------------------------------------------------------------------------------------------------

GOOD = {"securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}, "containers": [
    {"name": "c", "image": "i", "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}}]}


def one(**security: Any) -> dict:
    return {"containers": [{"name": "c", "image": "i", "securityContext": security}]}


@pytest.mark.parametrize(("level", "spec", "reasons"), [
    ("privileged", one(privileged=True), []),
    ("baseline", one(), []),
    ("baseline", one(privileged=True), ["privileged"]),
    ("baseline", {"hostNetwork": True, "hostPID": True, "containers": []}, ["host namespaces"]),
    ("baseline", one(capabilities={"add": ["NET_ADMIN", "CHOWN"]}), ["non-default capabilities"]),
    ("baseline", {"containers": [], "volumes": [{"name": "v", "hostPath": {"path": "/"}}]}, ["hostPath volumes"]),
    ("baseline", {"containers": [{"name": "c", "ports": [{"hostPort": 80}]}]}, ["hostPort"]),
    ("baseline", one(seccompProfile={"type": "Unconfined"}), ["seccompProfile"]),
    ("baseline", one(procMount="Unmasked"), ["procMount"]),
    ("baseline", {"containers": [], "securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}}, ["forbidden sysctls"]),
    ("baseline", one(seLinuxOptions={"type": "spc_t"}), ["seLinuxOptions"]),
    ("restricted", GOOD, []),
    ("restricted", one(), ["allowPrivilegeEscalation != false", "unrestricted capabilities", "runAsNonRoot != true", "seccompProfile"]),
    ("restricted", GOOD | {"volumes": [{"name": "v", "nfs": {}}]}, ["restricted volume types"]),
    ("restricted", GOOD | {"securityContext": {**GOOD["securityContext"], "runAsUser": 0}}, ["runAsUser=0"]),
])
def test_standards(level: str, spec: dict, reasons: list[str]) -> None:
    assert [reason for reason, _ in pod_standards.violations({}, spec, level)] == reasons


def test_a_namespace_enforces_a_standard(client: Client, ns: str) -> None:
    client.patch(f"/api/v1/namespaces/{ns}", {"metadata": {"labels": {
        "pod-security.kubernetes.io/enforce": "baseline", "pod-security.kubernetes.io/warn": "restricted"}}})
    refused = client.post(core(ns, "pods"), pod("p", hostNetwork=True))
    assert refused.json["message"] == ('pods "p" is forbidden: violates PodSecurity "baseline:latest": host namespaces '
                                       "(hostNetwork=true)")
    passed = client.post(core(ns, "pods"), pod("q"))
    assert passed.status == 201
    assert r'would violate PodSecurity \"restricted:latest\": allowPrivilegeEscalation != false' in passed.warnings
    workload = client.post(f"/apis/apps/v1/namespaces/{ns}/deployments", {"metadata": {"name": "d"}, "spec": {
        "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}}, "spec": {
            "containers": [{"name": "c", "image": "i"}]}}}})
    assert workload.status == 201
    assert "would violate PodSecurity" in workload.warnings


# --- NodeRestriction, AlwaysPullImages ---------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def strict(pki: Pki, tmp_path_factory: pytest.TempPathFactory) -> Any:
    pki.issue("node1", "system:node:node1", ("system:nodes",))
    running = Server(pki, tmp_path_factory.mktemp("strict"), "--authorization-mode=Node,RBAC",
                     "--enable-admission-plugins=NodeRestriction,AlwaysPullImages,DenyServiceExternalIPs,ExtendedResourceToleration")
    running.client().post("/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "default"}})
    yield running
    assert running.stop() == 0


def test_images_are_pulled_always(strict: Server) -> None:
    made = strict.client().post(core("default", "pods"), {"metadata": {"name": "pull"}, "spec": {
        "containers": [{"name": "c", "image": "i:1", "imagePullPolicy": "IfNotPresent"}]}})
    assert made.json["spec"]["containers"][0]["imagePullPolicy"] == "Always"


def test_external_addresses_are_denied_but_those_that_are_there_stay(strict: Server) -> None:
    client = strict.client()
    service = {"metadata": {"name": "outside"}, "spec": {"ports": [{"port": 80}], "externalIPs": ["192.0.2.1"]}}
    said = client.post(core("default", "services"), service)
    assert (said.status, said.json["message"]) == (
        403, 'services "outside" is forbidden: Use of external IPs is denied by admission control')
    service["spec"].pop("externalIPs")
    assert client.post(core("default", "services"), service).status == 201
    path = core("default", "services", "outside")
    assert client.patch(path, {"spec": {"externalIPs": ["192.0.2.1"]}}).status == 403
    assert client.patch(path, {"metadata": {"labels": {"a": "b"}}}).status == 200
    assert client.delete(path).status == 200


def test_pods_tolerate_the_taints_of_devices_that_they_ask_for(strict: Server) -> None:
    made = strict.client().post(core("default", "pods"), {"metadata": {"name": "devices"}, "spec": {
        "tolerations": [{"key": "b.io/fpga", "operator": "Exists", "effect": "NoSchedule"}],
        "containers": [{"name": "c", "image": "i:1", "resources": {"limits": {"b.io/fpga": 1, "a.io/gpu": 2, "cpu": 1}}}]}})
    assert [row["key"] for row in made.json["spec"]["tolerations"] if row["effect"] == "NoSchedule"] == ["b.io/fpga", "a.io/gpu"]


def test_a_node_is_its_own_only(strict: Server) -> None:
    node, admin = strict.client(user="node1"), strict.client()
    assert node.post("/api/v1/nodes", {"metadata": {"name": "node1", "labels": {"kubernetes.io/hostname": "node1"}}}).status == 201
    admin.post("/api/v1/nodes", {"metadata": {"name": "node2"}})
    said = node.patch("/api/v1/nodes/node2", {"metadata": {"annotations": {"a": "b"}}})
    assert said.status == 403
    assert 'node "node1" is not allowed to modify node "node2"' in said.json["message"]
    labels = node.patch("/api/v1/nodes/node1", {"metadata": {"labels": {"node-restriction.kubernetes.io/x": "y"}}})
    assert 'is not allowed to modify labels: node-restriction.kubernetes.io/x' in labels.json["message"]
    assert node.patch("/api/v1/nodes/node1", {"metadata": {"labels": {"node.kubernetes.io/x": "y", "example.com/z": "1"}}}).status == 200
    taints = node.patch("/api/v1/nodes/node1", {"spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}})
    assert "is not allowed to modify taints" in taints.json["message"]


def test_a_node_makes_mirror_pods_only(strict: Server) -> None:
    node = strict.client(user="node1")
    plain = node.post(core("default", "pods"), {"metadata": {"name": "p"}, "spec": {"nodeName": "node1", "containers": [{"name": "c", "image": "i"}]}})
    assert 'pod does not have "kubernetes.io/config.mirror" annotation' in plain.json["message"]
    mirror = {"metadata": {"name": "m", "annotations": {"kubernetes.io/config.mirror": "x"}}, "spec": {
        "nodeName": "node1", "containers": [{"name": "c", "image": "i"}]}}
    assert node.post(core("default", "pods"), mirror).status == 201
    elsewhere = {**mirror, "metadata": {**mirror["metadata"], "name": "e"}, "spec": {**mirror["spec"], "nodeName": "node2"}}
    assert "can only create pods with spec.nodeName set to itself" in node.post(core("default", "pods"), elsewhere).json["message"]


def test_a_node_gets_tokens_of_its_pods_only(strict: Server) -> None:
    node, admin = strict.client(user="node1"), strict.client()
    made = [admin.post(core("default", "pods"), {"metadata": {"name": f"t{n}"}, "spec": {
        "nodeName": f"node{n}", "containers": [{"name": "c", "image": "i"}]}}).json for n in (1, 2)]
    path = core("default", "serviceaccounts", "default/token")

    def ask(obj: dict | None) -> Any:
        spec = {} if obj is None else {"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": obj["metadata"]["name"],
                                                          "uid": obj["metadata"]["uid"]}}
        return node.post(path, {"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "spec": spec})

    granted = ask(made[0])
    assert granted.status == 201
    assert base64.urlsafe_b64decode(granted.json["status"]["token"].split(".")[0] + "==")
    assert "not bound to a pod" in ask(None).json["message"]
    assert "bound to a pod scheduled on a different node" in ask(made[1]).json["message"]


def test_unknown_plugins_are_refused(pki: Pki, tmp_path: Any) -> None:
    with pytest.raises(AssertionError) as refused:
        Server(pki, tmp_path / "s", "--enable-admission-plugins=Nonsense,AlwaysAdmit,RuntimeClass",
               "--disable-admission-plugins=RuntimeClass,Bad,AlwaysAdmit")
    assert ('[enable-admission-plugins plugin "Nonsense" is unknown, disable-admission-plugins plugin "Bad" is unknown, '
            "[AlwaysAdmit RuntimeClass] in enable-admission-plugins and disable-admission-plugins overlapped]") in str(refused.value)
