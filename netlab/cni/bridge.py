"""The plugin bridge: a bridge on the node, a cable from it to each container (plugins/main/bridge).

Options as in the reference plugin. Host ends of cables are named after the container (`veth` and eight hex digits), so
that DEL and GC find one whose namespace is gone; their alias tells whose they are.
"""

from __future__ import annotations

import errno
import os
from binascii import crc32
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from netlab.cni import delegate
from netlab.cni import result as results
from netlab.cni.result import IP, CniError, Interface, Result, Route
from netlab.cni.skel import Call, Plugin
from netlab.errors import NetnsGone
from netlab.kernel import link, netns, podnet, route, sysctl
from netlab.kernel.rtnl import Rtnl

_REFUSED: Final = {"vlan": 0, "vlanTrunk": None, "macspoofchk": False, "disableContainerInterface": False,
                   "enabledad": False}  # option: the value at which it means nothing


class Config(NamedTuple):
    """The options of one network."""

    bridge: str
    is_gateway: bool
    is_default_gateway: bool
    force_address: bool
    ip_masq: bool
    mtu: int
    hairpin: bool
    promiscuous: bool
    isolated: bool
    ipam: str
    mac: str


def add(call: Call) -> Result:
    """Make the bridge if need be, plug the container in, and say what was made."""
    config = _config(call)
    fd = _open(call.netns)
    try:
        if netns.inode(fd) == os.stat(netns.OWN).st_ino:
            raise CniError(results.INVALID_NETNS,
                           "plugin's netns and netns from CNI_NETNS should not be the same")
        with Rtnl() as node, Rtnl(fd) as pod:
            bridge = _bridge(node, config)
            if link.find(pod, call.ifname) is not None:
                raise CniError(results.INTERNAL, f"container veth name provided ({call.ifname}) already exists")
            given = delegate.add(call, config.ipam) if config.ipam else Result()
            try:
                return _plug(call, config, node, pod, bridge, fd, given)
            except BaseException:
                if config.ipam:
                    delegate.forward(call._replace(verb="DEL"), config.ipam)
                raise
    finally:
        os.close(fd)


def delete(call: Call) -> None:
    """Give the address back and remove the cable; fine when they, or the namespace, are gone."""
    config = _config(call)
    if config.ipam:
        delegate.forward(call, config.ipam)
    previous = call.previous
    ips = {ip.address for ip in previous.ips} if previous else set()
    ips |= _unplug(call, config)
    if config.ip_masq:
        from netlab.cni import masquerade
        masquerade.remove(call.network, call.container_id, ips)


def check(call: Call) -> None:
    """Compare the kernel's state with prevResult."""
    config = _config(call)
    previous = call.needed_previous()
    if config.ipam:
        delegate.forward(call, config.ipam)
    with Rtnl() as node:
        bridge = link.find(node, config.bridge)
        if bridge is None or bridge.kind != "bridge":
            raise CniError(results.INTERNAL, f"bridge {config.bridge} is missing or no bridge")
        fd = _open(call.netns)
        try:
            peer = _check_container(call, previous, fd)
        finally:
            os.close(fd)
        port = link.find(node, peer)
        if port is None or port.master != bridge.ifindex:
            raise CniError(results.INTERNAL, f"the cable of {call.ifname} is not plugged into {config.bridge}")


def gc(call: Call) -> None:
    """Remove the cables of this network that have no valid attachment, and let the IPAM plugin do the same."""
    config = _config(call)
    valid = call.valid_attachments()
    with Rtnl() as node:
        for found in link.links(node):
            words = found.alias.split()
            if found.kind == "veth" and words[:2] == ["netlab-cni", call.network] and len(words) >= 4 \
                    and (words[2], words[3]) not in valid:
                link.remove(node, found.name)
    if config.ip_masq:
        from netlab.cni import masquerade
        masquerade.collect(call.network, {container_id for container_id, _ in valid})
    if config.ipam:
        delegate.forward(call, config.ipam)


def status(call: Call) -> None:
    """Fail when the IPAM plugin could not serve an ADD."""
    config = _config(call)
    if config.ipam:
        delegate.forward(call, config.ipam)


PLUGIN: Final = Plugin("bridge", add, delete, check, gc, status)


def host_name(container_id: str, ifname: str) -> str:
    """Return the name of the host's end of a container's cable."""
    return f"veth{crc32(f'{container_id} {ifname}'.encode()):08x}"


def default_gateway_of(ip: IP) -> str:
    """Return an address' gateway: the one it has, else the first address of its subnet."""
    if ip.gateway:
        return ip.gateway
    family, packed, prefix = link.pack_cidr(ip.address)
    bits = len(packed) * 8
    first = (int.from_bytes(packed, "big") >> bits - prefix << bits - prefix) + 1
    return link.unpack_ip(family, first.to_bytes(len(packed), "big"))


