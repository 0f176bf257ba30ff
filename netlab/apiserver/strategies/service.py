"""Services: families, cluster addresses and node ports (k8s.io/kubernetes/pkg/registry/core/service)."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from netlab.api.meta import Object
from netlab.apiserver import allocator, status
from netlab.apiserver.strategies.base import Strategy, Undo
from netlab.apiserver.strategies.service_change import WITH_PORTS, carry_over, drop_unneeded, needs_ports
from netlab.apiserver.validation import meta as meta_checks
from netlab.apiserver.validation import names
from netlab.apiserver.validation import services as checks
from netlab.apiserver.validation.errors import FieldError, invalid, invalid_object

if TYPE_CHECKING:
    from netlab.api.kinds import Resource
    from netlab.apiserver.allocator import ServiceStock

_STICKY_SECONDS = 10800


@dataclass
class _Taken(Undo):
    """What one write took, and what it will let go of once it is stored."""

    on_undo: list[Callable[[], None]] = field(default_factory=list)
    on_commit: list[Callable[[], None]] = field(default_factory=list)

    def undo(self) -> None:
        for step in self.on_undo:
            step()

    def commit(self) -> None:
        for step in self.on_commit:
            step()


class ServiceStrategy(Strategy):
    """Services."""

    create_on_update = True
    returns_deleted = True

    def __init__(self, resource: Resource, stock: ServiceStock) -> None:
        super().__init__(resource)
        self._stock = stock

    def name_form(self, name: str) -> list[str]:
        """A Service is a DNS name's first label (RFC 1123, KEP-5311)."""
        return names.dns_label(name)

    def default(self, obj: Object) -> None:
        """Fill in what does not need an address."""
        spec = obj.setdefault("spec", {})
        if not spec.get("sessionAffinity"):
            spec["sessionAffinity"] = "None"
        if spec["sessionAffinity"] == "None":
            spec.pop("sessionAffinityConfig", None)
        elif spec["sessionAffinity"] == "ClientIP":
            sticky = spec.setdefault("sessionAffinityConfig", {}).setdefault("clientIP", {})
            sticky.setdefault("timeoutSeconds", _STICKY_SECONDS)
        if not spec.get("type"):
            spec["type"] = "ClusterIP"
        for port in spec.get("ports") or []:
            port.setdefault("protocol", "TCP")
            if not port.get("targetPort"):
                port["targetPort"] = port.get("port")
        kind = spec["type"]
        facing = kind in WITH_PORTS or (kind == "ClusterIP" and spec.get("externalIPs"))
        if facing and not spec.get("externalTrafficPolicy"):
            spec["externalTrafficPolicy"] = "Cluster"
        if kind in ("ClusterIP", *WITH_PORTS) and not spec.get("internalTrafficPolicy"):
            spec["internalTrafficPolicy"] = "Cluster"
        if kind == "LoadBalancer":
            spec.setdefault("allocateLoadBalancerNodePorts", True)
            for entry in ((obj.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []:
                if entry.get("ip"):
                    entry.setdefault("ipMode", "VIP")

    def prepare_create(self, obj: Object) -> None:
        """Start without a load balancer; settle the families."""
        obj["status"] = {"loadBalancer": {}}
        self._settle(obj["spec"], None)

    def prepare_update(self, obj: Object, old: Object) -> None:
        """Keep the status, and what the server chose before unless it is given up."""
        obj["status"] = old.get("status", {})
        spec, before = obj["spec"], old.get("spec", {})
        carry_over(spec, before)
        drop_unneeded(spec, before)
        self._settle(spec, before)

    def validate(self, obj: Object) -> list[FieldError]:
        """Check the Service."""
        return [*super().validate(obj), *checks.service(obj, self._stock.families)]

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        """Check the Service; its cluster addresses stay."""
        return [*meta_checks.object_meta_update(obj["metadata"], old["metadata"]),
                *checks.service_update(obj["spec"], old["spec"]), *checks.service(obj, self._stock.families, old)]

    def validate_status(self, obj: Object, old: Object) -> list[FieldError]:
        """Check what a load balancer has."""
        return [*super().validate_status(obj, old), *checks.load_balancer(obj, old)]

    def allocate(self, obj: Object, old: Object | None, *, dry_run: bool) -> Undo | None:
        """Take cluster addresses and node ports.

        Raises:
            ApiError: 422 for one that is held or out of range; 500 when none is left.
        """
        taken = _Taken()
        try:
            self._addresses(obj, old, taken)
            self._ports(obj, old, taken)
        except BaseException:
            taken.undo()
            raise
        if dry_run:
            taken.undo()
            return None
        return taken

    def release(self, old: Object) -> None:
        """Give back everything."""
        for address in _addresses_of(old.get("spec", {})):
            self._give_back(address)
        for port in _ports_of(old.get("spec", {})):
            self._stock.ports.give_back(port)

    def restore(self, obj: Object) -> list[str]:
        """Hold what a stored Service has, at start. Returns complaints about what is held twice or out of range."""
        complaints = []
        for address in _addresses_of(obj.get("spec", {})):
            try:
                self._take_address(address)
            except (allocator.Taken, allocator.OutOfRange) as error:
                complaints.append(f"cluster IP {address}: {type(error).__name__}")
        for port in _ports_of(obj.get("spec", {})):
            try:
                self._stock.ports.take(port)
            except (allocator.Taken, allocator.OutOfRange) as error:
                complaints.append(f"node port {port}: {type(error).__name__}")
        return complaints

    # -- families -----------------------------------------------------------------------------------------------------

    def _settle(self, spec: Object, before: Object | None) -> None:
        if spec.get("type") == "ExternalName":
            for part in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
                if before is not None and spec.get(part) == before.get(part):
                    spec.pop(part, None)
            return
        if spec.get("clusterIP") and not spec.get("clusterIPs"):
            spec["clusterIPs"] = [spec["clusterIP"]]
        elif spec.get("clusterIPs") and not spec.get("clusterIP"):
            spec["clusterIP"] = spec["clusterIPs"][0]
        families = self._stock.families
        headless = spec.get("clusterIP") == "None"
        if headless and not spec.get("selector") and not spec.get("ipFamilyPolicy") and not spec.get("ipFamilies"):
            spec["ipFamilyPolicy"] = "RequireDualStack"
            spec["ipFamilies"] = [families[0], "IPv6" if families[0] == "IPv4" else "IPv4"]
            return
        named = [_family(text) for text in spec.get("clusterIPs") or [] if text != "None"
                 and not names.ip_address(text)]
        wanted = list(spec.get("ipFamilies") or named or [families[0]])
        if not spec.get("ipFamilyPolicy"):
            spec["ipFamilyPolicy"] = "RequireDualStack" if len(wanted) == 2 or len(named) == 2 else "SingleStack"
        if spec["ipFamilyPolicy"] != "SingleStack" and len(wanted) == 1 and len(families) == 2:
            wanted += [family for family in families if family not in wanted]
        elif spec["ipFamilyPolicy"] == "SingleStack" and before is not None and len(wanted) == 2 \
                and before.get("ipFamilyPolicy") != "SingleStack":
            wanted = wanted[:1]
            if len(spec.get("clusterIPs") or []) == 2:
                spec["clusterIPs"] = spec["clusterIPs"][:1]
        spec["ipFamilies"] = wanted

    # -- addresses ----------------------------------------------------------------------------------------------------

    def _addresses(self, obj: Object, old: Object | None, taken: _Taken) -> None:
        spec = obj["spec"]
        held = set(_addresses_of(old.get("spec", {}))) if old else set()
        keep: set[str] = set()
        if spec.get("type") != "ExternalName" and spec.get("clusterIP") != "None":
            given = list(spec.get("clusterIPs") or [])
            for at, family in enumerate(spec.get("ipFamilies") or []):
                if at < len(given):
                    if given[at] not in held:
                        self._take(obj, given, given[at])
                        taken.on_undo.append(partial(self._give_back, given[at]))
                else:
                    given.append(self._pick(family))
                    taken.on_undo.append(partial(self._give_back, given[at]))
            keep = set(given)
            spec["clusterIPs"] = given
            if given:
                spec["clusterIP"] = given[0]
        taken.on_commit += [partial(self._give_back, text) for text in held - keep]

    def _take(self, obj: Object, given: list[str], address: str) -> None:
        try:
            self._take_address(address)
        except allocator.Taken:
            said = "provided IP is already allocated"
        except allocator.OutOfRange:
            ranges = ", ".join(str(pool.network) for pool in self._stock.addresses.values())
            said = f"the provided IP ({address}) is not in the valid range. The range of valid IPs is {ranges}"
        else:
            return
        raise invalid_object(self.resource, obj["metadata"].get("name", ""), [
            invalid("spec.clusterIPs", given, f"failed to allocate IP {address}: {said}")])

    def _take_address(self, address: str) -> None:
        pool = self._stock.addresses.get(_family(address))
        if pool is None:
            raise allocator.OutOfRange(address)
        pool.take(address)

    def _give_back(self, address: str) -> None:
        pool = self._stock.addresses.get(_family(address))
        if pool is not None:
            pool.give_back(address)

    def _pick(self, family: str) -> str:
        pool = self._stock.addresses.get(family)
        try:
            if pool is None:
                raise allocator.Full(f"no range of family {family}")
            return pool.pick()
        except allocator.Full as error:
            raise status.internal(f"failed to allocate a serviceIP: {error}") from None

    # -- node ports ---------------------------------------------------------------------------------------------------

    def _ports(self, obj: Object, old: Object | None, taken: _Taken) -> None:
        spec = obj["spec"]
        held = _ports_of(old.get("spec", {})) if old else set()
        keep: set[int] = set()
        if needs_ports(spec):
            self._node_ports(obj, held, keep, taken)
        else:
            for port in spec.get("ports") or []:
                if port.get("nodePort") in held:
                    port.pop("nodePort")
        if spec.get("type") == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local":
            wanted = spec.get("healthCheckNodePort")
            if not wanted:
                wanted = spec["healthCheckNodePort"] = self._pick_port()
                taken.on_undo.append(partial(self._stock.ports.give_back, wanted))
            elif wanted not in held and wanted not in keep:
                self._take_port(obj, "spec.healthCheckNodePort", wanted)
                taken.on_undo.append(partial(self._stock.ports.give_back, wanted))
            keep.add(wanted)
        elif spec.get("healthCheckNodePort") in held:
            spec.pop("healthCheckNodePort")
        taken.on_commit += [partial(self._stock.ports.give_back, port) for port in held - keep]

    def _node_ports(self, obj: Object, held: set[int], keep: set[int], taken: _Taken) -> None:
        by_number: dict[int, int] = {}  # one node port serves a port's several protocols
        for at, port in enumerate(obj["spec"].get("ports") or []):
            wanted, number = port.get("nodePort") or 0, port.get("port", 0)
            if not wanted:
                used = {(other.get("protocol"), other.get("nodePort")) for other in obj["spec"]["ports"]}
                shared = by_number.get(number, 0)
                if shared and (port.get("protocol"), shared) not in used:
                    port["nodePort"] = shared
                    continue
                wanted = port["nodePort"] = self._pick_port()
                taken.on_undo.append(partial(self._stock.ports.give_back, wanted))
            elif wanted not in held and wanted not in keep:
                self._take_port(obj, f"spec.ports[{at}].nodePort", wanted)
                taken.on_undo.append(partial(self._stock.ports.give_back, wanted))
            keep.add(wanted)
            by_number.setdefault(number, wanted)

    def _take_port(self, obj: Object, path: str, port: int) -> None:
        try:
            self._stock.ports.take(port)
        except allocator.Taken:
            said = "provided port is already allocated"
        except allocator.OutOfRange:
            said = ("provided port is not in the valid range. The range of valid ports is "
                    f"{self._stock.ports.low}-{self._stock.ports.high}")
        else:
            return
        raise invalid_object(self.resource, obj["metadata"].get("name", ""), [invalid(path, port, said)])

    def _pick_port(self) -> int:
        try:
            return self._stock.ports.pick()
        except allocator.Full as error:
            raise status.internal(f"failed to allocate a nodePort: {error}") from None


def _family(address: str) -> str:
    try:
        return "IPv4" if ipaddress.ip_address(address).version == 4 else "IPv6"
    except ValueError:
        return ""


def _addresses_of(spec: Object) -> list[str]:
    if spec.get("type") == "ExternalName":
        return []
    found = spec.get("clusterIPs") or ([spec["clusterIP"]] if spec.get("clusterIP") else [])
    return [text for text in found if text and text != "None"]


def _ports_of(spec: Object) -> set[int]:
    found = {port["nodePort"] for port in spec.get("ports") or [] if port.get("nodePort")}
    if spec.get("healthCheckNodePort"):
        found.add(spec["healthCheckNodePort"])
    return found
