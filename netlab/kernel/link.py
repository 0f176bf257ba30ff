"""Links and their addresses: veth cables, bridges and their ports, vxlan devices.

Functions that only return a `rtnl.Message` are for batches; those that take a `Rtnl` socket first act at once. What
netlab makes carries a mark in its alias (IFLA_IFALIAS, shown by `ip link` as `alias`), and `delete_marked` removes
what carries it and nothing else.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from netlab.errors import KernelError, NotFound
from netlab.kernel import rtnl
from netlab.kernel.rtnl import Message, Rtnl, attribute, attributes, nested

UP: Final = 0x1
LOWER_UP: Final = 0x10000
PROMISCUOUS: Final = 0x100

_ADDRESS, _IFNAME, _MTU, _MASTER, _LINKINFO, _NET_NS_FD, _IFALIAS, _GROUP, _LINK = 1, 3, 4, 10, 18, 28, 20, 27, 5
_AF_SPEC, _ADDRESS_GENERATION = 26, 8
_INFO_KIND, _INFO_DATA, _INFO_SLAVE_KIND, _INFO_SLAVE_DATA = 1, 2, 4, 5
_VETH_PEER = 1
_BR_MCAST_SNOOPING = 23
_PORT_HAIRPIN, _PORT_ISOLATED = 4, 33
_NODAD = 0x02
_IFINFO = struct.Struct("=BxHiII")
_IFADDR = struct.Struct("=BBBBi")


class Link(NamedTuple):
    """One interface as the kernel describes it. `master` and `peer` are interface indices, 0 for none.

    `peer` of a veth is the other end's index in its own namespace. `kind` is "" for hardware and lo.
    """

    ifindex: int
    name: str
    kind: str
    mac: str
    mtu: int
    flags: int
    master: int
    peer: int
    alias: str

    @property
    def up(self) -> bool:
        """Tell whether it is set up (which says nothing about its cable)."""
        return bool(self.flags & UP)


class Address(NamedTuple):
    """One address of an interface, e.g. ifindex 2, "10.244.1.7", 24. `flags` are IFA_F_*."""

    ifindex: int
    ip: str
    prefix: int
    flags: int

    @property
    def cidr(self) -> str:
        """Return `10.244.1.7/24`."""
        return f"{self.ip}/{self.prefix}"


def pack_ip(text: str) -> tuple[int, bytes]:
    """Return (address family, packed bytes) of an address.

    Raises:
        KernelError: EINVAL, the text is no address.
    """
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    try:
        return family, socket.inet_pton(family, text)
    except OSError:
        raise KernelError(f'"{text}" is not an IP address', errno=errno.EINVAL) from None


def pack_cidr(text: str) -> tuple[int, bytes, int]:
    """Return (address family, packed address, prefix length) of `address/length`; no length means one host.

    Raises:
        KernelError: EINVAL, the text is no address with a length.
    """
    ip, _, length = text.partition("/")
    family, packed = pack_ip(ip)
    most = len(packed) * 8
    if length and not (length.isdigit() and int(length) <= most):
        raise KernelError(f'"{text}" is not an IP address with a prefix length', errno=errno.EINVAL)
    return family, packed, int(length) if length else most


def unpack_ip(family: int, packed: bytes) -> str:
    """Return the text of a packed address."""
    return socket.inet_ntop(family, packed)


def overlap(one: str, other: str) -> bool:
    """Tell whether two prefixes of one family have addresses in common."""
    (_, a, short), (_, b, long) = pack_cidr(one), pack_cidr(other)
    shift = len(a) * 8 - min(short, long)
    return len(a) == len(b) and int.from_bytes(a, "big") >> shift == int.from_bytes(b, "big") >> shift


def random_mac() -> str:
    """Return a random unicast address of the locally administered kind."""
    raw = bytearray(os.urandom(6))
    raw[0] = raw[0] & 0xFC | 0x02
    return raw.hex(":")


# --- messages ---------------------------------------------------------------------------------------------------------

def change(link: int | str, *, up: bool | None = None, alias: str | None = None, mtu: int = 0, mac: str = "",
           master: int | None = None, name: str = "", promiscuous: bool | None = None, group: int | None = None,
           netns_fd: int = -1, address_generation: bool = True) -> Message:
    """Change an existing link, named or by index. `master` 0 takes it off its bridge.

    Without `address_generation` it gets no IPv6 link-local address: a bridge's port needs none, and says nothing then.
    """
    index = link if isinstance(link, int) else 0
    flags, mask = 0, 0
    for wanted, bit in ((up, UP), (promiscuous, PROMISCUOUS)):
        if wanted is not None:
            flags, mask = flags | (bit if wanted else 0), mask | bit
    parts = [_IFINFO.pack(0, 0, index, flags, mask)]
    if name or not index:
        parts.append(attribute(_IFNAME, name or str(link)))
    if alias is not None:
        parts.append(attribute(_IFALIAS, alias.encode()[:255]))
    if mtu:
        parts.append(attribute(_MTU, mtu))
    if mac:
        parts.append(attribute(_ADDRESS, _pack_mac(mac)))
    if master is not None:
        parts.append(attribute(_MASTER, master))
    if group is not None:
        parts.append(attribute(_GROUP, group))
    if netns_fd >= 0:
        parts.append(attribute(_NET_NS_FD, netns_fd))
    if not address_generation:
        parts.append(nested(_AF_SPEC, nested(socket.AF_INET6, attribute(_ADDRESS_GENERATION, b"\1"))))
    return Message(rtnl.SETLINK, 0, b"".join(parts), f"change the link {link}")


def new_veth(name: str, peer: str, *, peer_netns: int = -1, mac: str = "", peer_mac: str = "", mtu: int = 0,
             master: int = 0) -> Message:
    """Make a cable; `peer` is made in the namespace behind the descriptor `peer_netns` (-1: here) at once."""
    far = [_IFINFO.pack(0, 0, 0, 0, 0), attribute(_IFNAME, peer)]
    near = [_IFINFO.pack(0, 0, 0, 0, 0), attribute(_IFNAME, name)]
    for parts, address in ((far, peer_mac), (near, mac)):
        if address:
            parts.append(attribute(_ADDRESS, _pack_mac(address)))
        if mtu:
            parts.append(attribute(_MTU, mtu))
    if peer_netns >= 0:
        far.append(attribute(_NET_NS_FD, peer_netns))
    if master:
        near.append(attribute(_MASTER, master))
    near.append(nested(_LINKINFO, attribute(_INFO_KIND, "veth"), nested(_INFO_DATA, nested(_VETH_PEER, *far))))
    return Message(rtnl.NEWLINK, rtnl.CREATE | rtnl.EXCLUDE, b"".join(near), f"make the cable {name} to {peer}")


def new_bridge(name: str, *, mac: str = "", mtu: int = 0, multicast_snooping: bool = False) -> Message:
    """Make a bridge. An explicit `mac` keeps it from following its ports'; snooping costs a third of a Pod's set-up."""
    parts = [_IFINFO.pack(0, 0, 0, 0, 0), attribute(_IFNAME, name)]
    if mac:
        parts.append(attribute(_ADDRESS, _pack_mac(mac)))
    if mtu:
        parts.append(attribute(_MTU, mtu))
    parts.append(nested(_LINKINFO, attribute(_INFO_KIND, "bridge"),
                        nested(_INFO_DATA, attribute(_BR_MCAST_SNOOPING, bytes([multicast_snooping])))))
    return Message(rtnl.NEWLINK, rtnl.CREATE | rtnl.EXCLUDE, b"".join(parts), f"make the bridge {name}")


def change_port(link: int | str, *, hairpin: bool | None = None, isolated: bool | None = None) -> Message:
    """Change a bridge port. `hairpin` lets a frame leave by the port it came in; `isolated` ports see no other such."""
    index = link if isinstance(link, int) else 0
    data = [attribute(kind, bytes([wanted])) for kind, wanted in ((_PORT_HAIRPIN, hairpin), (_PORT_ISOLATED, isolated))
            if wanted is not None]
    parts = [_IFINFO.pack(0, 0, index, 0, 0)]
    if not index:
        parts.append(attribute(_IFNAME, str(link)))
    parts.append(nested(_LINKINFO, attribute(_INFO_SLAVE_KIND, "bridge"), nested(_INFO_SLAVE_DATA, *data)))
    return Message(rtnl.NEWLINK, 0, b"".join(parts), f"change the bridge port {link}")


def new_address(index: int, cidr: str, *, replace: bool = False) -> Message:
    """Give an address such as `10.244.1.7/24` to an interface. IPv6 ones skip duplicate detection: usable at once."""
    family, packed, prefix = pack_cidr(cidr)
    body = [_IFADDR.pack(family, prefix, _NODAD if family == socket.AF_INET6 else 0, 0, index),
            attribute(1, packed), attribute(2, packed)]
    if family == socket.AF_INET and prefix < 31:
        number = int.from_bytes(packed, "big") | (1 << 32 - prefix) - 1
        body.append(attribute(4, number.to_bytes(4, "big")))
    return Message(rtnl.NEWADDR, rtnl.CREATE | (rtnl.REPLACE if replace else rtnl.EXCLUDE), b"".join(body),
                   f"add the address {cidr}")


def delete_address(index: int, cidr: str) -> Message:
    """Take an address off an interface."""
    family, packed, prefix = pack_cidr(cidr)
    return Message(rtnl.DELADDR, 0, _IFADDR.pack(family, prefix, 0, 0, index) + attribute(2, packed),
                   f"remove the address {cidr}")


def delete(link: int | str) -> Message:
    """Delete a link; a cable goes with both ends, a bridge frees its ports. The kernel takes up to 20 ms."""
    index = link if isinstance(link, int) else 0
    name = b"" if index else attribute(_IFNAME, str(link))
    return Message(rtnl.DELLINK, 0, _IFINFO.pack(0, 0, index, 0, 0) + name, f"delete the link {link}")


def delete_group(group: int) -> Message:
    """Delete all links of a group (`change(group=...)`) at once: 0.45 ms each instead of 20."""
    return Message(rtnl.DELLINK, 0, _IFINFO.pack(0, 0, 0, 0, 0) + attribute(_GROUP, group),
                   f"delete the link group {group}")


# --- reading ----------------------------------------------------------------------------------------------------------

def links(sock: Rtnl) -> list[Link]:
    """Return all links of the namespace."""
    answers = sock.ask(Message(rtnl.GETLINK, rtnl.DUMP, _IFINFO.pack(0, 0, 0, 0, 0), "list the links"))
    return [parse_link(answer) for answer in answers]


def find(sock: Rtnl, link: int | str) -> Link | None:
    """Return one link by name or index; None when it is not there."""
    by_index = isinstance(link, int)
    body = _IFINFO.pack(0, 0, link if by_index else 0, 0, 0) + (b"" if by_index else attribute(_IFNAME, str(link)))
    try:
        answers = sock.ask(Message(rtnl.GETLINK, 0, body, f"read the link {link}"))
    except KernelError as error:
        if error.errno in (errno.ENODEV, errno.EINVAL, errno.ERANGE):
            return None
        raise
    return parse_link(answers[0]) if answers else None


def get(sock: Rtnl, link: int | str) -> Link:
    """Return one link by name or index.

    Raises:
        NotFound: there is none.
    """
    found = find(sock, link)
    if found is None:
        raise NotFound(f"there is no link {link}")
    return found


def addresses(sock: Rtnl, index: int = 0) -> list[Address]:
    """Return the addresses of the namespace, or of one interface."""
    answers = sock.ask(Message(rtnl.GETADDR, rtnl.DUMP, _IFADDR.pack(0, 0, 0, 0, index), "list the addresses"))
    found = []
    for answer in answers:
        family, prefix, flags, _, at = _IFADDR.unpack_from(answer)
        parts = attributes(answer, _IFADDR.size)
        packed = parts.get(2, parts.get(1, b""))
        if packed and (not index or at == index):
            flags = int.from_bytes(parts[8], "little") if 8 in parts else flags
            found.append(Address(at, socket.inet_ntop(family, packed), prefix, flags))
    return found


# --- acting -----------------------------------------------------------------------------------------------------------

def add_bridge(sock: Rtnl, name: str, *, mark: str = "", mac: str = "", mtu: int = 0,
               multicast_snooping: bool = False) -> Link:
    """Return the bridge of that name, up; made now if it is not there.

    Raises:
        KernelError: EEXIST when the name belongs to something that is no bridge.
    """
    found = find(sock, name)
    if found is None:
        sock.send(new_bridge(name, mac=mac or random_mac(), mtu=mtu, multicast_snooping=multicast_snooping),
                  change(name, up=True, alias=mark or None), ignore=(errno.EEXIST,))
        return get(sock, name)
    if found.kind != "bridge":
        raise KernelError(f"the link {name} is there and is no bridge", errno=errno.EEXIST)
    if not found.up:
        sock.send(change(found.ifindex, up=True))
    return found


def add_veth(sock: Rtnl, name: str, peer: str, *, peer_netns: int = -1, master: str = "", mark: str = "",
             mtu: int = 0, mac: str = "", peer_mac: str = "") -> Link:
    """Make a cable from here to `peer` in another namespace; this end is up, the far one is the caller's to set up."""
    bridge = get(sock, master).ifindex if master else 0
    sock.send(new_veth(name, peer, peer_netns=peer_netns, mac=mac, peer_mac=peer_mac, mtu=mtu, master=bridge),
              change(name, up=True, alias=mark or None))
    return get(sock, name)


