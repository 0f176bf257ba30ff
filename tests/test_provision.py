"""vagrant/provision.sh: its refusals are one clear line each, and a run that finds everything there is quick."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "vagrant/provision.sh"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
STAMP = Path(sys.prefix, ".netlab")

pytestmark = pytest.mark.root


def provision(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(SCRIPT), *words], capture_output=True, text=True, check=False, timeout=60,
                          env={"PATH": PATH, **env})


@pytest.fixture
def bare(tmp_path):
    """A PATH on which no Debian package is installed and apt-get is not there."""
    folder = tmp_path / "bare"
    folder.mkdir()
    for tool in ("dirname", "id", "mktemp", "tail", "rm", "cat", "chmod", "mkdir", "grep", "sed", "head"):
        (folder / tool).symlink_to(shutil.which(tool) or "")
    (folder / "dpkg-query").write_text("#!/bin/sh\nexit 1\n")
    (folder / "dpkg-query").chmod(0o755)
    return folder


def test_without_root_it_says_so():
    done = subprocess.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "/bin/sh", "-c",
                           f". {SCRIPT}", str(SCRIPT)], capture_output=True, text=True, check=False)
    if "Permission denied" in done.stderr or "can't open" in done.stderr.lower():
        pytest.skip("an ordinary user can't read this checkout")
    assert done.returncode == 1
    assert done.stderr.startswith("provision: this needs root: sudo ")
    assert len(done.stderr.splitlines()) == 1


def test_without_apt_it_names_what_to_install(bare):
    done = provision("true", PATH=str(bare))
    assert done.returncode == 1
    assert done.stderr.startswith("provision: no apt-get here: install these yourself: iproute2 iptables ")
    assert len(done.stderr.splitlines()) == 1


def test_without_a_network_it_says_that(bare):
    (bare / "apt-get").write_text("#!/bin/sh\necho 'E: Temporary failure resolving mirror.example'\nexit 100\n")
    (bare / "apt-get").chmod(0o755)
    done = provision("true", PATH=str(bare))
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert lines[0].startswith("provision: installing Debian packages: iproute2 ")
    assert lines[-1].startswith("provision: apt-get can't install")
    assert "no network" in lines[-1]
    assert len(lines) == 2  # what it does, and why it ended
    Path(lines[-1].rpartition(" ")[2].rstrip(")")).unlink()  # all that apt-get said


def test_another_failure_of_apt_is_told_in_its_own_words(bare):
    (bare / "apt-get").write_text("#!/bin/sh\necho Reading...\necho 'E: Could not get lock' >&2\nexit 100\n")
    (bare / "apt-get").chmod(0o755)
    lines = provision("true", PATH=str(bare)).stderr.splitlines()
    assert lines[1].startswith("provision: apt-get can't install them: Could not get lock (all it said is in ")
    Path(lines[1].rpartition(" ")[2].rstrip(")")).unlink()


def test_nothing_is_left_when_apt_fails(bare):
    (bare / "apt-get").write_text("#!/bin/sh\nexit 100\n")
    (bare / "apt-get").chmod(0o755)
    policy = Path("/usr/sbin/policy-rc.d")  # made for the moment of the installation, if the machine has none
    before = policy.read_text() if policy.exists() else None
    done = provision("true", PATH=str(bare))
    assert done.returncode == 1
    Path(done.stderr.splitlines()[-1].rpartition(" ")[2].rstrip(")")).unlink()
    assert (policy.read_text() if policy.exists() else None) == before


@pytest.fixture
def ready(tmp_path):
    """A home that is provisioned already: this very environment."""
    if not STAMP.exists() or str(SCRIPT.parent.parent) not in STAMP.read_text():
        pytest.skip("this environment was not made by provision.sh from this checkout")
    home, folder = tmp_path / "home", tmp_path / "bin"
    home.mkdir()
    (home / "venv").symlink_to(sys.prefix)
    return {"NETLAB_HOME": str(home), "NETLAB_BIN": str(folder)}


def test_a_run_that_finds_everything_is_quick_and_runs_the_command(ready):
    provision(**ready)
    begun = time.monotonic()
    done = provision("netlab", "--version", **ready)
    assert time.monotonic() - begun < 2
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("netlab ")


def test_the_links_are_made_and_a_foreign_one_is_not_touched(ready, tmp_path):
    kubectl = [] if shutil.which("kubectl", path=PATH) else ["kubectl"]  # linked where the machine has none
    done = provision(**ready)
    assert "linking" in done.stderr
    assert sorted(os.listdir(ready["NETLAB_BIN"])) == sorted(["knetlab", "netlab", *kubectl])
    shutil.rmtree(ready["NETLAB_BIN"])
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "netlab").write_text("#!/bin/sh\necho ipspace\n")
    (foreign / "netlab").chmod(0o755)
    done = provision("netlab", "--version", **ready, PATH=f"{foreign}:{os.environ['PATH']}")
    assert f"provision: another netlab is at {foreign}/netlab and is left alone: call this one knetlab" in done.stderr
    assert "netlab" not in os.listdir(ready["NETLAB_BIN"])
    assert done.stdout.startswith("netlab ")  # COMMAND still means ours
