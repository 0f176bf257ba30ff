"""Linux capabilities and users: what a process may do, and as whom (capabilities(7), user_namespaces(7))."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from netlab.errors import Unsupported, UsageError
from netlab.kernel import libc

NAMES = ("CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
         "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
         "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
         "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
         "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
         "CHECKPOINT_RESTORE")
"""By number, from 0 (<linux/capability.h>)."""

DOCKER_DEFAULT = frozenset(NAMES.index(name) for name in (
    "CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID", "SETFCAP", "SETPCAP",
    "NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE"))
"""What a container has unless it asks for more or less (docker and containerd agree on these)."""


def number(name: str) -> int:
    """Return a capability's number by its name, with or without CAP_.

    Raises:
        UsageError: there is none of that name.
    """
    try:
        return NAMES.index(name.upper().removeprefix("CAP_"))
    except ValueError:
        raise UsageError(f'unknown capability "{name}"') from None


def choose(add: Iterable[str], drop: Iterable[str], *, privileged: bool = False) -> frozenset[int]:
    """Return the capabilities of a container: the default ones less `drop`, plus `add`; "ALL" is every one."""
    everything = frozenset(range(len(NAMES)))
    if privileged:
        return everything
    add, drop = list(add), list(drop)
    chosen = everything if _has_all(add) else DOCKER_DEFAULT
    if _has_all(drop):
        chosen = frozenset()
    else:
        chosen -= {number(name) for name in drop}
    return chosen | {number(name) for name in add if name.upper() != "ALL"}


def _has_all(names: Iterable[str]) -> bool:
    return any(name.upper() == "ALL" for name in names)


def become(uid: int, gid: int, groups: Sequence[int], capabilities: frozenset[int]) -> None:
    """Give up what is not in `capabilities`, for this process and all it execs, and become this user.

    As under any container runtime a user other than root ends without effective capabilities.

    Raises:
        Unsupported: the user or a group does not exist in this user namespace.
    """
    check_ids(uid, gid, groups)
    own = _own_bounding()
    for cap in range(own.bit_length()):
        if cap not in capabilities and own >> cap & 1:
            libc.prctl(libc.PR_CAPBSET_DROP, cap)
    if _setgroups_allowed():
        os.setgroups(list(groups))
    os.setresgid(gid, gid, gid)
    mask = sum(1 << cap for cap in capabilities) & own
    if uid != 0:
        os.setresuid(uid, uid, uid)
        mask = 0
    libc.capset(mask, mask, 0)


def check_ids(uid: int, gid: int, groups: Sequence[int]) -> None:
    """See that these ids exist in this user namespace.

    Raises:
        Unsupported: one does not; says which, and what would help.
    """
    cure = "install the package uidmap and give the user a range in /etc/subuid and /etc/subgid, or run as root"
    if not exists(uid):
        raise Unsupported(f"user {uid} does not exist here: this lab runs rootless, with uid 0 alone", hint=cure)
    for group in {gid, *groups}:
        if not _mapped("gid_map", group) or (group != gid and not _setgroups_allowed()):
            raise Unsupported(f"group {group} can't be used here: this lab runs rootless, with gid 0 alone", hint=cure)


def exists(uid: int) -> bool:
    """Tell whether a uid is mapped in this user namespace."""
    return _mapped("uid_map", uid)


def _mapped(table: str, id: int) -> bool:
    for line in Path("/proc/self", table).read_text().splitlines():
        first, _, count = map(int, line.split())
        if first <= id < first + count:
            return True
    return False


def _setgroups_allowed() -> bool:
    try:
        return Path("/proc/self/setgroups").read_text().strip() == "allow"
    except OSError:
        return True


def _own_bounding() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapBnd:"):
            return int(line.split()[1], 16)
    return 0
