"""Rules read by a child: whoever enters a rootless lab stays there, and could run no command outside it any more."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from netlab.inspect.holding import Holding
    from netlab.lab.state import LabRecord


def save(lab: LabRecord, node: str, *, ipv6: bool) -> Holding:
    """Return a node's rules as its own iptables-save and nft print them.

    Raises:
        KernelError: iptables-save failed.
    """
    from netlab.errors import KernelError
    from netlab.inspect import holding
    from netlab.kernel.process import run_sync

    tool = "ip6tables-save" if ipv6 else "iptables-save"
    run = [sys.executable, "-P", "-m", "netlab.cli.main", "exec", "-T", "--name", lab.name, f"node/{node}", "--"]
    done = run_sync([*run, tool])
    if done.code != 0:
        raise KernelError(f"node/{node}: {tool} failed: {done.stderr.decode(errors='replace').strip()}")
    text = done.stdout.decode(errors="replace")
    native = run_sync([*run, "nft", "list", "table", "ip6" if ipv6 else "ip", "kube-proxy"])
    if native.code == 0:  # no nft, or no such table: then there is nothing to add
        text += "\n" + native.stdout.decode(errors="replace")
    return replace(holding.of_text(text, ipv6=ipv6), node=node)
