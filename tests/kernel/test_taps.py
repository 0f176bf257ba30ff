"""What a tap's filter lets through: real packets in a namespace of its own."""

from __future__ import annotations

import os
import socket

import pytest

from netlab.kernel import link, netns
from netlab.kernel.rtnl import Rtnl
from netlab.kernel.taps import PacketTap, port_filter, protocol_filter
from netlab.trace.packet import ICMP, TCP, UDP, parse

pytestmark = pytest.mark.root


def test_filters_by_port_and_by_protocol_in_both_families() -> None:
    space = netns.new_netns()
    try:
        with Rtnl(space) as sock:
            link.set_up(sock, "lo")
        taps = {name: PacketTap(space, filter=program) for name, program in (
            ("udp 53", port_filter(UDP, 53)), ("tcp 53", port_filter(TCP, 53)), ("udp", protocol_filter(UDP)),
            ("icmp", protocol_filter(ICMP)))}
        for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            for port in (53, 54):
                with netns.socket_in(space, family, socket.SOCK_DGRAM) as sender:
                    sender.sendto(b"question", (address, port))
        heard = {name: {(packet.protocol, packet.family, packet.dport) for frame in tap.read() if not frame.outgoing
                        and (packet := parse(frame.data)) is not None} for name, tap in taps.items()}
        for tap in taps.values():
            tap.close()
    finally:
        os.close(space)
    datagrams = {(UDP, family, port) for family in (socket.AF_INET, socket.AF_INET6) for port in (53, 54)}
    errors = {(ICMP, socket.AF_INET, 0), (58, socket.AF_INET6, 0)}  # nothing listens there
    assert heard["udp"] == datagrams
    assert heard["udp 53"] == {each for each in datagrams if each[2] == 53} | errors
    assert heard["tcp 53"] == errors
    assert heard["icmp"] == {(ICMP, socket.AF_INET, 0)}
