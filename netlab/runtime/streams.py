"""A container's streams: what it writes goes into its log and to whoever is attached; what they type goes in.

The shim must never wait for anybody. Output is read as it comes and written to a file; an attached client has a
bounded queue, and is cut off when it does not keep up; input waits in the client until the container takes it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

_CHUNK = 1 << 16
MAX_LINE = 16 << 10
"""Bytes of a log line before it is split into partial ones, as containerd does."""
MAX_BEHIND = 4 << 20
"""Bytes an attached client may be behind before it is cut off."""


def stamp(nanoseconds: int) -> str:
    """Return a time as the container logs have it: RFC 3339 with nine digits, UTC."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{rest:09d}Z"


class Log:
    """A log file in the CRI format: `TIME stream P|F content`, P for a part of a line that goes on.

    https://github.com/kubernetes/design-proposals-archive/blob/main/node/kubelet-cri-logging.md
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = self._open()
        self._rest = {"stdout": bytearray(), "stderr": bytearray()}

    def _open(self) -> int:
        return os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)

    def reopen(self) -> None:
        """Go on in a new file of the same name."""
        fd = self._open()
        os.close(self._fd)
        self._fd = fd

    def write(self, stream: str, data: bytes, now: int) -> None:
        """Add output; the end of an unfinished line is kept until the rest comes. `now` is in nanoseconds."""
        rest = self._rest[stream]
        rest += data
        head = f"{stamp(now)} {stream} ".encode()
        lines: list[bytes] = []
        start = 0
        while (end := rest.find(b"\n", start)) >= 0:
            self._split(lines, head, rest[start:end], b"F")
            start = end + 1
        while len(rest) - start >= MAX_LINE:
            lines.append(head + b"P " + rest[start:start + MAX_LINE] + b"\n")
            start += MAX_LINE
        del rest[:start]
        self._put(b"".join(lines))

    def flush(self, stream: str, now: int) -> None:
        """The stream has ended: write what is left, without a newline as it was."""
        lines: list[bytes] = []
        if rest := self._rest[stream]:
            self._split(lines, f"{stamp(now)} {stream} ".encode(), rest, b"P")
            rest.clear()
        self._put(b"".join(lines))

    @staticmethod
    def _split(lines: list[bytes], head: bytes, line: bytearray, last: bytes) -> None:
        while len(line) > MAX_LINE:
            lines.append(head + b"P " + line[:MAX_LINE] + b"\n")
            line = line[MAX_LINE:]
        lines.append(head + last + b" " + line + b"\n")

    def _put(self, data: bytes) -> None:
        with contextlib.suppress(OSError):  # disk full: the container must not suffer
            while data:
                data = data[os.write(self._fd, data):]

    def close(self) -> None:
        """Close the file; twice is fine."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Feed:
    """Writes to a descriptor that may not take everything at once. Owns the descriptor.

    `limit` 0 is no limit; else the feed closes itself when more than that waits. `on_room` is called whenever all is
    written.
    """

    def __init__(self, fd: int, *, limit: int = 0, on_room: Callable[[], None] | None = None) -> None:
        os.set_blocking(fd, False)
        self.fd, self._limit, self.on_room = fd, limit, on_room
        self._loop = asyncio.get_running_loop()
        self._waiting = bytearray()
        self._ending = False

    @property
    def behind(self) -> int:
        """How many bytes wait."""
        return len(self._waiting)

    def write(self, data: bytes) -> None:
        """Write, now or later."""
        if self.fd < 0 or self._ending:
            return
        was_empty = not self._waiting
        self._waiting += data
        if was_empty:
            self._flush()
        if self._limit and len(self._waiting) > self._limit:
            self.close()

    def finish(self) -> None:
        """Close once all is written."""
        self._ending = True
        if not self._waiting:
            self.close()

    def close(self) -> None:
        """Close now; twice is fine."""
        if self.fd >= 0:
            self._loop.remove_writer(self.fd)
            os.close(self.fd)
            self.fd = -1
            self._waiting.clear()

    def _flush(self) -> None:
        try:
            while self._waiting:
                del self._waiting[:os.write(self.fd, self._waiting[:_CHUNK])]
        except BlockingIOError:
            self._loop.add_writer(self.fd, self._flush)
            return
        except OSError:
            self.close()
            return
        self._loop.remove_writer(self.fd)
        if self._ending:
            self.close()
        elif self.on_room:
            self.on_room()


