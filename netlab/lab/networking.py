"""The fields of a scenario that say what cluster it is: its nodes, its networks, its kube-proxy. Words are kind's.

https://kind.sigs.k8s.io/docs/user/configuration/ Pure.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from netlab.api import names
from netlab.errors import ManifestError, NetlabError, UsageError
from netlab.lab import plan
from netlab.lab.plan import IpFamily, NodeWish, Taint
from netlab.lab.source import Field
from netlab.proxy import config as proxy_config
from netlab.proxy import config_table

FIELDS = ("ipFamily", "podSubnet", "serviceSubnet", "nodeSubnet", "kubeProxyMode")
_SUBNETS = {"podSubnet": "pods", "serviceSubnet": "services", "nodeSubnet": "nodes"}
NODE_FIELDS = ("role", "name", "labels", "address", "podSubnet", "dynamicFrom", "taints")
TAINT_FIELDS = ("key", "value", "effect")
EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
MODES = config_table.MODES


@dataclass(frozen=True)
class Networking:
    """What a cluster's networks are to be. Ranges are () where the family's usual ones will do.

    `kube_proxy` is laid over the KubeProxyConfiguration of the kube-proxy ConfigMap, as a JSON merge patch.
    """

    family: IpFamily = "ipv4"
    pods: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    mode: str = ""
    kube_proxy: tuple[tuple[str, Any], ...] = ()

    def pod_cidrs(self) -> tuple[str, ...]:
        """Return the Pods' ranges, one of each family."""
        return self.pods or tuple(plan.NUMBERS[number].pod_cidr for number in self._order(self.services))

    def service_cidrs(self) -> tuple[str, ...]:
        """Return the Services' ranges, one of each family, in the order of the Pods'."""
        return self.services or tuple(plan.NUMBERS[number].service_cidr for number in self._order(self.pods))

    def node_cidrs(self) -> tuple[str, ...]:
        """Return the networks that nodes have their addresses in, one of each family, in the same order."""
        return self.nodes or tuple(plan.NUMBERS[plan.version(cidr)].underlay for cidr in self.service_cidrs())

    def patch(self) -> dict[str, Any]:
        """Return what is laid over the KubeProxyConfiguration."""
        return dict(self.kube_proxy) | ({"mode": self.mode} if self.mode else {})

    def check(self) -> None:
        """Refuse ranges that do not belong together.

        Raises:
            UsageError: they are not of the families asked for, come in another order, or overlap.
        """
        wanted = sorted(plan.FAMILIES[self.family])
        words = " and ".join(f"IPv{number}" for number in wanted)
        for name, cidrs in (("podSubnet", self.pods), ("serviceSubnet", self.services), ("nodeSubnet", self.nodes)):
            if cidrs and sorted(plan.version(cidr) for cidr in cidrs) != wanted:
                raise UsageError(f"{name} {','.join(cidrs)}: with ipFamily {self.family} it has one range of {words}")
        pods, services = self.pod_cidrs(), self.service_cidrs()
        order = [plan.version(cidr) for cidr in services]
        for name, cidrs in (("podSubnet", pods), ("nodeSubnet", self.node_cidrs())):
            if [plan.version(cidr) for cidr in cidrs] != order:
                raise UsageError(f"{name} and serviceSubnet name the families in different orders: the first is the "
                                 "main one of both")
        named = [("podSubnet", cidr) for cidr in pods] + [("serviceSubnet", cidr) for cidr in services]
        named += [("nodeSubnet", cidr) for cidr in self.nodes]
        others = [] if self.nodes else [("the nodes' network", cidr) for cidr in self.node_cidrs()]
        others += [("the network of outside", plan.NUMBERS[number].beyond) for number in wanted]
        for position, (name, cidr) in enumerate(named):
            for other, taken in [*named[:position], *others]:
                if _overlap(cidr, taken):
                    raise UsageError(f"{name} {cidr} overlaps with {other} {taken}")

    def _order(self, given: Sequence[str]) -> tuple[int, ...]:
        return tuple(plan.version(cidr) for cidr in given) or plan.FAMILIES[self.family]


def _overlap(one: str, other: str) -> bool:
    left, right = ipaddress.ip_network(one), ipaddress.ip_network(other)
    return left.version == right.version and left.overlaps(cast(Any, right))


