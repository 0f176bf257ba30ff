"""A hand-made packet: any TCP flags, fragments, TTL, DF, a source of one's own choice.

scapy builds it, in a process of its own (`scapy_child`, for scapy's licence and its start-up time); here it is sent
by a raw socket of the source's namespace, and the answer is what the taps hear come back.
"""

from __future__ import annotations

import errno
import json
import os
import random
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final

from netlab.errors import KernelError, Unsupported, UsageError
from netlab.kernel import link, lookup
from netlab.kernel.netns import socket_in
from netlab.kernel.process import run_sync
from netlab.kernel.rtnl import Rtnl
from netlab.trace.conversation import Conversation
from netlab.trace.correlate import Seen
from netlab.trace.packet import ICMP, ICMPV6, SCTP, TCP, UDP, Packet, parse
from netlab.trace.send import Answer, Protocol

FLAGS: Final = "FSRPAUEC"
"""TCP flags by their letters, as tcpdump and scapy write them."""


@dataclass(frozen=True)
class Craft:
    """What is special about a hand-made packet; the defaults are what anybody would send.

    `flags`: TCP flags by letter, `ttl` 0 for 64, `df` don't fragment, `size` bytes of payload, `fragment` bytes of IP
    payload in each piece (0: in one piece), `source_port` 0 for a random one, `count` how many to send.
    """

    flags: str = "S"
    ttl: int = 0
    df: bool = False
    size: int = 0
    fragment: int = 0
    source_port: int = 0
    count: int = 1

    def words(self, protocol: Protocol, source: str) -> str:
        """Return it in words: `flags S, TTL 3, DF, 1400 bytes, in pieces of 512, from 10.9.9.9`."""
        parts = [f"flags {self.flags or 'none'}"] if protocol == "tcp" else []
        parts += [f"TTL {self.ttl}"] if self.ttl else []
        parts += ["DF"] if self.df else []
        parts += [f"{self.size} bytes"] if self.size else []
        parts += [f"in pieces of {self.fragment}"] if self.fragment else []
        parts += [f"from {source}"] if source else []
        parts += [f"{self.count} times"] if self.count > 1 else []
        return ", ".join(parts) or "plain"


def check(craft: Craft, protocol: Protocol) -> None:
    """Raise UsageError when the wishes make no packet."""
    if bad := [letter for letter in craft.flags.upper() if letter not in FLAGS]:
        raise UsageError(f'--flags: "{bad[0]}" is no TCP flag', hint=f"letters: {' '.join(FLAGS)}; none is \"\"")
    if not 0 <= craft.ttl <= 255:
        raise UsageError("--ttl: a time to live is 1 to 255")
    if not 0 <= craft.size <= 65000:
        raise UsageError("--size: a payload has 0 to 65000 bytes")
    if craft.fragment and craft.df:
        raise UsageError("--fragment and --df: what must not be fragmented has no pieces", hint="choose one of them")
    if craft.fragment % 8:
        raise UsageError(f"--fragment {craft.fragment}: pieces are cut at multiples of 8 bytes",
                         hint=f"such as {max(craft.fragment // 8 * 8, 8)}")
    if protocol != "tcp" and craft.flags != "S":
        raise UsageError("--flags: only TCP has flags", hint="choose --protocol tcp")


def build(craft: Craft, protocol: Protocol, source: str, address: str, port: int, payload: bytes) -> list[list[bytes]]:
    """Have scapy build the packets; each is a list of pieces, from the IP header on.

    Raises:
        Unsupported: scapy is not installed.
    """
    wish = {**asdict(craft), "flags": craft.flags.upper(), "protocol": protocol, "source": source,
            "destination": address, "port": port, "payload": payload.hex(),
            "seed": int.from_bytes(os.urandom(6), "big")}
    done = run_sync([sys.executable, "-P", "-m", "netlab.trace.scapy_child"],
                    input=json.dumps(wish).encode(), timeout=30)
    if done.code != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise Unsupported(f"scapy cannot make that packet: {said[-1] if said else done.code}", hint="pip install scapy")
    return [[bytes.fromhex(piece) for piece in pieces] for pieces in json.loads(done.stdout)]