class Source:
    """Reads a descriptor as data comes, and owns it. At its end (or EIO, of a terminal) `on_end` is called once."""

    def __init__(self, fd: int, on_data: Callable[[bytes], None], on_end: Callable[[], None]) -> None:
        os.set_blocking(fd, False)
        self.fd, self._on_data, self._on_end = fd, on_data, on_end
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(fd, self._read)

    def pause(self) -> None:
        """Take nothing for now."""
        if self.fd >= 0:
            self._loop.remove_reader(self.fd)

    def resume(self) -> None:
        """Go on reading."""
        if self.fd >= 0:
            self._loop.add_reader(self.fd, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self.fd, _CHUNK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if data:
            self._on_data(data)
        else:
            self.close()

    def close(self) -> None:
        """End it; twice is fine."""
        if self.fd >= 0:
            self._loop.remove_reader(self.fd)
            os.close(self.fd)
            self.fd = -1
            self._on_end()


class Streams:
    """All streams of one container. `ended` is done when its output has ended and is in the log."""

    def __init__(self, log: Log | None, *, stdin_once: bool) -> None:
        self.log, self._once = log, stdin_once
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.terminal = -1
        self._input: Feed | None = None
        self._sources: dict[str, Source] = {}
        self._readers: dict[str, list[Feed]] = {"stdout": [], "stderr": []}
        self._typists: list[Source] = []

    def connect(self, *, stdin: int = -1, stdout: int = -1, stderr: int = -1, terminal: int = -1) -> None:
        """Take over our ends of the pipes, or of the terminal."""
        if terminal >= 0:
            self.terminal = terminal
            stdin, stdout = os.dup(terminal), terminal
        if stdin >= 0:
            self._input = Feed(stdin, on_room=self._room)
        for name, fd in (("stdout", stdout), ("stderr", stderr)):
            if fd >= 0:
                self._sources[name] = Source(fd, lambda data, n=name: self._output(n, data),  # type: ignore[misc]
                                             lambda n=name: self._output_ended(n))  # type: ignore[misc]
        if not self._sources:
            self._finish()

    def attach(self, *, stdin: bool, stdout: bool, stderr: bool) -> dict[str, int]:
        """Add a client and return its ends: descriptors by stream name, for it to own."""
        ends: dict[str, int] = {}
        for name, wanted in (("stdout", stdout), ("stderr", stderr)):
            if wanted and name in self._sources:
                ours, theirs = socket.socketpair()
                ours.shutdown(socket.SHUT_RD)
                self._readers[name].append(Feed(ours.detach(), limit=MAX_BEHIND))
                ends[name] = theirs.detach()
        if stdin and self._input is not None:
            read, write = os.pipe2(os.O_CLOEXEC)
            typist: Source
            typist = Source(read, lambda data: self._typed(typist, data), lambda: self._typing_ended(typist))
            self._typists.append(typist)
            ends["stdin"] = write
        return ends

    def close(self) -> None:
        """End everything; what is in the pipes is lost."""
        for source in list(self._sources.values()):
            source.close()
        self._finish()

    def _output(self, stream: str, data: bytes) -> None:
        if self.log is not None:
            self.log.write(stream, data, time.time_ns())
        readers = self._readers[stream]
        for reader in readers:
            reader.write(data)
        self._readers[stream] = [reader for reader in readers if reader.fd >= 0]

    def _output_ended(self, stream: str) -> None:
        del self._sources[stream]
        if self.log is not None:
            self.log.flush(stream, time.time_ns())
        for reader in self._readers[stream]:
            reader.finish()
        self._readers[stream] = []
        if not self._sources:
            self._finish()

    def _finish(self) -> None:
        self.terminal = -1
        if self._input is not None:
            self._input.close()
            self._input = None
        for typist in list(self._typists):
            typist.close()
        if self.log is not None:
            self.log.close()
        if not self.ended.done():
            self.ended.set_result(None)

    def _typed(self, typist: Source, data: bytes) -> None:
        if self._input is None or self._input.fd < 0:
            typist.close()
            return
        self._input.write(data)
        if self._input.behind:
            for other in self._typists:
                other.pause()

    def _room(self) -> None:
        for typist in self._typists:
            typist.resume()

    def _typing_ended(self, typist: Source) -> None:
        if typist in self._typists:
            self._typists.remove(typist)
        if self._once and self._input is not None and self.terminal < 0:
            self._input.finish()


async def collect(fd: int, limit: int) -> bytes:
    """Read a descriptor to its end, without blocking, and keep the first `limit` bytes. Owns it."""
    kept = bytearray()
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def add(data: bytes) -> None:
        kept.extend(data[:limit - len(kept)])

    def end() -> None:
        if not done.done():
            done.set_result(None)

    source = Source(fd, add, end)
    try:
        await done
    finally:
        source.close()
    return bytes(kept)
