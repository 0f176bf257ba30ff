"""What a name means, from Services, endpoints and Pods: the schema of Kubernetes' DNS. Pure.

https://github.com/kubernetes/dns/blob/master/docs/specification.md, with CoreDNS' answers where it leaves a choice:
a name that exists without a record of the asked type is "no data", one that does not exist is "no name"; a headless
Service without ready endpoints has no name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Literal, Protocol

Outcome = Literal["found", "no data", "no name"]
PodMode = Literal["disabled", "insecure", "verified"]

SCHEMA_VERSION = "1.1.0"


@dataclass(frozen=True)
class Port:
    """A port of a Service or of endpoints; `number` is 0 where endpoints have none."""

    name: str
    number: int
    protocol: str


@dataclass(frozen=True)
class Service:
    """What DNS needs of a Service. `cluster_ips` is empty for headless and external ones."""

    namespace: str
    name: str
    cluster_ips: tuple[str, ...] = ()
    ports: tuple[Port, ...] = ()
    external_name: str = ""


@dataclass(frozen=True)
class Endpoint:
    """A ready endpoint of a Service. `label` is its name below the Service's: a hostname, or its address in dashes."""

    namespace: str
    service: str
    ip: str
    label: str
    ports: tuple[Port, ...] = ()


class World(Protocol):
    """What can be asked about the cluster."""

    def has_namespace(self, name: str) -> bool:
        """Tell whether the namespace exists and is served."""

    def service(self, namespace: str, name: str) -> Service | None:
        """Return a Service."""

    def endpoints(self, namespace: str, name: str) -> Sequence[Endpoint]:
        """Return the ready endpoints of a Service."""

    def services_at(self, ip: str) -> Sequence[Service]:
        """Return the Services with this cluster address."""

    def endpoints_at(self, ip: str) -> Sequence[Endpoint]:
        """Return the endpoints with this address."""

    def has_pod(self, namespace: str, ip: str) -> bool:
        """Tell whether a Pod of the namespace has this address."""


@dataclass(frozen=True)
class Record:
    """One record. `data` is an address, a name, or for SRV (priority, weight, port, target)."""

    name: str
    type: str
    data: str | tuple[int, int, int, str]


@dataclass(frozen=True)
class Answer:
    """What was found. `follow` is a name outside of the cluster that the last record points to, to be looked up."""

    outcome: Outcome
    records: tuple[Record, ...] = ()
    extra: tuple[Record, ...] = ()
    follow: str = ""


@dataclass(frozen=True)
class _Target:
    """One thing that a name stands for; `owner` is its own full name."""

    owner: str
    ip: str
    port: int


NO_DATA, NO_NAME = Answer("no data"), Answer("no name")


def lookup(world: World, name: str, type: str, zone: str, *, pods: PodMode = "disabled",
           server_ips: Sequence[str] = ()) -> Answer:
    """Answer a question about a name in a zone; both in lower case, without the last dot.

    `type` is the record type's name; `server_ips` are this server's own addresses, which `ns.dns.ZONE` has.
    """
    labels = name.removesuffix(zone).rstrip(".").split(".") if name != zone else []
    if not labels or labels in (["svc"], ["pod"], ["dns"]):
        return NO_DATA
    if labels == ["dns-version"]:
        return Answer("found", (Record(name, "TXT", SCHEMA_VERSION),)) if type == "TXT" else NO_DATA
    if labels == ["ns", "dns"]:
        return _addresses(name, type, [_Target(name, ip, 0) for ip in server_ips])
    kind = labels[-1]
    if kind not in ("svc", "pod") or len(labels) > (5 if kind == "svc" else 3) or not world.has_namespace(labels[-2]):
        return NO_NAME
    if len(labels) == 2:
        return NO_DATA
    if kind == "pod":
        return _pod(world, name, type, namespace=labels[1], label=labels[0], mode=pods)
    return _service(world, name, type, zone, labels)


def reverse(world: World, name: str, type: str, zone: str) -> Answer:
    """Answer a question about an address' name (`1.0.96.10.in-addr.arpa`); `zone` is the cluster's."""
    ip = address_of(name)
    if not ip:
        return NO_NAME
    services = world.services_at(ip)
    names = [f"{service.name}.{service.namespace}.svc.{zone}" for service in services] or \
        [f"{endpoint.label}.{endpoint.service}.{endpoint.namespace}.svc.{zone}" for endpoint in world.endpoints_at(ip)]
    if not names:
        return NO_NAME
    return Answer("found", tuple(Record(name, "PTR", target) for target in dict.fromkeys(names))) \
        if type == "PTR" else NO_DATA


