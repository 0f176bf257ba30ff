"""DNS messages: a question from bytes, an answer to bytes that fit (RFC 1035, EDNS by RFC 6891)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import dnslib

from netlab.dns.names import Record

NOERROR: Final = 0
FORMERR: Final = 1
SERVFAIL: Final = 2
NXDOMAIN: Final = 3
NOTIMP: Final = 4
REFUSED: Final = 5
_BADVERS: Final = 16
_SMALLEST: Final = 512
_LARGEST_UDP: Final = 4096
_LARGEST_TCP: Final = 65535

TYPES: Final = {"A": 1, "NS": 2, "CNAME": 5, "SOA": 6, "PTR": 12, "TXT": 16, "AAAA": 28, "SRV": 33}


@dataclass(frozen=True)
class Request:
    """A question. `name` is in lower case without the last dot ("" for the root), `type` the number, `raw` the bytes.

    `size` is the largest answer that the client takes; `edns` tells that it spoke EDNS, `dnssec_ok` that it set DO.
    `depth` counts the aliases that have been followed to get here.
    """

    id: int
    name: str
    written: str
    type: int
    recursion: bool
    tcp: bool
    client: str
    raw: bytes = field(repr=False)
    size: int = _SMALLEST
    edns: bool = False
    dnssec_ok: bool = False
    depth: int = 0

    @property
    def type_name(self) -> str:
        """Return the type's name, e.g. "A"."""
        return str(dnslib.QTYPE.get(self.type))

    def about(self, name: str, type: str = "") -> Request:
        """Return the same question about another name."""
        number = TYPES[type] if type else self.type
        asked = dnslib.DNSRecord.question(name or ".", dnslib.QTYPE.get(number))
        return replace(self, name=name, written=name, type=number, raw=asked.pack(), tcp=True, size=_LARGEST_TCP,
                       depth=self.depth + 1)


@dataclass(frozen=True)
class Reply:
    """An answer. Records are dnslib's. `lasting` answers stay right until the cluster changes: no need to ask twice."""

    rcode: int = NOERROR
    answer: tuple[Any, ...] = ()
    authority: tuple[Any, ...] = ()
    extra: tuple[Any, ...] = ()
    authoritative: bool = False
    truncated: bool = False
    lasting: bool = False


class BadMessage(Exception):
    """The bytes are no question. `reply` is what to send back, b"" for nothing."""

    def __init__(self, reply: bytes) -> None:
        super().__init__("not a DNS question")
        self.reply = reply


def parse(data: bytes, *, tcp: bool, client: str) -> Request:
    """Read a question.

    Raises:
        BadMessage: it is none, or of a kind that is not served.
    """
    if len(data) < 12 or data[2] & 0x80:  # too short to answer, or itself an answer: silence, or two servers would loop
        raise BadMessage(b"")
    if data[2] >> 3 & 0xF:
        raise BadMessage(_refusal(data, NOTIMP))
    try:
        message = dnslib.DNSRecord.parse(data)
        question = message.q
        options = [record for record in message.ar if record.rtype == dnslib.QTYPE.OPT]
        written = str(question.qname).rstrip(".")
    except Exception:  # noqa: BLE001 - dnslib raises whatever its parsing runs into
        raise BadMessage(_refusal(data, FORMERR)) from None
    if len(message.questions) != 1 or len(options) > 1:
        raise BadMessage(_refusal(data, FORMERR))
    if question.qclass != dnslib.CLASS.IN:
        raise BadMessage(_refusal(data, REFUSED))
    size, dnssec_ok = _LARGEST_TCP if tcp else _SMALLEST, False
    if options:
        if options[0].edns_ver != 0:
            raise BadMessage(_bad_version(message))
        dnssec_ok = bool(options[0].edns_do)
        if not tcp:
            size = min(max(int(options[0].rclass), _SMALLEST), _LARGEST_UDP)
    return Request(id=message.header.id, name=written.lower(), written=written, type=question.qtype,
                   recursion=bool(message.header.rd), tcp=tcp, client=client, raw=data, size=size, edns=bool(options),
                   dnssec_ok=dnssec_ok)


