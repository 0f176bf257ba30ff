"""Notice that rules or routes of this network namespace may have changed, without reading them: some 50 us a look.

nftables counts its transactions (the generation), routes are announced by rtnetlink. Legacy iptables says nothing:
where it is in use, rules have to be read now and then.
"""

from __future__ import annotations

import errno
import socket
from typing import Final

from netlab.kernel import iptables, nfnetlink
from netlab.kernel.nft import NFT_MSG_GETGEN

_ROUTE_GROUPS: Final = 0x40 | 0x400  # RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_ROUTE

Stamp = tuple[object, ...]


class RuleWatch:
    """Looks at the network namespace that it was opened in."""

    def __init__(self) -> None:
        self._nft = nfnetlink.open_socket()
        self._nft.settimeout(1)
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        self._routes = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
        self._routes.bind((0, _ROUTE_GROUPS))
        self._announced = 0

    def stamp(self, now: float, *, legacy_every: float = 5.0) -> Stamp:
        """Return what is another value once rules or routes may have changed.

        Args:
            now: a clock's time in seconds.
            legacy_every: where legacy tables are in use, another value comes this often.
        """
        legacy = [table for tables in iptables.tables_in_use().values() for table in tables]
        return self._generation(), self._routes_heard(), *legacy, int(now / legacy_every) if legacy else 0

    def _generation(self) -> int:
        """Return the number of nftables' last transaction; 0 where the kernel has no nftables."""
        try:
            self._nft.send(nfnetlink.request(nfnetlink.SUBSYS_NFTABLES, NFT_MSG_GETGEN))
            for _, _, _, payload in nfnetlink.messages(self._nft.recv(1 << 16)):
                return int.from_bytes(dict(nfnetlink.attributes(payload[4:])).get(1, b""), "big")
        except OSError:
            pass
        return 0

    def _routes_heard(self) -> int:
        """Return how often routes were announced to have changed."""
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
