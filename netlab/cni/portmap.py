"""The plugin portmap: ports of the node that lead to a container (plugins/meta/portmap), in the same chains.

CNI-HOSTPORT-DNAT, reached from PREROUTING and OUTPUT for addresses of this node, sends a container's ports to its own
CNI-DN-... chain, which marks what must be masqueraded (from the container's own subnet, and from localhost) and
rewrites the destination. UDP flows that began before the mapping are forgotten, or they would keep their old way.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_interface
from typing import Any, Final, NamedTuple

from netlab.cni import nat
from netlab.cni import result as results
from netlab.cni.result import CniError, Result
from netlab.cni.skel import Call, Plugin
from netlab.kernel import lookup, netns, sysctl

_ENTRY: Final = "CNI-HOSTPORT-DNAT"
_SETMARK: Final = "CNI-HOSTPORT-SETMARK"
_MASQUERADE: Final = "CNI-HOSTPORT-MASQ"


class PortMapping(NamedTuple):
    """One port of the node and the container's port behind it; `host_ip` "" is any address of the node."""

    host_port: int
    container_port: int
    protocol: str
    host_ip: str


class Config(NamedTuple):
    """The options. `set_mark_chain` is an external chain that marks; `conditions` restrict who is mapped."""

    mappings: tuple[PortMapping, ...]
    snat: bool
    mark_bit: int
    set_mark_chain: str
    conditions: Mapping[nat.Family, Sequence[str]]


def add(call: Call) -> Result:
    """Write the rules of this container; pass the previous result on."""
    config, previous = _config(call), call.needed_previous()
    if not config.mappings:
        return previous
    for family, address in _addresses(previous).items():
        there = nat.rules(family)
        lines = _entry_lines(there, config) + container_lines(call.network, call.container_id, config, family,
                                                                     address, there)
        nat.write(family, lines)
        if config.snat and family == "IPv4":
            _route_localnet(str(address.ip))
        _forget_udp(config, family)
    return previous


def delete(call: Call) -> None:
    """Remove the rules of this container; fine when there are none."""
    if _config(call).mappings or not call.config.get("runtimeConfig"):
        _remove({nat.chain_name("DN-", call.network, call.container_id)})


def check(call: Call) -> None:
    """Fail unless this container's rules are as ADD would write them."""
    config, previous = _config(call), call.needed_previous()
    for family, address in _addresses(previous).items() if config.mappings else ():
        there = nat.rules(family)
        chain = nat.chain_name("DN-", call.network, call.container_id)
        wanted = sum(1 for line in container_lines(call.network, call.container_id, config, family, address, ())
                     if line.startswith(f"-A {chain} "))
        found = sum(1 for line in there if line.startswith(f"-A {chain} "))
        if wanted != found or not any(line.split()[1] == _ENTRY and line.endswith(f" -j {chain}") for line in there):
            raise CniError(results.INTERNAL, f"the port mappings of {call.container_id} are not as they should be: "
                                             f"{found} of {wanted} rules in {chain}")


def gc(call: Call) -> None:
    """Remove the rules of this network's containers that have no valid attachment."""
    valid = {container_id for container_id, _ in call.valid_attachments()}
    for family in nat.families(("0.0.0.0", "::")):
        there = nat.rules(family)
        lines = nat.removal(there, nat.stale_chains(there, "DN-", call.network, valid))
        if lines:
            nat.write(family, lines)


PLUGIN: Final = Plugin("portmap", add, delete, check, gc)


def container_lines(network: str, container_id: str, config: Config, family: nat.Family,
                    address: IPv4Interface | IPv6Interface, there: Sequence[str]) -> list[str]:
    """Return the lines that make a container's chain and the jumps to it; what is there of them is replaced."""
    chain = nat.chain_name("DN-", network, container_id)
    lines = nat.emptied(there, chain)
    set_mark = config.set_mark_chain or _SETMARK
    by_protocol: dict[str, list[PortMapping]] = {}
    for item in config.mappings:
        if item.host_ip and ip_address(item.host_ip).version != address.version:
            continue
        by_protocol.setdefault(item.protocol, []).append(item)
        host = f"-d {item.host_ip}/{address.max_prefixlen} " if item.host_ip else ""
        port = f"-p {item.protocol} -m {item.protocol} --dport {item.host_port}"
        if config.snat:
            lines.append(f"-A {chain} -s {address.network} {host}{port} -j {set_mark}")
            if family == "IPv4":
                lines.append(f"-A {chain} -s 127.0.0.1/32 {host}{port} -j {set_mark}")
        target = f"[{address.ip}]" if family == "IPv6" else str(address.ip)
        lines.append(f"-A {chain} {host}{port} -j DNAT --to-destination {target}:{item.container_port}")
    whose = nat.comment(network, container_id, "dnat ")
    conditions = " ".join(config.conditions.get(family, ()))
    for protocol, items in by_protocol.items():
        ports = list(dict.fromkeys(item.host_port for item in items))
        for start in range(0, len(ports), 15):  # multiport takes 15
            listed = ",".join(map(str, ports[start:start + 15]))
            lines.append(" ".join(filter(None, (f"-A {_ENTRY} -p {protocol} {whose} -m multiport --dports {listed}",
                                                conditions, f"-j {chain}"))))
    return lines


