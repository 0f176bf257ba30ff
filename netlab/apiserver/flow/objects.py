"""The FlowSchemas and PriorityLevelConfigurations that every server brings along, as tables.

k8s:staging/src/k8s.io/apiserver/pkg/apis/flowcontrol/bootstrap/default.go
"""

from __future__ import annotations

from typing import Any

from netlab.api.meta import Object

GROUP = "flowcontrol.apiserver.k8s.io"
AUTOUPDATE = "apf.kubernetes.io/autoupdate-spec"
MANDATORY = ("exempt", "catch-all")
"""The names of those that are always as they are here, levels and schemas alike."""
_MANAGER, _SCHEDULER = "system:kube-controller-manager", "system:kube-scheduler"
_EVERYBODY = ("Group:system:unauthenticated", "Group:system:authenticated")
_SYSTEM_ACCOUNTS = "ServiceAccount:kube-system/*"
_CHANGES = ["get", "create", "update"]
_ALL: Object = {"resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": True,
                                   "namespaces": ["*"]}],
                "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}]}


def _level(name: str, shares: int, lendable: int, queues: int, hand: int) -> Object:
    response: Object = {"type": "Queue", "queuing": {"queues": queues, "handSize": hand, "queueLengthLimit": 50}} \
        if queues else {"type": "Reject"}
    return _object("PriorityLevelConfiguration", name, {"type": "Limited", "limited": {
        "nominalConcurrencyShares": shares, "limitResponse": response, "lendablePercent": lendable}})


def _schema(name: str, level: str, precedence: int, method: str, subjects: tuple[str, ...], rules: Object) -> Object:
    spec: Object = {"priorityLevelConfiguration": {"name": level}, "matchingPrecedence": precedence}
    if method:
        spec["distinguisherMethod"] = {"type": method}
    return _object("FlowSchema", name, spec | {"rules": [{"subjects": [_subject(text) for text in subjects], **rules}]})


def _object(kind: str, name: str, spec: Object) -> Object:
    return {"kind": kind, "apiVersion": f"{GROUP}/v1", "metadata": {"name": name, "annotations": {AUTOUPDATE: "true"}},
            "spec": spec}


def _subject(text: str) -> Object:
    kind, _, name = text.partition(":")
    if kind == "ServiceAccount":
        namespace, _, name = name.partition("/")
        return {"kind": kind, "serviceAccount": {"namespace": namespace, "name": name}}
    return {"kind": kind, kind.lower(): {"name": name}}


def _on(group: str, *resources: str, verbs: list[str] = _CHANGES, cluster: bool = False) -> dict[str, Any]:
    return {"verbs": verbs, "apiGroups": [group], "resources": list(resources)} | (
        {"clusterScope": True} if cluster else {}) | {"namespaces": ["*"]}


LEVELS: tuple[Object, ...] = (
    _object("PriorityLevelConfiguration", "exempt", {
        "type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}}),
    _level("catch-all", 5, 0, 0, 0), _level("system", 30, 33, 64, 6), _level("node-high", 40, 25, 64, 6),
    _level("leader-election", 10, 0, 16, 4), _level("workload-high", 40, 50, 128, 6),
    _level("workload-low", 100, 90, 128, 6), _level("global-default", 20, 50, 128, 6))

_LEASES = _on("coordination.k8s.io", "leases")

SCHEMAS: tuple[Object, ...] = (
    _schema("exempt", "exempt", 1, "", ("Group:system:masters",), _ALL),
    _schema("catch-all", "catch-all", 10000, "ByUser", _EVERYBODY, _ALL),
    _schema("system-nodes", "system", 500, "ByUser", ("Group:system:nodes",), _ALL),
    _schema("system-node-high", "node-high", 400, "ByUser", ("Group:system:nodes",), {"resourceRules": [
        _on("", "nodes", "nodes/status", verbs=["*"], cluster=True),
        _on("coordination.k8s.io", "leases", verbs=["*"])]}),
    _schema("probes", "exempt", 2, "", _EVERYBODY, {"nonResourceRules": [
        {"verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"]}]}),
    _schema("system-leader-election", "leader-election", 100, "ByUser",
            (f"User:{_MANAGER}", f"User:{_SCHEDULER}", _SYSTEM_ACCOUNTS), {"resourceRules": [_LEASES]}),
    _schema("endpoint-controller", "workload-high", 150, "ByUser",
            (f"User:{_MANAGER}", "ServiceAccount:kube-system/endpoint-controller",
             "ServiceAccount:kube-system/endpointslicemirroring-controller"),
            {"resourceRules": [_on("", "endpoints")]}),
    _schema("workload-leader-election", "leader-election", 200, "ByUser", (_SYSTEM_ACCOUNTS,),
            {"resourceRules": [_on("", "endpoints", "configmaps"), _LEASES]}),
    _schema("kube-controller-manager", "workload-high", 800, "ByNamespace", (f"User:{_MANAGER}",), _ALL),
    _schema("kube-scheduler", "workload-high", 800, "ByNamespace", (f"User:{_SCHEDULER}",), _ALL),
    _schema("kube-system-service-accounts", "workload-high", 900, "ByNamespace", (_SYSTEM_ACCOUNTS,), _ALL),
    _schema("service-accounts", "workload-low", 9000, "ByUser", ("Group:system:serviceaccounts",), _ALL),
    _schema("global-default", "global-default", 9900, "ByUser", _EVERYBODY, _ALL))