def _config(call: Call) -> Config:
    raw = call.config
    for option, harmless in _REFUSED.items():
        if raw.get(option, harmless) != harmless and raw.get(option):
            raise CniError(results.UNSUPPORTED_FIELD, "unsupported field in network configuration",
                           f'"{option}": {raw[option]!r}')
    hairpin, promiscuous = bool(raw.get("hairpinMode")), bool(raw.get("promiscMode"))
    if hairpin and promiscuous:
        raise CniError(results.INVALID_CONFIG, "cannot set hairpin mode and promiscuous mode at the same time.")
    if raw.get("ipMasqBackend", "iptables") not in ("", "iptables"):
        raise CniError(results.UNSUPPORTED_FIELD, "unsupported field in network configuration",
                       f'"ipMasqBackend": {raw["ipMasqBackend"]!r}')
    mtu = raw.get("mtu") or 0
    if not isinstance(mtu, int) or mtu < 0:
        raise CniError(results.INVALID_CONFIG, f"invalid mtu {mtu!r}")
    arguments = (raw.get("args") or {}).get("cni") or {}
    mac = (raw.get("runtimeConfig") or {}).get("mac") or arguments.get("mac") or call.args.get("MAC", "")
    return Config(bridge=raw.get("bridge") or "cni0",
                  is_gateway=bool(raw.get("isGateway") or raw.get("isDefaultGateway")),
                  is_default_gateway=bool(raw.get("isDefaultGateway")), force_address=bool(raw.get("forceAddress")),
                  ip_masq=bool(raw.get("ipMasq")), mtu=mtu, hairpin=hairpin, promiscuous=promiscuous,
                  isolated=bool(raw.get("portIsolation")), ipam=_ipam_type(raw), mac=mac)


def _ipam_type(raw: Mapping[str, Any]) -> str:
    ipam = raw.get("ipam") or {}
    if not isinstance(ipam, dict):
        raise CniError(results.INVALID_CONFIG, "ipam is not a JSON object")
    return str(ipam.get("type") or "")


def _open(path: str) -> int:
    try:
        return netns.open_netns(path)
    except NetnsGone as error:
        raise CniError(results.INTERNAL, f'failed to open netns "{path}"', str(error)) from None


def _bridge(node: Rtnl, config: Config) -> link.Link:
    found = link.find(node, config.bridge)
    if found is not None and found.kind == "bridge" and found.up:
        return found
    if found is None:
        node.send(link.new_bridge(config.bridge, mac=link.random_mac(), mtu=config.mtu), ignore=(errno.EEXIST,))
        # before it is up: duplicate detection would keep IPv6 from being forwarded for its first two seconds
        sysctl.set_if_possible(f"net/ipv6/conf/{config.bridge}/accept_dad", 0)
        sysctl.set_if_possible(f"net/ipv6/conf/{config.bridge}/accept_ra", 0)
    bridge = link.add_bridge(node, config.bridge)
    if not bridge.alias:
        node.send(link.change(bridge.ifindex, alias="netlab-cni"))
    if config.promiscuous:
        node.send(link.change(bridge.ifindex, promiscuous=True))
    return bridge


def _alias(call: Call, *, pod: bool = True) -> str:
    """Return whose cable it is: network, container, interface, and the Pod where the runtime tells it."""
    name = "/".join(filter(None, (call.args.get("K8S_POD_NAMESPACE"), call.args.get("K8S_POD_NAME")))) if pod else ""
    return f"netlab-cni {call.network} {call.container_id} {call.ifname} {name}".rstrip()


def _plug(call: Call, config: Config, node: Rtnl, pod: Rtnl, bridge: link.Link, fd: int, given: Result) -> Result:
    if config.ipam and not given.ips:
        raise CniError(results.INTERNAL, "IPAM plugin returned missing IP config")
    ips = tuple(ip._replace(interface=2, gateway=default_gateway_of(ip) if config.is_gateway else ip.gateway)
                for ip in given.ips)
    routes = given.routes
    if config.is_default_gateway:
        for ip in ips:
            dst = "::/0" if ":" in ip.address else "0.0.0.0/0"
            if not any(item.dst == dst for item in routes):
                routes += (Route(dst, ip.gateway),)
    mac, host_mac = config.mac or _mac_of(ips), link.random_mac()
    name = host_name(call.container_id, call.ifname)
    podnet.attach(node, pod, fd, podnet.Plug(
        ifname=call.ifname, host_name=name, bridge=bridge.ifindex, mac=mac, host_mac=host_mac, mtu=config.mtu,
        addresses=tuple(ip.address for ip in ips), routes=tuple(_kernel_route(item, ips) for item in routes),
        alias=_alias(call), hairpin=config.hairpin, isolated=config.isolated))
    try:
        if config.is_gateway:
            _be_gateway(node, config, bridge, ips)
        if config.ip_masq:
            from netlab.cni import masquerade
            masquerade.add(call.network, call.container_id, [ip.address for ip in ips])
    except BaseException:
        podnet.detach(node, name)
        raise
    mtu = config.mtu or bridge.mtu
    interfaces = (Interface(config.bridge, bridge.mac, bridge.mtu), Interface(name, host_mac, mtu),
                  Interface(call.ifname, mac, mtu, call.netns))
    return Result(interfaces, ips, routes, call.config.get("dns") or given.dns)


