"""nftables' values and attributes as bytes: what rules, sets and elements are put together from.

Numbers are those of <linux/netfilter/nf_tables.h>. Integers of attributes are big-endian; values in keys and registers
are as packets have them, or as the kernel has its own (`host`).
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import Final

from netlab.errors import Unsupported
from netlab.kernel.nfnetlink import attribute, attributes

NESTED: Final = 0x8000
LIST_ELEM: Final = 1
PROTOCOLS: Final[Mapping[str, int]] = {"icmp": 1, "tcp": 6, "udp": 17, "ipv6-icmp": 58, "sctp": 132}
DROP, ACCEPT, JUMP, GOTO, RETURN = 0, 1, -3, -4, -5
VERDICTS: Final[Mapping[str, int]] = {"drop": DROP, "accept": ACCEPT, "return": RETURN, "jump": JUMP, "goto": GOTO}
TYPE_IDS: Final[Mapping[str, int]] = {"ipv4_addr": 7, "ipv6_addr": 8, "inet_proto": 12, "inet_service": 13}
TYPE_SIZES: Final[Mapping[str, int]] = {"ipv4_addr": 4, "ipv6_addr": 16, "inet_proto": 4, "inet_service": 4}
"""Bytes of a value in a set's key, filled up to whole registers."""
INTEGER, VERDICT = 4, 0xFFFFFF00
"""More types: a number in the machine's own order, and what is to become of a packet."""
ANONYMOUS, CONSTANT, INTERVAL, MAP = 1, 2, 4, 8
"""Flags of sets."""

_TYPES = {number: name for name, number in TYPE_IDS.items()}
_VERDICT_WORDS = {number: word for word, number in VERDICTS.items()}
_PROTOCOL_NAMES = {number: name for name, number in PROTOCOLS.items()}
_ATTRIBUTE = struct.Struct("=HH")
_NUMBER = struct.Struct("!I")
_ELEMENT = struct.Struct("=6H")
"""The heads of an element, of its key, and of the key's value."""


def u32(kind: int, value: int) -> bytes:
    """Encode an attribute of four bytes."""
    return _ATTRIBUTE.pack(8, kind) + _NUMBER.pack(value & 0xFFFFFFFF)


def nested(kind: int, payload: bytes) -> bytes:
    """Encode an attribute of attributes, which need no padding behind them."""
    return _ATTRIBUTE.pack(4 + len(payload), kind | NESTED) + payload


def text(kind: int, value: str) -> bytes:
    """Encode a string."""
    return attribute(kind, value.encode() + b"\0")


def tlv(kind: int, value: bytes) -> bytes:
    """Encode one record of user data, which the kernel keeps for nft and does not read."""
    return bytes((kind, len(value))) + value


def host(value: int) -> bytes:
    """Return four bytes as the kernel has them in a register of its own."""
    return value.to_bytes(4, sys.byteorder)


def verdict(words: Sequence[str]) -> bytes:
    """Encode `drop`, `goto CHAIN` and the like as the data of an element or of an immediate load."""
    code = VERDICTS.get(words[0]) if words else None
    if code is None or len(words) != (2 if code in (JUMP, GOTO) else 1):
        raise Unsupported(f"no verdict: {' '.join(words)!r}")
    return nested(2, u32(1, code) + (text(2, words[1]) if len(words) == 2 else b""))


@lru_cache(maxsize=4096)
def value(word: str) -> bytes:
    """Encode an address, a protocol or a port as a key holds it, filled up to whole registers."""
    if word.isdigit():
        return struct.pack("!HH", int(word), 0)
    number = PROTOCOLS.get(word)
    if number is not None:
        return bytes((number, 0, 0, 0))
    try:
        return inet_pton(AF_INET6 if ":" in word else AF_INET, word)
    except (OSError, ValueError):
        raise Unsupported(f"no address, protocol or port: {word!r}") from None


def concatenated(word: str) -> bytes:
    """Encode `10.96.0.1 . tcp . 80`."""
    return b"".join([value(each) for each in word.split(" . ")])


def element(key: bytes, data: bytes = b"", *, flags: int = 0, comment: str = "") -> bytes:
    """Encode an element of a set; `key` fills registers; `data` is a value or a verdict, encoded, for a map."""
    more = nested(2, data) if data else b""
    if flags:
        more += u32(3, flags)
    if comment:
        more += attribute(6, tlv(0, comment.encode() + b"\0"))
    size = len(key)
    return _ELEMENT.pack(12 + size + len(more), LIST_ELEM | NESTED, 8 + size, 1 | NESTED, 4 + size, 1) + key + more


def key_types(number: int) -> tuple[str, ...]:
    """Return the types that are concatenated in a set's key; "" for one that is not known here.

    >>> key_types(0x730d)
    ('ipv4_addr', 'inet_proto', 'inet_service')
    """
    found = []
    while number:
        found.append(_TYPES.get(number & 63, ""))
        number >>= 6
    return tuple(reversed(found))


def key_reader(types: Sequence[str]) -> Callable[[bytes], str]:
    """Return what says a key of these types in nft's words, `10.96.0.1 . tcp . 80`; in hexadecimal if one is not known.

    >>> key_reader(("inet_proto", "inet_service"))(bytes((6, 0, 0, 0, 0, 80, 0, 0)))
    'tcp . 80'
    """
    parts, at = [], 0
    for each in types:
        if each not in _READERS:
            return bytes.hex
        parts.append((_READERS[each], at, at + TYPE_SIZES[each]))
        at += TYPE_SIZES[each]
    return lambda key: " . ".join([read(key[start:end]) for read, start, end in parts])


def _port(part: bytes) -> str:
    return str(part[0] << 8 | part[1])


_READERS: Final[Mapping[str, Callable[[bytes], str]]] = {
    "ipv4_addr": partial(inet_ntop, AF_INET), "ipv6_addr": partial(inet_ntop, AF_INET6), "inet_service": _port,
    "inet_proto": lambda part: _PROTOCOL_NAMES.get(part[0], str(part[0]))}


def element_words(data: bytes) -> tuple[bytes, str]:
    """Return an element of a set or of a map to verdicts: its key, and what stands behind it in nft's words."""
    found = dict(attributes(data))
    key = found.get(1, b"")[4:]  # one attribute inside, the value
    then = ""
    for kind, value_ in records(found.get(6, b"")):
        if kind == 0:
            then = f' comment "{value_.rstrip(bytes(1)).decode(errors="replace")}"'
    if 2 in found:
        said = dict(attributes(found[2][4:]))
        code = int.from_bytes(said.get(1, bytes(4)), "big", signed=True)
        chain = said.get(2, b"").rstrip(b"\0").decode()
        then += f" : {_VERDICT_WORDS.get(code, code)} {chain}".rstrip()
    return key, then


def records(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Decode user data (`tlv`); a torn record ends it."""
    at = 0
    while at + 2 <= len(data) and at + 2 + data[at + 1] <= len(data):
        yield data[at], data[at + 2:at + 2 + data[at + 1]]
        at += 2 + data[at + 1]


def words_of(line: str) -> list[str]:
    """Split nft's text at spaces, keeping what is in quotes together, without them."""
    if '"' not in line:
        return line.split()
    found: list[str] = []
    for at, part in enumerate(line.split('"')):
        if at % 2:
            found.append(part)
        else:
            found += part.split()
    return found