def add_address(sock: Rtnl, name: str, cidr: str) -> None:
    """Give an address to a link; fine when it has it already."""
    sock.send(new_address(get(sock, name).ifindex, cidr), ignore=(errno.EEXIST,))


def set_up(sock: Rtnl, *names: str) -> None:
    """Set links up, e.g. `lo`, ready for traffic as far as their cables are."""
    sock.send(*(change(name, up=True) for name in names))
    settle(sock, *names)


def settle(sock: Rtnl, *names: int | str) -> None:
    """Have the kernel take in now whether these links' cables carry: a question about a link makes it look.

    Left alone it looks once a second at most (linkwatch), and until then a link whose far end has just come up
    answers no IPv6 neighbour and may not be forwarded to. Links that are gone are passed over.
    """
    for name in names:
        find(sock, name)


def add(sock: Rtnl, name: str, kind: str, options: Mapping[str, Any], *, mark: str = "", mac: str = "") -> Link:
    """Make a link of any kind by pyroute2's tables.

    `options` are the kind's netlink attributes in pyroute2's spelling, e.g. {"IFLA_VXLAN_ID": 1}.
    """
    from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg  # 115 ms and 32 MB: only where something rare is made
    message = ifinfmsg()
    message["attrs"] = [["IFLA_IFNAME", name], *([["IFLA_ADDRESS", mac]] if mac else []),
                        ["IFLA_LINKINFO", {"attrs": [["IFLA_INFO_KIND", kind], ["IFLA_INFO_DATA", {
                            "attrs": [[key, value] for key, value in options.items()]}]]}]]
    message.encode()
    sock.send(Message(rtnl.NEWLINK, rtnl.CREATE | rtnl.EXCLUDE, bytes(message.data[16:]),
                      f"make the {kind} link {name}"), change(name, alias=mark or None))
    return get(sock, name)


