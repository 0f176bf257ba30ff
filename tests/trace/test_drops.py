"""Where packets die, and what is said of it: with real packets, with and without BPF, as root and as anybody."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from netlab.kernel import drops as kernel_drops
from tests.trace.drops import CASES, Case, die

pytestmark = pytest.mark.root
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def bpf() -> None:
    trouble = kernel_drops.probe()
    if trouble:
        pytest.skip(trouble)


def check(case: Case, status: str, place: str, why: str, fix: str) -> None:
    assert (status, place) == (case.status, case.place), why
    assert case.why in why
    assert case.fix in fix
    assert fix


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_drop_is_told_in_one_sentence_without_bpf(case: Case) -> None:
    result = die(case, bpf=False)
    end = result.outcome
    check(case, end.status, end.place, end.why, end.fix)
    assert not result.bpf
    assert not any(hop.function for hop in result.request)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.usefixtures("bpf")
def test_bpf_adds_the_kernels_own_reason(case: Case) -> None:
    result = die(case, bpf=True)
    end = result.outcome
    check(case, end.status, end.place, end.why, end.fix)
    assert end.reason in case.reason.split("|")
    if result.request[-1].kind == "drop":
        assert result.request[-1].reason == end.reason


def test_the_same_in_a_user_namespace(tmp_path: Path) -> None:
    """All of it as an ordinary user, who has no BPF."""
    user, unshare = shutil.which("setpriv"), shutil.which("unshare")
    if not user or not unshare:
        pytest.skip("util-linux is not installed")
    program = [user, "--reuid=65534", "--regid=65534", "--clear-groups", unshare, "-Urnm", "sh", "-c",
               'mount -t tmpfs none /run && exec "$@"', "sh", sys.executable, "-P", "-m", "tests.trace.drops"]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "HOME": str(tmp_path)}
    done = subprocess.run(program, cwd="/", env=env, capture_output=True, text=True, check=False, timeout=100)
    if done.returncode and "unshare" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    for case in CASES:
        check(case, **{key: said[case.name][key] for key in ("status", "place", "why", "fix")})