def own_source(netns: int, address: str) -> str:
    """Return the address that a namespace would send from.

    Raises:
        KernelError: it has no route there.
    """
    found = lookup.route(netns, address)
    if found.source:
        return found.source
    with Rtnl(netns) as sock:
        six = ":" in address
        for entry in link.addresses(sock):
            if (":" in entry.ip) == six and not entry.ip.startswith(("127.", "::1", "fe80:")):
                return entry.ip
    raise KernelError(f"the sender has no address to reach {address} from: {found.words or 'no address'}")


class Crafted:
    """Sends hand-made packets; the same face as `send.Sender`, and `observe` for what the taps hear."""

    stream = False

    def __init__(self, netns: int, place: str, protocol: Protocol, address: str, port: int, *, craft: Craft,
                 payload: bytes = b"", source: str = "") -> None:
        """Build the packets and open the socket. `source` may be any address.

        Raises:
            UsageError: a port is missing, or the wishes make no packet.
            Unsupported: scapy is not installed.
        """
        check(craft, protocol)
        if protocol != "icmp" and not port:
            raise UsageError(f"a {protocol} trace needs a port", hint="write TO:PORT")
        self._place, self.address = place, address
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        icmp = ICMP if family == socket.AF_INET else ICMPV6
        self.number = {"tcp": TCP, "udp": UDP, "sctp": SCTP, "icmp": icmp}[protocol]
        nonce = f"netlab-{random.randrange(1 << 32):08x}".encode()
        body = payload or (nonce if protocol in ("udp", "icmp") or craft.size else b"")
        body = body.ljust(craft.size, b".")[:craft.size] if craft.size else body
        self._packets = build(craft, protocol, source or own_source(netns, address), address, port, body)
        first = parse(self._packets[0][0])
        if first is None:
            raise Unsupported("scapy made something that is no IP packet")
        self._talk = Conversation(first)
        self.answer, self._started, self._looked = Answer(), 0.0, 0
        self._socket = socket_in(netns, family, socket.SOCK_RAW, socket.IPPROTO_RAW)

    events = 0

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._socket.fileno()

    @property
    def answered(self) -> bool:
        """Tell whether an answer has come back."""
        return bool(self.answer.status)

    def start(self) -> None:
        """Send all."""
        self._started = time.monotonic()
        try:
            for pieces in self._packets:
                for piece in pieces:
                    self._socket.sendto(piece, (self.address, 0))
        except OSError as error:
            if error.errno == errno.EMSGSIZE:
                raise UsageError("the packet is longer than the sender's interface takes",
                                 hint="a smaller --size, or --fragment 1400") from None
            if error.errno not in (errno.EPERM, errno.ENETUNREACH, errno.EHOSTUNREACH):
                raise KernelError(f"cannot send the packet: {error.strerror}", errno=error.errno or 0) from None
            if error.errno != errno.EPERM:  # EPERM: a rule in OUTPUT dropped it, the trace will tell
                self.answer = Answer("unreachable", error.errno or 0, 0.0)

    def is_first(self, packet: Packet) -> bool:
        """Tell whether this is the first packet that `start` sent."""
        return packet.key == self._talk.first.key and packet.addresses == self._talk.first.addresses

    def observe(self, seen: Sequence[Seen]) -> None:
        """Look at what the taps have heard so far for an answer."""
        if self.answer.status:
            return
        while sum(self._talk.learn(event.packet) for event in seen):
            pass
        for event in seen:
            if event.place == self._place and not event.outgoing and self._talk.direction(event.packet) == "reply":
                packet = event.packet
                if packet.protocol == TCP and packet.flags & 4:
                    status = "refused"
                elif packet.is_icmp_error:
                    status = "refused" if packet.what == "port unreachable" else "unreachable"
                else:
                    status = "replied"
                data = b"" if packet.is_icmp_error else packet.payload
                self.answer = Answer(status, 0, time.monotonic() - self._started, data)
                return

    def ready(self) -> None:
        """Do nothing: answers come by the taps."""

    def proceed(self) -> bool:
        """Tell that nothing is left to do."""
        return False

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