def remove(sock: Rtnl, name: str) -> bool:
    """Delete a link by name; False when it was not there."""
    error = sock.try_send(delete(name))[0]
    if error is not None and error.errno not in (errno.ENODEV, errno.EINVAL):
        raise error
    return error is None


def delete_marked(sock: Rtnl, mark: str) -> int:
    """Delete every link whose alias begins with `mark`, all in one go; return how many there were."""
    group = 0x6E6C0000 + (os.getpid() & 0xFFFF)
    marked = [link for link in links(sock) if mark and link.alias.startswith(mark)]
    if marked:
        sock.try_send(*(change(link.ifindex, group=group) for link in marked))
        sock.send(delete_group(group), ignore=(errno.ENODEV,))
    return len(marked)


def _pack_mac(text: str) -> bytes:
    try:
        raw = bytes.fromhex(text.replace(":", "").replace("-", ""))
    except ValueError:
        raw = b""
    if len(raw) != 6:
        raise KernelError(f'"{text}" is not an Ethernet address', errno=errno.EINVAL)
    return raw


def parse_link(answer: bytes) -> Link:
    """Return the link in the answer to RTM_GETLINK."""
    _, _, index, flags, _ = _IFINFO.unpack_from(answer)
    parts = attributes(answer, _IFINFO.size)
    info = attributes(parts.get(_LINKINFO, b""))
    return Link(ifindex=index, name=_text(parts.get(_IFNAME)), kind=_text(info.get(_INFO_KIND)),
                mac=parts.get(_ADDRESS, b"").hex(":"), mtu=_number(parts.get(_MTU)), flags=flags,
                master=_number(parts.get(_MASTER)), peer=_number(parts.get(_LINK)), alias=_text(parts.get(_IFALIAS)))


def _text(raw: bytes | None) -> str:
    return (raw or b"").rstrip(b"\0").decode(errors="replace")


def _number(raw: bytes | None) -> int:
    return int.from_bytes(raw, "little") if raw else 0
