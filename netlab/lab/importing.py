"""The network of another cluster as a scenario: from `kubectl get svc,endpointslices,nodes,pods -A -o yaml`. Pure.

What is carried over is what kube-proxy's rules are made from: node names and Pod ranges, Pod addresses, Services with
their addresses, node ports and policies, endpoints. Pods become echo servers on the ports that they had.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import zip_longest
from typing import Any, Final

from netlab.api import meta
from netlab.api.meta import Object
from netlab.controllers import endpointslices as slices
from netlab.errors import UsageError
from netlab.kubelet.network import IPS
from netlab.lab import importing_ranges as ranges
from netlab.lab import plan
from netlab.proxy.addresses import address as canonical
from netlab.proxy.endpoints import service_of

CONTROL: Final = "control-plane"
ROLE: Final = plan.CONTROL_ROLE
OWN_NAMESPACES: Final = ("kube-system", "kube-public", "kube-node-lease")
"""Namespaces whose Pods a lab has of its own."""

IMAGE: Final = "netlab/agnhost"
_LABELS: Final = re.compile(r"(.*\.)?(kubernetes|k8s)\.io/(hostname|os|arch)$")
_SERVICE_FIELDS: Final = (
    "type", "clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "ports", "selector", "externalIPs",
    "externalName", "externalTrafficPolicy", "internalTrafficPolicy", "sessionAffinity", "sessionAffinityConfig",
    "loadBalancerSourceRanges", "healthCheckNodePort", "publishNotReadyAddresses", "trafficDistribution")


@dataclass(frozen=True)
class Imported:
    """A scenario's document, its manifests, and what could not be carried over, in words."""

    scenario: Object
    manifests: tuple[Object, ...]
    notes: tuple[str, ...] = ()


@dataclass
class _Work:
    """One import under way."""

    objects: Sequence[Object]
    notes: list[str] = field(default_factory=list)
    nodes: dict[str, str] = field(default_factory=dict)
    moved: set[str] = field(default_factory=set)

    def of(self, kind: str) -> list[Object]:
        return [each for each in self.objects if each.get("kind") == kind]

    @cached_property
    def slices_of(self) -> Mapping[str, list[Object]]:
        """Return the EndpointSlices that name an address, each once, in their order."""
        found: dict[str, dict[int, Object]] = {}
        for each in self.of("EndpointSlice"):
            for entry in each.get("endpoints") or ():
                for ip in entry.get("addresses") or ():
                    found.setdefault(canonical(ip), {})[id(each)] = each
        return {ip: list(several.values()) for ip, several in found.items()}

    @cached_property
    def slices_by_service(self) -> Mapping[str, list[Object]]:
        """Return the EndpointSlices of each Service."""
        found: dict[str, list[Object]] = {}
        for each in self.of("EndpointSlice"):
            found.setdefault(service_of(each), []).append(each)
        return found


def convert(objects: Sequence[Object], *, title: str = "") -> Imported:
    """Return the scenario that rebuilds a cluster's network.

    Raises:
        UsageError: there is no Node or no Service among the objects, or more nodes than a lab can have.
    """
    work = _Work(objects)
    listed = work.of("Node")
    if not listed or not work.of("Service"):
        lacks = "Node" if not listed else "Service"
        raise UsageError(f"there is no {lacks} among the objects",
                         hint="want the output of: kubectl get svc,endpointslices,nodes,pods -A -o yaml")
    if len(listed) > 200:
        raise UsageError(f"{len(listed)} nodes are more than the 200 that a lab can have")
    services = _service_ranges(work)
    control = [each for each in listed if ROLE in meta.labels(each)]
    carried = [pod for pod in work.of("Pod") if _carried(work, pod)]
    found = [_pod_ranges(work, listed, carried, cidr, services, "" if control else CONTROL) for cidr in services]
    kept = [one for one in found if one is not None] if all(found) else []
    if not kept:
        work.moved |= {ip for pod in work.of("Pod") for ip in _ips(pod)}
    family = "dual" if len(services) > 1 else "ipv6" if plan.version(services[0]) == 6 else "ipv4"
    fabric = _fabric(work, listed, [one.whole for one in kept] or [one.pod_cidr for one in plan.NUMBERS.values()],
                     services)
    nodes = _nodes(work, listed, control, fabric, kept)
    namespaces = sorted({meta.namespace(each) for kind in ("Service", "Pod", "EndpointSlice") for each in work.of(kind)}
                        - {"default", *OWN_NAMESPACES, ""})
    made = [_pod(work, each) for each in carried]
    manifests: list[Object] = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
                               for name in namespaces]
    manifests += _services(work, services, made)
    manifests += made
    networking: Object = {"ipFamily": family, "serviceSubnet": ",".join(services)}
    if kept:
        networking["podSubnet"] = ",".join(one.whole for one in kept)
    if list(fabric) != [plan.NUMBERS[plan.version(cidr)].underlay for cidr in services]:
        networking["nodeSubnet"] = ",".join(fabric)
    scenario: Object = {"title": title or "The network of an imported cluster", "nodes": nodes,
                        "networking": networking, "manifests": ["manifests.yaml"],
                        "next": ["netlab kubectl get pods -A -o wide", "netlab rules"]}
    return Imported(scenario, tuple(manifests), tuple(dict.fromkeys(work.notes)))


