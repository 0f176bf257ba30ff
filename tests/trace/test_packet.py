"""What tells packets apart."""

from __future__ import annotations

import struct

from netlab.trace.conversation import Conversation
from netlab.trace.packet import parse, parse_headers


def an_error(*, flow: int, source: str = "fd00::1", name: bytes = b"\x12\x34") -> bytes:
    """An ICMPv6 port unreachable about a UDP packet of this flow label; IPv6 gives it no identification."""
    udp = name + b"\x00\x35\x00\x10\x00\x00questions"[:14]
    inner = struct.pack("!IHBB", 6 << 28 | flow, len(udp), 17, 63) + bytes(15) + source[-1:].encode() + bytes(16) + udp
    body = b"\x01\x04\x00\x00" + bytes(4) + inner
    return struct.pack("!IHBB", 6 << 28, len(body), 58, 64) + bytes(16) + bytes(16) + body


def test_icmpv6_errors_about_two_flows_are_two_packets() -> None:
    one, other = parse(an_error(flow=1)), parse(an_error(flow=2))
    assert one is not None
    assert other is not None
    assert one.key != other.key


def test_an_error_is_the_same_packet_behind_nat_and_in_the_few_bytes_of_a_rule_trace() -> None:
    frame = an_error(flow=1)
    whole, rewritten = parse(frame), parse(an_error(flow=1, source="fd00::2", name=b"\x99\x99"))
    cut = parse_headers(frame[:40], frame[40:60])
    assert whole is not None
    assert rewritten is not None
    assert cut is not None
    assert whole.key == rewritten.key == cut.key
    assert whole.inner is not None


def test_an_error_about_an_earlier_ping_with_the_same_words_is_none_about_this_one() -> None:
    def ping(ident: int) -> bytes:
        body = struct.pack("!BBHHH", 8, 0, 0, ident, 1) + b"question"
        return struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(body), 1, 0, 64, 1, 0, b"\x0a\0\0\1", b"\x0a\0\0\2") + body

    def unreachable(ident: int) -> bytes:
        body = b"\x03\x01" + bytes(6) + ping(ident)
        return struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(body), ident, 0, 64, 1, 0, b"\x0a\0\0\3", b"\x0a\0\0\1") + body

    first = parse(ping(7))
    assert first is not None
    talk = Conversation(first)
    for ident, way in ((6, None), (7, "reply")):
        error = parse(unreachable(ident))
        assert error is not None
        assert talk.learn(error) == (way is not None)
        assert talk.direction(error) == way
