"""Send one real packet, or open one real connection, from inside a namespace: no tool in the Pod is needed.

The socket belongs to the namespace it was opened in and is used from here, non-blocking, in the tracer's own loop.
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
import struct
import time
from dataclasses import dataclass, replace
from typing import Final, Literal

from netlab.errors import KernelError, Unsupported, UsageError
from netlab.kernel.netns import inside, socket_in
from netlab.trace.packet import ICMP, ICMPV6, SCTP, TCP, UDP, Packet

Protocol = Literal["tcp", "udp", "sctp", "icmp"]
_KINDS: Final = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM, "sctp": socket.SOCK_STREAM,
                 "icmp": socket.SOCK_RAW}
_ERRORS: Final = (3, 11)
_ERRORS_V6: Final = (1, 2, 3)
_IPV6_RECVERR: Final = 25
_REFUSED: Final = (errno.ECONNREFUSED, errno.ECONNRESET)


@dataclass(frozen=True)
class Answer:
    """What the sender saw. `status`: "connected", "replied", "refused", "unreachable" or "" (nothing yet)."""

    status: str = ""
    errno: int = 0
    seconds: float | None = None
    data: bytes = b""


class Sender:
    """One exchange from `netns` to `address`:`port`.

    Call `start`; while `events` is not 0 wait for them on `fileno` and call `ready`; when it has been quiet for a
    while call `proceed`, until it says that there is nothing left to do. A stream connection goes through the phases
    connecting, talking (the payload there, the answer back), closing (our FIN, theirs) and over.
    """

    def __init__(self, netns: int, protocol: Protocol, address: str, port: int, *, payload: bytes = b"",
                 source: str = "") -> None:
        """Open the socket. `source` binds an address of the namespace; `payload` is what is sent: over TCP and SCTP
        once connected, over UDP and ICMP instead of something of our own.

        Raises:
            UsageError: a port is missing.
            Unsupported: this kernel has no such protocol.
            KernelError: the namespace has no such address or allows no such socket.
        """
        if protocol != "icmp" and not port:
            raise UsageError(f"a {protocol} trace needs a port", hint="write TO:PORT")
        self.protocol: Protocol = protocol
        self.address, self.port = address, port
        self.family = socket.AF_INET6 if ":" in address else socket.AF_INET
        icmp = ICMP if self.family == socket.AF_INET else ICMPV6
        self.number = {"tcp": TCP, "udp": UDP, "sctp": SCTP, "icmp": icmp}[protocol]
        self.stream = protocol in ("tcp", "sctp")
        self.payload = payload if self.stream else payload or _greeting(protocol, port)
        self.ident = struct.unpack("!H", os.urandom(2))[0]
        self.answer, self._port, self._phase = Answer(), 0, "connecting"
        self._started = 0.0
        try:
            self._socket = socket_in(netns, self.family, _KINDS[protocol], self.number)
            self._socket.setblocking(False)
            if self.stream and self.family == socket.AF_INET6:  # IPv4 wakes who connects for an error in any case
                self._socket.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, 1)
            with inside(netns):
                if source:
                    self._socket.bind((source, 0))
                elif protocol == "udp":
                    self._socket.connect((address, port))
        except OSError as error:
            refused = {errno.ENETUNREACH, errno.EHOSTUNREACH}
            if protocol == "udp" and not source:  # connect says it of `prohibit` and `blackhole`
                refused |= {errno.EACCES, errno.EINVAL}
            if error.errno in refused:
                self.answer, self._phase = Answer("unreachable", error.errno, 0.0), "over"
                return
            if error.errno == errno.EPROTONOSUPPORT:
                raise Unsupported(f"this kernel has no {protocol.upper()}: {error.strerror}",
                                  hint=_NO_PROTOCOL) from None
            if error.errno == errno.EADDRNOTAVAIL:
                raise UsageError(f"{source} is not an address of the sender",
                                 hint="a packet with a foreign source has to be made by hand") from None
            raise KernelError(f"cannot open a {protocol} socket: {error.strerror}", errno=error.errno or 0) from None

    def fileno(self) -> int:
        """Return the descriptor, for epoll."""
        return self._socket.fileno()

    @property
    def events(self) -> int:
        """Return what to wait for: selectors' EVENT_READ or EVENT_WRITE, 0 for nothing."""
        if self._phase == "over":
            return 0
        return selectors.EVENT_WRITE if self.stream and self._phase == "connecting" else selectors.EVENT_READ

    @property
    def answered(self) -> bool:
        """Tell whether there is nothing more to wait long for."""
        waits_for_data = self._phase == "talking" and not self.answer.data
        return bool(self.answer.status) and not waits_for_data

    def start(self) -> None:
        """Send the first packet."""
        self._started = time.monotonic()
        if self.answer.status:
            return
        try:
            if self.stream:
                code = self._socket.connect_ex((self.address, self.port))
                if code not in (0, errno.EINPROGRESS):
                    self._failed(code)
            elif self.protocol == "udp":
                if self._peerless():
                    self._socket.connect((self.address, self.port))
                self._socket.send(self.payload)
            else:
                self._socket.sendto(self._echo_request(), (self.address, 0))
        except OSError as error:
            self._failed(error.errno or 0)
        self._port = int(self._socket.getsockname()[1])

    def is_first(self, packet: Packet) -> bool:
        """Tell whether this is the packet that `start` sent."""
        if packet.protocol != self.number:
            return False
        if self.protocol == "tcp":
            return packet.flags & 18 == 2 and packet.sport == self._port and packet.dport == self.port
        if self.protocol == "sctp":
            return packet.what == "INIT" and packet.sport == self._port and packet.dport == self.port
        if self.protocol == "udp":
            return packet.payload.startswith(self.payload[:12]) and packet.sport == self._port
        return packet.icmp[0] in (8, 128) and packet.sport == self.ident

    def ready(self) -> None:
        """Look at the socket after the loop said it is ready."""
        try:
            if self._phase == "over":
                return
            if self.stream:
                self._stream()
            elif self.protocol == "udp":
                self._done("replied", self._socket.recv(65535))
            else:
                self._icmp()
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.ENOTCONN:
                self._failed(error.errno or 0)

    def proceed(self) -> bool:
        """Go on to the next phase after a quiet while; False when everything was done."""
        if self._phase == "over":
            return False
        if self.stream and self._phase == "talking":
            self._shut()
        else:
            self._over()
        return True

    def close(self) -> None:
        """Close the socket; twice is fine."""
        self._socket.close()

    def _stream(self) -> None:
        if self._phase == "connecting":
            code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                self._failed(code)
                return
            self._socket.getpeername()
            self.answer = Answer("connected", 0, time.monotonic() - self._started)
            if self.payload:
                self._phase = "talking"
                self._socket.send(self.payload)
            else:
                self._shut()
            return
        data = self._socket.recv(65535)
        if data:
            self.answer = replace(self.answer, data=(self.answer.data + data)[:65536])
        else:
            self._over()

    def _shut(self) -> None:
        self._phase = "closing"
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:  # reset by now
            self._over()

    def _over(self) -> None:
        self._phase = "over"
        if self.stream:
            self._socket.close()  # in view of the taps

    def _peerless(self) -> bool:
        try:
            self._socket.getpeername()
        except OSError:
            return True
        return False

    def _done(self, status: str, data: bytes = b"") -> None:
        self.answer = Answer(status, 0, time.monotonic() - self._started, data)
        self._phase = "over"

    def _failed(self, code: int) -> None:
        if code == errno.EPERM:  # a rule in OUTPUT dropped it: UDP says so, TCP just tries again
            return
        if self.answer.status == "connected":  # reset while talking: connected it was
            self._over()
            return
        status = "refused" if code in _REFUSED else "timeout" if code == errno.ETIMEDOUT else "unreachable"
        self.answer = Answer(status, code, time.monotonic() - self._started)
        self._phase = "over"

    def _echo_request(self) -> bytes:
        kind = 8 if self.family == socket.AF_INET else 128
        body = struct.pack("!BBHHH", kind, 0, 0, self.ident, 1) + self.payload
        if self.family == socket.AF_INET6:
            return body  # the kernel fills in ICMPv6's checksum
        return body[:2] + struct.pack("!H", checksum(body)) + body[4:]

    def _icmp(self) -> None:
        data = self._socket.recv(65535)
        if self.family == socket.AF_INET:
            data = data[(data[0] & 15) * 4:]
        kind, ident = data[0], struct.unpack_from("!H", data, 4)[0]
        if kind in (0, 129) and ident == self.ident and data[8:] == self.payload:
            self._done("replied", data[8:])
        elif kind in (_ERRORS if self.family == socket.AF_INET else _ERRORS_V6) and self._echo_id() in data:
            self._failed(errno.EHOSTUNREACH)

    def _echo_id(self) -> bytes:
        return struct.pack("!HH", self.ident, 1)


_NO_PROTOCOL: Final = "load its module (modprobe sctp) if the kernel has one; a hand-made packet (--ttl 64) needs none"


def _greeting(protocol: Protocol, port: int) -> bytes:
    """Return what to send when nobody said what: over UDP something that a DNS server or agnhost's netexec answers."""
    if protocol == "udp" and port == 53:  # RFC 1035 4.1: one question, the root's name servers
        return os.urandom(2) + struct.pack("!5H", 0x0100, 1, 0, 0, 0) + b"\0" + struct.pack("!2H", 2, 1)
    return (b"echo " if protocol == "udp" else b"netlab-") + os.urandom(6).hex().encode()


def checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071)."""
    data += b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
