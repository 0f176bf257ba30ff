"""Whether a lab can run here, and as what: root, or an ordinary user in a user namespace; found out by doing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from netlab.errors import Unsupported
from netlab.kernel import libc
from netlab.kernel.rtnl import Rtnl
from netlab.lab import spawn

Mode = Literal["root", "rootless"]


def mode() -> Mode:
    """Return how a lab would run.

    Raises:
        Unsupported: it would not; the message says why, the hint how to change that.
    """
    trouble = as_root() if os.geteuid() == 0 else "this is not root"
    if not trouble:
        return "root"
    refused = in_user_namespace()
    if not refused:
        return "rootless"
    if os.geteuid() == 0:
        reason, cure = why_not_root(trouble)
        raise Unsupported(reason, hint=cure)
    reason, cure = why_not(refused)
    raise Unsupported(reason, hint=cure)


def as_root() -> str:
    """Make, in a child, what a lab is made of; return "" or what the kernel refused."""
    return spawn.try_in_child(_do)


def in_user_namespace() -> str:
    """Do the same as root of a new user namespace."""
    return spawn.try_in_child(_do, user_namespace=True)


def why_not_root(error: str) -> tuple[str, str]:
    """Return (reason, cure) for what root was refused."""
    if not any(line.split()[4] == "/" for line in _mounts()):
        return ("this is a chroot, and its / is no mount point",
                "enter it with `systemd-nspawn -D` or pivot_root instead of chroot")
    return f"root may not make namespaces here: {error}", "start this container with --privileged"


def _do() -> None:
    from netlab.kernel import link

    libc.unshare(libc.CLONE_NEWNS | libc.CLONE_NEWNET | libc.CLONE_NEWPID | libc.CLONE_NEWIPC | libc.CLONE_NEWUTS)
    libc.mount("none", "/", "", libc.MS_REC | libc.MS_PRIVATE)
    libc.mount("tmpfs", "/tmp", "tmpfs", 0)
    with Rtnl() as sock:
        link.add_veth(sock, "netlab0", "netlab1")


def why_not(error: str) -> tuple[str, str]:
    """Return (reason, cure) for a user namespace that was refused, from the settings that are known to do that."""
    if _setting("user/max_user_namespaces") == "0":
        return ("user namespaces are switched off (user.max_user_namespaces is 0)",
                "sudo sysctl user.max_user_namespaces=15000, or run netlab with sudo")
    if _setting("kernel/unprivileged_userns_clone") == "0":
        return ("only root may make user namespaces (kernel.unprivileged_userns_clone is 0)",
                "sudo sysctl kernel.unprivileged_userns_clone=1, or run netlab with sudo")
    if _setting("kernel/apparmor_restrict_unprivileged_userns") == "1":
        return ("AppArmor takes all rights away in user namespaces (kernel.apparmor_restrict_unprivileged_userns is 1)",
                "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0, or run netlab with sudo")
    return f"this user may not make a network of namespaces: {error}", "run netlab with sudo"


def _mounts() -> list[str]:
    return Path("/proc/self/mountinfo").read_text().splitlines()


def _setting(name: str) -> str:
    try:
        return Path("/proc/sys", name).read_text().strip()
    except OSError:
        return ""