def _entry_lines(there: Sequence[str], config: Config) -> list[str]:
    """Return the lines for what all containers share, as far as it is missing."""
    chains = {line.split()[0][1:] for line in there if line[0] == ":"}
    wanted = [(_ENTRY, f"-A {base} -m addrtype --dst-type LOCAL -j {_ENTRY}") for base in ("PREROUTING", "OUTPUT")]
    if config.snat and not config.set_mark_chain:
        mark = f"0x{1 << config.mark_bit:x}/0x{1 << config.mark_bit:x}"
        wanted += [(_SETMARK, (f'-A {_SETMARK} -m comment --comment "CNI portfwd masquerade mark" '
                               f"-j MARK --set-xmark {mark}")),
                   (_MASQUERADE, f"-A {_MASQUERADE} -m mark --mark {mark} -j MASQUERADE"),
                   (_MASQUERADE, ('-A POSTROUTING -m comment --comment "CNI portfwd requiring masquerade" '
                                  f"-j {_MASQUERADE}"))]
    lines = [f":{chain} - [0:0]" for chain in dict.fromkeys(chain for chain, _ in wanted) if chain not in chains]
    return lines + [line for _, line in wanted if line not in there]


def _remove(chains: set[str]) -> None:
    for family in nat.families(("0.0.0.0", "::")):
        lines = nat.removal(nat.rules(family), chains)
        if lines:
            nat.write(family, lines)


def _config(call: Call) -> Config:
    raw = call.config
    if raw.get("backend", "iptables") != "iptables":
        raise CniError(results.UNSUPPORTED_FIELD, "unsupported field in network configuration",
                       f'"backend": {raw["backend"]!r}')
    mark_bit = raw.get("markMasqBit", 13)
    if not isinstance(mark_bit, int) or not 0 <= mark_bit <= 31:
        raise CniError(results.INVALID_CONFIG, "MasqMarkBit must be between 0 and 31")
    if "markMasqBit" in raw and raw.get("externalSetMarkChain"):
        raise CniError(results.INVALID_CONFIG, "Cannot specify externalSetMarkChain and markMasqBit")
    listed = (raw.get("runtimeConfig") or {}).get("portMappings") or ()
    conditions: dict[nat.Family, Sequence[str]] = {"IPv4": raw.get("conditionsV4") or (),
                                                   "IPv6": raw.get("conditionsV6") or ()}
    return Config(tuple(_mapping(item) for item in listed), raw.get("snat") is not False, mark_bit,
                  raw.get("externalSetMarkChain") or "", conditions)


def _mapping(item: Mapping[str, Any]) -> PortMapping:
    host, container = item.get("hostPort") or 0, item.get("containerPort") or 0
    protocol = str(item.get("protocol") or "tcp").lower()
    for name, port in (("host", host), ("container", container)):
        if not isinstance(port, int) or not 0 < port < 65536:
            raise CniError(results.INVALID_CONFIG, f"Invalid {name} port number: {port}")
    if protocol not in ("tcp", "udp", "sctp"):
        raise CniError(results.INVALID_CONFIG, f"unknown protocol {protocol}")
    ip = str(item.get("hostIP") or "")
    try:
        any_address = not ip or ip_address(ip).is_unspecified
    except ValueError as error:
        raise CniError(results.INVALID_CONFIG, f"invalid hostIP: {error}") from None
    return PortMapping(host, container, protocol, "" if any_address else ip)


def _addresses(previous: Result) -> dict[nat.Family, IPv4Interface | IPv6Interface]:
    """Return the container's first address of each family."""
    found: dict[nat.Family, IPv4Interface | IPv6Interface] = {}
    for ip in previous.ips:
        inside = ip.interface < 0 or bool(previous.interfaces[ip.interface].sandbox)
        if inside:
            found.setdefault("IPv6" if ":" in ip.address else "IPv4", ip_interface(ip.address))
    if not found:
        raise CniError(results.INVALID_CONFIG, "could not determine the container's address from prevResult")
    return found


def _route_localnet(ip: str) -> None:
    """Let connections from 127.0.0.1 leave by the interface that leads to the container."""
    here = os.open(netns.OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        interface = lookup.route(here, ip).interface
    finally:
        os.close(here)
    if interface:
        sysctl.set_if_possible(f"net/ipv4/conf/{interface}/route_localnet", 1)


def _forget_udp(config: Config, family: nat.Family) -> None:
    ports = {item.host_port for item in config.mappings if item.protocol == "udp"}
    if not ports:
        return
    from netlab.kernel import conntrack
    conntrack.delete([flow for flow in conntrack.flows(protocol="udp", ipv6=family == "IPv6")
                      if flow.original.dport in ports])
