"""The shim's protocol: one JSON object per line over a Unix stream socket, descriptors riding along.

Request  {"id": 7, "call": "create_container", "args": {...}}
Answer   {"id": 7, "result": ...} or {"id": 7, "error": {"type": "NotFound", "message": ..., "hint": ..., ...}}
Event    {"event": {...}}, after the call `subscribe`

A message that carries descriptors says how many in "fds"; they come with its first byte (unix(7), SCM_RIGHTS), so
they are there before its last one. Several requests may be under way on one connection; answers come in any order.
"""

from __future__ import annotations

import array
import asyncio
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from netlab import errors

MAX_LINE = 32 << 20
MAX_BACKLOG = 64 << 20
_MAX_FDS = 250  # the kernel takes 253 in one message (SCM_MAX_FD)


class Channel:
    """One end of a connection. Nothing here ever waits: what the peer does not take yet is queued.

    A peer that leaves more than MAX_BACKLOG bytes unread, or sends a line over MAX_LINE, is cut off.

    Args:
        sock: a connected Unix stream socket; the channel owns it.
        on_message: called with each message and its descriptors, which then belong to the callee.
        on_close: called once, when the connection ends for any reason.
    """

    def __init__(self, sock: socket.socket, on_message: Callable[[dict[str, Any], list[int]], None],
                 on_close: Callable[[], None]) -> None:
        sock.setblocking(False)
        self._sock, self._on_message, self._on_close = sock, on_message, on_close
        self._loop = asyncio.get_running_loop()
        self._in = bytearray()
        self._in_fds: deque[int] = deque()
        self._out: deque[tuple[memoryview, list[int]]] = deque()
        self._backlog = 0
        self.closed = False
        self._loop.add_reader(sock.fileno(), self._readable)

    def fileno(self) -> int:
        """Return the socket's descriptor, -1 once closed."""
        return self._sock.fileno()

    def send(self, message: dict[str, Any], fds: Sequence[int] = ()) -> None:
        """Queue a message. `fds` are duplicated for the peer; the caller may close its own at once."""
        if self.closed:
            return
        if fds:
            message = {**message, "fds": len(fds)}
        line = memoryview(orjson.dumps(message, option=orjson.OPT_NON_STR_KEYS) + b"\n")
        self._out.append((line, [os.dup(fd) for fd in fds]))
        self._backlog += len(line)
        if self._backlog > MAX_BACKLOG:
            self.close()
        elif len(self._out) == 1:
            self._writable()

    def close(self) -> None:
        """End the connection; twice is fine."""
        if self.closed:
            return
        self.closed = True
        fd = self._sock.fileno()
        self._loop.remove_reader(fd)
        self._loop.remove_writer(fd)
        self._sock.close()
        for _, fds in self._out:
            _close_all(fds)
        _close_all(self._in_fds)
        self._out.clear()
        self._on_close()

    def _writable(self) -> None:
        while self._out:
            line, fds = self._out[0]
            ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
            try:
                sent = self._sock.sendmsg([line], ancillary)
            except (BlockingIOError, InterruptedError):
                self._loop.add_writer(self._sock.fileno(), self._writable)
                return
            except OSError:
                self.close()
                return
            _close_all(fds)
            self._backlog -= sent
            if sent < len(line):
                self._out[0] = (line[sent:], [])
            else:
                self._out.popleft()
        self._loop.remove_writer(self._sock.fileno())

    def _readable(self) -> None:
        try:
            data, ancillary, _flags, _ = self._sock.recvmsg(1 << 18, socket.CMSG_SPACE(_MAX_FDS * 4),
                                                            socket.MSG_CMSG_CLOEXEC)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.close()
            return
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                got = array.array("i")
                got.frombytes(payload[:len(payload) - len(payload) % got.itemsize])
                self._in_fds.extend(got)
        start = len(self._in)
        self._in += data
        if not data or (len(self._in) > MAX_LINE and b"\n" not in data):
            self.close()
            return
        self._split(start)

    def _split(self, start: int) -> None:
        """Hand out every whole line of the buffer; the first `start` bytes are known to have no newline."""
        begin = 0
        while not self.closed and (end := self._in.find(b"\n", max(begin, start))) >= 0:
            line = bytes(self._in[begin:end])
            begin = end + 1
            try:
                message = orjson.loads(line)
                fds = [self._in_fds.popleft() for _ in range(message.pop("fds", 0))]
            except (ValueError, TypeError, AttributeError, IndexError):
                self.close()
                return
            self._on_message(message, fds)
        del self._in[:begin]


def _close_all(fds: list[int] | deque[int]) -> None:
    for fd in fds:
        os.close(fd)
    fds.clear()


def error_to_wire(error: BaseException) -> dict[str, Any]:
    """Return the "error" member that stands for this exception."""
    if isinstance(error, OSError):
        what = f"{error.filename}: " if error.filename else ""
        return {"type": "KernelError", "message": f"{what}{error.strerror or error}", "errno": error.errno or 0}
    if not isinstance(error, errors.NetlabError):
        return {"type": "KernelError", "message": f"{type(error).__name__}: {error}"}
    data: dict[str, Any] = {"type": type(error).__name__, "message": str(error), "hint": error.hint}
    if isinstance(error, errors.KernelError):
        data["errno"] = error.errno
    if isinstance(error, errors.StartRefused):
        data["exit_code"] = error.exit_code
    return data


def error_from_wire(data: dict[str, Any]) -> errors.NetlabError:
    """Return the exception to raise: the class that was raised on the other side, where it is one of ours."""
    known = {cls.__name__: cls for cls in (errors.UsageError, errors.Unsupported, errors.NotFound, errors.ImageNotFound,
                                           errors.TemporaryError)}
    message, hint = str(data.get("message", "")), str(data.get("hint", ""))
    name = data.get("type", "")
    if name == "StartRefused":
        return errors.StartRefused(message, exit_code=int(data.get("exit_code", 128)), errno=int(data.get("errno", 0)),
                                   hint=hint)
    if name in known:
        return known[name](message, hint=hint)
    return errors.KernelError(message, errno=int(data.get("errno", 0)), hint=hint)
