"""A second opinion on iptables: libxtables on rules that somebody wrote, libiptc on what the legacy backend holds.

Both are asked in a short process of its own: python-iptables keeps namespaces and libraries for the life of a process.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

from netlab.errors import KernelError, Unsupported
from netlab.kernel import netns as namespaces
from netlab.kernel.process import run_sync

_SECONDS: Final = 30.0


def complaints(rules: Sequence[Mapping[str, Any]], *, ipv6: bool = False) -> list[str]:
    """Return what libxtables says of each rule (shapes as netlab.kernel.iptc_child tells), "" for one that it takes.

    Raises:
        Unsupported: python-iptables or libxtables is not installed; KernelError: the process failed.
    """
    # Extensions ask the kernel for their revisions, which makes tables: not in anybody's namespace.
    question = {"ask": "rules", "ipv6": ipv6, "rules": list(rules)}
    found: list[str]
    if os.geteuid() != 0:
        found = _asked(question, None, "unshare", "--user", "--map-root-user", "--net")["errors"]
        return found
    scratch = namespaces.new_netns()
    try:
        found = _asked(question, scratch)["errors"]
    finally:
        os.close(scratch)
    return found


def legacy_counts(tables: Sequence[str], netns: int, *, ipv6: bool = False) -> dict[str, dict[str, int]]:
    """Return how many rules libiptc finds in each chain of legacy tables, by table. Slow: 1 ms a rule.

    Raises:
        Unsupported: python-iptables is not installed; KernelError: the process failed.
    """
    found: dict[str, dict[str, int]] = _asked({"ask": "counts", "ipv6": ipv6, "tables": list(tables)}, netns)["chains"]
    return found


def _asked(question: Mapping[str, Any], netns: int | None, *through: str) -> Any:
    done = run_sync([*through, sys.executable, "-P", "-m", "netlab.kernel.iptc_child"],
                    input=json.dumps(question).encode(), timeout=_SECONDS, network=netns)
    if done.code != 0:
        said = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        if "ModuleNotFoundError" in said or "xtables" in said.lower():
            raise Unsupported(f"python-iptables does not work here: {said}",
                              hint="pip install python-iptables, apt-get install iptables")
        raise KernelError(f"libxtables could not be asked: {said or f'exit code {done.code}'}")
    return json.loads(done.stdout)
