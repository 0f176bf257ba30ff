"""pause: the first process of every Pod. It holds the namespaces open and does nothing at all.

It is 12 KiB of memory instead of Python's 2 MB, because it is a program of three system calls, written down here as
machine code: ignore SIGCHLD (the kernel then reaps the orphans of a shared PID namespace), wait for SIGINT or SIGTERM,
exit(0). Whoever starts it has to block both signals.
"""

from __future__ import annotations

import platform
import struct

_SIGNALS = struct.pack("<Q", 1 << (2 - 1) | 1 << (15 - 1))  # SIGINT, SIGTERM
_IGNORE = struct.pack("<QQQQ", 1, 0, 0, 0)  # struct sigaction: SIG_IGN

_CODE = {
    # rt_sigaction(SIGCHLD, &ignore, NULL, 8)
    # rt_sigtimedwait(&signals, NULL, NULL, 8), again if it was interrupted; exit_group(0)
    "x86_64": (62, bytes.fromhex(
        "bf11000000"          # mov edi, 17 (SIGCHLD)
        "488d3543000000"      # lea rsi, [rip + ignore]
        "31d2"                # xor edx, edx
        "41ba08000000"        # mov r10d, 8
        "b80d0000000f05"   # mov eax, 13 (rt_sigaction); syscall
        "488d3d25000000"      # lea rdi, [rip + signals]
        "31f631d2"         # xor esi, esi; xor edx, edx
        "41ba08000000"        # mov r10d, 8
        "b8800000000f05"   # mov eax, 128 (rt_sigtimedwait); syscall
        "85c078e4"         # test eax, eax; js to lea rdi
        "31ff"                # xor edi, edi
        "b8e70000000f05"   # mov eax, 231 (exit_group); syscall
        "f4"                  # hlt
        "000000000000")),
    "aarch64": (183, struct.pack(
        "<18I",
        0xD2800220,   # mov x0, 17 (SIGCHLD)
        0x10000261,   # adr x1, ignore
        0xD2800002,   # mov x2, 0
        0xD2800103,   # mov x3, 8
        0xD28010C8,   # mov x8, 134 (rt_sigaction)
        0xD4000001,   # svc 0
        0x10000180,   # adr x0, signals
        0xD2800001,   # mov x1, 0
        0xD2800002,   # mov x2, 0
        0xD2800103,   # mov x3, 8
        0xD2801128,   # mov x8, 137 (rt_sigtimedwait)
        0xD4000001,   # svc 0
        0x37FFFF40,   # tbnz w0, 31, to adr x0
        0xD2800000,   # mov x0, 0
        0xD2800BC8,   # mov x8, 94 (exit_group)
        0xD4000001,   # svc 0
        0xD503201F,   # nop
        0xD503201F)),
}


def executable() -> bytes | None:
    """Return pause as an ELF executable of this machine; None where there is none, and a Python process has to do."""
    if platform.machine() not in _CODE:
        return None
    machine, code = _CODE[platform.machine()]
    base, header = 0x400000, 64 + 56
    body = code + _SIGNALS + _IGNORE
    size = header + len(body)
    elf = struct.pack("<4s5B7xHHIQQQIHHHHHH", b"\x7fELF", 2, 1, 1, 0, 0, 2, machine, 1, base + header, 64, 0, 0, 64, 56,
                      1, 0, 0, 0)
    load = struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, size, size, 0x10000)  # PT_LOAD, read and execute
    return elf + load + body
