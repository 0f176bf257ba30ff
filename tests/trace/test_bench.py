from __future__ import annotations

import json
import os
import subprocess
import sys
import threading

import pytest

from netlab.trace import bench

# A process of its own: the bench forks one that floods, which takes a process without threads.
PROGRAM = """
import json
from netlab.trace import bench
bench._ECHOES, bench._RATES = 20, (200,)
print(json.dumps(list(bench.run(repeat=1))))
"""


@pytest.mark.root
def test_the_bench_traces_a_service_and_times_echoes() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert [row["unit"] for row in rows if row["unit"] != "ms"] == ["1/s", "us", "us", "us"]
    assert rows[0]["what"].startswith("one TCP trace through a Service")
    assert all(row["value"] > 0 for row in rows)


def test_threads_share_a_core_and_one_that_ends_just_then_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Thread(target=int)
    ended.start()
    ended.join()
    listed = [*os.listdir("/proc/self/task"), str(ended.native_id)]
    monkeypatch.setattr(bench.os, "listdir", lambda _: listed)
    before = os.sched_getaffinity(0)
    with bench._one_core():
        assert os.sched_getaffinity(0) == {min(before)}
    assert os.sched_getaffinity(0) == before
