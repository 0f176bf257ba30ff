"""A few chains and elements of a large nftables table, as `nft list` would print them, read by netlink.

libnftables has to fetch every set before it can print one chain: with a map in each of ten thousand chains that is a
second. Here the kernel is asked for what is wanted alone. Expressions are turned back into nft's language as far as
kube-proxy's own rules go (netlab.kernel.nft_expressions writes them); more is refused, so that libnftables can do it.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from netlab.errors import Unsupported
from netlab.kernel import nfnetlink
from netlab.kernel.netns import inside
from netlab.kernel.nfnetlink import attribute, attributes
from netlab.kernel.nft_wire import PROTOCOLS, VERDICTS

_GETRULE, _GETSETELEM = 7, 13
_NAMES: Final = {number: name for name, number in PROTOCOLS.items()}
_CODES: Final = {code: word for word, code in VERDICTS.items()}
_FIELDS: Final = {(1, 12): "ip saddr", (1, 16): "ip daddr", (1, 8): "ip6 saddr", (1, 24): "ip6 daddr"}
_METAS: Final = {3: "meta mark", 6: "iifname", 16: "meta l4proto"}


class Picker:
    """One table of one namespace, asked in pieces."""

    def __init__(self, family: int, table: str, netns: int) -> None:
        """Open a socket there; `family` is AF_INET or AF_INET6."""
        self.family, self.table = family, table
        with inside(netns):
            self._sock = nfnetlink.open_socket(buffer=4 << 20)

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()

    def elements(self, name: str, only: Iterable[bytes]) -> Iterator[tuple[str, str]]:
        """Yield (key, what stands behind it) of those elements of kube-proxy's map that hold one of these strings."""
        wanted = tuple(only)
        for body in self._dump(_GETSETELEM, name):
            for _, listed in _within(body, 3):
                if any(each in listed for each in wanted):
                    found = dict(attributes(listed))
                    comment = _comment(found.get(6, b""))
                    yield (_key(dict(attributes(found[1]))[1]) + (f' comment "{comment}"' if comment else ""),
                           _data(found.get(2, b"")))

    def rules(self, chain: str) -> list[str]:
        """Return the rules of a chain, with comments and handles.

        Raises:
            Unsupported: an expression is not one that kube-proxy's chains of Services have.
        """
        bodies = list(self._dump(_GETRULE, chain))  # all of them first: each may ask for a set of its own
        return [_Rule(self, dict(attributes(body))).text() for body in bodies]

    def members(self, name: str) -> Iterator[tuple[bytes, bytes, int]]:
        """Yield key, data and flags of a set's elements."""
        for body in self._dump(_GETSETELEM, name):
            for _, listed in _within(body, 3):
                found = dict(attributes(listed))
                key = dict(attributes(found[1]))[1] if 1 in found else b""
                yield key, found.get(2, b""), int.from_bytes(found.get(3, b""), "big")

    def _dump(self, message: int, name: str) -> Iterator[bytes]:
        body = attribute(1, self.table.encode() + b"\0") + attribute(2, name.encode() + b"\0")
        return nfnetlink.dump(self._sock, nfnetlink.SUBSYS_NFTABLES, message, family=self.family, body=body)


def _within(body: bytes, kind: int) -> Iterator[tuple[int, bytes]]:
    for number, payload in attributes(body):
        if number == kind:
            yield from attributes(payload)


def _key(raw: bytes) -> str:
    """Return a key of one of kube-proxy's maps: an address (or none), a protocol and a port, in whole registers."""
    address, protocol, port = raw[:-8], raw[-8], struct.unpack_from("!H", raw, len(raw) - 4)[0]
    parts = [_address(address)] if address else []
    return " . ".join((*parts, _NAMES.get(protocol, str(protocol)), str(port)))


def _address(raw: bytes) -> str:
    return str(ipaddress.ip_address(raw))


def _data(raw: bytes) -> str:
    """Return what a map says: a verdict, or an address and a port."""
    found = dict(attributes(raw))
    if 2 in found:
        return _verdict(found[2])
    value = found.get(1, b"")
    return f"{_address(value[:-4])} . {struct.unpack_from('!H', value, len(value) - 4)[0]}" if value else ""


