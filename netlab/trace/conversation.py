"""Which of the packets on the machine belong to the traced exchange, and which way each one goes. Pure.

The request is known from its first packet, wherever that is seen first. TCP answers carry its sequence number, ICMP
errors carry the packet itself, echo replies its payload. For UDP the answer is whatever comes back between the
addresses that the request was seen with, at any place, after any rewrite.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from netlab.trace.event import Direction
from netlab.trace.packet import TCP, UDP, Key, Packet

WINDOW: Final = 1 << 20
"""How far (bytes) from the first sequence number a packet of this connection may be; of the 2**32 there are."""


@dataclass
class Conversation:
    """The exchange that `first` opened at `since` (0 when that is not known).

    `tuples` grows: every spelling of the request's addresses seen so far.
    """

    first: Packet
    since: int = 0
    tuples: set[tuple[str, int, str, int]] = field(default_factory=set)
    error_keys: set[Key] = field(default_factory=set)
    pieces: dict[int, Direction] = field(default_factory=dict)
    """Identifications of packets that travel in fragments, with the way they go."""

    def __post_init__(self) -> None:
        self.tuples.add(self.first.addresses)

    def learn(self, packet: Packet) -> bool:
        """Take note of a packet; tell whether something new was learned (then look at the others again)."""
        if packet.key == self.first.key and packet.addresses not in self.tuples and self._rewritten(packet):
            self.tuples.add(packet.addresses)
            return True
        if packet.fragment is not None and packet.fragment[0] == 0 and packet.identification not in self.pieces and \
                (way := self.direction(packet)) is not None:
            self.pieces[packet.identification] = way
            return True
        if packet.is_icmp_error and packet.key not in self.error_keys and self._is_about(packet):
            self.error_keys.add(packet.key)
            return True
        return False

    def direction(self, packet: Packet) -> Direction | None:
        """Return which way a packet of this exchange goes, or None for a stranger."""
        if packet.is_icmp_error:
            return "reply" if packet.key in self.error_keys else None
        if packet.protocol != self.first.protocol:
            return None
        if packet.fragment is not None and packet.fragment[0]:
            return self.pieces.get(packet.identification)
        if packet.protocol == TCP:
            return self._tcp(packet)
        if packet.is_icmp:
            if packet.payload[:12] != self.first.payload[:12]:
                return None
            return "request" if packet.icmp == self.first.icmp else "reply"
        if packet.addresses in self.tuples:
            return "request"
        source, sport, destination, dport = packet.addresses
        return "reply" if (destination, dport, source, sport) in self.tuples else None

    def _rewritten(self, packet: Packet) -> bool:
        """Tell whether NAT may have made this packet of a known one: NAT changes one end at a time.

        A proxy that passes a datagram on sends the same payload from its own address to another one.
        """
        if packet.protocol != UDP:
            return True
        source, sport, destination, dport = packet.addresses
        return any((source, sport) == known[:2] or (destination, dport) == known[2:] for known in self.tuples)

    def _tcp(self, packet: Packet) -> Direction | None:
        source, sport, destination, dport = packet.addresses
        there, back = packet.addresses in self.tuples, (destination, dport, source, sport) in self.tuples
        if not there and not back:
            return None
        if packet.flags & 2 and not packet.flags & 16:
            return "request" if there else None
        if back and packet.flags & 20 and (packet.ack - self.first.seq) % (1 << 32) <= WINDOW:
            return "reply"
        if there and (packet.seq - self.first.seq) % (1 << 32) <= WINDOW:
            return "request"
        return "reply" if back and packet.flags & 4 else None

    def _is_about(self, error: Packet) -> bool:
        """Tell whether an ICMP error is about this exchange; of some only the first bytes are known."""
        if error.inner is not None:
            return self._is_inner(error.inner)
        return bool(error.about) and error.about == self.first.label and any(
            error.destination == known[0] for known in self.tuples)

    def _is_inner(self, inner: Packet) -> bool:
        if inner.protocol != self.first.protocol or inner.addresses not in self.tuples:
            return False
        if inner.protocol == TCP:
            return (inner.seq - self.first.seq) % (1 << 32) <= WINDOW
        return not inner.is_icmp or self.first.payload[:12].startswith(inner.payload[:12])
