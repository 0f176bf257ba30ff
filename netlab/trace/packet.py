"""A packet as a trace sees it: addresses, ports, and what tells it from every other packet on the machine. Pure.

Nothing rides along with a packet from one namespace to the next: the kernel clears its mark, a trace number is good
for one visit, an IP identification is often 0. What survives NAT, VXLAN and hops is TCP's sequence numbers and flags,
the first bytes of a UDP payload, the sequence and payload of an echo request, and of an ICMP error the identification
and the first eight bytes of what it carries; `Packet.key` is made of those.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass, field, replace
from typing import Final

TCP: Final = 6
UDP: Final = 17
ICMP: Final = 1
ICMPV6: Final = 58
SCTP: Final = 132
IPV6_FRAGMENT: Final = 44
_EXTENSIONS: Final = (0, 43, IPV6_FRAGMENT, 60)
VXLAN_PORTS: Final = (8472, 4789)

NAMES: Final = {TCP: "tcp", UDP: "udp", ICMP: "icmp", ICMPV6: "icmpv6", SCTP: "sctp"}
_FLAGS: Final = ((2, "SYN"), (16, "ACK"), (1, "FIN"), (4, "RST"), (8, "PSH"), (32, "URG"))
_ICMP_ERRORS: Final = {ICMP: (3, 4, 5, 11, 12), ICMPV6: (1, 2, 3, 4)}
_ICMP_WORDS: Final = {
    (ICMP, 0): "echo reply", (ICMP, 8): "echo request", (ICMPV6, 128): "echo request", (ICMPV6, 129): "echo reply",
    (ICMP, 3, 0): "network unreachable", (ICMP, 3, 1): "host unreachable", (ICMP, 3, 2): "protocol unreachable",
    (ICMP, 3, 3): "port unreachable", (ICMP, 3, 4): "fragmentation needed", (ICMP, 3, 9): "network prohibited",
    (ICMP, 3, 10): "host prohibited", (ICMP, 3, 13): "administratively prohibited",
    (ICMP, 11, 0): "time to live exceeded", (ICMP, 5): "redirect", (ICMPV6, 137): "redirect",
    (ICMPV6, 1, 0): "no route", (ICMPV6, 1, 1): "administratively prohibited", (ICMPV6, 1, 3): "address unreachable",
    (ICMPV6, 1, 4): "port unreachable", (ICMPV6, 2, 0): "packet too big", (ICMPV6, 3, 0): "hop limit exceeded",
}
_SCTP_CHUNKS: Final = {0: "DATA", 1: "INIT", 2: "INIT ACK", 3: "SACK", 4: "HEARTBEAT", 5: "HEARTBEAT ACK", 6: "ABORT",
                       7: "SHUTDOWN", 8: "SHUTDOWN ACK", 9: "ERROR", 10: "COOKIE ECHO", 11: "COOKIE ACK",
                       14: "SHUTDOWN COMPLETE"}

Key = tuple[object, ...]


@dataclass(frozen=True)
class Packet:
    """Headers of one packet. For ICMP, `sport` is the echo identifier and `dport` 0.

    `length` counts the bytes behind the IP header, `carried` those behind the transport header; `payload` holds the
    first of them (as many as were captured, at most 12 count for the key). `inner` is the packet inside an ICMP error,
    of whose header `payload` has the eight bytes before TTL and addresses;
    `tunnel` the outer (source, destination, VNI) of a VXLAN packet. `fragment` is (offset in bytes, more to come) for
    one piece of a packet: only the first has ports, and the identification is what holds them together. `label` is
    what of its IP header stays the same on the way and is hardly another packet's, "" where that is nothing; `about`
    the same of the packet that an ICMP error is about, also where only its first bytes are known.
    """

    family: int
    protocol: int
    source: str
    destination: str
    sport: int = 0
    dport: int = 0
    flags: int = 0
    seq: int = 0
    ack: int = 0
    ttl: int = 0
    identification: int = 0
    length: int = 0
    carried: int = 0
    fragment: tuple[int, bool] | None = None
    icmp: tuple[int, int] = (0, 0)
    payload: bytes = b""
    inner: Packet | None = None
    tunnel: tuple[str, str, int] | None = None
    label: bytes = field(default=b"", compare=False)
    about: bytes = field(default=b"", compare=False)

    @property
    def is_icmp(self) -> bool:
        """Tell whether this is ICMP of either family."""
        return self.protocol in (ICMP, ICMPV6)

    @property
    def is_icmp_error(self) -> bool:
        """Tell whether this is an ICMP error, which carries the packet that caused it."""
        return self.icmp[0] in _ICMP_ERRORS.get(self.protocol, ())

    @property
    def is_redirect(self) -> bool:
        """Tell whether this is an ICMP redirect: news about a better way, and no answer to the packet in it."""
        return (self.protocol, self.icmp[0]) in ((ICMP, 5), (ICMPV6, 137))

    @property
    def addresses(self) -> tuple[str, int, str, int]:
        """Return (source, source port, destination, destination port)."""
        return self.source, self.sport, self.destination, self.dport

    @property
    def of(self) -> str:
        """Return where it comes from, `10.0.0.1:80`; for ICMP without the identifier."""
        return join(self.source, 0 if self.is_icmp else self.sport)

    @property
    def to(self) -> str:
        """Return where it goes, `10.0.0.1:80`; for ICMP the address alone."""
        return join(self.destination, 0 if self.is_icmp else self.dport)

    @property
    def key(self) -> Key:
        """Return what stays the same about this packet through NAT and from namespace to namespace."""
        if self.fragment is not None and self.fragment[0]:
            return "fragment", self.protocol, self.identification, self.fragment[0]
        if self.protocol == TCP:
            return TCP, self.seq, self.ack, self.flags & 0x17, self.carried > 0
        if self.is_icmp_error:  # IPv6 has no identification: what it is about tells, as far as NAT leaves that alone
            return ICMP, self.identification, self.icmp, self.payload
        if self.is_icmp:
            return ICMP, self.icmp, self.dport, self.payload[:12]
        if self.protocol == SCTP:
            return SCTP, self.seq, self.payload[:8]
        return self.protocol, self.payload[:12], self.carried

    @property
    def what(self) -> str:
        """Return one or two words: `SYN`, `SYN ACK`, `port unreachable`, `udp`."""
        if self.fragment is not None and self.fragment[0]:
            return f"{NAMES.get(self.protocol, self.protocol)} fragment at {self.fragment[0]}"
        if self.protocol == TCP:
            return " ".join(name for bit, name in _FLAGS if self.flags & bit) or "no flags"
        if self.is_icmp:
            words = _ICMP_WORDS.get((self.protocol, *self.icmp)) or _ICMP_WORDS.get((self.protocol, self.icmp[0]))
            return words or f"icmp type {self.icmp[0]} code {self.icmp[1]}"
        if self.protocol == SCTP and self.payload:
            return _SCTP_CHUNKS.get(self.payload[0], "sctp")
        return NAMES.get(self.protocol, f"protocol {self.protocol}")

    def __str__(self) -> str:
        return f"{self.of} → {self.to}"


def join(address: str, port: int) -> str:
    """Return `10.0.0.1:80` or `[fd00::1]:80`; without the port when it is 0."""
    if not port:
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def parse(data: bytes) -> Packet | None:
    """Parse a frame that starts at the network header; None when it is not IP or is cut short.

    A VXLAN packet gives the packet inside, with the outer addresses in `tunnel`.
    """
    packet = _parse(data)
    if packet is not None and packet.protocol == UDP and packet.dport in VXLAN_PORTS:
        header = 20 if packet.family == socket.AF_INET else 40
        frame = data[header + 8:]
        if len(frame) > 22 and frame[0] & 8 and frame[20:22] in (b"\x08\x00", b"\x86\xdd"):
            inner = _parse(frame[22:])
            if inner is not None:
                vni = int.from_bytes(frame[4:7], "big")
                return replace(inner, tunnel=(packet.source, packet.destination, vni))
    return packet


def parse_headers(network: bytes, transport: bytes) -> Packet | None:
    """Parse the two headers that a rule trace carries (the transport header is cut at 20 bytes)."""
    return _parse(network + transport)


def _parse(data: bytes) -> Packet | None:
    if len(data) < 20:
        return None
    version = data[0] >> 4
    if version == 4:
        header = (data[0] & 15) * 4
        length, identification = struct.unpack_from("!HH", data, 2)
        packet = Packet(socket.AF_INET, data[9], socket.inet_ntop(socket.AF_INET, data[12:16]),
                        socket.inet_ntop(socket.AF_INET, data[16:20]), ttl=data[8], identification=identification,
                        length=length - header, fragment=_piece(struct.unpack_from("!H", data, 6)[0] & 0x3FFF),
                        label=_label(data))
        data = data[header:length if length > header else None]
        return packet if packet.fragment and packet.fragment[0] else _transport(packet, data)
    if version == 6 and len(data) >= 40:
        length = struct.unpack_from("!H", data, 4)[0]
        packet = Packet(socket.AF_INET6, data[6], socket.inet_ntop(socket.AF_INET6, data[8:24]),
                        socket.inet_ntop(socket.AF_INET6, data[24:40]), ttl=data[7], length=length, label=_label(data))
        return _extended(packet, data[40:40 + length if length else None])
    return None


def _label(header: bytes) -> bytes:
    """Return a packet's length, protocol and identification (IPv4) or flow label (IPv6), b"" where it has none."""
    if len(header) < 10:
        return b""
    if header[0] >> 4 == 4:
        return header[2:6] + header[9:10] if any(header[4:6]) else b""
    flow = bytes((header[1] & 15,)) + header[2:4]
    return flow + header[4:7] if any(flow) else b""


