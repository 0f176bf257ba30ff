"""The rules that kube-proxy would write for objects at hand: no API server, no kernel."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from netlab.api import meta
from netlab.api.meta import Object
from netlab.errors import UsageError
from netlab.netfilter.model import Ruleset
from netlab.proxy import host, nft_render, user_proxier, user_rules
from netlab.proxy.addresses import Family, networks_of_family
from netlab.proxy.config import read
from netlab.proxy.endpoints import service_of
from netlab.proxy.plan import whole
from netlab.proxy.services import ignored, service_ports
from netlab.proxy.settings import INVALID_COUNTER, LOCALHOST_COUNTER, Settings
from netlab.proxy.tracker import wanted_for


@dataclass(frozen=True)
class Rendered:
    """The tables of a node that has nothing else, and what the objects leave in doubt."""

    rules: Ruleset
    warnings: tuple[str, ...] = ()


def render(objects: Sequence[Object], flags: Sequence[str], *, family: Family = "IPv4",
           nfacct: bool = False) -> Rendered:
    """Return what kube-proxy writes on a node.

    Args:
        objects: Services, EndpointSlices, Nodes; others are passed over.
        flags: kube-proxy's own, `--hostname-override` naming the node.
        family: which of the two rule sets.
        nfacct: with the matches that count into nfacct objects.

    Raises:
        UsageError: a flag is wrong, or there is no Service among the objects.
    """
    made, services = _settings(objects, flags, family)
    if nfacct:
        made = replace(made, counters=frozenset({INVALID_COUNTER, LOCALHOST_COUNTER}))
    return Rendered(whole(wanted_for(objects, made)), tuple(_doubts(services, objects)))


FIRST_EXAMPLE_PORT = 40000


def render_userspace(objects: Sequence[Object], flags: Sequence[str], *, family: Family = "IPv4") -> Rendered:
    """Return what kube-proxy writes on a node in userspace mode.

    Where it listens is known only when it does: ports are counted from the start of --proxy-port-range, or from
    `FIRST_EXAMPLE_PORT`, and that is among the warnings.

    Raises:
        UsageError: a flag is wrong, or there is no Service among the objects.
    """
    flags = [*flags, "--proxy-mode=userspace"]
    made, services = _settings(objects, flags, family)
    config, _ = read(flags)
    numbers = config.proxy_ports() or range(FIRST_EXAMPLE_PORT, 1 << 16)
    ports = sorted((port for service in services for port in service_ports(service, family)),
                   key=lambda port: (port.name, port.protocol))
    served = [port for port in ports if user_rules.served(port)]
    everywhere = "::" if family == "IPv6" else "0.0.0.0"
    bound = str(config["bindAddress"])
    listens = bound if (":" in bound) == (family == "IPv6") else everywhere
    warnings = [f"{user_proxier.LABEL}; the ports that it listens on, {numbers[0]} and up, are examples",
                *(f"{port.name}: userspace mode speaks no {port.protocol.upper()}"
                  for port in ports if port not in served),
                *_doubts(services, objects)]
    if len(served) > len(numbers):
        raise UsageError(f"--proxy-port-range: {len(numbers)} ports are too few for {len(served)} Service ports")
    host_ip = made.node_ip or ("::2" if family == "IPv6" else "192.0.2.1")
    if not made.node_ip:
        warnings.append(f"the node has no {family} address among the objects: {host_ip} stands for it")
    chains = user_rules.chains(zip(served, numbers, strict=False), listens, host_ip)
    return Rendered(user_rules.whole(chains), tuple(warnings))


@dataclass(frozen=True)
class RenderedTable:
    """nftables mode's table as nft reads and prints it, and what the objects leave in doubt."""

    text: str
    warnings: tuple[str, ...] = ()


def render_nft(objects: Sequence[Object], flags: Sequence[str], *, family: Family = "IPv4") -> RenderedTable:
    """Return the table that kube-proxy writes on a node in nftables mode.

    Args:
        objects: as for `render`; ServiceCIDRs say which unused addresses are dropped.
        flags: kube-proxy's own.
        family: which of the two tables.

    Raises:
        UsageError: a flag is wrong, or there is no Service among the objects.
    """
    made, services = _settings(objects, [*flags, "--proxy-mode=nftables"], family)
    cidrs = sorted({text for each in objects if each["kind"] == "ServiceCIDR"
                    for text in (each.get("spec") or {}).get("cidrs") or ()})
    made = replace(made, service_cidrs=networks_of_family(cidrs, family))
    return RenderedTable(nft_render.text(nft_render.nft_wanted_for(objects, made)), tuple(_doubts(services, objects)))


def _settings(objects: Sequence[Object], flags: Sequence[str], family: Family) -> tuple[Settings, list[Object]]:
    config, _ = read(flags)
    services = [each for each in objects if each["kind"] == "Service"]
    if not services:
        raise UsageError("there is no Service among the objects",
                         hint="such as from: kubectl get svc,endpointslices,nodes -A -o yaml")
    node = next((each for each in objects if each["kind"] == "Node" and meta.name(each) == config.node), None)
    made = host.settings(config, family, node=node, addresses=("127.0.0.1", "::1", *host.node_ips(node)))
    return made, services


def _doubts(services: Iterable[Object], objects: Iterable[Object]) -> Iterable[str]:
    owners = {service_of(each) for each in objects if each["kind"] == "EndpointSlice"}
    for service in services:
        spec = service.get("spec") or {}
        key = meta.key(service)
        if not spec.get("clusterIP") and spec.get("type") != "ExternalName":
            yield f"Service {key} has no clusterIP (the API server gives it one): it has no rules"
        elif not ignored(service) and key not in owners:
            yield f"Service {key} has no EndpointSlice among the objects: it is rejected as one without endpoints"
