"""Notice that rules, routes, links or settings of this network namespace may have changed: some 150 us a look.

nftables counts its transactions (the generation); routes, routing rules, links, addresses, and what of the settings
decides about forwarding are announced by rtnetlink. Legacy iptables says nothing: where it is in use, rules have to be
read now and then; so are the other settings, at each look.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable
from typing import Final, NamedTuple

from netlab.kernel import iptables, nfnetlink, sysctl
from netlab.kernel.nft import NFT_MSG_GETGEN

_GROUPS: Final = (1, 5, 7, 8, 9, 11, 19, 24, 25)
"""RTNLGRP_ LINK, IPV4_IFADDR, IPV4_ROUTE, IPV4_RULE, IPV6_IFADDR, IPV6_ROUTE, IPV6_RULE, IPV4_NETCONF, IPV6_NETCONF."""


class Stamp(NamedTuple):
    """What is another value once something may have changed: of the rules, and of all around them."""

    rules: tuple[object, ...]
    network: tuple[object, ...]


class RuleWatch:
    """Looks at the network namespace that it was opened in; `sysctls` are settings to look at, too."""

    def __init__(self, sysctls: Iterable[str] = ()) -> None:
        self._sysctls = tuple(sysctls)
        self._nft = nfnetlink.open_socket()
        self._nft.settimeout(1)
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        self._routes = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
        self._routes.bind((0, sum(1 << group - 1 for group in _GROUPS)))
        self._announced = 0

    def stamp(self, now: float, *, legacy_every: float = 5.0) -> Stamp:
        """Return what is another value once something may have changed.

        Args:
            now: a clock's time in seconds.
            legacy_every: where legacy tables are in use, another value comes this often.
        """
        legacy = [table for tables in iptables.tables_in_use().values() for table in tables]
        return Stamp((self._generation(), *legacy, int(now / legacy_every) if legacy else 0),
                     (self._heard(), *sysctl.read_all(self._sysctls).items()))

    def _generation(self) -> int:
        """Return the number of nftables' last transaction; 0 where the kernel has no nftables."""
        try:
            self._nft.send(nfnetlink.request(nfnetlink.SUBSYS_NFTABLES, NFT_MSG_GETGEN))
            for _, _, _, payload in nfnetlink.messages(self._nft.recv(1 << 16)):
                return int.from_bytes(dict(nfnetlink.attributes(payload[4:])).get(1, b""), "big")
        except OSError:
            pass
        return 0

    def _heard(self) -> int:
        """Return how often something was announced to have changed."""
        while True:
            try:
                self._routes.recv(1 << 16)
            except BlockingIOError:
                return self._announced
            except OSError as error:
                if error.errno != errno.ENOBUFS:  # more than it could hold is news as well
                    raise
            self._announced += 1

    def close(self) -> None:
        """Close the sockets."""
        self._nft.close()
        self._routes.close()