def _verdict(raw: bytes) -> str:
    found = dict(attributes(raw))
    code = int.from_bytes(found[1], "big", signed=True)
    chain = found.get(2, b"").rstrip(b"\0").decode()
    return f"{_CODES[code]} {chain}".rstrip()


def _comment(userdata: bytes) -> str:
    at = 0
    while at + 2 <= len(userdata):
        kind, size = userdata[at], userdata[at + 1]
        if kind == 0:
            return userdata[at + 2:at + 2 + size].rstrip(b"\0").decode(errors="replace")
        at += 2 + size
    return ""


class _Rule:
    """One rule on its way from expressions to words. `_held` is what the registers hold, by their first slot."""

    def __init__(self, picker: Picker, found: Mapping[int, bytes]) -> None:
        self._picker, self._found = picker, found
        self._held: dict[int, object] = {}
        self._words: list[str] = []

    def text(self) -> str:
        for _, each in attributes(self._found.get(4, b"")):
            parts = dict(attributes(each))
            name = parts[1].rstrip(b"\0").decode()
            does = _EXPRESSIONS.get(name)
            if does is None:
                raise Unsupported(f"an expression that only nft can say: {name}")
            try:
                does(self, dict(attributes(parts.get(2, b""))))
            except (KeyError, ValueError, IndexError, struct.error):
                raise Unsupported(f"an expression {name} that only nft can say") from None
        comment = _comment(self._found.get(7, b""))
        words = " ".join(self._words) + (f' comment "{comment}"' if comment else "")
        return f"{words} # handle {int.from_bytes(self._found[3], 'big')}"

    def meta(self, parts: Mapping[int, bytes]) -> None:
        name = _METAS[_number(parts[2])]
        if 3 in parts:
            self._words.append(f"{name} set {self._held[_slot(parts[3])]}")
        else:
            self._held[_slot(parts[1])] = name

    def payload(self, parts: Mapping[int, bytes]) -> None:
        self._held[_slot(parts[1])] = _FIELDS[_number(parts[2]), _number(parts[3])]

    def fib(self, parts: Mapping[int, bytes]) -> None:
        side = {1: "saddr", 2: "daddr"}[_number(parts[3])]
        self._held[_slot(parts[1])] = f"fib {side} type"

    def bitwise(self, parts: Mapping[int, bytes]) -> None:
        source = self._held[_slot(parts[1])]
        mask, xor = (dict(attributes(parts[kind]))[1] for kind in (4, 5))
        if source == "meta mark":
            keep, bit = (int.from_bytes(each, sys.byteorder) for each in (mask, xor))
            sign = "^" if keep == 0xFFFFFFFF else "|" if keep == ~bit & 0xFFFFFFFF else ""
            if not sign:
                raise ValueError(source)
            self._held[_slot(parts[2])] = f"meta mark {sign} {bit:#010x}"
        elif not any(xor) and isinstance(source, str) and source.endswith("addr"):
            self._held[_slot(parts[2])] = (source, mask)
        else:
            raise ValueError(source)

    def cmp(self, parts: Mapping[int, bytes]) -> None:
        source = self._held[_slot(parts[1])]
        sign = {0: "", 1: "!= "}[_number(parts[2])]
        data = dict(attributes(parts[3]))[1]
        if isinstance(source, tuple):
            name, mask = source
            bits = int.from_bytes(mask, "big").bit_count()
            self._words.append(f"{name} {sign}{_address(data)}/{bits}")
        elif source == "meta l4proto":
            self._words.append(f"{source} {sign}{_NAMES[data[0]]}")
        elif source == "iifname":
            self._words.append(f'iifname {sign}"{data.rstrip(bytes(1)).decode()}{"" if len(data) == 16 else "*"}"')
        elif isinstance(source, str) and source.startswith("fib ") and int.from_bytes(data, sys.byteorder) == 2:
            self._words.append(f"{source} {sign}local")
        elif isinstance(source, str) and source.endswith("addr"):
            size = 16 if source.startswith("ip6") else 4
            whole = _address(data.ljust(size, b"\0"))
            self._words.append(f"{source} {sign}{whole}" + ("" if len(data) == size else f"/{8 * len(data)}"))
        else:
            raise ValueError(source)

    def numgen(self, parts: Mapping[int, bytes]) -> None:
        kind = {0: "inc", 1: "random"}[_number(parts[3])]
        self._held[_slot(parts[1])] = f"numgen {kind} mod {_number(parts[2])}"

    def lookup(self, parts: Mapping[int, bytes]) -> None:
        source, name = str(self._held[_slot(parts[2])]), parts[1].rstrip(b"\0").decode()
        inverted = "!= " if 5 in parts and _number(parts[5]) & 1 else ""
        if not name.startswith("__"):
            if 3 in parts:
                raise ValueError(name)  # of a map that Services share: not in a chain of theirs
            self._words.append(f"{source} {inverted}@{name}")
            return
        if 3 not in parts:
            self._words.append(f"{source} {inverted}{{ {', '.join(_members(self._picker.members(name)))} }}")
            return
        pairs = sorted((int.from_bytes(key, sys.byteorder), _data(data)) for key, data, _ in self._picker.members(name))
        said = ", ".join(f"{key} : {value}" for key, value in pairs)
        if _number(parts[3]) == 0:
            self._words.append(f"{source} vmap {{ {said} }}")
        else:
            self._held[_slot(parts[3])] = f"{source} map {{ {said} }}"

    def immediate(self, parts: Mapping[int, bytes]) -> None:
        data = dict(attributes(parts[2]))
        if 2 in data:
            self._words.append(_verdict(data[2]))
        else:
            self._held[_slot(parts[1])] = data[1]

    def nat(self, parts: Mapping[int, bytes]) -> None:
        address = self._held[_slot(parts[3])]
        word = "snat" if _number(parts[1]) == 0 else "dnat"
        if isinstance(address, bytes):
            ip, port = _address(address), struct.unpack("!H", _bytes(self._held[_slot(parts[5])])[:2])[0]
            self._words.append(f"{word} to [{ip}]:{port}" if ":" in ip else f"{word} to {ip}:{port}")
        else:
            family = "ip6" if _number(parts[2]) == socket.AF_INET6 else "ip"
            self._words.append(f"{word} {family} to {address}")

    def dynset(self, parts: Mapping[int, bytes]) -> None:
        name = parts[1].rstrip(b"\0").decode()
        verb = {0: "add", 1: "update"}[_number(parts[3])]
        self._words.append(f"{verb} @{name} {{ {self._held[_slot(parts[4])]} }}")

    def counter(self, parts: Mapping[int, bytes]) -> None:
        self._words.append(f"counter packets {_number(parts[2])} bytes {_number(parts[1])}")

    def reject(self, _: Mapping[int, bytes]) -> None:
        self._words.append("reject")


