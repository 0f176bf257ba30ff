"""System calls that Python's standard library lacks in 3.11, by ctypes (os.setns and os.unshare came with 3.12).

Numbers and flags: <linux/sched.h>, <sys/mount.h>, <linux/prctl.h>, and the syscall tables of x86_64 and aarch64.
"""

from __future__ import annotations

import ctypes
import os
import struct
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
PR_SET_MM: Final = 35
PR_SET_MM_MAP: Final = 14
PR_SET_NO_NEW_PRIVS: Final = 38

RESOLVE_NO_MAGICLINKS: Final = 0x02
RESOLVE_IN_ROOT: Final = 0x10
AT_EMPTY_PATH: Final = 0x1000
AT_RECURSIVE: Final = 0x8000
MOUNT_ATTR_RDONLY: Final = 0x1

_NUMBERS: Final = {
    "x86_64": {"capset": 126, "pivot_root": 155, "bpf": 321, "pidfd_send_signal": 424, "pidfd_open": 434,
               "openat2": 437, "mount_setattr": 442},
    "aarch64": {"capset": 91, "pivot_root": 41, "bpf": 280, "pidfd_send_signal": 424, "pidfd_open": 434,
                "openat2": 437, "mount_setattr": 442},
}

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def syscall(name: str, *args: Any) -> int:
    """Call a system call that has no libc wrapper. Raises OSError as the os module does."""
    numbers = _NUMBERS.get(os.uname().machine)  # not platform: it imports half the library
    if numbers is None:
        raise OSError(38, f"{name}: netlab has no system call table for {os.uname().machine}")
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


def capset(permitted: int, effective: int, inheritable: int) -> None:
    """Set this thread's capability sets, each a mask with bit N for capability number N (capset(2), version 3)."""
    header = struct.pack("=II", 0x20080522, 0)
    data = b"".join(struct.pack("=III", (effective >> shift) & 0xFFFFFFFF, (permitted >> shift) & 0xFFFFFFFF,
                                (inheritable >> shift) & 0xFFFFFFFF) for shift in (0, 32))
    syscall("capset", header, data)


def openat2(directory: int, path: str | bytes, flags: int, *, mode: int = 0, resolve: int = 0) -> int:
    """Open relative to `directory` under rules of resolution (openat2(2), Linux 5.6) and return the descriptor."""
    how = struct.pack("=QQQ", flags | os.O_CLOEXEC, mode, resolve)
    return syscall("openat2", ctypes.c_int(directory), os.fsencode(path), how, ctypes.c_size_t(len(how)))


def mount_setattr(directory: int, path: str, *, set: int, clear: int = 0, recursive: bool = False) -> None:
    """Change the attributes of a mount, or of a tree of them (mount_setattr(2), Linux 5.12)."""
    flags = (AT_RECURSIVE if recursive else 0) | (0 if path else AT_EMPTY_PATH)
    attributes = struct.pack("=QQQQ", set, clear, 0, 0)
    syscall("mount_setattr", ctypes.c_int(directory), os.fsencode(path), ctypes.c_uint(flags), attributes,
            ctypes.c_size_t(len(attributes)))


_argv_memory: list[Any] = []  # what the kernel shows as cmdline is read from this process' memory


def set_cmdline(argv: list[str]) -> None:
    """Make /proc/PID/cmdline read as `argv` (prctl(2), PR_SET_MM_MAP; needs no privilege, and checkpoint support).

    Raises OSError where the kernel was built without it.
    """
    with open("/proc/self/stat", encoding="utf-8", errors="replace") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    (start_code, end_code, start_stack), (start_data, end_data, start_brk, _, _, env_start, env_end) = (
        [int(fields[n - 3]) for n in (26, 27, 28)], [int(fields[n - 3]) for n in range(45, 52)])
    raw = b"".join(os.fsencode(word) + b"\0" for word in argv)
    memory = ctypes.create_string_buffer(raw, len(raw))
    _libc.sbrk.restype = ctypes.c_void_p
    first = ctypes.addressof(memory)
    layout = struct.pack("=12QIi", start_code, end_code, start_data, end_data, start_brk, _libc.sbrk(0), start_stack,
                         first, first + len(raw), env_start, env_end, 0, 0, -1)
    _checked(_libc.prctl(PR_SET_MM, ctypes.c_ulong(PR_SET_MM_MAP), layout, ctypes.c_ulong(len(layout)),
                         ctypes.c_ulong(0)), "prctl PR_SET_MM_MAP")
    _argv_memory[:] = [memory]


def sethostname(name: str) -> None:
    """Set the host name of this UTS namespace."""
    raw = name.encode()
    _checked(_libc.sethostname(raw, len(raw)), "sethostname")


def inotify_init() -> int:
    """Open a non-blocking inotify instance (inotify(7))."""
    return _checked(_libc.inotify_init1(ctypes.c_int(os.O_NONBLOCK | os.O_CLOEXEC)), "inotify_init1")


def inotify_add_watch(fd: int, path: str | os.PathLike[str], mask: int) -> int:
    """Add a path to an inotify instance and return the number that its events carry."""
    return _checked(_libc.inotify_add_watch(ctypes.c_int(fd), os.fsencode(path), ctypes.c_uint32(mask)),
                    f"inotify_add_watch {os.fspath(path)}")


def inotify_rm_watch(fd: int, number: int) -> None:
    """Take a watch out; one that the kernel has dropped already is no error."""
    _libc.inotify_rm_watch(ctypes.c_int(fd), ctypes.c_int(number))