def _nodes(work: _Work, listed: Sequence[Object], control: Sequence[Object], fabric: Mapping[str, Sequence[str]],
           pods: Sequence[ranges.PodRanges]) -> list[Object]:
    """Return the nodes of the scenario, the control plane's first; fills in the names that they have in the lab."""
    if len(control) > 1:
        more = ", ".join(map(meta.name, control[1:]))
        work.notes.append(f"a lab's control plane is on one node: {more} keep{'' if control[2:] else 's'} the role, "
                          "labels and taints only")
    taken = ranges.numbers(ip for pod in work.of("Pod") for ip in _ips(pod)
                           if pods and plan.version(ip) == plan.version(pods[0].whole))
    found: list[Object] = []
    for each in [*control[:1], *(each for each in listed if each not in control[:1])]:
        row: Object = {"role": "control-plane" if each in control[:1] else "worker",
                       "name": _node_name(work, meta.name(each))}
        tags = {key: value for key, value in meta.labels(each).items()
                if not _LABELS.match(key) and (key != ROLE or row["role"] == "worker")}
        if tags:
            row["labels"] = tags
        taints = [{key: taint[key] for key in ("key", "value", "effect") if taint.get(key)}
                  for taint in (each.get("spec") or {}).get("taints") or ()
                  if not str(taint.get("key", "")).startswith("node.kubernetes.io/")]
        if taints or row["role"] == "control-plane":
            row["taints"] = taints
        kept = [ip for ip in _internal_ips(each) if any(ip in addresses for addresses in fabric.values())]
        if kept:
            row["address"] = ",".join(kept)
        if pods:
            row["podSubnet"] = ",".join(one.of[meta.name(each)] for one in pods)
            start = ranges.dynamic_from(pods[0].of[meta.name(each)], taken)
            if start:
                row["dynamicFrom"] = start
        found.append(row)
    if not control:
        work.notes.append("no node has the control plane: the lab has one more for it, called control-plane")
        first: Object = {"role": "control-plane", "name": CONTROL}
        if pods:
            first["podSubnet"] = ",".join(one.of[CONTROL] for one in pods)
        found.insert(0, first)
    return found


def _node_name(work: _Work, theirs: str) -> str:
    """Return the name of a node in the lab: its own, unless that is too long for a host name."""
    name = theirs if len(theirs) <= 63 else theirs.partition(".")[0][:63].strip("-.")
    while name in work.nodes.values():
        name = f"{name[:60]}-{len(work.nodes)}"
    if name != theirs:
        work.notes.append(f"node {theirs} is called {name}: the names of a lab's nodes have at most 63 characters")
    work.nodes[theirs] = name
    return name


def _internal_ips(node: Object) -> list[str]:
    """Return a node's addresses on the network of nodes, at most one of each family."""
    found: dict[int, str] = {}
    for each in (node.get("status") or {}).get("addresses") or ():
        if each.get("type") == "InternalIP" and each.get("address"):
            found.setdefault(plan.version(each["address"]), str(ipaddress.ip_address(each["address"])))
    return list(found.values())


def _fabric(work: _Work, listed: Sequence[Object], pods: Sequence[str], services: Sequence[str]
            ) -> dict[str, tuple[str, ...]]:
    """Return the network of nodes in each family, with the addresses on it that nodes keep."""
    found = {}
    for cidr in services:
        usual = plan.NUMBERS[plan.version(cidr)]
        taken = tuple(ip for each in listed for ip in _internal_ips(each) if plan.version(ip) == plan.version(cidr))
        network = ranges.node_network(taken, usual)
        other = network and ranges.clash(network, (*pods, *services, usual.beyond))
        if other or not network:
            network, kept = usual.underlay, tuple(ip for ip in taken if ranges.clash(usual.underlay, [ip]))
            gone = next(ip for ip in taken if ip not in kept)
            work.notes.append(f"nodes have other addresses than theirs, such as {gone}: the network around all of them "
                              + (f"overlaps with {other}" if other else "is too large"))
            taken = kept
        found[network] = taken
    return found


