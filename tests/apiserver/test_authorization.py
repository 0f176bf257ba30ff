"""A server with --authorization-mode=Node,RBAC, over the wire and with the real kubectl."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.apiserver.conftest import Client, Kubectl, Pki, Server, kubectl_binary, pod

RBAC = "/apis/rbac.authorization.k8s.io/v1"


@pytest.fixture(scope="module")
def server(pki: Pki, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    pki.issue("jane", "jane", ("dev",))
    pki.issue("kubelet", "system:node:n1", ("system:nodes",))
    running = Server(pki, tmp_path_factory.mktemp("apiserver"), "--authorization-mode=Node,RBAC")
    yield running
    assert running.stop() == 0
    log = running.log.read_text()
    assert "Traceback" not in log, log


@pytest.fixture
def jane(server: Server) -> Client:
    return server.client(user="jane")


@pytest.fixture
def hers(server: Server, ns: str, tmp_path: Path) -> Kubectl:
    return Kubectl(kubectl_binary(), server.kubeconfig(tmp_path / "jane", "jane"), tmp_path / "janes-home", ns)


def give(client: Client, ns: str, *rules: dict[str, Any], name: str = "hers") -> None:
    assert client.post(f"{RBAC}/namespaces/{ns}/roles", {"metadata": {"name": name}, "rules": list(rules)}).status == 201
    assert client.post(f"{RBAC}/namespaces/{ns}/rolebindings", {
        "metadata": {"name": name}, "roleRef": {"kind": "Role", "name": name},
        "subjects": [{"kind": "User", "name": "jane"}]}).status == 201


def core(verbs: str, resources: str) -> dict[str, Any]:
    return {"apiGroups": [""], "verbs": verbs.split(), "resources": resources.split()}


def test_refusals_in_upstreams_words(jane: Client) -> None:
    for path, said in (
            ("/api/v1/namespaces/default/pods", ('pods is forbidden: User "jane" cannot list resource "pods" in API '
                                                'group "" in the namespace "default"')),
            ("/api/v1/namespaces/default/pods/p/log", ('pods "p" is forbidden: User "jane" cannot get resource '
                                                      '"pods/log" in API group "" in the namespace "default"')),
            ("/apis/apps/v1/deployments", ('deployments.apps is forbidden: User "jane" cannot list resource '
                                          '"deployments" in API group "apps" at the cluster scope')),
            ("/api/v1/namespaces/x", ('namespaces "x" is forbidden: User "jane" cannot get resource "namespaces" in '
                                     'API group "" in the namespace "x"')),
            ("/apis/example.com/v1/things", ('things.example.com is forbidden: User "jane" cannot list resource '
                                            '"things" in API group "example.com" at the cluster scope')),
            ("/metrics", 'forbidden: User "jane" cannot get path "/metrics"')):
        answer = jane.get(path)
        assert answer.status == 403
        assert answer.json["message"] == said
        assert answer.json["reason"] == "Forbidden"


def test_the_anonymous_are_refused_by_name(server: Server) -> None:
    nobody = server.client(user=None)
    for path in ("/healthz", "/livez", "/readyz", "/version"):
        assert nobody.get(path).status == 200
    assert nobody.get("/apis").json["message"] == 'forbidden: User "system:anonymous" cannot get path "/apis"'
    assert nobody.get("/api/v1/pods").status == 403
    assert nobody.get("/api/v1/pods", Authorization="Bearer nonsense").status == 401


def test_a_users_secrets_end_at_her_namespace(client: Client, jane: Client, ns: str) -> None:
    for place in (ns, "kube-system"):
        client.post(f"/api/v1/namespaces/{place}/secrets", {"metadata": {"name": "s"}})
    give(client, ns, core("get list watch", "secrets"))
    assert jane.get(f"/api/v1/namespaces/{ns}/secrets/s").status == 200
    for path in ("/api/v1/namespaces/kube-system/secrets/s", "/api/v1/namespaces/kube-system/secrets",
                 "/api/v1/secrets", "/api/v1/watch/secrets", "/api/v1/secrets?watch=1",
                 "/api/v1/secrets?fieldSelector=metadata.name%3Ds", f"/api/v1/namespaces/{ns}/../kube-system/secrets/s",
                 f"/api/v1/namespaces/{ns}%2f..%2fkube-system/secrets/s",
                 "/api/v1/namespaces/kube-system/secrets/s?watch=1"):
        assert jane.get(path).status in (403, 404), path
    client.delete(f"{RBAC}/namespaces/{ns}/rolebindings/hers")
    assert jane.get(f"/api/v1/namespaces/{ns}/secrets/s").status == 403


def test_nobody_gives_what_he_has_not(client: Client, jane: Client, ns: str) -> None:
    writes = {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles", "rolebindings"],
              "verbs": ["create", "update", "patch"]}
    give(client, ns, writes, core("get", "pods"))
    roles, bindings = f"{RBAC}/namespaces/{ns}/roles", f"{RBAC}/namespaces/{ns}/rolebindings"
    assert jane.post(roles, {"metadata": {"name": "less"}, "rules": [core("get", "pods")]}).status == 201
    answer = jane.post(roles, {"metadata": {"name": "more"}, "rules": [core("get delete", "pods secrets")]})
    assert answer.status == 403
    assert answer.json["message"] == (
        'roles.rbac.authorization.k8s.io "more" is forbidden: user "jane" (groups=["dev" "system:authenticated"]) is '
        "attempting to grant RBAC permissions not currently held:\n"
        '{APIGroups:[""], Resources:["pods"], Verbs:["delete"]}\n'
        '{APIGroups:[""], Resources:["secrets"], Verbs:["get" "delete"]}')
    assert jane.patch(f"{roles}/less", {"rules": [core("*", "*")]}).status == 403
    applied = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "less"},
               "rules": [core("*", "*")]}
    assert jane.patch(f"{roles}/less?fieldManager=m&force=true", applied, "apply").status == 403

    def bind(name: str, kind: str, role: str) -> int:
        return jane.post(bindings, {"metadata": {"name": name}, "roleRef": {"kind": kind, "name": role},
                                    "subjects": [{"kind": "User", "name": "jane"}]}).status

    assert bind("mine", "Role", "less") == 201
    assert bind("admin", "ClusterRole", "cluster-admin") == 403
    assert bind("ghost", "Role", "ghost") == 404
    give(client, ns, {**writes, "resources": ["roles"], "verbs": ["escalate", "bind"]},
         {**writes, "resources": ["clusterroles"], "verbs": ["bind"], "resourceNames": ["edit"]}, name="trusted")
    assert jane.post(roles, {"metadata": {"name": "more"}, "rules": [core("get", "secrets")]}).status == 201
    assert bind("edit", "ClusterRole", "edit") == 201
    assert bind("admin", "ClusterRole", "admin") == 403


def test_who_may_patch_may_not_create(client: Client, jane: Client, ns: str) -> None:
    give(client, ns, core("get update patch", "configmaps limitranges"))
    path = f"/api/v1/namespaces/{ns}/configmaps/new?fieldManager=m"
    applied = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "new"}}
    answer = jane.patch(path, applied, "apply")
    assert answer.status == 403
    assert 'cannot create resource "configmaps"' in answer.json["message"]
    limits = {"metadata": {"name": "new"}, "spec": {"limits": []}}
    assert jane.put(f"/api/v1/namespaces/{ns}/limitranges/new", limits).status == 403
    assert client.put(f"/api/v1/namespaces/{ns}/limitranges/new", limits).status == 201
    assert client.patch(path, applied, "apply").status == 201
    assert jane.patch(path, applied | {"data": {"a": "b"}}, "apply").status == 200


def test_bindings_are_checked(client: Client, ns: str) -> None:
    path = f"{RBAC}/namespaces/{ns}/rolebindings"
    body = {"metadata": {"name": "b"}, "roleRef": {"kind": "ClusterRole", "name": "view"}, "subjects": []}
    assert client.post(path, body).status == 201
    changed = client.put(f"{path}/b", {**body, "roleRef": {"kind": "ClusterRole", "name": "edit"}})
    assert changed.status == 422
    assert "cannot change roleRef" in changed.json["message"]
    bad = client.post(path, {**body, "metadata": {"name": "c"}, "subjects": [{"kind": "Robot", "name": "r"}]})
    assert bad.status == 422
    assert 'subjects[0].kind: Unsupported value: "Robot"' in bad.json["message"]
    role = client.post(f"{RBAC}/namespaces/{ns}/roles", {"metadata": {"name": "r"}, "rules": [
        {"verbs": [], "nonResourceURLs": ["/x"]}]})
    assert "verbs must contain at least one value" in role.json["message"]
    assert "namespaced rules cannot apply to non-resource URLs" in role.json["message"]


def test_aggregated_roles_follow_their_parts(client: Client) -> None:
    with client.watch(f"{RBAC}/clusterroles?watch=1&fieldSelector=metadata.name%3Dview") as watch:
        client.post(f"{RBAC}/clusterroles", {
            "metadata": {"name": "crontabs", "labels": {"rbac.authorization.k8s.io/aggregate-to-view": "true"}},
            "rules": [{"apiGroups": ["stable.example.com"], "resources": ["crontabs"], "verbs": ["get"]}]})
        watch.until(lambda event: any("crontabs" in rule.get("resources", ()) for rule in event["object"]["rules"]))
        client.delete(f"{RBAC}/clusterroles/crontabs")
        watch.until(lambda event: all("crontabs" not in rule.get("resources", ()) for rule in event["object"]["rules"]))


def test_reviews(client: Client, jane: Client, ns: str) -> None:
    give(client, ns, core("get", "pods"))
    root = "/apis/authorization.k8s.io/v1"
    asked = {"resourceAttributes": {"namespace": ns, "verb": "get", "resource": "pods"}}
    mine = jane.post(f"{root}/selfsubjectaccessreviews", {"spec": asked}).json["status"]
    assert mine == {"allowed": True,
                    "reason": f'RBAC: allowed by RoleBinding "hers/{ns}" of Role "hers" to User "jane"'}
    assert jane.post(f"{root}/subjectaccessreviews", {"spec": {"user": "jane", **asked}}).status == 403
    others = client.post(f"{root}/subjectaccessreviews", {"spec": {"user": "joe", **asked}}).json["status"]
    assert others == {"allowed": False}
    local = f"{root}/namespaces/{ns}/localsubjectaccessreviews"
    assert client.post(local, {"spec": {"user": "jane", **asked}}).json["status"]["allowed"] is True
    elsewhere = {"resourceAttributes": {"namespace": "default", "verb": "get", "resource": "pods"}}
    assert client.post(local, {"spec": {"user": "jane", **elsewhere}}).status == 400
    rules = jane.post(f"{root}/selfsubjectrulesreviews", {"spec": {"namespace": ns}}).json["status"]
    assert {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]} in rules["resourceRules"]
    assert rules["incomplete"] is False
    kubelets = client.again(user="kubelet").post(f"{root}/selfsubjectrulesreviews", {"spec": {"namespace": ns}})
    assert kubelets.json["status"]["incomplete"] is True


def test_a_kubelet_reads_its_pods_secrets_only(server: Server, client: Client, ns: str) -> None:
    kubelet = server.client(user="kubelet")
    path = f"/api/v1/namespaces/{ns}"
    for name in ("used", "unused"):
        client.post(f"{path}/secrets", {"metadata": {"name": name}})
    assert kubelet.get(f"{path}/secrets/used").status == 403
    volumes = [{"name": "v", "secret": {"secretName": "used"}}]
    made = client.post(f"{path}/pods", pod("p", nodeName="n1", volumes=volumes))
    assert made.status == 201
    assert kubelet.get(f"{path}/secrets/used").status == 200
    refused = kubelet.get(f"{path}/secrets/unused")
    assert refused.status == 403
    assert refused.json["message"].endswith("no relationship found between node 'n1' and this object")
    bound = {"spec": {"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "p",
                                         "uid": made.json["metadata"]["uid"]}}}
    assert kubelet.post(f"{path}/serviceaccounts/default/token", bound).status == 201
    assert kubelet.get(f"{path}/pods?fieldSelector=spec.nodeName%3Dn1").status == 200
    assert kubelet.get("/api/v1/pods").status == 403


def test_impersonation(client: Client, jane: Client, ns: str) -> None:
    as_joe = {"Impersonate_User": "joe"}
    assert jane.get("/api", **as_joe).json["message"] == (
        'users "joe" is forbidden: User "jane" cannot impersonate resource "users" in API group "" at the cluster '
        "scope")
    who = client.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", {}, **as_joe,
                      Impersonate_Group="ops").json["status"]["userInfo"]
    assert who == {"username": "joe", "groups": ["ops", "system:authenticated"]}
    robot = {"Impersonate_User": f"system:serviceaccount:{ns}:default"}
    give(client, ns, core("impersonate", "serviceaccounts"), core("get", "pods"))
    who = jane.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", {}, **robot).json["status"]["userInfo"]
    assert who["groups"] == ["system:serviceaccounts", f"system:serviceaccounts:{ns}", "system:authenticated"]
    assert jane.get(f"/api/v1/namespaces/{ns}/pods/p", **robot).status == 403
    assert client.get("/api", Impersonate_Group="ops").status == 400


def test_kubectl_auth(kubectl: Kubectl, hers: Kubectl) -> None:
    assert kubectl("auth", "can-i", "*", "*") == "yes\n"
    assert hers.run("auth", "can-i", "get", "pods").stdout == "no\n"
    kubectl("create", "role", "reader", "--verb=get,list", "--resource=pods,secrets")
    kubectl("create", "rolebinding", "reader", "--role=reader", "--user=jane")
    assert hers("auth", "can-i", "get", "pods") == "yes\n"
    assert hers("auth", "can-i", "get", "/healthz") == "yes\n"
    assert kubectl("auth", "can-i", "get", "pods", "--as=jane") == "yes\n"
    assert kubectl.run("auth", "can-i", "delete", "pods", "--as=jane").stdout == "no\n"
    listed = hers("auth", "can-i", "--list")
    assert [line.split() for line in listed.splitlines() if line.startswith("secrets ")] == [
        ["secrets", "[]", "[]", "[get", "list]"]]
    assert hers("get", "secrets") == ""
    assert "secrets is forbidden" in hers.fails("get", "secrets", "--namespace=kube-system")
    assert "jane" in hers("auth", "whoami")
    assert "cluster-admin" in kubectl("get", "clusterroles")
    assert "aggregate-to-admin" in kubectl("describe", "clusterrole", "system:aggregate-to-admin")


def test_default_roles_come_back_at_the_next_start(pki: Pki, tmp_path: Path) -> None:
    server = Server(pki, tmp_path / "apiserver", "--authorization-mode=RBAC")
    try:
        client = server.client()
        client.delete(f"{RBAC}/clusterroles/system:discovery")
        client.patch(f"{RBAC}/clusterrolebindings/system:basic-user", {"subjects": []})
        assert client.get("/readyz/poststarthook/rbac/bootstrap-roles").body == b"ok"
        assert server.stop() == 0
        server.start()
        client = server.client()
        assert client.get(f"{RBAC}/clusterroles/system:discovery").status == 200
        back = client.get(f"{RBAC}/clusterrolebindings/system:basic-user").json
        assert [subject["name"] for subject in back["subjects"]] == ["system:authenticated"]
        assert len(client.get(f"{RBAC}/clusterroles/admin").json["rules"]) > 20
    finally:
        server.stop()


def test_without_anonymous_auth_the_unknown_see_health_and_no_more(pki: Pki, tmp_path: Path) -> None:
    server = Server(pki, tmp_path / "apiserver", "--authorization-mode=Node,RBAC", "--anonymous-auth=false")
    try:
        nobody = server.client(user=None)
        assert [nobody.get(path).status for path in ("/healthz", "/livez", "/readyz", "/version")] == [200] * 4
        assert [nobody.get(path).status for path in ("/api", "/api/v1/pods", "/metrics", "/openapi/v2")] == [401] * 4
    finally:
        assert server.stop() == 0
