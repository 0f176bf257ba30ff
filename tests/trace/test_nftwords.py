"""nftables rules in words."""

from __future__ import annotations

import socket

import pytest

from netlab.trace import nftwords
from netlab.trace.packet import TCP, Packet


@pytest.mark.parametrize(("rule", "expected"), [
    ("ip daddr . meta l4proto . th dport vmap @service-ips", ("service-ips", "10.96.0.10 . tcp . 80")),
    ("ip daddr @nodeport-ips meta l4proto . th dport vmap @no-endpoint-nodeports", ("no-endpoint-nodeports", "tcp . 80")),
    ("ip saddr @guests drop", ("guests", "192.0.2.1")),
    ("ct state new jump services", None),
    ("ip ttl @far drop", None),
])
def test_the_map_that_a_packet_is_looked_up_in(rule, expected):
    packet = Packet(socket.AF_INET, TCP, "192.0.2.1", "10.96.0.10", sport=4000, dport=80)
    assert nftwords.looked_up(rule, packet) == expected
