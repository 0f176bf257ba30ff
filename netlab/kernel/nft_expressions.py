"""A rule of nft's language as the kernel's expressions: as much of the language as kube-proxy's rules are written in.

    ip daddr . meta l4proto . th dport vmap @service-ips
    meta l4proto tcp dnat ip to numgen random mod 2 map { 0 : 10.244.1.5 . 8080, 1 : 10.244.2.5 . 8080 }

becomes loads into registers, lookups and statements, each {name, attributes} (<linux/netfilter/nf_tables.h>). A
concatenation lies in 4-byte registers in a row. What is not known here is refused (`Unsupported`), so that a caller can
let libnftables do it.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from socket import AF_INET, AF_INET6
from typing import Final

from netlab.errors import Unsupported
from netlab.kernel.nfnetlink import attribute
from netlab.kernel.nft_wire import (
    ANONYMOUS,
    CONSTANT,
    INTEGER,
    INTERVAL,
    LIST_ELEM,
    MAP,
    PROTOCOLS,
    TYPE_IDS,
    VERDICT,
    VERDICTS,
    concatenated,
    element,
    host,
    nested,
    text,
    tlv,
    u32,
    value,
    verdict,
    words_of,
)

_EQ, _NEQ = 0, 1
_META_MARK, _META_IIFNAME, _META_L4PROTO = 3, 6, 16
_NETWORK, _TRANSPORT = 1, 2


@dataclass(frozen=True, slots=True)
class Anonymous:
    """A set or map that belongs to one rule, and is written just before it.

    The kernel would choose a number itself (`__map%d`), but looks through all sets for a free one: with thousands of
    rules that is most of the time that they take. `number` must not be in use in the table.
    """

    number: int
    flags: int
    key: tuple[int, int]
    data: tuple[int, int]
    elements: tuple[bytes, ...]
    userdata: bytes

    @property
    def name(self) -> str:
        """Return its name; nft does not show it."""
        return f"__{'map' if self.flags & MAP else 'set'}{self.number}"

    @property
    def id(self) -> int:
        """Return how it is called within its batch."""
        return self.number & 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Compiled:
    """A rule's expressions, its comment and the anonymous sets that it looks into."""

    expressions: bytes
    comment: str
    sets: tuple[Anonymous, ...]


def compile_rule(line: str, *, v6: bool = False, numbers: Iterator[int] | None = None) -> Compiled:
    """Return the expressions of one rule.

    Args:
        line: the rule in nft's words, without its chain.
        v6: whether its table is of the family ip6.
        numbers: where numbers for anonymous sets come from.

    Raises:
        Unsupported: this is more of nft's language than is spoken here.
    """
    return _Rule(words_of(line), v6, numbers if numbers is not None else count(1)).compiled(line)


