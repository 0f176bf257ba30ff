"""nft commands as netlink messages of our own: what `nft -f` does, for the commands that kube-proxy writes.

One batch is one transaction. Against libnftables, which parses, evaluates and optimises for every user there may be,
this takes half of the time, and needs nothing but the kernel.

    add table ip kube-proxy { comment "rules for kube-proxy" ; }
    add map ip kube-proxy service-ips { type ipv4_addr . inet_proto . inet_service : verdict ; }
    add chain ip kube-proxy service-X
    add rule ip kube-proxy service-X meta l4proto tcp dnat to 10.244.1.5:8080
    add element ip kube-proxy service-ips { 10.96.0.10 . tcp . 80 : goto service-X }

The kernel answers within sendmsg(2): errors wait in the receive queue when it returns, so nothing has to be waited for.
"""

from __future__ import annotations

import os
import random
import re
import socket
import struct
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from typing import Final

from netlab.errors import KernelError, Unsupported
from netlab.kernel import nfnetlink
from netlab.kernel.netns import within
from netlab.kernel.nfnetlink import attribute
from netlab.kernel.nft_expressions import Anonymous, compile_rule
from netlab.kernel.nft_wire import (
    MAP,
    TYPE_IDS,
    TYPE_SIZES,
    VERDICT,
    concatenated,
    element,
    host,
    nested,
    text,
    tlv,
    u32,
    verdict,
    words_of,
)

Place = int | str | None
"""A network namespace by descriptor or path; None for the caller's own."""

_BATCH_BEGIN, _BATCH_END = 16, 17
_NEWTABLE, _DELTABLE, _NEWCHAIN, _DELCHAIN, _NEWRULE, _DELRULE = 0, 2, 3, 5, 6, 8
_NEWSET, _DELSET, _NEWSETELEM, _DELSETELEM = 9, 11, 12, 14
_CREATE, _APPEND = 0x400, 0x800
_SO_SNDBUFFORCE: Final = 32
_FAMILIES: Final = {"ip": socket.AF_INET, "ip6": socket.AF_INET6}
_HOOKS: Final = {"prerouting": 0, "input": 1, "forward": 2, "output": 3, "postrouting": 4}
_PRIORITIES: Final = {"filter": 0, "dstnat": -100, "srcnat": 100}
_SECONDS: Final = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_FLAGS: Final = {"constant": 2, "interval": 4, "timeout": 0x10, "dynamic": 0x20}
_COMMENT: Final = 0
_SET_COMMENT: Final = 7
_FULL: Final = 60_000
"""Bytes of elements in one message; an attribute has at most 65,535."""

_NUMBERS: Final = count(random.getrandbits(48))
"""For anonymous sets: far from those that the kernel gives out, and another run's are not met again."""


