"""Named packet counters that iptables' nfacct match counts into (<linux/netfilter/nfnetlink_acct.h>)."""

from __future__ import annotations

import errno
import socket
import struct

from netlab.errors import KernelError
from netlab.kernel import netns as namespaces
from netlab.kernel import nfnetlink

_SUBSYS_ACCT = 7
_NEW, _GET = 0, 1
_NAME, _PACKETS, _BYTES = 1, 2, 3
_NLM_F_CREATE = 0x400


def ensure(name: str, netns: int | str | None = None) -> None:
    """Make a counter; one that exists is left as it is. Names have at most 31 characters.

    Raises:
        KernelError: no right to, or the kernel has no nfacct.
    """
    body = nfnetlink.attribute(_NAME, name.encode() + b"\0") + nfnetlink.attribute(_PACKETS, struct.pack("!Q", 0))
    body += nfnetlink.attribute(_BYTES, struct.pack("!Q", 0))
    sock = _open(netns)
    try:
        nfnetlink.acknowledged(sock, nfnetlink.request(_SUBSYS_ACCT, _NEW, flags=nfnetlink.NLM_F_ACK | _NLM_F_CREATE,
                                                       sequence=1, body=body))
    except KernelError as error:
        if error.errno not in (errno.EEXIST, errno.EBUSY):
            raise
    finally:
        sock.close()


def counters(netns: int | str | None = None) -> dict[str, tuple[int, int]]:
    """Return packets and bytes by name.

    Raises:
        KernelError: no right to, or the kernel has no nfacct.
    """
    sock = _open(netns)
    found = {}
    try:
        for body in nfnetlink.dump(sock, _SUBSYS_ACCT, _GET):
            parts = dict(nfnetlink.attributes(body))
            name = parts.get(_NAME, b"").rstrip(b"\0").decode()
            packets, count = (int.from_bytes(parts.get(kind, b""), "big") for kind in (_PACKETS, _BYTES))
            found[name] = packets, count
    finally:
        sock.close()
    return found


def _open(netns: int | str | None) -> socket.socket:
    with namespaces.within(netns):
        return nfnetlink.open_socket()
