"""Put back which logger a namespace's netfilter used (net.netfilter.nf_log), whatever becomes of this process.

The trace of iptables-legacy comes through nfnetlink_log, which has to be bound to the address family; unlike all else
that a trace asks for, the kernel keeps the binding when the socket closes. A guardian process holds the namespaces and
the end of a pipe: when the other end goes, by intention or by kill -9, it writes back what was there.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

from netlab.errors import KernelError
from netlab.kernel import sysctl
from netlab.kernel.netns import inside

FAMILIES: Final = {"net.netfilter.nf_log.2": "ip_tables_names", "net.netfilter.nf_log.10": "ip6_tables_names"}
"""The setting of each family, and the file that lists its legacy tables."""
OURS: Final = "nfnetlink_log"


def bound(netns: int) -> dict[str, str]:
    """Return the loggers of a namespace that has legacy tables, by setting, but for those that are ours anyway."""
    found: dict[str, str] = {}
    with inside(netns):
        used = False
        for names in FAMILIES.values():
            with suppress(OSError):
                with open(f"/proc/thread-self/net/{names}") as file:
                    used = used or bool(file.read().strip())
        if used:
            for setting in FAMILIES:
                with suppress(KernelError):
                    found[setting] = sysctl.read(setting)
    return {setting: value for setting, value in found.items() if value != OURS}


@contextmanager
def restored(namespaces: Sequence[int]) -> Iterator[None]:
    """See that the loggers of these namespaces (descriptors) are the same after the body as before, or after its death.

    Costs nothing where no namespace has legacy tables; else a process of some 10 MB while the body runs.
    """
    before = {fd: found for fd in namespaces if (found := bound(fd))}
    if not before:
        yield
        return
    words = [f"{fd}:{setting}={value}" for fd, found in before.items() for setting, value in found.items()]
    read, write = os.pipe()
    actions = [(os.POSIX_SPAWN_DUP2, read, 0), *((os.POSIX_SPAWN_DUP2, fd, fd) for fd in before)]  # dup2 onto itself
    environment = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "PATH": os.environ.get("PATH", "")}
    try:  # a session of its own: Ctrl-C is for the tracer, the guardian goes after it
        guardian = os.posix_spawn(sys.executable, [sys.executable, "-P", "-m", __spec__.name, *words], environment,
                                  file_actions=actions, setsid=True)
    finally:
        os.close(read)
    try:
        yield
    finally:
        os.close(write)
        os.waitpid(guardian, 0)


def main(words: Sequence[str]) -> None:
    """Wait for the end of standard input, then write back the values given as `FD:SETTING=VALUE`."""
    while os.read(0, 4096):
        pass
    for word in words:
        fd, _, rest = word.partition(":")
        setting, _, value = rest.partition("=")
        with suppress(KernelError, OSError):
            if sysctl.read(setting, int(fd)) == OURS:
                sysctl.write(setting, value, int(fd))


if __name__ == "__main__":
    main(sys.argv[1:])
