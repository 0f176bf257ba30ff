"""Nodes and Pods as the scheduler counts them: frozen Pods, nodes with running sums, and what is assumed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from netlab.api import meta, quantity
from netlab.api.meta import Object

CPU, MEMORY, STORAGE, PODS = "cpu", "memory", "ephemeral-storage", "pods"
Amounts = Mapping[str, int]
"""Amounts by resource: cpu in thousandths of a core, everything else in whole units (bytes, pieces)."""

_DEFAULT_CPU, _DEFAULT_MEMORY = 100, 200 << 20  # what a container without requests is taken to use, for scores
_EMPTY: Object = {}


@lru_cache(maxsize=4096)
def amount(resource: str, text: str) -> int:
    """Return a quantity of a resource; 0 for what is no quantity (the API server refuses those)."""
    try:
        found = quantity.parse(text)
    except ValueError:
        return 0
    return found.milli() if resource == CPU else found.value()


def amounts(texts: Object | None) -> Counter[str]:
    """Return the amounts of a ResourceList."""
    return Counter({name: amount(name, str(text)) for name, text in (texts or {}).items()})


def requests(spec: Object, *, floor: bool = False) -> Counter[str]:
    """Return what a Pod asks for: the sum of its containers, or what its init needs if that is more.

    Init containers with restartPolicy Always (sidecars) run on beside all that come after them (KEP-753). With
    `floor` a container that asks for no CPU or memory counts as 100m and 200 MiB.
    """
    total: Counter[str] = Counter()
    for container in spec.get("containers") or []:
        total.update(_container(container, floor))
    sidecars: Counter[str] = Counter()
    peak: Counter[str] = Counter()
    for container in spec.get("initContainers") or []:
        wish = _container(container, floor)
        if container.get("restartPolicy") == "Always":
            sidecars.update(wish)
            peak |= sidecars
        else:
            peak |= sidecars + wish
    total = (total + sidecars) | peak
    for name, wish_text in ((spec.get("resources") or _EMPTY).get("requests") or {}).items():
        total[name] = amount(name, str(wish_text))  # Pod-level resources (KEP-2837) stand for the sum
    total.update(amounts(spec.get("overhead")))
    return total


def _container(container: Object, floor: bool) -> Counter[str]:
    found = amounts((container.get("resources") or _EMPTY).get("requests"))
    if floor:
        found[CPU] = found[CPU] or _DEFAULT_CPU
        found[MEMORY] = found[MEMORY] or _DEFAULT_MEMORY
    return found


@dataclass(frozen=True, eq=False)
class AffinityTerm:
    """A PodAffinityTerm with its namespaces worked out, except those of a namespace selector."""

    selector: Object | None
    namespaces: frozenset[str]
    namespace_selector: Object | None
    topology_key: str
    weight: int = 0


class Group(NamedTuple):
    """What Pods look like from outside: replicas of one owner on one node are one group, matched once."""

    namespace: str
    labels: frozenset[tuple[str, str]]
    deleting: bool


@dataclass(frozen=True, eq=False)
class Pod:
    """One Pod, with what filters ask of it worked out once."""

    obj: Object
    uid: str
    key: str
    namespace: str
    spec: Object
    labels: Mapping[str, str]
    group: Group
    priority: int
    requests: Amounts
    weights: Amounts
    ports: frozenset[tuple[str, str, int]]
    affinity: tuple[AffinityTerm, ...]
    anti_affinity: tuple[AffinityTerm, ...]
    preferred: tuple[AffinityTerm, ...]
    """Weighted terms; those of anti-affinity have a negative weight."""

    @property
    def node(self) -> str:
        """Return spec.nodeName, "" while unbound."""
        return str(self.spec.get("nodeName") or "")

    @property
    def nominated(self) -> str:
        """Return status.nominatedNodeName: where a preemptor will go once its victims are gone."""
        return str(self.obj.get("status", {}).get("nominatedNodeName") or "")

    @property
    def scheduler(self) -> str:
        """Return spec.schedulerName."""
        return str(self.spec.get("schedulerName") or "default-scheduler")


def pod(obj: Object) -> Pod:
    """Return the scheduler's view of a Pod."""
    spec, space, labels = obj["spec"], meta.namespace(obj), meta.labels(obj)
    wish = spec.get("affinity") or _EMPTY
    near, far = wish.get("podAffinity") or _EMPTY, wish.get("podAntiAffinity") or _EMPTY
    hard, soft = "requiredDuringSchedulingIgnoredDuringExecution", "preferredDuringSchedulingIgnoredDuringExecution"
    return Pod(
        obj=obj, uid=meta.uid(obj), key=meta.key(obj), namespace=space, spec=spec, labels=labels,
        group=Group(space, frozenset(labels.items()), meta.deleting(obj)), priority=int(spec.get("priority") or 0),
        requests=requests(spec), weights=requests(spec, floor=True),
        ports=frozenset((port.get("hostIP") or "0.0.0.0", port.get("protocol") or "TCP", int(port["hostPort"]))
                        for container in spec.get("containers") or [] for port in container.get("ports") or []
                        if port.get("hostPort")),
        affinity=tuple(_term(row, space, obj) for row in near.get(hard) or []),
        anti_affinity=tuple(_term(row, space, obj) for row in far.get(hard) or []),
        preferred=tuple([_term(row["podAffinityTerm"], space, obj, int(row["weight"])) for row in near.get(soft) or []]
                        + [_term(row["podAffinityTerm"], space, obj, -int(row["weight"]))
                           for row in far.get(soft) or []]))


