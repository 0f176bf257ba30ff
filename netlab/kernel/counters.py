"""The kernel's own counters of a network namespace: what it has thrown away so far, and why.

/proc/net/snmp and /proc/net/netstat, as nstat(8) shows them: pairs of lines, names above figures.
"""

from __future__ import annotations

from contextlib import suppress

from netlab.kernel.netns import inside


def read(netns: int | str) -> dict[str, int]:
    """Return all counters by nstat's names: `IpInNoRoutes`, `TcpExtIPReversePathFilter`, ... About 0.2 ms."""
    found: dict[str, int] = {}
    with inside(netns):
        for file in ("snmp", "netstat"):
            with suppress(OSError), open(f"/proc/thread-self/net/{file}") as opened:
                lines = opened.read().splitlines()
                for names, figures in zip(lines[::2], lines[1::2], strict=False):
                    prefix, _, words = names.partition(":")
                    found |= {prefix + name: int(figure)
                              for name, figure in zip(words.split(), figures.split()[1:], strict=False)}
    return found
