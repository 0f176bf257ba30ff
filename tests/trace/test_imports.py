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


def test_what_lays_a_prediction_beside_a_trace_is_imported_while_the_packet_is_on_its_way() -> None:
    code = "import sys, netlab.cli.trace, netlab.lab.tracing; print('netlab.trace.predict' in sys.modules)"
    said = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "False"
