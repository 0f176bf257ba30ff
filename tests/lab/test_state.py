"""Records of labs, and which processes they mean."""

from __future__ import annotations

import itertools
import os
import stat
import subprocess
import sys
from dataclasses import replace

import pytest

from netlab.errors import NotFound, UsageError
from netlab.lab import state, teardown
from netlab.lab.state import LabRecord, NodeRecord, Process


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    monkeypatch.setenv("NETLAB_RUN_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("NETLAB_STATE_DIR", str(tmp_path / "state"))
    return tmp_path


NOBODY = Process()


def record(name: str, *, holder: Process = NOBODY, **more) -> LabRecord:
    made = LabRecord(name, "0", "services", rootless=False, created=more.pop("created", 1.0), holder=holder,
                     nodes=(NodeRecord("worker1", "worker", ("172.18.0.3",), "/x"),), links=("a", "b"), ready=True,
                     **more)
    state.make_private(made.run_dir)
    state.save(made)
    return made


def me() -> Process:
    return state.process(os.getpid())


def test_a_record_comes_back_as_it_was():
    saved = record("one", holder=me(), port=1234, kubeconfig="/k")
    assert state.load("one") == saved
    assert stat.S_IMODE((saved.run_dir / "lab.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(saved.run_dir.stat().st_mode) == 0o700


def test_a_pid_that_was_given_to_another_process_is_not_ours():
    assert me().alive()
    assert not replace(me(), started=me().started + 1).alive()


def test_a_process_that_has_ended_but_was_not_reaped_is_dead():
    child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    known = state.process(child.pid)
    assert known.alive()
    child.stdin.close()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not known.alive()
    child.wait()


def test_the_only_lab_needs_no_name():
    assert record("one", holder=me()) == state.find()
    record("dead")
    assert state.find().name == "one"
    record("two", holder=me(), created=2.0)
    with pytest.raises(NotFound, match="several labs run: one, two"):
        state.find()
    assert state.find("two").name == "two"


@pytest.mark.parametrize(("name", "words"), [("none", 'no lab is called "none"'), ("dead", 'lab "dead" has died')])
def test_a_lab_that_does_not_run_is_told(name, words):
    record("dead")
    with pytest.raises(NotFound, match=words):
        state.find(name)


@pytest.mark.parametrize("name", ["", "Upper", "-a", "a-", "a" * 25, "a/b", "..", "a b", "ä"])
def test_names_that_cannot_be(name):
    with pytest.raises(UsageError):
        state.check_name(name)


def test_somebody_elses_folder_is_not_used(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(UsageError, match="is not a folder of this user's"):
        state.make_private(tmp_path / "link")


def test_a_half_written_record_is_no_lab():
    (record("one").run_dir / "lab.json").write_text('{"name": "one"')
    assert state.load("one") is None
    assert state.all_labs() == []


def test_files_that_take_their_time_to_go_are_gone_all_the_same(monkeypatch):
    made = record("one")
    made.state_dir.mkdir(parents=True)
    clock = itertools.count(step=10)  # each look at it finds the time for a busy mount over
    monkeypatch.setattr(teardown.time, "monotonic", lambda: next(clock))
    teardown.remove_files(made)
    assert not made.run_dir.exists()
    assert not made.state_dir.exists()
