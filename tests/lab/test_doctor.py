"""What `netlab doctor` finds out by doing, here and where things are missing."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from netlab.lab import doctor, probe

pytestmark = pytest.mark.root


def test_everything_is_asked_and_nothing_is_left_behind():
    before = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout
    findings = doctor.examine()
    assert {finding.state for finding in findings} <= {"ok", "limited", "missing"}
    assert {question.name for question in doctor.QUESTIONS} < {finding.name for finding in findings}
    for finding in findings:
        assert finding.detail
        if finding.state == "missing":
            assert finding.costs
            assert finding.cure
    assert subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout == before


def test_a_lab_that_can_run_here_is_said_to():
    done = subprocess.run([sys.executable, "-m", "netlab.cli.main", "doctor", "-o", "json"], capture_output=True,
                          text=True, check=False)
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert (done.returncode, rows["labs as root"]["state"]) == (0, "ok")
    assert rows["cables and bridges"]["state"] == "ok"


def _as_somebody(script: str, prefix: str = "") -> str:
    """Run Python as an ordinary user."""
    argv = ["setpriv", "--reuid=41235", "--regid=41235", "--clear-groups", sys.executable, "-P", "-c", script]
    env = {**os.environ, "HOME": "/"}
    done = subprocess.run(["unshare", "-Ur", "sh", "-c", f'{prefix} exec "$@"', "sh", *argv[4:]] if prefix else argv,
                          capture_output=True, text=True, check=False, env=env, cwd="/")
    if "No module named" in done.stderr or "Permission denied" in done.stderr:
        pytest.skip("an ordinary user can't read this checkout")
    return done.stdout + done.stderr


def test_switched_off_user_namespaces_are_told_with_the_cure():
    # in a user namespace of our own the limit can be set for all that is below it (namespaces(7))
    said = _as_somebody("from netlab.lab import probe; print(probe.in_user_namespace()); print(probe.why_not('x'))",
                        prefix="echo 0 > /proc/sys/user/max_user_namespaces;")
    assert "No space left on device" in said  # what the kernel says is no help
    assert "user namespaces are switched off" in said
    assert "sudo sysctl user.max_user_namespaces=" in said


@pytest.mark.parametrize(("name", "value", "words"), [
    ("user/max_user_namespaces", "0", "sysctl user.max_user_namespaces=15000"),
    ("kernel/unprivileged_userns_clone", "0", "sysctl kernel.unprivileged_userns_clone=1"),
    ("kernel/apparmor_restrict_unprivileged_userns", "1", "sysctl kernel.apparmor_restrict_unprivileged_userns=0"),
    ("", "", "run netlab with sudo"),
])
def test_each_known_reason_has_its_own_cure(monkeypatch, name, value, words):
    monkeypatch.setattr(probe, "_setting", lambda asked: value if asked == name else "")
    reason, cure = probe.why_not("Operation not permitted")
    assert reason
    assert words in cure


def test_root_without_privileges_is_told_about_the_container():
    script = ("from netlab.lab import probe\nfrom netlab.errors import Unsupported\n"
              "try: print(probe.mode())\nexcept Unsupported as error: print(error, '|', error.hint)")
    poor = "setpriv --bounding-set=-sys_admin --inh-caps=-sys_admin"
    done = subprocess.run(["unshare", "-Ur", "sh", "-c",
                           f'echo 0 > /proc/sys/user/max_user_namespaces; exec {poor} "$@"', "sh", sys.executable, "-c",
                           script], capture_output=True, text=True, check=False, cwd="/")
    assert "root may not make namespaces here" in done.stdout, done.stdout + done.stderr
    assert "--privileged" in done.stdout
