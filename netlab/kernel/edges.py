"""What stands at an interface outside of IP's hooks: tc filters, nftables chains of ingress and egress, XDP programs.

There a packet may end before any rule of iptables sees it, or after all of them have let it go (tc(8), nft(8):
families netdev and inet).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from netlab.errors import KernelError
from netlab.kernel import nfnetlink, rtnl
from netlab.kernel.netns import inside
from netlab.kernel.rtnl import Message, Rtnl, attributes

_TCMSG = struct.Struct("=BxxxiIII")
_GETQDISC, _GETTFILTER = 38, 46
_KIND: Final = 1
_PARENTS: Final = {"ingress": 0xFFFFFFF2, "egress": 0xFFFFFFF3}
_GETCHAIN: Final = 4
_CHAIN_TABLE, _CHAIN_NAME, _CHAIN_HOOK = 1, 3, 4
_HOOK_NUMBER, _HOOK_DEVICE, _HOOK_DEVICES = 1, 3, 4
_NETDEV, _INET, _BRIDGE = 5, 1, 7
_INET_INGRESS: Final = 5


class Edge(NamedTuple):
    """One thing: `side` is ingress, egress, or "" for a bridge's; `interface` "" is any; `words` name it."""

    interface: str
    side: str
    words: str


def edges(netns: int, interfaces: Mapping[int, str]) -> tuple[Edge, ...]:
    """Return all of a namespace; what the kernel does not tell is left out.

    Args:
        netns: a descriptor of the namespace.
        interfaces: its interfaces' names by number.
    """
    return (*filters(netns, interfaces), *chains(netns))


def filters(netns: int, interfaces: Mapping[int, str]) -> tuple[Edge, ...]:
    """Return the tc filters at interfaces with an ingress or clsact qdisc: one question where there is none."""
    with Rtnl(netns) as sock:
        try:
            with_filters = [(index, kind) for index, kind in _asked(sock, _GETQDISC) if kind in ("clsact", "ingress")]
            found: dict[Edge, None] = {}
            for index, qdisc in with_filters:
                for side, parent in _PARENTS.items():
                    if side == "egress" and qdisc == "ingress":
                        continue
                    for _, kind in _asked(sock, _GETTFILTER, index, parent):
                        name = interfaces.get(index, str(index))
                        found[Edge(name, side, f"a tc filter ({kind}): tc filter show dev {name} {side}")] = None
        except KernelError:  # a kernel without tc
            return ()
    return tuple(found)


def chains(netns: int) -> tuple[Edge, ...]:
    """Return nftables' chains of ingress and egress, and those of bridges."""
    found: list[Edge] = []
    try:
        with inside(netns):
            sock = nfnetlink.open_socket(buffer=4 << 20)
        with sock:
            for family, name in ((_NETDEV, "netdev"), (_INET, "inet"), (_BRIDGE, "bridge")):
                for body in nfnetlink.dump(sock, nfnetlink.SUBSYS_NFTABLES, _GETCHAIN, family=family):
                    found += _chain(dict(nfnetlink.attributes(body)), family, name)
    except (KernelError, OSError):  # a kernel without nftables
        return ()
    return tuple(found)


def _chain(chain: Mapping[int, bytes], family: int, name: str) -> Iterator[Edge]:
    hook = dict(nfnetlink.attributes(chain[_CHAIN_HOOK])) if _CHAIN_HOOK in chain else {}
    number = int.from_bytes(hook.get(_HOOK_NUMBER, b""), "big")
    if not hook or (family == _INET and number != _INET_INGRESS):
        return
    words = f"the chain {_text(chain[_CHAIN_NAME])} of nftables' table {name} {_text(chain[_CHAIN_TABLE])}"
    if family == _BRIDGE:
        yield Edge("", "", words)
        return
    devices = [_text(raw) for _, raw in nfnetlink.attributes(hook[_HOOK_DEVICES])] if _HOOK_DEVICES in hook else \
        [_text(hook.get(_HOOK_DEVICE, b""))]
    for device in devices:
        yield Edge(device, "egress" if family == _NETDEV and number == 1 else "ingress", words)


def _asked(sock: Rtnl, kind: int, index: int = 0, parent: int = 0) -> Iterator[tuple[int, str]]:
    """Yield interface and kind of every qdisc, or of the filters at one place."""
    body = _TCMSG.pack(0, index, 0, parent, 0)
    for answer in sock.ask(Message(kind, rtnl.DUMP, body, "list tc's qdiscs and filters")):
        _, found, _, _, _ = _TCMSG.unpack_from(answer)
        yield found, _text(attributes(answer, _TCMSG.size).get(_KIND, b""))


def _text(raw: bytes) -> str:
    return raw.rstrip(b"\0").decode(errors="replace")


__all__ = ["Edge", "chains", "edges", "filters"]
