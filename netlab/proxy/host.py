"""What the rules need to know of the machine they are on, and the kernel settings that they need."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import logging
import os
import resource
import sys
from collections.abc import Container, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from netlab.api.meta import Object, labels
from netlab.errors import ApiError, KernelError, TemporaryError, Unsupported
from netlab.kernel import iptables, link, nfacct, sysctl
from netlab.kernel.rtnl import Rtnl
from netlab.proxy.addresses import FAMILIES, Family, family, networks_of_family, of_family, overlap
from netlab.proxy.config import Config
from netlab.proxy.layout import node_port_ips
from netlab.proxy.names import CANARY
from netlab.proxy.settings import LocalDetector, Settings
from netlab.proxy.topology import ZONE_LABEL

if TYPE_CHECKING:  # this module is read by commands that ask no API server, and aiohttp takes long to import
    from netlab.client.client import Client

log = logging.getLogger(__name__)

EVERYWHERE: Final = ("0.0.0.0", "::")
"""Values of --bind-address that say nothing about the node."""

_MOST_CONNECTIONS = 1 << 20
_LOOPBACK: dict[Family, str] = {"IPv4": "127.0.0.0/8", "IPv6": "::1/128"}


def node_ips(node: Object | None) -> tuple[str, ...]:
    """Return the addresses of a Node object, internal ones first, as upstream asks for them."""
    found = ((node or {}).get("status") or {}).get("addresses") or ()
    by_type = {kind: [each["address"] for each in found if each.get("type") == kind]
               for kind in ("InternalIP", "ExternalIP")}
    return tuple(by_type["InternalIP"] + by_type["ExternalIP"])


async def own_node(client: Client, name: str, stop: asyncio.Event) -> Object | None:
    """Return this node's object, None when the API server has none that we may see. Waits for the server."""
    while not stop.is_set() and await client.ready(stop):
        try:
            return await client.get("nodes", name)
        except ApiError as error:
            if error.code in (403, 404):
                log.warning(
                    "no Node for this machine: %s; its addresses and zone are not known (--hostname-override "
                    "says what it is called)",
                    error,
                )
                return None
            log.debug("Node %s: %s", name, error)
        except TemporaryError as error:
            log.debug("Node %s: %s", name, error)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), 1.0)
    return None


def families(config: Config, node: Object | None, tools: Container[Family]) -> tuple[Family, ...]:
    """Return the families to serve, the node's first one first (kubernetes: cmd/kube-proxy/app, detectNodeIPs).

    That is the family of --bind-address, unless that is every address; else of the Node's first address; else IPv4.
    `tools` are the families that there is an iptables for; the mode nftables needs none.

    Raises:
        Unsupported: there is no iptables for the node's first family.
    """
    bound = str(config["bindAddress"])
    first = next(iter([bound] if bound not in EVERYWHERE else node_ips(node)), "")
    primary: Family = family(first) if first else "IPv4"
    if config.mode != "nftables" and primary not in tools:
        raise Unsupported(
            f"this node's first address family is {primary}, and there is no iptables for it",
            hint="install it, or use --proxy-mode=nftables",
        )
    return tuple(
        each
        for each in sorted(FAMILIES, key=lambda each: each != primary)
        if (each in (primary, "IPv4") or has_ipv6()) and (config.mode == "nftables" or each in tools)
    )


def demand_rights(tools: Iterable[iptables.Iptables]) -> None:
    """Look whether this process may write rules here at all.

    Raises:
        Unsupported: it may not.
    """
    try:
        nfacct.counters()
        for tool in tools:
            iptables.chain_exists(tool, "nat", CANARY)
    except TemporaryError:
        return  # somebody holds the lock, which will not last
    except KernelError as error:
        if error.errno != errno.EPERM and "Permission denied" not in str(error):
            return  # what the kernel lacks is said when it is needed
        raise Unsupported(
            f"this process may not write rules in its network namespace ({error})",
            hint="run it as root or with CAP_NET_ADMIN",
        ) from None


def own_addresses(netns: int | None = None) -> tuple[str, ...]:
    """Return every address of the namespace, loopback's included."""
    with Rtnl(netns) as sock:
        return tuple(dict.fromkeys(each.ip for each in link.addresses(sock)))


def detector(config: Config, wanted: Family, node: Object | None) -> LocalDetector:
    """Return how traffic of local Pods is told in one family; an empty one when there is no way.

    Node CIDRs come from the Node object: without them the mode has nothing to go by.
    """
    mode = config.detect_mode
    if mode == "BridgeInterface" and config["detectLocal.bridgeInterface"]:
        return LocalDetector(f"-i {config['detectLocal.bridgeInterface']}")
    if mode == "InterfaceNamePrefix" and config["detectLocal.interfaceNamePrefix"]:
        return LocalDetector(f"-i {config['detectLocal.interfaceNamePrefix']}+")
    cidr = config.cluster_cidr(wanted) if mode == "ClusterCIDR" else ""
    if mode == "NodeCIDR":
        cidr = next(iter(networks_of_family(((node or {}).get("spec") or {}).get("podCIDRs") or (), wanted)), "")
    return LocalDetector(f"-s {cidr}" if cidr else "")


