"""Where and why the kernel drops packets: a BPF program on the tracepoint skb:kfree_skb, assembled here.

The tracepoint fires for the whole machine, so the program looks for the packet's network namespace in a map first and
tells of those that are asked for only. Needs root in the first user namespace (CAP_BPF and CAP_PERFMON, or
CAP_SYS_ADMIN), BTF, and Linux 5.17, which brought the reasons.
"""

from __future__ import annotations

import bisect
import os
import struct
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from netlab.errors import NetlabError
from netlab.kernel import bpf
from netlab.kernel.btf import Btf
from netlab.kernel.netns import inode

RING: Final = 1 << 20
SNAP: Final = 128
_HEADER: Final = struct.Struct("=QQIIIH2x")
_RECORD: Final = _HEADER.size + SNAP
_PREFIX: Final = "SKB_DROP_REASON_"
_MOV, _MOVI, _ADDI, _ADD, _LDX, _LDXW, _LDXH = 0xBF, 0xB7, 0x07, 0x0F, 0x79, 0x61, 0x69
_STX, _STXW, _STXH, _STW, _STDW = 0x7B, 0x63, 0x6B, 0x62, 0x7A
_JA, _JEQI, _JNEI, _CALL, _EXIT, _LD64, _XADD = 0x05, 0x15, 0x55, 0x85, 0x95, 0x18, 0xDB
_LOOKUP, _KTIME, _READ, _OUTPUT = 1, 5, 113, 130
_IPV4, _IPV6 = (int.from_bytes(kind, "little") for kind in (b"\x08\x00", b"\x86\xdd"))


@dataclass(frozen=True)
class Drop:
    """One dropped packet. `at`: ns since the epoch; `netns` the namespace's inode; `reason` is the kernel's name less
    SKB_DROP_REASON_, `location` the address of the code that dropped it; `data` starts at the network header, and may
    go on behind the packet's end.
    """

    at: int
    netns: int
    ifindex: int
    reason: str
    location: int
    data: bytes

    @property
    def function(self) -> str:
        """Return the kernel function that dropped it, "" when symbols are hidden. Takes 0.1 s the first time."""
        return function_at(self.location)


@dataclass(frozen=True)
class _Layout:
    """Offsets of the fields that the program reads, and the names of the reasons."""

    dev: int
    sk: int
    head: int
    network_header: int
    protocol: int
    nd_net: int
    ifindex: int
    skc_net: int
    inum: int
    reasons: dict[int, str]


@lru_cache(maxsize=1)
def _layout() -> _Layout:
    btf = Btf(("sk_buff", "net_device", "sock", "net", "skb_drop_reason"))
    return _Layout(btf.offset("sk_buff", "dev"), btf.offset("sk_buff", "sk"), btf.offset("sk_buff", "head"),
                   btf.offset("sk_buff", "network_header"), btf.offset("sk_buff", "protocol"),
                   btf.offset("net_device", "nd_net", "net"), btf.offset("net_device", "ifindex"),
                   btf.offset("sock", "__sk_common", "skc_net", "net"), btf.offset("net", "ns", "inum"),
                   btf.enum("skb_drop_reason"))


class DropTrace:
    """Drops in some network namespaces, from now until `close`."""

    def __init__(self, netns: Iterable[int | str]) -> None:
        """Start.

        Raises:
            Unsupported: this kernel has no types or no reasons to tell.
            KernelError: this process may not.
        """
        layout = _layout()
        self._reasons = layout.reasons
        self._fds: list[int] = []
        self._ring = bpf.Ring(RING)
        self.lost = 0
        try:
            self._wanted = self._own(bpf.create_map(bpf.HASH, entries=16384))
            self._lost = self._own(bpf.create_map(bpf.ARRAY, value=8, entries=1))
            for each in netns:
                self.add(each)
            program = self._own(bpf.load(_program(layout, self._wanted, self._ring.fd, self._lost)))
            self._own(bpf.attach_raw_tracepoint("kfree_skb", program))
        except BaseException:
            self.close()
            raise

    def add(self, netns: int | str) -> None:
        """Listen in one more namespace."""
        bpf.put(self._wanted, struct.pack("=I", inode(netns)), struct.pack("=I", 1))

    def fileno(self) -> int:
        """Return the descriptor, for epoll."""
        return self._ring.fd

    def read(self) -> list[Drop]:
        """Return what has come in since the last call; never blocks."""
        shift = time.time_ns() - time.monotonic_ns()
        found = []
        for record in self._ring.read():
            at, location, reason, netns, ifindex, _ = _HEADER.unpack_from(record)
            name = self._reasons.get(reason, f"reason {reason}").removeprefix(_PREFIX)
            found.append(Drop(at + shift, netns, ifindex, name, location, record[_HEADER.size:]))
        return found

    def count_lost(self) -> int:
        """Return how many drops found the buffer full so far."""
        self.lost = struct.unpack("=Q", bpf.get(self._lost, bytes(4), 8))[0]
        return self.lost

    def close(self) -> None:
        """Detach and free everything; twice is fine."""
        while self._fds:
            os.close(self._fds.pop())
        self._ring.close()

    def _own(self, fd: int) -> int:
        self._fds.append(fd)
        return fd