class _Rule:
    """One rule on its way from words to expressions."""

    def __init__(self, words: list[str], v6: bool, numbers: Iterator[int]) -> None:
        self._words, self._at, self._v6, self._numbers = words, 0, v6, numbers
        self._found: list[bytes] = []
        self._sets: list[Anonymous] = []

    def compiled(self, line: str) -> Compiled:
        comment = ""
        try:
            while self._at < len(self._words):
                word = self._next()
                if word == "comment":
                    comment = self._next()
                elif word in VERDICTS:
                    self._found.append(_immediate(0, verdict((word, self._next()) if word in ("jump", "goto")
                                                             else (word,))))
                else:
                    _STATEMENTS[word](self)
        except (KeyError, IndexError, ValueError):
            raise Unsupported(f"a rule that only nft can say: {line}") from None
        return Compiled(b"".join(self._found), comment, tuple(self._sets))

    def _next(self) -> str:
        self._at += 1
        return self._words[self._at - 1]

    def _is(self, *expected: str) -> bool:
        """Step over some words if they are the next ones."""
        fits = tuple(self._words[self._at:self._at + len(expected)]) == expected
        self._at += len(expected) if fits else 0
        return fits

    def _expect(self, *expected: str) -> None:
        if not self._is(*expected):
            raise ValueError(expected)

    def _braces(self) -> str:
        """Return what stands between the next braces, in one piece."""
        self._expect("{")
        end = self._words.index("}", self._at)
        found = " ".join(self._words[self._at:end])
        self._at = end + 1
        return found

    def ct(self) -> None:
        what = self._next()
        key, bit = {("state", "new"): (0, 8), ("status", "dnat"): (2, 32)}[what, self._next()]
        self._found += (_expression("ct", u32(1, 1) + u32(2, key)), _masked(host(bit)), _cmp(_NEQ, bytes(4)))

    def interface(self) -> None:
        operator = _NEQ if self._is("!=") else _EQ
        name = self._next()
        data = name[:-1].encode() if name.endswith("*") else name.encode().ljust(16, b"\0")
        self._found += (_meta(_META_IIFNAME), _cmp(operator, data))

    def fib(self) -> None:
        flags = {"saddr": 1, "daddr": 2}[self._next()]
        self._expect("type", "local")
        self._found += (_expression("fib", u32(1, 1) + u32(2, 3) + u32(3, flags)), _cmp(_EQ, host(2)))

    def update(self) -> None:
        name = self._next().removeprefix("@")
        family, _, field = self._braces().partition(" ")
        load, _ = _load((family, field), 0)
        self._found += (load, _expression("dynset", text(1, name) + u32(3, 1) + u32(4, 1)))

    def reject(self) -> None:
        self._found.append(_expression("reject", u32(1, 0) + attribute(2, b"\4" if self._v6 else b"\3")))

    def masquerade(self) -> None:
        self._found.append(_expression("masq", u32(1, 0x10) if self._is("fully-random") else b""))

    def numgen(self) -> None:
        modulus = self._random()
        self._expect("vmap")
        pairs = (each.split(" : ") for each in self._braces().split(", "))
        elements = [element(host(int(at)), verdict(then.split())) for at, then in pairs]
        made = self._anonymous(MAP, (INTEGER, 4), (VERDICT, 16), elements, _HOST_KEY)
        self._found += (modulus, _lookup(made, into=0))

    def _random(self) -> bytes:
        self._expect("random", "mod")
        return _expression("numgen", u32(1, 1) + u32(2, int(self._next())) + u32(3, 1) + u32(4, 0))

    def dnat(self) -> None:
        if self._is("to"):  # one place: the words say its family
            ip, _, port = self._next().rpartition(":")
            ip = ip.strip("[]")
            self._found += (_immediate(1, attribute(1, value(ip))),
                            _immediate(2, attribute(1, struct.pack("!H", int(port)))), _dnat(":" in ip, 2))
            return
        v6 = {"ip": False, "ip6": True}[self._next()]
        self._expect("to", "numgen")
        modulus = self._random()
        self._expect("map")
        pairs = (each.split(" : ") for each in self._braces().split(", "))
        elements = [element(host(int(at)), attribute(1, concatenated(then))) for at, then in pairs]
        data = (8 << 6 | 13, 20) if v6 else (7 << 6 | 13, 8)
        made = self._anonymous(MAP, (INTEGER, 4), data, elements, _HOST_KEY)
        self._found += (modulus, _lookup(made, into=1), _dnat(v6, 2 if v6 else 9))

    def meta(self) -> None:
        if self._words[self._at] != "mark":
            self._select("meta")
        elif self._is("mark", "set", "meta", "mark"):
            word, bit = self._next(), int(self._next(), 0)
            keep = 0xFFFFFFFF & ~bit if word == "|" else {"^": 0xFFFFFFFF}[word]
            self._found += (_meta(_META_MARK), _masked(host(keep), host(bit)),
                            _expression("meta", u32(2, _META_MARK) + u32(3, 1)))
        else:
            self._expect("mark", "&")
            bit = int(self._next(), 0)
            operator = _NEQ if self._is("!=") else _EQ
            self._found += (_meta(_META_MARK), _masked(host(bit)), _cmp(operator, host(int(self._next(), 0))))

    def ip(self) -> None:
        self._select("ip")

    def ip6(self) -> None:
        self._select("ip6")

    def th(self) -> None:
        self._select("th")

    def _select(self, family: str) -> None:
        """Take what a packet is asked for, and what it has to be."""
        fields = [(family, self._next())]
        while self._is("."):
            fields.append((self._next(), self._next()))
        if self._is("vmap"):
            self._loads(fields)
            self._found.append(_lookup(self._next().removeprefix("@"), into=0))
            return
        inverted = self._is("!=")
        word = self._words[self._at]
        if word == "{":
            self._loads(fields)
            self._found.append(_lookup(self._networks(self._braces()), inverted=inverted))
        elif word.startswith("@"):
            self._loads(fields)
            self._found.append(_lookup(self._next()[1:], inverted=inverted))
        else:
            (field,) = fields
            self._compare(field, self._next(), _NEQ if inverted else _EQ)

    def _loads(self, fields: Sequence[tuple[str, str]]) -> None:
        slot = 0
        for field in fields:
            load, size = _load(field, slot)
            self._found.append(load)
            slot += size

    def _compare(self, field: tuple[str, str], word: str, operator: int) -> None:
        if field[0] == "meta":
            self._found += (_load(field, 0)[0], _cmp(operator, bytes((PROTOCOLS[word],))))
            return
        network = ipaddress.ip_network(word)
        bits, data = network.prefixlen, network.network_address.packed
        base, offset, size = _FIELDS[field]
        if bits % 8 == 0 and bits:  # whole bytes: only they are looked at
            self._found += (_payload(0, base, offset, bits // 8), _cmp(operator, data[:bits // 8]))
            return
        self._found += (_payload(0, base, offset, size), _masked(network.netmask.packed), _cmp(operator, data))

    def _networks(self, listed: str) -> Anonymous:
        """Make a set of addresses and networks; networks are kept as starts and ends, which lie apart."""
        found = [ipaddress.ip_network(each) for each in listed.split(", ")]
        size = found[0].max_prefixlen // 8
        key = (TYPE_IDS["ipv6_addr" if size == 16 else "ipv4_addr"], size)
        if all(each.num_addresses == 1 for each in found):
            elements = [element(each.network_address.packed) for each in found]
            return self._anonymous(0, key, (0, 0), elements, _NETWORK_KEY)
        spans: list[list[int]] = []
        for first, last in sorted((int(each.network_address), int(each.broadcast_address)) for each in found):
            if spans and first <= spans[-1][1] + 1:
                spans[-1][1] = max(spans[-1][1], last)
            else:
                spans.append([first, last])
        elements = [] if spans[0][0] == 0 else [element(bytes(size), flags=1)]
        for first, last in spans:
            elements.append(element(first.to_bytes(size, "big")))
            if last + 1 < 1 << 8 * size:
                elements.append(element((last + 1).to_bytes(size, "big"), flags=1))
        return self._anonymous(INTERVAL, key, (0, 0), elements, _NETWORK_KEY + _MERGED)

    def _anonymous(self, flags: int, key: tuple[int, int], data: tuple[int, int], elements: Sequence[bytes],
                   userdata: bytes) -> Anonymous:
        made = Anonymous(next(self._numbers), ANONYMOUS | CONSTANT | flags, key, data, tuple(elements), userdata)
        self._sets.append(made)
        return made


_STATEMENTS: Final[Mapping[str, Callable[[_Rule], None]]] = {
    "ct": _Rule.ct, "iifname": _Rule.interface, "fib": _Rule.fib, "update": _Rule.update, "reject": _Rule.reject,
    "masquerade": _Rule.masquerade, "numgen": _Rule.numgen, "dnat": _Rule.dnat, "meta": _Rule.meta, "ip": _Rule.ip,
    "ip6": _Rule.ip6, "th": _Rule.th}

_FIELDS: Final[Mapping[tuple[str, str], tuple[int, int, int]]] = {
    ("ip", "saddr"): (_NETWORK, 12, 4), ("ip", "daddr"): (_NETWORK, 16, 4), ("ip6", "saddr"): (_NETWORK, 8, 16),
    ("ip6", "daddr"): (_NETWORK, 24, 16), ("th", "dport"): (_TRANSPORT, 2, 2)}
"""Header, offset and length in bytes."""

_KEY_ORDER, _DATA_ORDER, _MERGE, _DATA_INTERVAL = 0, 1, 2, 6
_HOST_KEY: Final = tlv(_KEY_ORDER, host(1)) + tlv(_DATA_ORDER, host(0)) + tlv(_DATA_INTERVAL, host(0))
_NETWORK_KEY: Final = tlv(_KEY_ORDER, host(2))
_MERGED: Final = tlv(_MERGE, host(1))


def _expression(name: str, attributes: bytes) -> bytes:
    return nested(LIST_ELEM, text(1, name) + nested(2, attributes))


def _register(slot: int) -> int:
    """Return the number of the register that begins at a 4-byte slot: NFT_REG_1.. where it can, NFT_REG32_00.. else."""
    return 8 + slot if slot % 4 else 1 + slot // 4


@lru_cache(maxsize=64)
def _load(field: tuple[str, str], slot: int) -> tuple[bytes, int]:
    """Return the load of a field and how many slots it takes."""
    if field == ("meta", "l4proto"):
        return _meta(_META_L4PROTO, slot), 1
    base, offset, size = _FIELDS[field]
    return _payload(slot, base, offset, size), (size + 3) // 4


@lru_cache(maxsize=64)
def _meta(key: int, slot: int = 0) -> bytes:
    return _expression("meta", u32(2, key) + u32(1, _register(slot)))


def _payload(slot: int, base: int, offset: int, size: int) -> bytes:
    return _expression("payload", u32(1, _register(slot)) + u32(2, base) + u32(3, offset) + u32(4, size))


@lru_cache(maxsize=256)
def _cmp(operator: int, data: bytes) -> bytes:
    return _expression("cmp", u32(1, 1) + u32(2, operator) + nested(3, attribute(1, data)))


def _masked(mask: bytes, xor: bytes = b"") -> bytes:
    return _expression("bitwise", u32(1, 1) + u32(2, 1) + u32(3, len(mask)) + nested(4, attribute(1, mask))
                       + nested(5, attribute(1, xor or bytes(len(mask)))))


def _immediate(register: int, data: bytes) -> bytes:
    return _expression("immediate", u32(1, register) + nested(2, data))


def _lookup(where: Anonymous | str, *, into: int | None = None, inverted: bool = False) -> bytes:
    """Look register 1 up in a set, or put what a map says into a register (0 is the verdict)."""
    named = text(1, where if isinstance(where, str) else where.name)
    return _expression("lookup", named + u32(2, 1) + (b"" if into is None else u32(3, into))
                       + (u32(5, 1) if inverted else b""))


@lru_cache(maxsize=4)
def _dnat(v6: bool, port: int) -> bytes:
    """Rewrite to the address in register 1 and the port in another (NF_NAT_RANGE_MAP_IPS | _PROTO_SPECIFIED)."""
    return _expression("nat", u32(1, 1) + u32(2, AF_INET6 if v6 else AF_INET) + u32(3, 1) + u32(4, 1) + u32(5, port)
                       + u32(6, port) + u32(7, 3))
