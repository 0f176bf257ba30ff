"""System calls that Python's standard library lacks in 3.11, by ctypes (os.setns and os.unshare came with 3.12).

Numbers and flags: <linux/sched.h>, <sys/mount.h>, <linux/prctl.h>, and the syscall tables of x86_64 and aarch64.
"""

from __future__ import annotations

import ctypes
import os
import platform
from typing import Any, Final

CLONE_NEWTIME: Final = 0x00000080
CLONE_NEWNS: Final = 0x00020000
CLONE_NEWCGROUP: Final = 0x02000000
CLONE_NEWUTS: Final = 0x04000000
CLONE_NEWIPC: Final = 0x08000000
CLONE_NEWUSER: Final = 0x10000000
CLONE_NEWPID: Final = 0x20000000
CLONE_NEWNET: Final = 0x40000000

MS_RDONLY: Final = 1
MS_NOSUID: Final = 2
MS_NODEV: Final = 4
MS_NOEXEC: Final = 8
MS_REMOUNT: Final = 32
MS_BIND: Final = 4096
MS_MOVE: Final = 8192
MS_REC: Final = 16384
MS_PRIVATE: Final = 1 << 18
MS_SLAVE: Final = 1 << 19
MS_SHARED: Final = 1 << 20
MNT_DETACH: Final = 2

PR_SET_PDEATHSIG: Final = 1
PR_CAPBSET_DROP: Final = 24
PR_SET_NAME: Final = 15
PR_SET_CHILD_SUBREAPER: Final = 36
PR_SET_NO_NEW_PRIVS: Final = 38

_NUMBERS: Final = {
    "x86_64": {"pivot_root": 155, "bpf": 321, "pidfd_send_signal": 424, "pidfd_open": 434},
    "aarch64": {"pivot_root": 41, "bpf": 280, "pidfd_send_signal": 424, "pidfd_open": 434},
}

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def syscall(name: str, *args: Any) -> int:
    """Call a system call that has no libc wrapper. Raises OSError as the os module does."""
    numbers = _NUMBERS.get(platform.machine())
    if numbers is None:
        raise OSError(38, f"{name}: netlab has no system call table for {platform.machine()}")
    return _checked(_libc.syscall(ctypes.c_long(numbers[name]), *args), name)


def setns(fd: int, kinds: int = 0) -> None:
    """Move this thread into the namespace behind `fd`, or into several of a process' when `fd` is a pidfd."""
    _checked(_libc.setns(fd, kinds), "setns")


def unshare(kinds: int) -> None:
    """Give this thread (for NEWPID: its next children) new namespaces."""
    _checked(_libc.unshare(kinds), "unshare")


def mount(source: str, target: str | os.PathLike[str], fstype: str = "", flags: int = 0, data: str = "") -> None:
    """Mount. `source` is "none" for file systems without a device."""
    _checked(_libc.mount(os.fsencode(source), os.fsencode(target), fstype.encode() or None, ctypes.c_ulong(flags),
                         data.encode() or None), f"mount {fstype or 'bind'} {source} on {os.fspath(target)}")


def umount(target: str | os.PathLike[str], flags: int = 0) -> None:
    """Unmount; MNT_DETACH takes a busy tree out of sight at once."""
    _checked(_libc.umount2(os.fsencode(target), flags), f"umount {os.fspath(target)}")


def pivot_root(new: str, old: str) -> None:
    """Make `new` the root of this mount namespace and put the old root on `old` (both may be ".")."""
    syscall("pivot_root", os.fsencode(new), os.fsencode(old))


def prctl(option: int, value: int = 0) -> None:
    """Set one attribute of this process."""
    _checked(_libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0), "prctl")


def set_process_name(name: str) -> None:
    """Set the name that ps and top show in the comm column; the kernel keeps 15 bytes."""
    _checked(_libc.prctl(PR_SET_NAME, ctypes.c_char_p(name.encode()[:15]), 0, 0, 0), "prctl")


def sethostname(name: str) -> None:
    """Set the host name of this UTS namespace."""
    raw = name.encode()
    _checked(_libc.sethostname(raw, len(raw)), "sethostname")
