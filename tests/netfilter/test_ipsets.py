"""ipset's sets: as its program saves them, and what the kernel says of packets and elements."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from netlab.errors import UsageError
from netlab.kernel import ipset, netns
from netlab.netfilter.ipsets import holds, parse
from netlab.netfilter.matching import Packet

MADE = ("create a hash:ip", "add a 10.0.0.1", "create n hash:net", "add n 10.0.0.0/8", "add n 10.1.0.0/16 nomatch",
        "create p hash:ip,port", "add p 10.0.0.1,tcp:80", "add p 10.0.0.1,udp:53", "create np hash:net,port",
        "add np 10.0.0.0/8,8080-8082", "create six hash:net family inet6 comment", 'add six fd00::/64 comment "my net"',
        "create masked hash:ip netmask 24", "add masked 10.2.3.4", "create ports bitmap:port range 0-1000", "add ports 80-82",
        "create some bitmap:ip range 10.0.0.0/24",
        "add some 10.0.0.1-10.0.0.3", "create none hash:ip")
TCP = {"protocol": "tcp", "sport": 40000, "dport": 80}
ASKED = (
    ("a", "src", "10.0.0.1", "10.9.9.9"), ("a", "dst", "10.0.0.1", "10.9.9.9"), ("n", "src", "10.0.0.9", "10.9.9.9"),
    ("n", "src", "10.1.0.9", "10.9.9.9"), ("p", "src,dst", "10.0.0.1", "10.9.9.9"), ("p", "dst,dst", "10.9.9.9", "10.0.0.1"),
    ("p", "dst,src", "10.9.9.9", "10.0.0.1"), ("np", "src,dst", "10.0.0.7", "10.9.9.9"), ("masked", "src", "10.2.3.99", "10.9.9.9"),
    ("masked", "src", "10.2.4.99", "10.9.9.9"), ("ports", "dst", "10.0.0.1", "10.9.9.9"), ("ports", "src", "10.0.0.1", "10.9.9.9"),
    ("some", "src", "10.0.0.3", "10.9.9.9"),
    ("some", "src", "10.0.0.4", "10.9.9.9"), ("none", "src", "10.0.0.4", "10.9.9.9"), ("six", "src", "fd00::7", "fd00:1::1"),
    ("six", "dst", "fd00::7", "fd00:1::1"), ("six", "src", "10.0.0.1", "10.9.9.9"), ("a", "src", "fd00::7", "fd00:1::1"))


@pytest.mark.root
@pytest.mark.skipif(not shutil.which("ipset"), reason="needs ipset")
def test_the_kernel_says_the_same() -> None:
    """A packet with any source leaves by a raw socket, and a rule with the set counts it."""
    import os
    import socket
    import struct

    fd = netns.new_netns()
    try:
        with netns.inside(fd):
            done = subprocess.run(["ipset", "restore"], input="\n".join(MADE) + "\n", text=True, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        sets = parse(ipset.save(fd))
        assert len(sets) == sum(line.startswith("create") for line in MADE)
        with netns.inside(fd):
            subprocess.run("ip link set lo up; ip -6 route add default dev lo; ip route add default dev lo; "
                           "sysctl -qw net.ipv6.conf.all.accept_dad=0", shell=True, check=True)
        for name, directions, source, destination in ASKED:
            tool, family = ("ip6tables", socket.AF_INET6) if ":" in source else ("iptables", socket.AF_INET)
            segment = struct.pack("!HHIIBBHHH", 40000, 80, 1, 0, 0x50, 2, 1024, 0, 0)
            with netns.inside(fd):
                made = subprocess.run([tool, "-A", "OUTPUT", "-s", source, "-m", "set", "--match-set", name, directions], capture_output=True,
                                      text=True, check=False)
                if made.returncode:  # of another family
                    assert holds(sets, name, directions.split(","), Packet(source, destination, **TCP)) is False
                    continue
                with socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW) as sock:
                    packed = socket.inet_pton(family, source) + socket.inet_pton(family, destination)
                    head = struct.pack("!BBHHHBBH", 0x45, 0, 40, 1, 0, 64, 6, 0) if family == socket.AF_INET else \
                        struct.pack("!IHBB", 6 << 28, 20, 6, 64)
                    sock.sendto(head + packed + segment, (destination, 0))
                listed = subprocess.run([tool, "-L", "OUTPUT", "-v", "-x", "-n"], capture_output=True, text=True, check=True)
                subprocess.run([tool, "-F", "OUTPUT"], check=True)
            counted = int(listed.stdout.splitlines()[2].split()[0])
            assert holds(sets, name, directions.split(","), Packet(source, destination, **TCP)) is (counted > 0), (
                name, directions, source, destination)
    finally:
        os.close(fd)


def test_sets_of_sets_and_what_is_not_known() -> None:
    sets = parse("create a hash:ip\nadd a 10.0.0.1\ncreate l list:set size 8\nadd l a\ncreate m hash:mac\nadd m 02:00:00:00:00:01\n")
    packet = Packet("10.0.0.1", "10.0.0.2")
    assert holds(sets, "l", ["src"], packet) is True
    assert holds(sets, "l", ["dst"], packet) is False
    assert holds(sets, "m", ["src"], packet) is None
    assert holds(sets, "nobody", ["src"], packet) is None


def test_text_that_is_none_is_refused_with_its_line() -> None:
    with pytest.raises(UsageError, match=r"sets.txt, line 2: 'hello' is not of ipset save"):
        parse("create a hash:ip\nhello\n", "sets.txt")