def _piece(word: int) -> tuple[int, bool] | None:
    """Return what IPv4's fragment word (offset / 8, and "more" as bit 13) says; None for a whole packet."""
    return ((word & 0x1FFF) * 8, bool(word & 0x2000)) if word else None


def _extended(packet: Packet, data: bytes) -> Packet:
    """Walk IPv6's extension headers (RFC 8200, section 4) to the transport header."""
    while packet.protocol in _EXTENSIONS and len(data) >= 8:
        if packet.protocol == IPV6_FRAGMENT:
            word, identification = struct.unpack_from("!HI", data, 2)
            packet = replace(packet, protocol=data[0], length=packet.length - 8, identification=identification,
                             fragment=(word & 0xFFF8, bool(word & 1)))
            data = data[8:]
            if word & 0xFFF8:
                return packet
        else:
            size = (data[1] + 1) * 8
            packet = replace(packet, protocol=data[0], length=packet.length - size)
            data = data[size:]
    return _transport(packet, data)


def _transport(packet: Packet, data: bytes) -> Packet:
    if packet.protocol == TCP and len(data) >= 8:
        sport, dport, seq = struct.unpack_from("!HHI", data)
        if len(data) < 14:  # inside an ICMP error only eight bytes are sure to come back
            return replace(packet, sport=sport, dport=dport, seq=seq)
        ack, offset, flags = struct.unpack_from("!IBB", data, 8)
        header = (offset >> 4) * 4
        return replace(packet, sport=sport, dport=dport, seq=seq, ack=ack if flags & 16 else 0, flags=flags,
                       carried=max(packet.length - header, 0), payload=data[header:])
    if packet.protocol == UDP and len(data) >= 8:
        sport, dport, length = struct.unpack_from("!HHH", data)  # the length is the whole packet's, in a fragment too
        return replace(packet, sport=sport, dport=dport, carried=max(length - 8, 0), payload=data[8:])
    if packet.protocol == SCTP and len(data) >= 8:
        sport, dport, tag = struct.unpack_from("!HHI", data)
        return replace(packet, sport=sport, dport=dport, seq=tag, carried=max(packet.length - 12, 0), payload=data[12:])
    if packet.is_icmp and len(data) >= 8:
        kind, code, _, ident, number = struct.unpack_from("!BBHHH", data)
        packet = replace(packet, icmp=(kind, code), carried=max(packet.length - 8, 0))
        if packet.is_icmp_error:
            return replace(packet, inner=_parse(data[8:]), payload=data[8:16], about=_label(data[8:]))
        return replace(packet, sport=ident, dport=number, payload=data[8:])
    return packet