def probe() -> str:
    """Return "" when drops can be told here, else why not."""
    try:
        DropTrace(()).close()
    except (NetlabError, OSError) as error:
        return str(error)
    return ""


def _program(layout: _Layout, wanted: int, ring: int, lost: int) -> Sequence[bpf.Instruction]:
    """Assemble the program. r6: the tracepoint's arguments (skb, location, reason); r7: skb; r8: device or socket."""
    code: list[bpf.Instruction] = []
    exits: list[int] = []
    base = -224  # the record on the stack; above it: -8 a pointer, -16 the namespace, -24 a number, -32 a key

    def leave(op: int, register: int, value: int) -> None:
        exits.append(len(code))
        code.append((op, register, 0, 0, value))

    def read(into: int, size: int, register: int, offset: int) -> None:
        code.extend([(_MOV, 1, 10, 0, 0), (_ADDI, 1, 0, 0, into), (_MOVI, 2, 0, 0, size), (_MOV, 3, register, 0, 0),
                     (_ADDI, 3, 0, 0, offset), (_CALL, 0, 0, 0, _READ)])

    code += [(_MOV, 6, 1, 0, 0), (_LDX, 7, 6, 0, 0)]
    code += [(_STDW, 10, 0, at, 0) for at in (-8, -16, -24, -32, *range(base, base + _HEADER.size, 8))]
    read(-24, 2, 7, layout.protocol)
    code += [(_LDXH, 9, 10, -24, 0), (_STXH, 10, 9, base + 28, 0), (_JEQI, 9, 0, 1, _IPV4)]
    leave(_JNEI, 9, _IPV6)
    read(-8, 8, 7, layout.dev)
    code.append((_LDX, 8, 10, -8, 0))
    no_device = len(code)
    code.append((_JEQI, 8, 0, 0, 0))
    read(-16, 8, 8, layout.nd_net)
    read(base + 24, 4, 8, layout.ifindex)
    found = len(code)
    code.append((_JA, 0, 0, 0, 0))
    code[no_device] = (_JEQI, 8, 0, len(code) - no_device - 1, 0)
    read(-8, 8, 7, layout.sk)  # a packet that never had a device: its socket knows the namespace
    code.append((_LDX, 8, 10, -8, 0))
    leave(_JEQI, 8, 0)
    read(-16, 8, 8, layout.skc_net)
    code[found] = (_JA, 0, 0, len(code) - found - 1, 0)
    code.append((_LDX, 8, 10, -16, 0))
    leave(_JEQI, 8, 0)
    read(base + 20, 4, 8, layout.inum)
    code += [(_LD64, 1, 1, 0, wanted), (0, 0, 0, 0, 0), (_MOV, 2, 10, 0, 0), (_ADDI, 2, 0, 0, base + 20),
             (_CALL, 0, 0, 0, _LOOKUP)]
    leave(_JEQI, 0, 0)
    code += [(_CALL, 0, 0, 0, _KTIME), (_STX, 10, 0, base, 0), (_LDX, 1, 6, 8, 0), (_STX, 10, 1, base + 8, 0),
             (_LDX, 1, 6, 16, 0), (_STXW, 10, 1, base + 16, 0)]
    read(-8, 8, 7, layout.head)
    code.append((_STDW, 10, 0, -24, 0))
    read(-24, 2, 7, layout.network_header)
    code += [(_LDX, 8, 10, -8, 0), (_LDXH, 9, 10, -24, 0), (_ADD, 8, 9, 0, 0)]
    read(base + _HEADER.size, SNAP, 8, 0)
    code += [(_LD64, 1, 1, 0, ring), (0, 0, 0, 0, 0), (_MOV, 2, 10, 0, 0), (_ADDI, 2, 0, 0, base),
             (_MOVI, 3, 0, 0, _RECORD), (_MOVI, 4, 0, 0, 0), (_CALL, 0, 0, 0, _OUTPUT)]
    leave(_JEQI, 0, 0)
    code += [(_LD64, 1, 1, 0, lost), (0, 0, 0, 0, 0), (_MOV, 2, 10, 0, 0), (_ADDI, 2, 0, 0, -32),
             (_CALL, 0, 0, 0, _LOOKUP)]
    leave(_JEQI, 0, 0)
    code += [(_MOVI, 1, 0, 0, 1), (_XADD, 0, 1, 0, 0)]
    end = len(code)
    for at in exits:
        op, register, _, _, value = code[at]
        code[at] = (op, register, 0, end - at - 1, value)
    return [*code, (_MOVI, 0, 0, 0, 0), (_EXIT, 0, 0, 0, 0)]


def function_at(address: int) -> str:
    """Return the kernel function that an address is in, "" when /proc/kallsyms hides them."""
    starts, names = _symbols()
    at = bisect.bisect_right(starts, address) - 1
    return names[at] if at >= 0 else ""


@lru_cache(maxsize=1)
def _symbols() -> tuple[list[int], list[str]]:
    found: list[tuple[int, str]] = []
    with suppress(OSError), open("/proc/kallsyms", encoding="ascii", errors="replace") as file:
        for line in file:
            address, kind, name = line.split()[:3]
            if kind in "tTwW" and address.strip("0"):
                found.append((int(address, 16), name))
    found.sort(key=lambda entry: entry[0])
    return [address for address, _ in found], [name for _, name in found]
