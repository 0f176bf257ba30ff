"""Capture filters in tcpdump's words (pcap-filter(7)) as classic BPF, compiled by libpcap itself.

libpcap comes with tcpdump. Where only tcpdump is found, `tcpdump -ddd` compiles; with neither there are no filters.
"""

from __future__ import annotations

import ctypes
import shutil
from collections.abc import Callable, Sequence
from functools import cache
from typing import Final

from netlab.errors import Unsupported, UsageError
from netlab.kernel.process import run_sync

Program = list[tuple[int, int, int, int]]
ETHERNET: Final = 1
RAW: Final = 12
"""DLT_EN10MB and DLT_RAW as Linux numbers it: frames with an Ethernet header, and packets that begin with IP."""
_ARPHRD_ETHER, _ARPHRD_LOOPBACK = 1, 772
_HATYPE: Final = 0xFFFFF000 + 28
"""SKF_AD_OFF + SKF_AD_HATYPE: where a program finds the interface's kind (<linux/filter.h>)."""
_WHOLE: Final = 262144


def compile_filter(expression: str) -> Program:
    """Return one program that filters by `expression` whatever kind of interface a frame crosses; [] for "".

    It holds the expression twice, for Ethernet and for bare IP, and a switch on the interface's kind before them.

    Raises:
        UsageError: libpcap does not understand it; says why.
        Unsupported: there is neither libpcap nor tcpdump.
    """
    if not expression.strip():
        return []
    ethernet = _compiler()(expression, ETHERNET)
    try:
        raw = _compiler()(expression, RAW)
    except UsageError:  # speaks of Ethernet addresses or the like: nothing without them can match
        raw = [(0x06, 0, 0, 0)]
    switch = [(0x28, 0, 0, _HATYPE), (0x15, 2, 0, _ARPHRD_ETHER), (0x15, 1, 0, _ARPHRD_LOOPBACK),
              (0x05, 0, 0, len(ethernet))]
    return [*switch, *ethernet, *raw]


@cache
def _compiler() -> Callable[[str, int], Program]:
    for name in ("libpcap.so.1", "libpcap.so.0.8"):
        try:
            return _Libpcap(ctypes.CDLL(name)).compile
        except OSError:
            continue
    if shutil.which("tcpdump"):
        return _tcpdump
    raise Unsupported("capture filters need libpcap, which is not on this machine", hint="install tcpdump")


class _Instruction(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint16), ("jt", ctypes.c_uint8), ("jf", ctypes.c_uint8), ("k", ctypes.c_uint32))


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint), ("code", ctypes.POINTER(_Instruction)))


class _Libpcap:
    """The four calls of libpcap that compile (pcap_compile(3PCAP))."""

    def __init__(self, lib: ctypes.CDLL) -> None:
        self._lib = lib
        lib.pcap_open_dead.restype = ctypes.c_void_p
        lib.pcap_open_dead.argtypes = [ctypes.c_int, ctypes.c_int]
        lib.pcap_compile.argtypes = [ctypes.c_void_p, ctypes.POINTER(_Program), ctypes.c_char_p, ctypes.c_int,
                                     ctypes.c_uint32]
        lib.pcap_geterr.restype = ctypes.c_char_p
        lib.pcap_geterr.argtypes = [ctypes.c_void_p]
        lib.pcap_freecode.argtypes = [ctypes.POINTER(_Program)]
        lib.pcap_close.argtypes = [ctypes.c_void_p]

    def compile(self, expression: str, link_type: int) -> Program:
        handle = self._lib.pcap_open_dead(link_type, _WHOLE)
        program = _Program()
        try:
            if self._lib.pcap_compile(handle, ctypes.byref(program), expression.encode(), 1, 0xFFFFFFFF):
                raise _refused(expression, self._lib.pcap_geterr(handle).decode(errors="replace"))
            found = [program.code[n] for n in range(program.length)]
            lines = [(line.code, line.jt, line.jf, line.k) for line in found]
            self._lib.pcap_freecode(ctypes.byref(program))
            return lines
        finally:
            self._lib.pcap_close(handle)


def _tcpdump(expression: str, link_type: int) -> Program:
    name = "EN10MB" if link_type == ETHERNET else "RAW"
    done = run_sync(["tcpdump", "-ddd", "-s", str(_WHOLE), "-y", name, "--", expression])
    if done.code:
        raise _refused(expression, done.stderr.decode(errors="replace").strip().rpartition("tcpdump: ")[2])
    return parse_ddd(done.stdout.decode())


def parse_ddd(text: str) -> Program:
    """Return the program that `tcpdump -ddd` printed: a count, then four numbers a line."""
    rows: Sequence[list[int]] = [[int(word) for word in line.split()] for line in text.splitlines()[1:]]
    return [(row[0], row[1], row[2], row[3]) for row in rows]


def _refused(expression: str, why: str) -> UsageError:
    return UsageError(f'the filter "{expression}" is not understood: {why}',
                      hint="it is written as for tcpdump: man pcap-filter; such as: tcp port 80 and host 10.244.1.2")
