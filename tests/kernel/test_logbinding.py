"""The logger of a namespace is what it was, after the body and after kill -9."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from netlab.kernel import logbinding, netns, sysctl
from netlab.kernel.taps import LegacyTrace

SETTING = "net.netfilter.nf_log.2"
pytestmark = pytest.mark.root


@pytest.fixture
def legacy():
    fd = netns.new_netns()
    with netns.inside(fd):
        subprocess.run(["iptables-legacy", "-t", "nat", "-L"], check=True, capture_output=True)
    before = sysctl.read(SETTING, fd)
    yield fd
    assert sysctl.read(SETTING, fd) == before
    os.close(fd)


def test_bound_while_traced_and_as_before_afterwards(legacy: int) -> None:
    with logbinding.restored([legacy]):
        tap = LegacyTrace(legacy)
        assert sysctl.read(SETTING, legacy) == logbinding.OURS
        tap.close()
        assert sysctl.read(SETTING, legacy) == logbinding.OURS  # the kernel keeps it: that is why


def test_without_legacy_tables_nothing_is_to_be_put_back() -> None:
    fd = netns.new_netns()
    assert logbinding.bound(fd) == {}
    os.close(fd)


def test_kill_9(legacy: int) -> None:
    program = ("import sys, time\nfrom netlab.kernel import logbinding\nfrom netlab.kernel.taps import LegacyTrace\n"
               f"with logbinding.restored([{legacy}]):\n    tap = LegacyTrace({legacy})\n    print('on', flush=True)\n    time.sleep(60)\n")
    child = subprocess.Popen([sys.executable, "-P", "-c", program], pass_fds=[legacy], stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"on\n"
    assert sysctl.read(SETTING, legacy) == logbinding.OURS
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    deadline = time.monotonic() + 20
    while sysctl.read(SETTING, legacy) == logbinding.OURS:
        assert time.monotonic() < deadline
        time.sleep(0.05)
