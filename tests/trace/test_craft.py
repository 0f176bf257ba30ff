"""Packets made by hand, built by scapy in its own process and sent by us."""

from __future__ import annotations

import socket
import sys

import pytest

from netlab.errors import UsageError
from netlab.trace.craft import Craft, build, check
from netlab.trace.packet import parse
from netlab.trace.render import as_text
from netlab.trace.run import Request, trace
from tests.trace.topology import Network

CLIENT = "pod/default/client"


def test_what_is_built_is_what_was_wished_for() -> None:
    ((only,),) = build(Craft(flags="SF", ttl=7, df=True, source_port=1234), "tcp", "10.0.0.1", "10.0.0.2", 80, b"")
    packet = parse(only)
    assert packet is not None
    assert (packet.what, packet.ttl, packet.addresses) == ("SYN FIN", 7, ("10.0.0.1", 1234, "10.0.0.2", 80))
    assert only[6] & 0x40  # DF
    (pieces,) = build(Craft(fragment=512), "udp", "fd00::1", "fd00::2", 53, b"x" * 1200)
    parsed = [parse(piece) for piece in pieces]
    assert [p.fragment for p in parsed if p is not None] == [(0, True), (512, True), (1024, False)]
    (first,), (second,) = build(Craft(count=2), "icmp", "10.0.0.1", "10.0.0.2", 0, b"hello")
    assert parse(first) != parse(second)
    assert "scapy" not in sys.modules


@pytest.mark.parametrize(("craft", "protocol", "words"), [
    (Craft(flags="SX"), "tcp", '"X" is no TCP flag'), (Craft(flags="R"), "udp", "only TCP has flags"),
    (Craft(fragment=104, df=True), "udp", "--fragment and --df"), (Craft(fragment=100), "udp", "multiples of 8"), (Craft(size=70000), "udp", "65000"),
])
def test_wishes_that_make_no_packet(craft: Craft, protocol: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        check(craft, protocol)  # type: ignore[arg-type]


def sent(net: Network, craft: Craft, protocol: str = "tcp", port: int = 8080, **more: object):
    net.sh(CLIENT, "ping -c 1 -W 5 10.244.2.3")
    return trace(Request(CLIENT, "10.244.2.3", port, protocol, timeout=1.0, craft=craft, **more), net.taps(), net.names())  # type: ignore[arg-type]


@pytest.mark.root
def test_a_syn_by_hand_is_answered_and_the_kernel_resets_it(network: Network) -> None:
    network.serve("pod/default/web-2", 8080)
    result = sent(network, Craft(flags="S"))
    assert result.outcome.status == "replied"
    assert result.crafted == "flags S"
    assert [passage.what for passage in result.passages] == ["SYN", "SYN ACK", "RST"]


@pytest.mark.root
def test_an_ack_out_of_the_blue_is_reset(network: Network) -> None:
    network.serve("pod/default/web-2", 8080)
    assert sent(network, Craft(flags="A")).outcome.status == "refused"


@pytest.mark.root
def test_a_foreign_source_is_answered_elsewhere(network: Network) -> None:
    network.serve("pod/default/web-2", 8080)
    result = sent(network, Craft(), source_address="198.51.100.7")
    assert result.request[0].packet.source == "198.51.100.7"
    assert result.request[-1].kind == "deliver"
    assert (result.outcome.status, result.reply[0].packet.destination) == ("timeout", "198.51.100.7")
    assert "the answer" in result.outcome.why


@pytest.mark.root
def test_an_ack_out_of_nowhere_is_reset_where_a_program_listens(network: Network) -> None:
    network.serve("pod/default/web-2", 8080)
    result = sent(network, Craft(flags="A"))
    assert result.outcome.status == "refused"
    assert "knows no connection" in result.outcome.why


@pytest.mark.root
def test_fragments_are_all_followed(network: Network) -> None:
    network.serve("pod/default/web-2", 5353, socket.SOCK_DGRAM)
    result = sent(network, Craft(fragment=512, size=1200), "udp", 5353)
    assert result.outcome.status == "replied"
    there = [passage.what for passage in result.passages if passage.direction == "request"]
    assert there == ["udp", "udp fragment at 512", "udp fragment at 1024"]
    ends = [passage.crossed[-1].place for passage in result.passages if passage.direction == "request"]
    assert ends[0] == "pod/default/web-2"
    assert "\n2 more packets: udp fragment at 512, udp fragment at 1024" in as_text(result)
    assert set(ends[1:]) <= {"node/node1", "pod/default/web-2"}  # conntrack puts them together, and kernels differ in what then


@pytest.mark.root
def test_many_are_all_listed(network: Network) -> None:
    network.serve("pod/default/web-2", 5353, socket.SOCK_DGRAM)
    result = sent(network, Craft(count=3), "udp", 5353)
    assert sum(passage.direction == "request" for passage in result.passages) == 3


@pytest.mark.root
def test_sctp_by_hand_needs_no_sctp_in_the_kernel(network: Network) -> None:
    result = sent(network, Craft(), "sctp", 80)
    assert result.request[0].packet.what == "INIT"
    assert result.request[-1].place == "pod/default/web-2"


@pytest.mark.root
@pytest.mark.parametrize(("port", "craft", "fix"), [(81, None, "the port 81/tcp"), (80, Craft(flags="SF"), "SYN FIN begins no connection")])
def test_what_no_rule_led_elsewhere_and_a_node_let_out_is_no_case_of_a_way_to_the_nodes(
        network: Network, port: int, craft: Craft | None, fix: str) -> None:
    network.sh("fabric", "ip address add 172.18.0.1/16 dev br0; sysctl -qw net.ipv4.ip_forward=1")
    names = {**network.names(), "10.96.0.10": "svc/default/web"}
    end = trace(Request(CLIENT, "10.96.0.10", port, timeout=1, craft=craft), network.taps(), names).outcome
    assert end.place == "fabric"
    assert end.why == "no rule had another destination for it, and fabric has no route for 10.96.0.10 (svc/default/web)"
    assert fix in end.fix
    end = trace(Request("fabric", "10.96.0.10", port, timeout=1, craft=craft), network.taps(), names).outcome
    assert "no rule had" not in end.why