def address_of(name: str) -> str:
    """Return the address that a reverse name stands for, "" when it stands for none."""
    labels = name.split(".")
    try:
        if labels[-2:] == ["in-addr", "arpa"] and len(labels) == 6:
            return str(ip_address(".".join(reversed(labels[:4]))))
        if labels[-2:] == ["ip6", "arpa"] and len(labels) == 34:
            digits = "".join(reversed(labels[:32]))
            return str(ip_address(":".join(digits[at:at + 4] for at in range(0, 32, 4))))
    except ValueError:
        pass
    return ""


def label_of(ip: str) -> str:
    """Return an address as one label: `10-244-1-7`, `fd00--7`."""
    return ip.replace(".", "-").replace(":", "-")


def _service(world: World, name: str, type: str, zone: str, labels: list[str]) -> Answer:
    """Answer for `service.namespace.svc`, `endpoint.service...` and `_port._protocol.service...`."""
    *before, service_name, namespace, _ = labels
    endpoint = before[0] if len(before) == 1 else ""
    port, protocol = (before[0].removeprefix("_"), before[1].removeprefix("_")) if len(before) == 2 else ("", "")
    service = world.service(namespace, service_name)
    if service is None:
        return NO_NAME
    owner = f"{service.name}.{service.namespace}.svc.{zone}"
    if service.external_name:
        return NO_NAME if before else _external(name, type, service.external_name)
    targets: list[_Target] = []
    if endpoint or not service.cluster_ips:
        for one in world.endpoints(namespace, service_name):
            if endpoint in ("", one.label):
                targets += [_Target(f"{one.label}.{owner}", one.ip, item.number)
                            for item in one.ports or (Port("", 0, ""),) if _fits(item, port, protocol)]
    else:
        targets = [_Target(owner, ip, item.number) for item in service.ports if _fits(item, port, protocol)
                   for ip in service.cluster_ips]
        if not service.ports and not before:
            targets = [_Target(owner, ip, 0) for ip in service.cluster_ips]
    if not targets:
        return NO_NAME
    return _services(name, targets) if type == "SRV" else _addresses(name, type, targets)


def _fits(port: Port, name: str, protocol: str) -> bool:
    return (not name or port.name.lower() == name) and (not protocol or port.protocol.lower() == protocol)


def _external(name: str, type: str, target: str) -> Answer:
    target = target.rstrip(".").lower()
    try:
        return _addresses(name, type, [_Target(name, str(ip_address(target)), 0)])  # it may be an address after all
    except ValueError:
        pass
    if type == "SRV":
        return Answer("found", (Record(name, "SRV", (0, 100, 0, target)),))
    if type in ("A", "AAAA", "CNAME"):
        return Answer("found", (Record(name, "CNAME", target),), follow="" if type == "CNAME" else target)
    return NO_DATA


def _pod(world: World, name: str, type: str, *, namespace: str, label: str, mode: PodMode) -> Answer:
    """Answer for `10-244-1-7.namespace.pod`: any address with "insecure", a living Pod's with "verified"."""
    if mode == "disabled":
        return NO_NAME
    text = label.replace("-", "." if label.count("-") == 3 and "--" not in label else ":")
    try:
        ip = str(ip_address(text))
    except ValueError:
        return NO_NAME
    if mode == "verified" and not world.has_pod(namespace, ip):
        return NO_NAME
    return _addresses(name, type, [_Target(name, ip, 0)])


def _addresses(name: str, type: str, targets: Sequence[_Target]) -> Answer:
    wanted = {"A": 4, "AAAA": 6}.get(type)
    found = dict.fromkeys(target.ip for target in targets if ip_address(target.ip).version == wanted)
    return Answer("found", tuple(Record(name, type, ip) for ip in found)) if found else NO_DATA


def _services(name: str, targets: Sequence[_Target]) -> Answer:
    """Return SRV records, of equal weight, and the addresses of what they point to."""
    places = dict.fromkeys((target.owner, target.port) for target in targets)
    weight = max(1, 100 // len(places))
    extra = dict.fromkeys((target.owner, target.ip) for target in targets)
    return Answer("found", tuple(Record(name, "SRV", (0, weight, port, owner)) for owner, port in places),
                  tuple(Record(owner, "AAAA" if ":" in ip else "A", ip) for owner, ip in extra))