class Encoder:
    """Commands of one transaction in, messages out. A message's sequence number is the number of its line, from 1."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self._numbers = _NUMBERS
        self._line = 0

    def encode(self, commands: str) -> bytes:
        """Return the batch.

        Raises:
            Unsupported: a command, or a rule, of which only nft knows what it means.
        """
        for line in commands.splitlines():
            self._line += 1
            if not line:
                continue
            try:
                verb, what, family, table, *rest = line.split(" ", 5)
                do = _COMMANDS[verb, what]
                do(self, _FAMILIES[family], attribute(1, table.encode() + b"\0"), *rest)
            except (KeyError, ValueError, TypeError, IndexError):
                raise Unsupported(f"a command that only nft can say: {line}") from None
        return b"".join((_edge(_BATCH_BEGIN), *self.messages, _edge(_BATCH_END)))

    def _put(self, message: int, family: int, body: bytes, flags: int = 0) -> None:
        self.messages.append(nfnetlink.request(nfnetlink.SUBSYS_NFTABLES, message, family=family, flags=flags,
                                               sequence=self._line, body=body))

    def add_table(self, family: int, table: bytes, declared: str = "", more: str = "") -> None:
        said = _declared(f"{declared} {more}").get("comment", "")
        self._put(_NEWTABLE, family, table + (attribute(6, _comment(said)) if said else b""), _CREATE)

    def delete_table(self, family: int, table: bytes) -> None:
        self._put(_DELTABLE, family, table)

    def add_chain(self, family: int, table: bytes, chain: str, declared: str = "") -> None:
        body = table + text(3, chain)
        found = _declared(declared)
        if "type" in found:
            kind, hook, priority = _BASE_CHAIN.fullmatch(found["type"]).groups()  # type: ignore[union-attr]
            body += nested(4, u32(1, _HOOKS[hook]) + u32(2, _priority(priority)))
            body += u32(5, {"accept": 1, "drop": 0}[found.get("policy", "accept")]) + text(7, kind)
        if "comment" in found:
            body += attribute(12, _comment(found["comment"]))
        self._put(_NEWCHAIN, family, body, _CREATE)

    def flush_chain(self, family: int, table: bytes, chain: str) -> None:
        self._put(_DELRULE, family, table + text(2, chain))

    def delete_chain(self, family: int, table: bytes, chain: str) -> None:
        self._put(_DELCHAIN, family, table + text(3, chain))

    def add_rule(self, family: int, table: bytes, chain: str, rule: str) -> None:
        made = compile_rule(rule, v6=family == socket.AF_INET6, numbers=self._numbers)
        for each in made.sets:
            self._anonymous(family, table, each)
        body = table + text(2, chain) + nested(4, made.expressions)
        if made.comment:
            body += attribute(7, _comment(made.comment))
        self._put(_NEWRULE, family, body, _CREATE | _APPEND)

    def _anonymous(self, family: int, table: bytes, made: Anonymous) -> None:
        body = table + text(2, made.name) + u32(10, made.id) + u32(3, made.flags)
        body += u32(4, made.key[0]) + u32(5, made.key[1])
        if made.flags & MAP:
            body += u32(6, made.data[0]) + u32(7, made.data[1])
        body += nested(9, u32(1, len(made.elements))) + attribute(13, made.userdata)
        self._put(_NEWSET, family, body, _CREATE)
        # By its number in this batch alone: by name the kernel would look through all sets.
        self._elements(_NEWSETELEM, family, table + u32(4, made.id), made.elements)

    def add_set(self, family: int, table: bytes, name: str, declared: str) -> None:
        found = _declared(declared)
        key, _, data = found["type"].partition(" : ")
        types = key.split(" . ")
        flags = MAP if data else 0
        for word in found.get("flags", "").split(","):
            flags |= _FLAGS[word] if word else 0
        number = 0
        for each in types:
            number = number << 6 | TYPE_IDS[each]
        body = table + text(2, name) + u32(10, next(self._numbers) & 0xFFFFFFFF) + u32(3, flags) + u32(4, number)
        body += u32(5, sum(TYPE_SIZES[each] for each in types))
        order = tlv(0, host(2 if len(types) == 1 else 0))
        if data:
            if data != "verdict":
                raise Unsupported(f"a map to {data!r}")
            body += u32(6, VERDICT) + u32(7, 16)
            order += tlv(1, host(0)) + tlv(6, host(0))
        if "size" in found:
            body += nested(9, u32(1, int(found["size"])))
        if "timeout" in found:
            body += attribute(11, struct.pack("!Q", 1000 * seconds(found["timeout"])))
        if "comment" in found:
            order += tlv(_SET_COMMENT, found["comment"].encode() + b"\0")
        self._put(_NEWSET, family, body + attribute(13, order), _CREATE)

    def flush_set(self, family: int, table: bytes, name: str) -> None:
        self._put(_DELSETELEM, family, table + text(2, name))

    def delete_set(self, family: int, table: bytes, name: str) -> None:
        self._put(_DELSET, family, table + text(2, name))

    def add_element(self, family: int, table: bytes, name: str, listed: str) -> None:
        self._elements(_NEWSETELEM, family, table + text(2, name), map(_element, _braced(listed).split(", ")))

    def delete_element(self, family: int, table: bytes, name: str, listed: str) -> None:
        self._elements(_DELSETELEM, family, table + text(2, name), map(_element, _braced(listed).split(", ")))

    def _elements(self, message: int, family: int, place: bytes, elements: Iterator[bytes] | tuple[bytes, ...]) -> None:
        piece: list[bytes] = []
        size = 0
        flags = _CREATE if message == _NEWSETELEM else 0
        for each in elements:
            if size + len(each) > _FULL:
                self._put(message, family, place + nested(3, b"".join(piece)), flags)
                piece, size = [], 0
            piece.append(each)
            size += len(each)
        if piece:
            self._put(message, family, place + nested(3, b"".join(piece)), flags)


_COMMANDS: Final[Mapping[tuple[str, str], Callable[..., None]]] = {
    ("add", "table"): Encoder.add_table, ("delete", "table"): Encoder.delete_table,
    ("add", "chain"): Encoder.add_chain, ("flush", "chain"): Encoder.flush_chain,
    ("delete", "chain"): Encoder.delete_chain, ("add", "rule"): Encoder.add_rule,
    ("add", "set"): Encoder.add_set, ("flush", "set"): Encoder.flush_set, ("delete", "set"): Encoder.delete_set,
    ("add", "map"): Encoder.add_set, ("flush", "map"): Encoder.flush_set, ("delete", "map"): Encoder.delete_set,
    ("add", "element"): Encoder.add_element, ("delete", "element"): Encoder.delete_element}

_BASE_CHAIN = re.compile(r"type (\w+) hook (\w+) priority (.+)")
_ELEMENT = re.compile(r'([^"]*?)(?: comment "([^"]*)")?(?: : (\w+(?: \S+)?))?')


class Writer:
    """A netlink socket of one network namespace that runs nft commands."""

    def __init__(self, netns: Place = None) -> None:
        """Open the socket.

        Raises:
            KernelError: this kernel has no netfilter netlink; NetnsGone: there is no such namespace.
        """
        with within(netns):
            self._sock = nfnetlink.open_socket(buffer=4 << 20)
        self._room = 0

    def run(self, commands: str) -> None:
        """Run commands as one transaction: all of them or none.

        Raises:
            Unsupported: nft knows more than this; KernelError: the kernel refused a command, which is named.
        """
        encoder = Encoder()
        batch = encoder.encode(commands)
        if encoder.messages:
            self.send(batch, commands)

    def send(self, batch: bytes, commands: str = "") -> None:
        """Give a batch to the kernel. `commands` are what it was made of, for the error."""
        self._make_room(len(batch) + 4096)
        try:
            self._sock.send(batch)
        except OSError as error:
            raise KernelError(f"nftables: {len(batch)} bytes in one transaction: {error.strerror}",
                              errno=error.errno or 0) from None
        for number, line in self._refusals():
            lines = commands.splitlines()
            said = f": {lines[line - 1][:300]}" if 0 < line <= len(lines) else ""
            raise KernelError(f"nftables: {os.strerror(number)}{said}", errno=number)

    def _refusals(self) -> Iterator[tuple[int, int]]:
        """Yield error number and line of what the kernel said so far."""
        found = []
        while True:
            try:
                answer = self._sock.recv(1 << 20)
            except BlockingIOError:
                break
            except OSError as error:  # more was refused than the queue holds
                raise KernelError(f"nftables: {error.strerror}", errno=error.errno or 0) from None
            for kind, _, sequence, payload in nfnetlink.messages(answer):
                number = -struct.unpack_from("=i", payload)[0] if kind == nfnetlink.NLMSG_ERROR else 0
                if number:
                    found.append((number, sequence))
        yield from found

    def _make_room(self, size: int) -> None:
        """The kernel takes a batch in one message; without CAP_NET_ADMIN outside net.core.wmem_max is the limit."""
        if size <= self._room:
            return
        try:
            self._sock.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, size)
        except PermissionError:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)
        self._room = size

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()


def seconds(duration: str) -> int:
    """Return seconds of nft's `1d1h1m1s` or `600s`.

    >>> seconds("1d1h1m1s")
    90061
    """
    return sum(int(number) * _SECONDS[unit] for number, unit in re.findall(r"(\d+)([dhms])", duration))


def _edge(message: int) -> bytes:
    """Return the message that opens or closes a batch."""
    return struct.pack("=IHHIIBBH", 20, message, nfnetlink.NLM_F_REQUEST, 0, 0, 0, 0,
                       socket.htons(nfnetlink.SUBSYS_NFTABLES))


def _comment(said: str) -> bytes:
    return tlv(_COMMENT, said.encode() + b"\0")


def _braced(listed: str) -> str:
    if not (listed.startswith("{ ") and listed.endswith(" }")):
        raise ValueError(listed)
    return listed[2:-2]


def _declared(listed: str) -> dict[str, str]:
    """Return `{ type X ; flags a,b ; comment "c" ; }` by its first words."""
    listed = listed.strip()
    found = {}
    for each in _braced(listed).split(";") if listed else ():
        words = words_of(each)
        if words:
            found[words[0]] = " ".join(words[0 if words[0] == "type" and "hook" in words else 1:])
    return found


def _priority(said: str) -> int:
    word, *rest = said.split()
    base = _PRIORITIES[word] if word in _PRIORITIES else int(word)
    return base + (int("".join(rest)) if rest else 0)


def _element(said: str) -> bytes:
    """Encode `10.96.0.1 . tcp . 80 comment "x" : goto y`."""
    if '"' not in said:
        key, _, then = said.partition(" : ")
        return element(concatenated(key), verdict(then.split()) if then else b"")
    found = _ELEMENT.fullmatch(said)
    if found is None:
        raise ValueError(said)
    key, comment, then = found.groups()
    return element(concatenated(key), verdict(then.split()) if then else b"", comment=comment or "")
