"""Rules read by a child: whoever enters a rootless lab stays there, and could run no command outside it any more."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from netlab.lab.state import LabRecord
    from netlab.netfilter.model import Ruleset


def save(lab: LabRecord, node: str, *, ipv6: bool) -> Ruleset:
    """Return a node's rules as its own iptables-save prints them.

    Raises:
        KernelError: it failed.
    """
    from netlab.errors import KernelError
    from netlab.kernel.process import run_sync
    from netlab.netfilter.parse import parse

    tool = "ip6tables-save" if ipv6 else "iptables-save"
    done = run_sync([sys.executable, "-P", "-m", "netlab.cli.main", "exec", "-T", "--name", lab.name, f"node/{node}",
                     "--", tool])
    if done.code != 0:
        raise KernelError(f"node/{node}: {tool} failed: {done.stderr.decode(errors='replace').strip()}")
    return parse(done.stdout.decode(errors="replace"))
