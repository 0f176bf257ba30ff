"""iptables' matches here against those of the kernel: a packet is sent, and the rules' counters say which it met."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import suppress

import pytest

from netlab.kernel import iptables, link, netns
from netlab.kernel.rtnl import Rtnl
from netlab.netfilter.matches import chance
from netlab.netfilter.matching import Host, Packet, Route
from netlab.netfilter.parse import parse
from netlab.netfilter.walk import receive

pytestmark = pytest.mark.root

NEAR, FAR, OTHER = {4: "10.0.0.1", 6: "fd00::1"}, {4: "10.0.0.2", 6: "fd00::2"}, "10.9.0.130"
COMMON = (
    "-m conntrack --ctstate NEW", "-m conntrack ! --ctstate NEW,RELATED", "-m conntrack --ctdir ORIGINAL",
    "-m conntrack --ctdir REPLY", "-m conntrack --ctstate NEW --ctorigsrc {near}", "-m conntrack --ctorigdst {near}",
    "-m conntrack ! --ctorigdst {near}", "-p tcp -m conntrack --ctorigdstport 80", "-m conntrack --ctproto 17",
    "-m addrtype --dst-type LOCAL", "-m addrtype ! --dst-type LOCAL", "-m addrtype --dst-type UNICAST",
    "-m addrtype --src-type UNICAST", "-m addrtype --dst-type MULTICAST",
    "-m iprange --src-range {near}-{far}", "-m iprange --dst-range {near}-{near}", "-m iprange ! --dst-range {near}-{near}",
    "-p tcp --syn", "-p tcp ! --syn", "-p tcp --tcp-flags SYN,ACK SYN", "-p tcp --tcp-flags ALL NONE",
    "-p tcp ! --tcp-flags FIN,SYN FIN", "-p tcp --tcp-flags SYN,RST SYN --dport 80", "-p udp -m multiport --ports 53,80:90",
    "-m length --length 40:65535", "-m length ! --length 1:20")
FAMILY = {
    4: ("-m addrtype --dst-type BROADCAST", "-m addrtype --src-type LOCAL,UNICAST", "-p icmp --icmp-type 8",
        "-p icmp --icmp-type echo-request", "-p icmp --icmp-type any", "-p icmp --icmp-type 8/1", "-p icmp ! --icmp-type 3/4",
        "-p icmp --icmp-type ping", "-m ttl --ttl-eq 64", "-m ttl ! --ttl-eq 64", "-m ttl --ttl-lt 64", "-m ttl --ttl-gt 5"),
    6: ("-p ipv6-icmp --icmpv6-type 128", "-p ipv6-icmp --icmpv6-type echo-request", "-p ipv6-icmp ! --icmpv6-type 2",
        "-p ipv6-icmp --icmpv6-type neighbour-solicitation", "-m hl --hl-eq 64", "-m hl --hl-lt 10")}


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[int, int]]:
    near, far = netns.new_netns(), netns.new_netns()
    try:
        with Rtnl(near) as sock:
            link.set_up(sock, "lo")
            link.add_veth(sock, "eth0", "eth0", peer_netns=far)
        for fd, mine in ((near, NEAR), (far, FAR)):
            with Rtnl(fd) as sock:
                link.set_up(sock, "lo", "eth0")
                link.add_address(sock, "eth0", f"{mine[4]}/24")
                link.add_address(sock, "eth0", f"{mine[6]}/64")
            with netns.inside(fd):
                subprocess.run(["sysctl", "-qw", "net.ipv6.conf.eth0.accept_dad=0"], check=True)
        yield near, far
    finally:
        os.close(near)
        os.close(far)


def send(near: int, protocol: str, family: int) -> Packet:
    """Send one packet to the second namespace; return it as it comes in there."""
    kinds = {"tcp": (socket.SOCK_STREAM, 0), "udp": (socket.SOCK_DGRAM, 0),
             "icmp": (socket.SOCK_RAW, socket.IPPROTO_ICMP if family == 4 else socket.IPPROTO_ICMPV6)}
    with netns.inside(near):
        sock = socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6, *kinds[protocol])
    number = 0
    with sock, suppress(OSError):  # refused, as nobody listens: the packet has been there
        sock.settimeout(1)
        if protocol == "icmp":
            echo = struct.pack("!BBHHH", 8 if family == 4 else 128, 0, 0, 7, 1)
            half = sum(struct.unpack("!4H", echo)) if family == 4 else 0  # the kernel sums up ICMPv6 by itself
            sock.sendto(echo[:2] + struct.pack("!H", ~half & 0xFFFF) + echo[4:], (FAR[family], 0))
            sock.recv(100)
        else:
            sock.bind((NEAR[family], 0))
            number = sock.getsockname()[1]
            sock.connect((FAR[family], 80))
            if protocol == "udp":
                sock.send(b"x" * 12)
                sock.recv(1)
    length = {("tcp", 4): 60, ("udp", 4): 40, ("icmp", 4): 28, ("tcp", 6): 80, ("udp", 6): 60, ("icmp", 6): 48}
    port = 80 if protocol != "icmp" else 0
    said = (8, 0) if family == 4 else (128, 0)
    return Packet(NEAR[family], FAR[family], "icmpv6" if (protocol, family) == ("icmp", 6) else protocol, number, port,
                  iif="eth0", ttl=64, length=length[protocol, family], flags=2 if protocol == "tcp" else None,
                  icmp=said if protocol == "icmp" else None, original=(NEAR[family], number, FAR[family], port))


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("protocol", ["tcp", "udp", "icmp"])
def test_rules_are_met_by_the_packets_that_the_kernel_lets_meet_them(pair: tuple[int, int], family: int, protocol: str) -> None:
    near, far = pair
    tool = iptables.find("IPv4" if family == 4 else "IPv6", "nft")
    matches = [each.format(near=NEAR[family], far=FAR[family]) for each in (*COMMON, *FAMILY[family])]
    guard = f"-A INPUT ! -s {NEAR[family]} -j ACCEPT" + (
        "\n-A INPUT -p ipv6-icmp -m icmp6 ! --icmpv6-type 128 -j ACCEPT" if family == 6 else "")
    text = "\n".join(("*filter", ":INPUT ACCEPT [0:0]", guard, *(f"-A INPUT {each}" for each in matches), "COMMIT", ""))
    iptables.restore(tool, text, netns=far, flush=True)
    packet = send(near, protocol, family)
    saved = parse(iptables.save(tool, netns=far, counters=True))
    host = Host(frozenset(FAR.values()), {})
    rules = [rule for rule in saved.chain("filter", "INPUT").rules if not rule.target]
    assert len(rules) == len(matches), "iptables leaves none out"
    met = {}
    for asked, rule in zip(matches, rules, strict=True):
        written = parse(f"*filter\n:INPUT ACCEPT [0:0]\n-A INPUT {asked}\nCOMMIT").chain("filter", "INPUT").rules[0]
        assert chance(written, packet, host) == chance(rule, packet, host), "as it is written and as it is saved"
        met[asked] = (chance(rule, packet, host), float(rule.packets > 0))
    assert {asked: ours for asked, (ours, _) in met.items()} == {asked: theirs for asked, (_, theirs) in met.items()}


def test_netmap_keeps_an_addresss_place_in_its_network(pair: tuple[int, int]) -> None:
    near, far = pair
    text = "*nat\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -d 10.8.0.128/25 -j NETMAP --to 10.9.0.128/25\nCOMMIT\n"
    tool = iptables.find("IPv4", "nft")
    iptables.restore(tool, text, netns=far, flush=True)
    with Rtnl(far) as sock:
        link.add_address(sock, "eth0", f"{OTHER}/32")
    with netns.inside(near):
        subprocess.run(["ip", "route", "replace", "10.8.0.0/24", "via", FAR[4]], check=True)
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with netns.inside(far):
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with client, server:
        server.bind((OTHER, 53))
        server.settimeout(5)
        client.sendto(b"x", ("10.8.0.130", 53))
        assert server.recv(1) == b"x", "the kernel led it there"
    outcomes = receive(parse(text), Packet(NEAR[4], "10.8.0.130", "udp", 4000, 53, iif="eth0"), Host(frozenset({OTHER})))
    assert [(each.verdict, each.packet.dst, each.packet.dport, each.certain) for each in outcomes] == [
        ("DELIVER", OTHER, 53, True)]


@pytest.mark.parametrize("source", [NEAR[4], "10.5.0.1", "10.6.0.1"])
def test_reverse_path_filter(pair: tuple[int, int], source: str) -> None:
    """From where a route leads back, from where it leads elsewhere, and from where none leads."""
    near, far = pair
    matches = [f"-m rpfilter{more}" for more in ("", " --loose", " --invert", " --validmark --invert", " --loose --invert")]
    lines = "\n".join(f"-A PREROUTING -s {source} {match}" for match in matches)
    tool = iptables.find("IPv4", "nft")
    iptables.restore(tool, f"*raw\n:PREROUTING ACCEPT [0:0]\n{lines}\nCOMMIT\n", netns=far, flush=True)
    with netns.inside(far):
        subprocess.run("ip link add d0 type bridge; ip link set d0 up; ip route replace 10.5.0.0/24 dev d0", shell=True, check=True)
    with netns.inside(near):
        subprocess.run(["ip", "address", "replace", f"{source}/{24 if source == NEAR[4] else 32}", "dev", "eth0"], check=True)
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with client:
        client.bind((source, 0))
        client.sendto(b"x", (FAR[4], 53))
    saved = parse(iptables.save(tool, netns=far, counters=True)).chain("raw", "PREROUTING").rules
    with netns.inside(far):
        subprocess.run(["ip", "link", "delete", "d0"], check=True)
    host = Host(frozenset(FAR.values()), {"10.0.0.0/24": Route("eth0", FAR[4]), "10.5.0.0/24": Route("d0", FAR[4])})
    packet = Packet(source, FAR[4], "udp", 4000, 53, iif="eth0")
    assert [chance(rule, packet, host) for rule in saved] == [float(rule.packets > 0) for rule in saved]


@pytest.mark.parametrize(("match", "met"), [("--uid-owner 0", False), ("! --uid-owner 0", True)])
def test_what_is_forwarded_has_no_owner(pair: tuple[int, int], match: str, met: bool) -> None:
    """A third namespace behind the second one: what passes through it has no socket there."""
    near, far = pair
    end = netns.new_netns()
    try:
        with Rtnl(far) as sock:
            link.add_veth(sock, "eth1", "eth0", peer_netns=end)
            link.set_up(sock, "eth1")
            link.add_address(sock, "eth1", "10.1.0.1/24")
        with Rtnl(end) as sock:
            link.set_up(sock, "eth0")
            link.add_address(sock, "eth0", "10.1.0.2/24")
        with netns.inside(far):
            subprocess.run(["sysctl", "-qw", "net.ipv4.ip_forward=1"], check=True)
        with netns.inside(near):
            subprocess.run(["ip", "route", "replace", "10.1.0.0/24", "via", FAR[4]], check=True)
            client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with netns.inside(end):
            server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        tool = iptables.find("IPv4", "nft")
        text = f"*filter\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n*mangle\n:POSTROUTING ACCEPT [0:0]\n-A POSTROUTING -s {NEAR[4]} -m owner {match}\nCOMMIT\n"
        iptables.restore(tool, text, netns=far, flush=True)
        with client, server:
            server.bind(("10.1.0.2", 53))
            server.settimeout(5)
            client.sendto(b"x", ("10.1.0.2", 53))
            assert server.recv(1) == b"x"
        rule = parse(iptables.save(tool, netns=far, counters=True)).chain("mangle", "POSTROUTING").rules[0]
        assert (rule.packets > 0) is met
        packet = Packet(NEAR[4], "10.1.0.2", "udp", 1, 53, iif="eth0", oif="eth1")
        assert chance(rule, packet, Host()) == float(met)
    finally:
        with Rtnl(far) as sock:
            link.remove(sock, "eth1")
        os.close(end)