def _mac_of(ips: tuple[IP, ...]) -> str:
    """Return 0a:58 and the IPv4 address: an address that is given out again keeps its neighbours' tables right."""
    four = next((ip.address for ip in ips if ":" not in ip.address), None)
    return "0a:58:" + link.pack_cidr(four)[1].hex(":") if four else link.random_mac()


def _kernel_route(item: Route, ips: tuple[IP, ...]) -> route.Route:
    six = ":" in item.dst
    gateway = item.gw or next((ip.gateway for ip in ips if (":" in ip.address) == six), "")
    scope = item.scope if item.scope is not None else route.SCOPE_GLOBAL if gateway else route.SCOPE_LINK
    return route.Route(dst=item.dst, gateway=gateway, ifindex=0, protocol=3, metric=item.priority or 0,
                       table=item.table or route.MAIN_TABLE, scope=scope, mtu=item.mtu or 0, advmss=item.advmss or 0)


def _be_gateway(node: Rtnl, config: Config, bridge: link.Link, ips: tuple[IP, ...]) -> None:
    there = link.addresses(node, bridge.ifindex)
    for ip in ips:
        wanted = f"{ip.gateway}/{ip.address.partition('/')[2]}"
        if not any(address.cidr == wanted for address in there):
            _replace_gateway(node, config, bridge, wanted, there)
        six = ":" in wanted
        sysctl.write("net.ipv6.conf.all.forwarding" if six else "net.ipv4.ip_forward", 1)


def _replace_gateway(node: Rtnl, config: Config, bridge: link.Link, wanted: str, there: list[link.Address]) -> None:
    for address in there:
        if (":" in address.ip) == (":" in wanted) and (":" not in wanted or link.overlap(address.cidr, wanted)):
            if not config.force_address:
                raise CniError(results.INTERNAL, f'failed to set bridge addr: "{config.bridge}" already has an IP '
                                                 f"address different from {wanted}")
            node.send(link.delete_address(bridge.ifindex, address.cidr), ignore=(errno.EADDRNOTAVAIL,))
    node.send(link.new_address(bridge.ifindex, wanted), ignore=(errno.EEXIST,))


def _unplug(call: Call, config: Config) -> set[str]:
    """Remove the cable by its end here, or by the container's when another plugin made it; return its addresses.

    A path such as /proc/1/fd/7 may have come to mean another container's namespace since ADD, so what is found there
    is only removed when it is a cable to our bridge that bears nobody's mark.
    """
    try:
        fd = netns.open_netns(call.netns) if call.netns else -1
    except NetnsGone:
        fd = -1
    try:
        with Rtnl() as node:
            own = link.find(node, host_name(call.container_id, call.ifname))
            if own is not None and own.alias.startswith(_alias(call, pod=False)):
                podnet.vanish(node, own.name)
            elif fd >= 0:
                return _unplug_foreign(node, fd, call, config)
    except NetnsGone:
        pass  # the path is there, and is no namespace any more
    finally:
        if fd >= 0:
            os.close(fd)
    return set()


def _unplug_foreign(node: Rtnl, fd: int, call: Call, config: Config) -> set[str]:
    with Rtnl(fd) as pod:
        found = link.find(pod, call.ifname)
        port = link.find(node, found.peer) if found is not None and found.kind == "veth" else None
        bridge = link.find(node, config.bridge)
        if found is None or port is None or port.alias or bridge is None or port.master != bridge.ifindex:
            return set()
        ips = {address.cidr for address in link.addresses(pod, found.ifindex)}
        podnet.vanish(node, port.name)
    return ips


def _check_container(call: Call, previous: Result, fd: int) -> int:
    """Compare the container's side; return the index of the cable's other end."""
    with Rtnl(fd) as pod:
        found = link.find(pod, call.ifname)
        if found is None:
            raise CniError(results.INTERNAL, f"container interface {call.ifname} is missing")
        there = {address.cidr for address in link.addresses(pod, found.ifindex)}
        mine = [interface for interface in previous.interfaces if interface.sandbox]
        if mine and mine[0].mac and mine[0].mac != found.mac:
            raise CniError(results.INTERNAL, f"{call.ifname} has the address {found.mac}, not {mine[0].mac}")
        for ip in previous.ips:
            if ip.address not in there:
                raise CniError(results.INTERNAL, f"{call.ifname} does not have the address {ip.address}")
        routes = {(item.dst, item.gateway) for item in route.routes(pod)}
        for item in previous.routes:
            expected = _kernel_route(item, previous.ips)
            if (expected.dst, expected.gateway) not in routes:
                raise CniError(results.INTERNAL, f"the container has no route to {expected.dst}"
                                                 + (f" via {expected.gateway}" if expected.gateway else ""))
        return found.peer