def _service_ranges(work: _Work) -> list[str]:
    """Return the range of cluster addresses in each family, that of the API server's own Service first."""
    api = next((each for each in work.of("Service") if meta.key(each) == "default/kubernetes"), None)
    every = [ip for each in work.of("Service") for ip in _cluster_ips(each)]
    firsts = {plan.version(ip): ip for ip in _cluster_ips(api)}
    found = {}
    for family in sorted({plan.version(ip) for ip in every}, key=lambda family: (family not in firsts, family)):
        mine = [ip for ip in every if plan.version(ip) == family]
        cidr = found[family] = ranges.service_range(firsts.get(family, ""), mine)
        if not all(ranges.clash(cidr, [ip]) for ip in mine):
            work.notes.append(f"not all cluster addresses are in {cidr}: Services outside of it are refused")
    return list(found.values()) or [plan.SERVICE_CIDR]


def _pod_ranges(work: _Work, listed: Sequence[Object], carried: Sequence[Object], service_cidr: str,
                services: Sequence[str], extra: str) -> ranges.PodRanges | None:
    """Return the Pod ranges of a family, and tell of Pods whose addresses are in none."""
    family = plan.version(service_cidr)
    declared: dict[str, str] = {}
    pods: dict[str, list[str]] = {}
    for each in listed:
        spec = each.get("spec") or {}
        declared[meta.name(each)] = next((cidr for cidr in spec.get("podCIDRs") or [spec.get("podCIDR")]
                                          if cidr and plan.version(cidr) == family), "")
    for pod in carried:
        pods.setdefault(pod["spec"]["nodeName"], []).extend(ip for ip in _ips(pod) if plan.version(ip) == family)
    nodes = [ip for each in listed for ip in _internal_ips(each)]
    found = ranges.pod_ranges(declared, {name: ips for name, ips in pods.items() if name in declared},
                              [*services, *nodes], extra)
    if found is None:
        work.notes.append(f"no IPv{family} range of Pods can be kept: nodes and Pods get others, the lab's own")
        return None
    if any(declared[name] not in ("", found.of[name]) for name in declared):
        work.notes.append("most Pods have addresses beside their node's podCIDR: nodes get the ranges that Pods are in")
    work.moved |= found.moved
    for pod in carried:
        work.notes += [f"Pod {meta.key(pod)} has another address than {ip}, which is not in its node's range"
                       for ip in _ips(pod) if ip in found.moved]
    return found


def _cluster_ips(service: Object | None) -> list[str]:
    spec = (service or {}).get("spec") or {}
    return [ip for ip in spec.get("clusterIPs") or [spec.get("clusterIP")] if ip and ip != "None"]


def _ips(pod: Object) -> list[str]:
    status = pod.get("status") or {}
    return [entry["ip"] for entry in status.get("podIPs") or ()] or [ip for ip in [status.get("podIP")] if ip]


def _carried(work: _Work, pod: Object) -> bool:
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    if meta.namespace(pod) in OWN_NAMESPACES or status.get("phase") in ("Succeeded", "Failed"):
        return False
    if spec.get("hostNetwork"):
        work.notes.append(f"Pod {meta.key(pod)} is on its node's network and is left out")
        return False
    return bool(spec.get("nodeName"))


def _pod(work: _Work, pod: Object) -> Object:
    """Return a Pod that answers on the ports of another one, at its addresses."""
    ips = _ips(pod)
    ports: dict[tuple[str, int], Object] = {}
    for container in (pod.get("spec") or {}).get("containers") or ():
        for port in container.get("ports") or ():
            if not port.get("containerPort"):
                continue
            row = {"containerPort": port["containerPort"], "protocol": port.get("protocol", "TCP")}
            ports[row["protocol"], row["containerPort"]] = row | ({"name": port["name"]} if port.get("name") else {})
    for each in (each for ip in ips for each in work.slices_of.get(canonical(ip), ())):
        for port in each.get("ports") or ():
            key = port.get("protocol", "TCP"), port.get("port") or 0
            if key[1] and key not in ports:
                ports[key] = {"containerPort": key[1], "protocol": key[0]}
    if any(protocol == "SCTP" for protocol, _ in ports):
        work.notes.append(f"Pod {meta.key(pod)} does not listen on its SCTP ports")
    tcp, udp = ([row for (protocol, _), row in ports.items() if protocol == wanted] for wanted in ("TCP", "UDP"))
    containers = []
    for number, (one, other) in enumerate(zip_longest(tcp, udp)):
        containers.append({
            "name": f"echo{number}", "image": IMAGE,
            "args": ["netexec", f"--http-port={one['containerPort'] if one else 0}",
                     f"--udp-port={other['containerPort'] if other else -1}"],
            "ports": [row for row in (one, other) if row]})
    wanted = [ip for ip in ips if ip not in work.moved]
    notes = {IPS: ",".join(wanted)} if wanted else {}
    return {"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": meta.name(pod), "namespace": meta.namespace(pod) or "default",
                         "labels": dict(meta.labels(pod)), "annotations": notes},
            "spec": {"nodeName": work.nodes.get(str(pod["spec"]["nodeName"]), str(pod["spec"]["nodeName"])),
                     "terminationGracePeriodSeconds": 0, "tolerations": [{"operator": "Exists"}],
                     "containers": containers or [{"name": "echo0", "image": IMAGE, "args": ["pause"]}]}}


