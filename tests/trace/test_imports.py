"""A trace is a command that starts anew each time: what it does not need it does not import."""

from __future__ import annotations

import subprocess
import sys


def test_a_trace_through_iptables_imports_no_reader_of_nftables() -> None:
    code = ("import sys, netlab.cli.trace, netlab.lab.tracing\n"
            "print([name for name in sys.modules if name.startswith('netlab.netfilter.nft') and name != "
            "'netlab.netfilter.nft_values'])")
    said = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "[]"