def pack(request: Request, reply: Reply) -> bytes:
    """Write an answer, cut to what the client takes: extra records go first, then answers, which sets TC."""
    data = _pack(request, reply)
    if len(data) <= request.size:
        return data
    reply = replace(reply, extra=())
    data = _pack(request, reply)
    if len(data) <= request.size:
        return data
    reply = replace(reply, authority=(), truncated=True)
    low, high = 0, len(reply.answer)
    while low < high:  # the most records that fit
        middle = (low + high + 1) // 2
        if len(_pack(request, replace(reply, answer=reply.answer[:middle]))) <= request.size:
            low = middle
        else:
            high = middle - 1
    return _pack(request, replace(reply, answer=reply.answer[:low]))


def rr(record: Record, ttl: int) -> Any:
    """Return a record as dnslib's."""
    data: Any
    if isinstance(record.data, tuple):
        data = dnslib.SRV(*record.data[:3], record.data[3])
    else:
        data = {"A": dnslib.A, "AAAA": dnslib.AAAA, "CNAME": dnslib.CNAME, "PTR": dnslib.PTR, "NS": dnslib.NS,
                "TXT": dnslib.TXT}[record.type](record.data)
    return dnslib.RR(record.name, TYPES[record.type], rdata=data, ttl=ttl)


def soa(zone: str, ttl: int, serial: int) -> Any:
    """Return the record that says who answers for a zone; its TTL is how long "no" may be remembered."""
    times = (serial & 0xFFFFFFFF, 7200, 1800, 86400, ttl)
    return dnslib.RR(zone, dnslib.QTYPE.SOA, rdata=dnslib.SOA(f"ns.dns.{zone}", f"hostmaster.{zone}", times), ttl=ttl)


def read_reply(data: bytes) -> Reply:
    """Read another server's answer.

    Raises:
        ValueError: it is none.
    """
    try:
        message = dnslib.DNSRecord.parse(data)
    except Exception as error:  # noqa: BLE001 - as above
        raise ValueError(f"not a DNS message: {error}") from None
    extra = tuple(record for record in message.ar if record.rtype != dnslib.QTYPE.OPT)
    return Reply(rcode=message.header.rcode, answer=tuple(message.rr), authority=tuple(message.auth), extra=extra,
                 authoritative=bool(message.header.aa), truncated=bool(message.header.tc))


def with_ttl(records: Sequence[Any], seconds: int) -> tuple[Any, ...]:
    """Return the records with a TTL that is shorter by so many seconds."""
    return tuple(dnslib.RR(record.rname, record.rtype, record.rclass, max(0, record.ttl - seconds), record.rdata)
                 for record in records)


def _pack(request: Request, reply: Reply) -> bytes:
    header = dnslib.DNSHeader(id=request.id, qr=1, aa=int(reply.authoritative), tc=int(reply.truncated),
                              rd=int(request.recursion), ra=1, rcode=reply.rcode)
    question = dnslib.DNSQuestion(request.written or ".", request.type)
    extra = list(reply.extra)
    if request.edns:
        extra.append(dnslib.EDNS0(udp_len=_LARGEST_UDP, flags="do" if request.dnssec_ok else ""))
    return bytes(dnslib.DNSRecord(header, questions=[question], rr=list(reply.answer), auth=list(reply.authority),
                                  ar=extra).pack())


def _refusal(data: bytes, rcode: int) -> bytes:
    """Return an answer to bytes that could not be read: their id, their opcode, no records."""
    return data[:2] + bytes([data[2] & 0x79 | 0x80, rcode]) + bytes(8)


def _bad_version(message: Any) -> bytes:
    """Return the answer to an EDNS version that nobody knows yet (RFC 6891, 6.1.3)."""
    header = dnslib.DNSHeader(id=message.header.id, qr=1, rd=message.header.rd, rcode=_BADVERS & 0xF)
    option = dnslib.EDNS0(udp_len=_LARGEST_UDP, ext_rcode=_BADVERS >> 4)
    return bytes(dnslib.DNSRecord(header, questions=message.questions, ar=[option]).pack())