def _services(work: _Work, ranges: Sequence[str], pods: Sequence[Object]) -> list[Object]:
    """Return the Services, and the EndpointSlices of those whose endpoints the lab's controllers would not find."""
    networks = [ipaddress.ip_network(cidr) for cidr in ranges]
    dns = str(networks[0][10])
    labelled = _by_label(pods)
    found: list[Object] = []
    for service in work.of("Service"):
        key, addresses = meta.key(service), _cluster_ips(service)
        if key == "default/kubernetes":
            continue
        if dns in addresses or key == "kube-system/kube-dns":
            work.notes.append(f"the cluster's DNS is the lab's own: endpoints of Service {key} are other Pods")
            if dns not in addresses:
                work.notes.append(f"Service {key} has the address {dns} in the lab, not {', '.join(addresses)}")
            continue
        if any(not any(ipaddress.ip_address(ip) in network for network in networks) for ip in addresses):
            work.notes.append(f"Service {key} is left out: {', '.join(addresses)} is in none of {', '.join(ranges)}")
            continue
        spec = {name: service["spec"][name] for name in _SERVICE_FIELDS if name in (service.get("spec") or {})}
        own = work.slices_by_service.get(key, [])
        made: Object = {"apiVersion": "v1", "kind": "Service",
                        "metadata": {"name": meta.name(service), "namespace": meta.namespace(service) or "default",
                                     "labels": dict(meta.labels(service))}, "spec": spec}
        ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress")
        if ingress:
            made["status"] = {"loadBalancer": {"ingress": ingress}}
        if not spec.get("selector") or not _found_again(service, own, labelled):
            if spec.pop("selector", None):
                work.notes.append(f"Service {key} has no selector in the lab: its EndpointSlices are kept as they were")
            found += [_slice(work, each) for each in own if each.get("addressType") != "FQDN"]
        found.append(made)
    return found


def _by_label(pods: Sequence[Object]) -> Mapping[tuple[str, str, str], list[Object]]:
    """Return the Pods that bear a label, by (namespace, key, value)."""
    found: dict[tuple[str, str, str], list[Object]] = {}
    for pod in pods:
        for key, value in meta.labels(pod).items():
            found.setdefault((meta.namespace(pod), key, value), []).append(pod)
    return found


def _found_again(service: Object, own: Sequence[Object],
                 labelled: Mapping[tuple[str, str, str], Sequence[Object]]) -> bool:
    """Tell whether the Pods of the lab, all of them ready, give a Service the endpoints that it has."""
    wanted = (service.get("spec") or {}).get("selector") or {}
    theirs = {ip for each in own for entry in each.get("endpoints") or () for ip in entry.get("addresses") or ()}
    ready = all((entry.get("conditions") or {}).get("ready") is not False for each in own
                for entry in each.get("endpoints") or ())
    where = meta.namespace(service) or "default"
    fewest = min((labelled.get((where, *each), ()) for each in wanted.items()), key=len)
    chosen = [pod for pod in fewest if wanted.items() <= meta.labels(pod).items()]
    mine = {ip for pod in chosen for ip in meta.annotations(pod).get(IPS, "").split(",") if ip}
    families = {plan.version(ip) for ip in _cluster_ips(service)} or {4, 6}
    return ready and theirs == {ip for ip in mine if plan.version(ip) in families}


def _slice(work: _Work, each: Object) -> Object:
    tags = {key: value for key, value in meta.labels(each).items() if key != slices.MANAGED_BY}
    endpoints = []
    for entry in each.get("endpoints") or ():
        kept: dict[str, Any] = {name: entry[name] for name in ("addresses", "conditions", "hostname", "zone", "hints")
                                if name in entry}
        if entry.get("nodeName"):
            kept["nodeName"] = work.nodes.get(entry["nodeName"], entry["nodeName"])
        endpoints.append(kept)
    return {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "addressType": each.get("addressType", "IPv4"),
            "metadata": {"name": meta.name(each), "namespace": meta.namespace(each) or "default", "labels": tags},
            "ports": each.get("ports") or [], "endpoints": endpoints}


def texts(made: Imported) -> Mapping[str, str]:
    """Return the files of the scenario's folder, by name."""
    import yaml

    return {"scenario.yaml": yaml.safe_dump(made.scenario, sort_keys=False, allow_unicode=True),
            "manifests.yaml": yaml.safe_dump_all(made.manifests, sort_keys=False, allow_unicode=True)}
