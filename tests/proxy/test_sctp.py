"""SCTP, with packets made by hand: most kernels track and translate it, few have sockets for it."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Iterator

import pytest

from netlab.kernel import iptables, netns
from netlab.proxy import cleanup
from netlab.proxy.metrics import Metrics
from netlab.proxy.nft_proxier import NftProxier
from tests.proxy.builders import NODE_IP, a_port, a_service, a_settings, a_slice, an_endpoint, rules_for
from tests.proxy.network import BRIDGE_IP, PODS, Network

pytestmark = pytest.mark.root

SCTP, INIT = 132, 1
OBJECTS = (a_service(type="NodePort", ports=[a_port(80, "peer", "SCTP", 30080)]),
           a_slice(endpoints=[an_endpoint(PODS["web-1"])], ports=[{"name": "peer", "port": 9899, "protocol": "SCTP"}]))


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def init(sport: int, dport: int) -> bytes:
    """Return an SCTP packet with an INIT chunk (RFC 9260, 3.3.2), which is how an association begins."""
    chunk = struct.pack("!BBHIIHHI", INIT, 0, 20, 7, 65536, 1, 1, 1)
    head = struct.pack("!HHI", sport, dport, 0)
    return head + struct.pack("<I", crc32c(head + bytes(4) + chunk)) + chunk


@pytest.fixture(params=["iptables", "nftables"])
def node(request: pytest.FixtureRequest, net: Network) -> Iterator[Network]:
    fd = net.places["node"]
    net.load(rules_for())
    cleanup.run("auto", fd)
    if request.param == "iptables":
        net.load(rules_for(*OBJECTS))
    else:
        proxier = NftProxier(a_settings(node_port_addresses=(f"{NODE_IP}/32",), node_addresses=(NODE_IP,), localhost_node_ports=False),
                             Metrics(), netns=fd)
        proxier.service("default/web", OBJECTS[0])
        proxier.slice("default/web-1", OBJECTS[1])
        asyncio.run(proxier.sync(0.0))
    yield net
    cleanup.run_nft(fd)
    iptables.restore(iptables.find(), "*filter\nCOMMIT\n*nat\nCOMMIT\n", netns=fd, flush=True)


@pytest.mark.parametrize(("address", "port", "source"), [("10.96.0.10", 80, PODS["client"]), (NODE_IP, 30080, BRIDGE_IP)])
def test_an_association_s_first_packet_reaches_the_endpoint(node: Network, address: str, port: int, source: str):
    with (netns.socket_in(node.places["web-1"], socket.AF_INET, socket.SOCK_RAW, SCTP) as receiver,
          netns.socket_in(node.places["client"], socket.AF_INET, socket.SOCK_RAW, SCTP) as sender):
        receiver.settimeout(3)
        sender.sendto(init(5000 + port % 100, port), (address, 0))
        data, (seen, _) = receiver.recvfrom(2000)
    packet = data[(data[0] & 15) * 4:]
    assert (seen, struct.unpack("!H", packet[2:4])[0], packet[12]) == (source, 9899, INIT)
    assert crc32c(packet[:8] + bytes(4) + packet[12:]) == struct.unpack("<I", packet[8:12])[0], "its checksum was made right again"
