"""Rules against requests, what one may hand on, what a node may read: the deciders alone, without a server."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from netlab.apiserver.auth import modes, policy, policy_controllers
from netlab.apiserver.auth.aggregate import gathered
from netlab.apiserver.auth.authorize import Attributes, Decision
from netlab.apiserver.auth.defaults import binding_object, objects, role_object
from netlab.apiserver.auth.node import references
from netlab.apiserver.auth.policy import Binding, Role, paths, rule
from netlab.apiserver.auth.rbac import rules_of
from netlab.apiserver.auth.rules import Rule, missing
from netlab.apiserver.http import User
from netlab.store import Store

JANE = User("jane", ("dev", "system:authenticated"))


def asks(verb: str, resource: str = "", *, group: str = "", namespace: str = "", name: str = "", path: str = "",
         user: User = JANE, fields: tuple[tuple[str, str], ...] = ()) -> Attributes:
    plural, _, subresource = resource.partition("/")
    return Attributes(user, verb, group, "v1", plural, subresource, namespace, name, path, fields)


@pytest.mark.parametrize(("held", "asked", "allowed"), [
    pytest.param(rule("get list", "pods"), asks("get", "pods"), True, id="verb and resource"),
    pytest.param(rule("get list", "pods"), asks("delete", "pods"), False, id="another verb"),
    pytest.param(rule("get", "pods"), asks("get", "secrets"), False, id="another resource"),
    pytest.param(rule("get", "pods"), asks("get", "pods", group="metrics.k8s.io"), False, id="another group"),
    pytest.param(rule("get", "pods", "*"), asks("get", "pods", group="metrics.k8s.io"), True, id="every group"),
    pytest.param(rule("*", "*", "*"), asks("get", "pods/log"), True, id="everything has subresources, too"),
    pytest.param(rule("get", "pods"), asks("get", "pods/log"), False, id="a resource is not its subresources"),
    pytest.param(rule("get", "pods/log"), asks("get", "pods/log"), True, id="a subresource"),
    pytest.param(rule("get", "pods/log"), asks("get", "pods"), False, id="a subresource is not its resource"),
    pytest.param(rule("get", "*/scale", "*"), asks("get", "deployments/scale", group="apps"), True, id="*/scale"),
    pytest.param(rule("get", "*/scale", "*"), asks("get", "deployments", group="apps"), False, id="*/scale alone"),
    pytest.param(rule("get", "secrets", names="a b"), asks("get", "secrets", name="b"), True, id="one of the names"),
    pytest.param(rule("get", "secrets", names="a b"), asks("get", "secrets", name="c"), False, id="another name"),
    pytest.param(rule("list", "secrets", names="a"), asks("list", "secrets"), False, id="a name where none is asked"),
    pytest.param(paths("get", "/healthz"), asks("get", path="/healthz"), True, id="path"),
    pytest.param(paths("get", "/healthz"), asks("get", path="/healthz/etcd"), False, id="below a path"),
    pytest.param(paths("get", "/healthz/*"), asks("get", path="/healthz/etcd"), True, id="path with a star"),
    pytest.param(paths("get", "/healthz/*"), asks("get", path="/healthz"), False, id="above the star"),
    pytest.param(paths("*", "*"), asks("get", "pods"), False, id="paths are no resources"),
    pytest.param(rule("*", "*", "*"), asks("get", path="/metrics"), False, id="resources are no paths"),
])
def test_a_rule_allows(held: Rule, asked: Attributes, allowed: bool) -> None:
    assert held.allows(asked) is allowed


@pytest.mark.parametrize(("held", "wanted", "lacking"), [
    pytest.param([rule("get list", "pods")], [rule("get", "pods")], [], id="less"),
    pytest.param([rule("get", "pods")], [rule("get delete", "pods")], [('{APIGroups:[""], Resources:["pods"], '
                                                                       'Verbs:["delete"]}')], id="one verb more"),
    pytest.param([rule("get", "pods"), rule("get", "secrets")], [rule("get", "pods secrets")], [], id="in two rules"),
    pytest.param([rule("get", "*", "*")], [rule("get", "pods pods/log", "", "apps")], [], id="the star has all"),
    pytest.param([rule("*", "pods", "*")], [rule("*", "*", "*")],
                 ['{APIGroups:["*"], Resources:["*"], Verbs:["*"]}'], id="and is had by no list"),
    pytest.param([rule("get", "secrets", names="a")], [rule("get", "secrets")],
                 ['{APIGroups:[""], Resources:["secrets"], Verbs:["get"]}'], id="a name is not all names"),
    pytest.param([rule("get", "secrets")], [rule("get", "secrets", names="a")], [], id="all names have a name"),
    pytest.param([paths("get", "/a/*")], [paths("get", "/a/b")], [], id="paths below"),
    pytest.param([paths("get", "/a/b")], [paths("get", "/a/*")],
                 ['{NonResourceURLs:["/a/*"], Verbs:["get"]}'], id="paths above"),
    pytest.param([rule("*", "*", "*")], [paths("get", "/a")], ['{NonResourceURLs:["/a"], Verbs:["get"]}'], id="kinds"),
    pytest.param([], [rule("get list", "pods")], ['{APIGroups:[""], Resources:["pods"], Verbs:["get" "list"]}'],
                 id="nothing held"),
])
def test_what_is_missing(held: list[Rule], wanted: list[Rule], lacking: list[str]) -> None:
    assert [str(each) for each in missing(wanted, held)] == lacking


class Place:
    """A store in memory with an authorizer above it."""

    def __init__(self, store: Store, *words: str) -> None:
        self.store = store
        self.authorizer, self.rbac = modes.authorizer(words, store)

    async def write(self, prefix: str, obj: dict[str, Any]) -> None:
        import orjson

        metadata = obj["metadata"]
        path = "/".join(part for part in (metadata.get("namespace", ""), metadata["name"]) if part)
        await self.store.put(f"/registry/{prefix}/{path}".encode(), orjson.dumps(obj))

    async def role(self, role: Role) -> None:
        await self.write("roles" if role.namespace else "clusterroles", role_object(role))

    async def bind(self, binding: Binding) -> None:
        await self.write("rolebindings" if binding.namespace else "clusterrolebindings", binding_object(binding))

    async def ask(self, asked: Attributes) -> Decision:
        await self.authorizer.refresh(asked.user)
        return self.authorizer.authorize(asked)


def in_place(*words: str) -> Any:
    """Run a test with a `Place`."""
    def wrap(test: Any) -> Any:
        def run() -> None:
            async def inner() -> None:
                async with await Store.open(None) as store:
                    await test(Place(store, *words))

            asyncio.run(inner())

        run.__name__ = test.__name__
        return run

    return wrap


@in_place("RBAC")
async def test_a_binding_counts_from_its_write_to_its_deletion(place: Place) -> None:
    get = asks("get", "pods", namespace="a")
    assert await place.ask(get) == Decision(False)
    await place.role(Role("r", (rule("get", "pods"),), namespace="a"))
    await place.bind(Binding("b", ("User:jane",), "r", "a"))
    assert await place.ask(get) == Decision(True, 'RBAC: allowed by RoleBinding "b/a" of Role "r" to User "jane"')
    assert not (await place.ask(asks("get", "pods", namespace="b"))).allowed
    assert not (await place.ask(asks("get", "pods"))).allowed
    await place.role(Role("r", (rule("list", "pods"),), namespace="a"))
    assert not (await place.ask(get)).allowed
    await place.store.delete(b"/registry/roles/a/r")
    assert (await place.ask(get)).reason == 'RBAC: role.rbac.authorization.k8s.io "r" not found'
    await place.store.delete(b"/registry/rolebindings/a/b")
    assert await place.ask(get) == Decision(False)


@in_place("RBAC")
async def test_subjects_of_each_kind(place: Place) -> None:
    await place.role(Role("r", (rule("get", "pods"),)))
    await place.bind(Binding("r", ("Group:ops", "ServiceAccount:a/robot")))
    for user, allowed in ((User("x", ("ops",)), True), (User("ops"), False), (User("robot"), False),
                          (User("system:serviceaccount:a:robot"), True), (User("system:serviceaccount:b:robot"), False)):
        assert (await place.ask(asks("get", "pods", namespace="z", user=user))).allowed is allowed, user


@in_place("RBAC")
async def test_masters_need_no_role(place: Place) -> None:
    assert (await place.ask(asks("delete", "nodes", user=User("a", ("system:masters",))))).allowed


@in_place("AlwaysDeny")
async def test_always_deny(place: Place) -> None:
    assert await place.ask(asks("get", "pods")) == Decision(False, "Everything is forbidden.")


KUBELET = User("system:node:n1", ("system:nodes", "system:authenticated"))


def a_pod(node: str, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p", "namespace": "a"}, "spec": {"nodeName": node, "containers": [
        {"name": "c", "env": [{"name": "E", "valueFrom": {"secretKeyRef": {"name": "env", "key": "k"}}}],
         "envFrom": [{"configMapRef": {"name": "all"}}]}], "serviceAccountName": "robot",
        "imagePullSecrets": [{"name": "pull"}], "volumes": [
            {"name": "v", "secret": {"secretName": "vol"}}, {"name": "w", "persistentVolumeClaim": {"claimName": "c"}},
            {"name": "x", "projected": {"sources": [{"configMap": {"name": "projected"}}]}}], **spec}}


def test_what_a_pod_refers_to() -> None:
    assert set(references(a_pod("n1"))) == {
        ("pods", "a", "p"), ("serviceaccounts", "a", "robot"), ("secrets", "a", "pull"), ("secrets", "a", "env"),
        ("secrets", "a", "vol"), ("configmaps", "a", "all"), ("configmaps", "a", "projected"),
        ("persistentvolumeclaims", "a", "c")}


@in_place("Node", "RBAC")
async def test_a_node_reads_what_its_pods_need_while_they_are_there(place: Place) -> None:
    secret = asks("get", "secrets", namespace="a", name="vol", user=KUBELET)
    no = "no relationship found between node 'n1' and this object"
    assert await place.ask(secret) == Decision(False, no)
    await place.write("pods", a_pod(""))
    assert await place.ask(secret) == Decision(False, no)
    await place.write("pods", a_pod("n1"))
    assert (await place.ask(secret)).allowed
    await place.write("persistentvolumes", {"metadata": {"name": "pv"}, "spec": {
        "claimRef": {"namespace": "a", "name": "c"}}})
    allowed = {
        "a token": asks("create", "serviceaccounts/token", namespace="a", name="robot", user=KUBELET),
        "the volume": asks("get", "persistentvolumes", name="pv", user=KUBELET),
        "its pod": asks("get", "pods", namespace="a", name="p", user=KUBELET),
        "its pods": asks("watch", "pods", user=KUBELET, fields=(("spec.nodeName", "n1"),)),
        "its node": asks("get", "nodes", name="n1", user=KUBELET),
        "its lease": asks("update", "leases", group="coordination.k8s.io", namespace="kube-node-lease", name="n1",
                          user=KUBELET),
        "services": asks("watch", "services", user=KUBELET)}
    for what, asked in allowed.items():
        assert (await place.ask(asked)).allowed, what
    refused = {
        "all secrets": asks("list", "secrets", namespace="a", user=KUBELET),
        "another's secret": asks("get", "secrets", namespace="b", name="vol", user=KUBELET),
        "a write": asks("update", "secrets", namespace="a", name="vol", user=KUBELET),
        "all pods": asks("list", "pods", user=KUBELET),
        "another's pods": asks("list", "pods", user=KUBELET, fields=(("spec.nodeName", "n2"),)),
        "another's lease": asks("update", "leases", group="coordination.k8s.io", namespace="kube-node-lease",
                                name="n2", user=KUBELET),
        "another node": asks("get", "nodes", name="n2", user=KUBELET),
        "no group": asks("get", "secrets", namespace="a", name="vol", user=User("system:node:n1"))}
    for what, asked in refused.items():
        assert not (await place.ask(asked)).allowed, what
    await place.store.delete(b"/registry/pods/a/p")
    assert await place.ask(secret) == Decision(False, no)


def test_aggregation_takes_the_chosen_roles_by_name() -> None:
    roles = [role_object(role) for role in policy.USER_ROLES]
    by_name = {role["metadata"]["name"]: role for role in roles}
    view = gathered(by_name["view"], roles)
    assert view == by_name["system:aggregate-to-view"]["rules"]
    by_name["view"]["rules"] = view
    edit = gathered(by_name["edit"], roles)
    assert edit is not None
    assert all(rule in edit for rule in view or [])
    assert gathered(by_name["cluster-admin"], roles) is None


def test_the_default_objects() -> None:
    made = list(objects())
    keys = [(plural, obj["metadata"].get("namespace", ""), obj["metadata"]["name"]) for plural, obj, _ in made]
    assert len(set(keys)) == len(keys)
    for plural, obj, change in made:
        assert change(obj) is None, obj["metadata"]["name"]
        if plural.endswith("bindings"):
            role = ("roles" if obj["roleRef"]["kind"] == "Role" else "clusterroles",
                    obj["metadata"].get("namespace", ""), obj["roleRef"]["name"])
            assert role in keys
    assert {role.name for role in policy_controllers.ROLES} >= {"system:controller:replicaset-controller"}


def test_what_was_taken_from_a_default_role_comes_back_and_what_was_added_stays() -> None:
    change = next(change for _, obj, change in objects() if obj["metadata"]["name"] == "system:node-proxier")
    obj = role_object(next(role for role in policy.COMPONENT_ROLES if role.name == "system:node-proxier"))
    extra = rule("get", "secrets").to_object()
    obj["rules"] = [*obj["rules"][1:], extra]
    obj["metadata"]["annotations"]["mine"] = "yes"
    new = change(obj)
    assert new is not None
    assert extra in new["rules"]
    assert not missing([rule("list watch", "services endpoints")], rules_of(new))
    assert new["metadata"]["annotations"]["mine"] == "yes"
    obj["metadata"]["annotations"]["rbac.authorization.kubernetes.io/autoupdate"] = "false"
    assert change(obj) is None
