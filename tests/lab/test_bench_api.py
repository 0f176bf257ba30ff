"""netlab bench api, small: it yields every figure, and no request of it fails."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from netlab.errors import UsageError
from netlab.lab import bench_api
from netlab.lab.bench_api import Sizes

ROOT = str(Path(__file__).resolve().parents[2])


def test_every_figure_is_there():
    rows = list(bench_api.run(repeat=1, modes=("normal", "full"), sizes=Sizes(8, 20, 2, 5, (20, 40), 5, rate=50, seconds=1)))
    what = [(row["what"], row.get("server")) for row in rows]
    for name in ("time to ready", "create, 1 client", "create, 8 clients, no two Pods alike", "get, 8 clients",
                 "update, 64 clients", "merge patch, 1 client", "list of 40 Pods", "POST to watch event",
                 "5 watchers, 50 writes/s wanted", "memory"):
        assert what.index((name, "normal")) + 1 == what.index((name, "full"))  # side by side, to be compared
    assert all(row["value"] > 0 for row in rows)
    assert not [row for row in rows if "FAILED" in row["note"]]


def test_what_is_not_installed_is_left_out_by_name(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "/nowhere")
    rows = list(bench_api.run(repeat=1, modes=("upstream",), sizes=Sizes(watchers=2)))
    assert rows[0]["note"] == "kube-apiserver and etcd: etcd and kube-apiserver not on PATH"
    with pytest.raises(UsageError, match="no server 'fast': choose full"):
        list(bench_api.run(modes=("fast",)))


def test_its_servers_end_with_it():
    """Also by kill -9: the kernel ends them."""
    code = ("import asyncio, time; from pathlib import Path; from netlab.lab.bench_servers import Server; import tempfile\n"
            "async def go():\n"
            "    bench = Server('normal', Path(tempfile.mkdtemp()))\n"
            "    async with bench.running(): print(bench.pid, bench.folder, flush=True); time.sleep(60)\n"
            "asyncio.run(go())")
    bench = subprocess.Popen([sys.executable, "-P", "-c", code], stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": ROOT})
    assert bench.stdout is not None
    pid, folder = bench.stdout.readline().split()
    server = os.pidfd_open(int(pid))
    bench.send_signal(signal.SIGKILL)
    bench.wait(10)
    assert select.select([server], [], [], 10)[0]
    os.close(server)
    shutil.rmtree(folder)
