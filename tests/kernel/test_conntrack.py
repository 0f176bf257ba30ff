"""The connection tracking table, read whole and in part."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from netlab.kernel import conntrack, netns

pytestmark = pytest.mark.root

@pytest.fixture(scope="module")
def tracked() -> Iterator[int]:
    """A namespace that has sent something by each protocol to loopback, with connection tracking on."""
    fd = netns.new_netns()
    with netns.inside(fd):
        netns.loopback_up()
        for program in ("iptables", "ip6tables"):
            subprocess.run([program, "-A", "INPUT", "-m", "conntrack", "--ctstate", "INVALID", "-j", "DROP"], check=True)
        for family, here in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            for kind, proto, port in ((socket.SOCK_DGRAM, 0, 53), (socket.SOCK_DGRAM, 0, 54), (socket.SOCK_STREAM, 0, 53),
                                      (socket.SOCK_STREAM, socket.IPPROTO_SCTP, 53)):
                with contextlib.suppress(OSError), socket.socket(family, kind, proto) as sock, socket.socket(family, kind, proto) as ear:
                    ear.bind((here, port))
                    if kind == socket.SOCK_STREAM:
                        ear.listen(1)
                    sock.connect((here, port))
                    sock.send(b"x")
        subprocess.run(["ping", "-c1", "-W1", "127.0.0.1"], check=False, stdout=subprocess.DEVNULL)
    yield fd
    os.close(fd)


@pytest.mark.parametrize("ipv6", [False, True])
@pytest.mark.parametrize("protocol", ["", "udp", "tcp", "icmp"])
@pytest.mark.parametrize("port", [None, 53, 54, 9])
def test_what_is_read_in_part_is_that_part_of_the_whole(tracked: int, ipv6: bool, protocol: str, port: int | None):
    every = conntrack.flows(tracked, ipv6=ipv6)
    here = ip_address("::1" if ipv6 else "127.0.0.1")
    assert {each.original.dport for each in every if each.protocol == "udp" and each.original.dst == str(here)} >= {53, 54}
    assert any(each.protocol == "tcp" for each in every)
    asked: set[bytes] = set()

    def to(ip: bytes, number: int) -> bool:
        asked.add(ip)
        return number == port

    found = conntrack.flows(tracked, protocol=protocol, ipv6=ipv6, to=to if port is not None else None)
    with_ports = ("udp", "tcp", "sctp")
    wanted = [each.original for each in every if protocol in ("", each.protocol)
              and (port is None or each.protocol not in with_ports or each.original.dport == port)]
    assert sorted(map(repr, (each.original for each in found))) == sorted(map(repr, wanted))
    if port is not None and protocol != "icmp":
        assert here.packed in asked, "it was asked before anything else was decoded"