def settings(config: Config, wanted: Family, *, node: Object | None, addresses: tuple[str, ...] = (),
             random_fully: bool = True, conntrack_liberal: bool = False) -> Settings:
    """Put together what rules of one family depend on."""
    bound = [ip for ip in (config["bindAddress"],) if ip not in EVERYWHERE]  # before the Node's own
    ips = of_family([*bound, *node_ips(node)], wanted)
    nftables = config.mode == "nftables"
    networks = tuple(config["nodePortAddresses"]) or (("primary",) if nftables else ())
    if "primary" in networks:
        networks = tuple(f"{ip}/{128 if ':' in ip else 32}" for ip in ips[:1])
    networks = networks_of_family(networks, wanted)
    loopback = not networks or any(overlap(net, _LOOPBACK[wanted]) for net in networks)
    return Settings(
        family=wanted, node=config.node, node_ip=ips[0] if ips else "", zone=labels(node or {}).get(ZONE_LABEL, ""),
        detector=detector(config, wanted, node), masquerade_all=config[f"{config.section}.masqueradeAll"],
        masquerade_bit=config[f"{config.section}.masqueradeBit"], random_fully=random_fully,
        localhost_node_ports=(config["iptables.localhostNodePorts"] and loopback and wanted == "IPv4"
                              and config.mode == "iptables"),  # nothing but route_localnet would bring them that far
        node_port_addresses=networks, node_addresses=tuple(ip for ip in addresses if networks and family(ip) == wanted),
        conntrack_liberal=conntrack_liberal)


def listens(made: Iterable[Settings]) -> tuple[str, ...]:
    """Return the addresses that servers of node ports listen on, of all families."""
    everywhere: dict[Family, str] = {"IPv4": "0.0.0.0", "IPv6": "::"}
    found: list[str] = []
    for each in made:
        found += [everywhere[each.family]] if each.everywhere else node_port_ips(each)
    return tuple(found)


def prepare(config: Config, made: Settings) -> None:
    """Set the sysctls that these rules rely on (kubernetes: pkg/proxy/conntrack/sysctls.go).

    Those that only the first namespace has are asked for once and passed over with a line in the log.
    """
    wanted: dict[str, str | int] = {}
    if made.localhost_node_ports:
        wanted["net.ipv4.conf.all.route_localnet"] = 1
    if config["conntrack.tcpBeLiberal"]:
        wanted["net.netfilter.nf_conntrack_tcp_be_liberal"] = 1
    for name, setting in (("tcpEstablishedTimeout", "tcp_timeout_established"),
                          ("tcpCloseWaitTimeout", "tcp_timeout_close_wait"),
                          ("udpTimeout", "udp_timeout"), ("udpStreamTimeout", "udp_timeout_stream")):
        if config[f"conntrack.{name}"]:
            wanted[f"net.netfilter.nf_conntrack_{setting}"] = int(config[f"conntrack.{name}"])
    per_core = config["conntrack.maxPerCore"]
    if per_core:
        most = min(max(config["conntrack.min"], per_core * (os.cpu_count() or 1)), _MOST_CONNECTIONS)
        wanted["net.netfilter.nf_conntrack_max"] = most
    refused = [f"{name}={value}" for name, value in wanted.items() if not sysctl.set_if_possible(name, value)]
    if refused:
        log.info("this namespace does not take %s", ", ".join(refused))


def guard(score: int) -> None:
    """Tell the kernel how unlikely it is to kill this process when memory is short, as far as it lets us."""
    try:
        Path("/proc/self/oom_score_adj").write_text(str(score))
    except OSError as error:
        log.debug("oom_score_adj stays: %s", error.strerror)


def tune() -> None:
    """Set Python up for what kube-proxy does."""
    gc.set_threshold(50_000, 20, 50)  # rules are many small values without cycles: looking for some is time lost
    sys.setswitchinterval(0.0005)  # what feeds iptables-restore must not wait 5 ms for each turn while rules are made


def many_descriptors() -> None:
    """Take as many descriptors as the kernel lets this process have: userspace mode needs two for each connection."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def conntrack_liberal() -> bool:
    """Tell whether the kernel lets TCP packets outside the window pass, so that INVALID need not be dropped."""
    try:
        return sysctl.read("net.netfilter.nf_conntrack_tcp_be_liberal") != "0"
    except KernelError:
        return False


def has_ipv6() -> bool:
    """Tell whether this namespace speaks IPv6."""
    try:
        return sysctl.read("net.ipv6.conf.all.disable_ipv6") == "0"
    except KernelError:
        return False
