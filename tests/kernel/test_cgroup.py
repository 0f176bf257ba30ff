"""Groups, in what hierarchies this machine has."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from netlab.kernel import cgroup

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0 or cgroup.version() == "none", reason="no cgroups")]


@pytest.fixture
def name(request):
    name = f"netlab-test-{os.getpid()}-{request.node.name}"
    yield name
    cgroup.remove(name)


def sleeper(group: cgroup.Group) -> subprocess.Popen:
    child = subprocess.Popen(["sh", "-c", "read _; exec sleep 100"], stdin=subprocess.PIPE)
    group.add(child.pid)
    child.stdin.write(b"\n")
    child.stdin.close()
    return child


def found(name: str) -> list[Path]:
    return list(Path("/sys/fs/cgroup").glob(f"**/{name}"))


def test_processes_are_counted_limited_and_killed(name):
    group = cgroup.create(f"{name}/node").child("container")
    assert group
    group.limit(cgroup.Limits(memory=64 << 20, pids=5, cpu_quota=50_000, cpu_shares=512))
    child = sleeper(group)
    assert group.processes() == [child.pid]
    while not Path(f"/proc/{child.pid}/cmdline").read_text().startswith("sleep"):
        pass  # what it allocated before it was moved counts elsewhere
    usage = group.usage()
    assert usage.processes == 1
    assert 0 < usage.memory < 64 << 20
    assert usage.oom_kills == 0
    group.kill()
    assert child.wait() == -9


def test_removal_waits_for_the_dead_and_is_done_twice(name):
    parent = cgroup.create(name)
    group = parent.child("busy")
    child = sleeper(group)
    assert not parent.discard("busy")
    group.kill()
    child.wait()
    cgroup.remove(name)
    assert not found(name)
    cgroup.remove(name)
    assert parent.discard("busy")


def test_groups_are_found_again(name):
    one, two = cgroup.create(f"{name}/a"), cgroup.create(f"{name}/a")
    child = sleeper(one)
    assert two.processes() == [child.pid]
    child.kill()
    child.wait()


def test_version_two_by_itself(name):
    top = next((Path(line.split()[1]) for line in Path("/proc/mounts").read_text().splitlines()
                if line.split()[2] == "cgroup2"), None)
    if top is None:
        pytest.skip("no version 2 here")
    parent = cgroup.Group({"": os.open(top, os.O_RDONLY | os.O_DIRECTORY)}).child(name)
    assert parent.unified
    group = parent.child("pod")
    child = sleeper(group)
    group.limit(cgroup.Limits(memory=1 << 20))  # a hybrid machine has no controllers there: no error, no limit
    assert group.processes() == [child.pid]
    group.kill()
    assert child.wait() == -9
    group.close()
    assert parent.discard("pod")
    os.rmdir(top / name)


def test_figures_without_groups():
    usage = cgroup.usage_in(os.stat("/proc/self/ns/pid").st_ino)
    assert usage.processes >= 1
    assert usage.memory > 1 << 20


@pytest.mark.parametrize(("shares", "weight"), [(0, 39), (2, 1), (1024, 39), (262144, 10000)])
def test_shares_become_weight(shares, weight):
    assert dict(cgroup._unified_limits(cgroup.Limits(cpu_shares=shares)))["cpu.weight"] == str(weight)