def _term(row: Object, namespace: str, obj: Object, weight: int = 0) -> AffinityTerm:
    spaces = frozenset(row.get("namespaces") or ())
    if not spaces and row.get("namespaceSelector") is None:
        spaces = frozenset((namespace,))
    selector = row.get("labelSelector")
    if selector is not None and (row.get("matchLabelKeys") or row.get("mismatchLabelKeys")):
        have = meta.labels(obj)
        more = [{"key": key, "operator": operator, "values": [have[key]]}
                for keys, operator in ((row.get("matchLabelKeys"), "In"), (row.get("mismatchLabelKeys"), "NotIn"))
                for key in keys or [] if key in have]
        selector = {**selector, "matchExpressions": [*(selector.get("matchExpressions") or []), *more]}
    return AffinityTerm(selector, spaces, row.get("namespaceSelector"), row["topologyKey"], weight)


@dataclass(eq=False)
class Node:
    """One node and the sums of the Pods on it."""

    obj: Object
    pods: dict[str, Pod] = field(default_factory=dict)
    requested: Counter[str] = field(default_factory=Counter)
    weights: Counter[str] = field(default_factory=Counter)
    ports: Counter[tuple[str, str, int]] = field(default_factory=Counter)
    groups: Counter[Group] = field(default_factory=Counter)
    selective: dict[str, Pod] = field(default_factory=dict)
    """The Pods that have (anti-)affinity terms of their own."""

    def __post_init__(self) -> None:
        self.update(self.obj)

    def update(self, obj: Object) -> None:
        """Take over a new state of the node."""
        self.obj = obj
        self.name, self.labels = meta.name(obj), meta.labels(obj)
        self.allocatable = amounts(obj.get("status", {}).get("allocatable") or obj.get("status", {}).get("capacity"))
        self.taints = obj.get("spec", {}).get("taints") or []

    def add(self, one: Pod) -> None:
        """Count a Pod."""
        self.pods[one.uid] = one
        self.requested.update(one.requests)
        self.weights.update(one.weights)
        self.ports.update(one.ports)
        self.groups[one.group] += 1
        if one.affinity or one.anti_affinity or one.preferred:
            self.selective[one.uid] = one

    def remove(self, uid: str) -> Pod | None:
        """Stop counting a Pod; return it, None if it was not here."""
        one = self.pods.pop(uid, None)
        if one is not None:
            self.requested.subtract(one.requests)
            self.weights.subtract(one.weights)
            self.ports.subtract(one.ports)
            self.ports += Counter()  # forgets zeros
            self.groups[one.group] -= 1
            if not self.groups[one.group]:
                del self.groups[one.group]
            self.selective.pop(uid, None)
        return one

    def without(self, uids: Iterable[str]) -> Node:
        """Return a copy that lacks some Pods: what if they were gone."""
        gone = set(uids)
        copy = Node(self.obj)
        for one in self.pods.values():
            if one.uid not in gone:
                copy.add(one)
        return copy


class Cluster:
    """All nodes, with the Pods bound to them or assumed to be: a binding counts from its decision on."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.namespaces: dict[str, Mapping[str, str]] = {}
        self._place: dict[str, str] = {}
        self._waiting: dict[str, dict[str, Pod]] = {}

    def set_node(self, obj: Object) -> None:
        """Take over a new or changed node."""
        name = meta.name(obj)
        if name in self.nodes:
            self.nodes[name].update(obj)
            return
        node = self.nodes[name] = Node(obj)
        for one in self._waiting.pop(name, {}).values():  # its Pods were seen before it
            node.add(one)

    def remove_node(self, name: str) -> None:
        """Forget a node; its Pods wait, should it come back."""
        node = self.nodes.pop(name, None)
        if node is not None and node.pods:
            self._waiting[name] = dict(node.pods)

    def put(self, one: Pod, node: str) -> None:
        """Count a Pod on a node, and on no other."""
        if one.uid in self._place:
            self.drop(one.uid)
        self._place[one.uid] = node
        if node in self.nodes:
            self.nodes[node].add(one)
        else:
            self._waiting.setdefault(node, {})[one.uid] = one

    def drop(self, uid: str) -> None:
        """Stop counting a Pod."""
        name = self._place.pop(uid, None)
        if name is None:
            return
        if name in self.nodes:
            self.nodes[name].remove(uid)
        self._waiting.get(name, {}).pop(uid, None)

    def place(self, uid: str) -> str:
        """Return the node a Pod counts on, "" if none."""
        return self._place.get(uid, "")
