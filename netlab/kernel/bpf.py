"""bpf(2) by hand: maps, a ring buffer, raw tracepoints; no clang, no library. Constants: <linux/bpf.h>.

All that is made here lives as long as the descriptors do: when the process ends, the kernel detaches and frees it.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import struct
from collections.abc import Iterator, Sequence
from typing import Final

from netlab.errors import KernelError
from netlab.kernel import libc

_MAP_CREATE, _LOOKUP, _UPDATE, _DELETE, _PROG_LOAD, _RAW_TRACEPOINT_OPEN = 0, 1, 2, 3, 5, 17
HASH: Final = 1
ARRAY: Final = 2
RINGBUF: Final = 27
_RAW_TRACEPOINT: Final = 17
_BUSY, _DISCARD = 1 << 31, 1 << 30

Instruction = tuple[int, int, int, int, int]
"""(code, destination register, source register, offset, immediate)."""


def call(command: int, attribute: bytes, what: str) -> int:
    """Run one bpf(2) command.

    Raises:
        KernelError: the kernel refused.
    """
    held = ctypes.create_string_buffer(attribute.ljust(128, b"\0"), 128)
    try:
        return libc.syscall("bpf", ctypes.c_int(command), held, ctypes.c_uint(128))
    except OSError as error:
        raise KernelError(f"bpf: {what}: {os.strerror(error.errno or 0)}", errno=error.errno or 0) from None


def create_map(kind: int, *, key: int = 4, value: int = 4, entries: int) -> int:
    """Make a map and return its descriptor. For a ring buffer key and value are 0, `entries` its size in bytes."""
    return call(_MAP_CREATE, struct.pack("=IIIII", kind, key, value, entries, 0), "make a map")


def put(fd: int, key: bytes, value: bytes) -> None:
    """Set one element of a map."""
    keys, values = ctypes.create_string_buffer(key, len(key)), ctypes.create_string_buffer(value, len(value))
    call(_UPDATE, struct.pack("=IIQQQ", fd, 0, ctypes.addressof(keys), ctypes.addressof(values), 0), "write a map")


def get(fd: int, key: bytes, size: int) -> bytes:
    """Return one element of a map, of `size` bytes."""
    keys, values = ctypes.create_string_buffer(key, len(key)), ctypes.create_string_buffer(size)
    call(_LOOKUP, struct.pack("=IIQQQ", fd, 0, ctypes.addressof(keys), ctypes.addressof(values), 0), "read a map")
    return values.raw


def load(program: Sequence[Instruction]) -> int:
    """Load a raw tracepoint program and return its descriptor.

    Raises:
        KernelError: the verifier refused it (its words are in the message), or this process may not.
    """
    code = b"".join(struct.pack("=BBhi", op, destination | source << 4, offset, value)
                    for op, destination, source, offset, value in program)
    held, text = ctypes.create_string_buffer(code, len(code)), ctypes.create_string_buffer(b"GPL")

    def attribute(log: int, size: int) -> bytes:
        return struct.pack("=IIQQIIQII16s", _RAW_TRACEPOINT, len(program), ctypes.addressof(held),
                           ctypes.addressof(text), 1 if size else 0, size, log, 0, 0, b"netlab_drops")

    try:
        return call(_PROG_LOAD, attribute(0, 0), "load the program")
    except KernelError as error:
        if error.errno == 1:  # EPERM: nothing that the verifier could add
            raise
        said = ctypes.create_string_buffer(1 << 16)
        with contextlib.suppress(KernelError):
            os.close(call(_PROG_LOAD, attribute(ctypes.addressof(said), len(said)), "load the program"))
        last = said.value.decode(errors="replace").strip().splitlines()[-3:]
        raise KernelError(f"{error}: {' | '.join(last)}", errno=error.errno) from None


def attach_raw_tracepoint(name: str, program: int) -> int:
    """Run a loaded program at a tracepoint for as long as the returned descriptor is open."""
    text = ctypes.create_string_buffer(name.encode())
    return call(_RAW_TRACEPOINT_OPEN, struct.pack("=QI", ctypes.addressof(text), program), f"attach to {name}")


class Ring:
    """A ring buffer between the kernel and us. Its descriptor polls as readable when there is something in it."""

    def __init__(self, size: int) -> None:
        """Make one of `size` bytes, a power of two and at least a page."""
        self._size = size
        self.fd = create_map(RINGBUF, key=0, value=0, entries=size)
        page = mmap.PAGESIZE
        try:
            self._ours = mmap.mmap(self.fd, page)  # what we have read, for the kernel to see
            self._theirs = mmap.mmap(self.fd, page + 2 * size, prot=mmap.PROT_READ, offset=page)
        except OSError:
            os.close(self.fd)
            raise
        self._data = page

    def read(self) -> Iterator[bytes]:
        """Yield the records that came in since the last call; never blocks."""
        at = struct.unpack_from("=Q", self._ours, 0)[0]
        while at < struct.unpack_from("=Q", self._theirs, 0)[0]:
            start = self._data + (at & (self._size - 1))
            length = struct.unpack_from("=I", self._theirs, start)[0]
            if length & _BUSY:
                return  # being written just now
            size = length & ~_DISCARD
            record = self._theirs[start + 8:start + 8 + size]
            at += (size + 8 + 7) & ~7
            struct.pack_into("=Q", self._ours, 0, at)
            if not length & _DISCARD:
                yield record

    def close(self) -> None:
        """Unmap and close; twice is fine."""
        if self.fd >= 0:
            self._ours.close()
            self._theirs.close()
            os.close(self.fd)
            self.fd = -1