def parse(networking: Field | None, kube_proxy: Field | None) -> Networking:
    """Return what the fields `networking` and `kubeProxy` say.

    Raises:
        ManifestError: something is wrong, and where.
    """
    given: dict[str, Any] = {}
    parts = networking.fields(FIELDS) if networking else {}
    if "ipFamily" in parts:
        given["family"] = parts["ipFamily"].choice("ipv4", "ipv6", "dual")
    for name, key in _SUBNETS.items():
        if name in parts:
            given[key] = parts[name].parsed(_subnets, "a range such as 10.244.0.0/16, in dual stack two with a comma "
                                                      "between them")
    if "kubeProxyMode" in parts:
        given["mode"] = parts["kubeProxyMode"].choice(*MODES)
    if kube_proxy is not None:
        if not isinstance(kube_proxy.value, dict):
            raise kube_proxy.wrong("fields of a KubeProxyConfiguration")
        try:
            proxy_config.check_document(kube_proxy.value, file=kube_proxy.file)
        except ManifestError as error:
            raise kube_proxy.at(error.field).refused(error.words) from None
        except NetlabError as error:
            raise kube_proxy.refused(str(error)) from None
        given["kube_proxy"] = tuple(kube_proxy.value.items())
    found = Networking(**given)
    try:
        found.check()
    except UsageError as error:
        assert networking is not None
        raise networking.refused(str(error)) from None
    return found


def nodes(field: Field) -> tuple[int, tuple[NodeWish, ...]]:
    """Return how many nodes, and what is asked of each: from a number, or a list with one entry for each node.

    Raises:
        ManifestError: something is wrong, and where.
    """
    if not isinstance(field.value, list):
        if not isinstance(field.value, int):
            raise field.wrong("a list of nodes, or a whole number from 1 to 200")
        return field.integer(1, 200), ()
    wishes = tuple(_node(item) for item in field.items())
    controls = [wish for wish in wishes if wish.role == "control-plane"]
    if len(controls) != 1:
        raise field.refused(f"{len(controls)} nodes have the role control-plane: a lab has exactly one")
    called = [wish.name for wish in wishes if wish.name]
    for name in called:
        if called.count(name) > 1:
            raise field.refused(f'two nodes are called "{name}"')
    return len(wishes), (controls[0], *(wish for wish in wishes if wish.role == "worker"))


def _node(item: Field) -> NodeWish:
    parts = item.fields(NODE_FIELDS, required=("role",))
    given: dict[str, Any] = {"role": cast(Literal["control-plane", "worker"],
                                          parts["role"].choice("control-plane", "worker"))}
    if "name" in parts:
        given["name"] = parts["name"].parsed(_name, "a name such as worker-a: lower case letters, digits, - and ., at "
                                            "most 63")
    if "labels" in parts:
        given["labels"] = _labels(parts["labels"])
    if "taints" in parts:
        given["taints"] = tuple(_taint(one) for one in parts["taints"].items())
    if "address" in parts:
        given["addresses"] = parts["address"].parsed(_addresses, "an address such as 172.18.0.5, in dual stack two")
    if "podSubnet" in parts:
        given["pod_cidrs"] = parts["podSubnet"].parsed(_subnets, "the node's Pod range such as 10.244.1.0/24, in dual "
                                                       "stack two")
    if "dynamicFrom" in parts:
        given["dynamic_from"] = parts["dynamicFrom"].parsed(_addresses, "an address of the node's Pod range")[0]
    return NodeWish(**given)


def _labels(field: Field) -> Mapping[str, str]:
    if not isinstance(field.value, dict):
        raise field.wrong("labels, such as {topology.kubernetes.io/zone: a}")
    found = {}
    for key, value in field.children.items():
        if names.qualified_name(key):
            raise value.refused(f'"{key}" is no key of a label')
        if not isinstance(value.value, str) or names.label_value(value.value):
            raise value.wrong("a label's value, in quotes where it looks like a number: at most 63 letters, digits, "
                              "-, _ and .")
        found[key] = value.value
    return found


def _taint(item: Field) -> Taint:
    parts = item.fields(TAINT_FIELDS, required=("key", "effect"))
    key = parts["key"].text(words="the key of a taint")
    if names.qualified_name(key):
        raise parts["key"].wrong("the key of a taint, such as dedicated or example.com/gpu")
    value = parts["value"].value if "value" in parts else ""
    if not isinstance(value, str) or names.label_value(value):
        raise parts["value"].wrong("a taint's value, in quotes where it looks like a number")
    return Taint(key, parts["effect"].choice(*EFFECTS), value)


def _name(text: str) -> str:
    if names.dns_subdomain(text) or len(text) > 63:  # it becomes a host name and a label's value
        raise ValueError(text)
    return text


def _addresses(text: str) -> tuple[str, ...]:
    return tuple(str(ipaddress.ip_address(part.strip())) for part in text.split(","))


def _subnets(text: str) -> tuple[str, ...]:
    return tuple(str(ipaddress.ip_network(part.strip())) for part in text.split(","))