def _members(listed: Iterable[tuple[bytes, bytes, int]]) -> Iterator[str]:
    """Yield the addresses and networks of an anonymous set; an end of an interval has a flag of its own."""
    found = sorted((int.from_bytes(key, "big"), bool(flags & 1), len(key)) for key, _, flags in listed)
    if not any(end for _, end, _ in found):
        yield from (_address(value.to_bytes(size, "big")) for value, _, size in found)
        return
    for at, (value, end, size) in enumerate(found):
        if end:
            continue
        last = found[at + 1][0] - 1 if at + 1 < len(found) else (1 << 8 * size) - 1
        first, final = (ipaddress.ip_address(each.to_bytes(size, "big")) for each in (value, last))
        yield from ((str(net.network_address) if net.num_addresses == 1 else str(net))
                    for net in ipaddress.summarize_address_range(first, final))


def _bytes(value: object) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError(value)
    return value


def _number(raw: bytes) -> int:
    return int.from_bytes(raw, "big")


def _slot(raw: bytes) -> int:
    """Return the first 4-byte slot of a register: NFT_REG_1 to 4 are 16 bytes each, NFT_REG32_00 and on 4."""
    number = _number(raw)
    return number - 8 if number >= 8 else (number - 1) * 4


_EXPRESSIONS: Final[Mapping[str, Callable[[_Rule, Mapping[int, bytes]], None]]] = {
    "meta": _Rule.meta, "payload": _Rule.payload, "fib": _Rule.fib, "bitwise": _Rule.bitwise, "cmp": _Rule.cmp,
    "numgen": _Rule.numgen, "lookup": _Rule.lookup, "immediate": _Rule.immediate, "nat": _Rule.nat,
    "dynset": _Rule.dynset, "counter": _Rule.counter, "reject": _Rule.reject}
