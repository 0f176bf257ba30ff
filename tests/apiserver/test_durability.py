"""What is acknowledged stays: through kill -9, on a full disk; and damage is said."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.apiserver.conftest import ROOT, Answer, Client, Pki, Server, config_map
from tests.apiserver.test_replay import Replay, pieces

PATH = "/api/v1/namespaces/default/configmaps"
ROUND = 100_000
"""More than can be written before a kill."""


def _write(client: Client, number: int, first: int, acknowledged: dict[str, str], stop: threading.Event) -> None:
    """Create and change objects until the server is gone; note what was acknowledged. What is written only grows."""
    for at in range(first, first + ROUND):
        if stop.is_set():
            return
        name = f"w{number}-{at % 5}"
        try:
            answer = client.put(f"{PATH}/{name}", config_map(name, at=str(at))) if name in acknowledged \
                else client.post(PATH, config_map(name, at=str(at)))
        except OSError:
            return
        if answer.status in (200, 201):
            acknowledged[name] = str(at)


@pytest.mark.parametrize("kills", [3, pytest.param(100, marks=[pytest.mark.soak, pytest.mark.timeout(1800)])])
@pytest.mark.parametrize("synchronous", ["normal", "full"])
def test_an_acknowledged_request_survives_kill_9(servers: Callable[..., Server], kills: int, synchronous: str):
    server, dice = servers(f"--store-synchronous={synchronous}"), random.Random(3)
    acknowledged: dict[str, str] = {}
    for turn in range(kills):
        before = server.client().get(PATH).body
        stop = threading.Event()
        notes: list[dict[str, str]] = [{name: at for name, at in acknowledged.items() if name.startswith(f"w{n}-")} for n in range(3)]
        threads = [threading.Thread(target=_write, args=(server.client(), n, turn * ROUND, notes[n], stop)) for n in range(3)]
        for thread in threads:
            thread.start()
        stop.wait(dice.uniform(0.05, 0.4))
        server.stop(signal.SIGKILL)
        stop.set()
        for thread in threads:
            thread.join(30)
        for note in notes:
            acknowledged |= note
        server.start()
        body = server.client().get(PATH).body
        there = {item["metadata"]["name"]: item["data"]["at"] for item in json.loads(body)["items"] if "at" in item.get("data", {})}
        for name, at in acknowledged.items():  # one write more than was acknowledged may have been done
            assert int(there[name]) >= int(at), (name, at, there[name])
        acknowledged = {name: there[name] for name in acknowledged}
        replay = Replay()
        replay.state = {json.loads(piece)["metadata"]["name"]: piece for piece in pieces(before)}
        replay.revision = int(json.loads(before)["metadata"]["resourceVersion"])
        newest = max((int(json.loads(piece)["metadata"]["resourceVersion"]) for piece in pieces(body)), default=0)
        with server.client().watch(f"{PATH}?watch=1&resourceVersion={replay.revision}") as watching:
            while replay.revision < newest:  # what was written before the kill, told by who did not see it
                replay.take(watching.reply.readline())
        assert not replay.problems
        assert sorted(replay.state.values()) == sorted(pieces(body))


class SmallDisk(Server):
    """An API server whose data lie on a tmpfs of 3 MiB in a mount namespace of its own."""

    def start(self) -> None:
        real, data = sys.executable, self.dir / "data"
        data.mkdir(exist_ok=True)
        wrapper = self.dir / "python"
        wrapper.write_text(f"#!/bin/sh\nmount -t tmpfs -o size=3m none {data} && head -c 1000000 /dev/zero >{data}/ballast\n"
                           f'exec {real} "$@"\n')
        wrapper.chmod(0o755)
        launcher = self.dir / "unshare"
        launcher.write_text(f'#!/bin/sh\nexec unshare --mount {wrapper} "$@"\n')
        launcher.chmod(0o755)
        sys.executable = str(launcher)
        try:
            super().start()
        finally:
            sys.executable = real

    def inside(self, name: str) -> Path:
        assert self.process is not None
        return Path(f"/proc/{self.process.pid}/root{self.dir}/data/{name}")


@pytest.mark.root
def test_a_full_disk_refuses_writes_reads_go_on_and_nothing_is_lost(pki: Pki, tmp_path: Path):
    server = SmallDisk(pki, tmp_path / "small", f"--store-listen-client-urls=http://127.0.0.1:{_free()}")
    try:
        client, kept, refused = server.client(), [], Answer(0, b"")
        first = client.post(PATH, config_map("first", x="1")).json
        for at in range(400):
            refused = client.post(PATH, config_map(f"c{at}", x=os.urandom(9000).hex()))
            if refused.status != 201:
                break
            kept.append(f"c{at}")
        assert refused.status == 507, refused.body
        assert refused.json["kind"] == "Status"
        assert "space exceeded" in refused.json["message"]
        assert len(kept) > 20
        assert client.get(f"{PATH}/c0").status == 200
        assert client.put(f"{PATH}/first", first | {"data": {"x": "y" * 300_000}}).status == 507
        assert client.get(f"{PATH}/first").json == first
        names = {item["metadata"]["name"] for item in client.get(PATH).json["items"]}
        assert names >= {"first", *kept}
        assert f"c{len(kept)}" not in names
        assert "[-]etcd failed" in client.get("/readyz?verbose").body.decode()
        assert client.get("/livez").status == 200
        server.inside("ballast").unlink()
        assert client.post(PATH, config_map("after", x="1")).status == 201
        assert client.get("/readyz").status == 200
        saved = tmp_path / "saved"
        shutil.copytree(server.inside("."), saved)  # what a crash now would leave
    finally:
        server.stop(signal.SIGKILL)
    again = Server(pki, tmp_path / "again", f"--data-dir={saved}")
    try:
        names = {item["metadata"]["name"] for item in again.client().get(PATH).json["items"]}
        assert names >= {"first", "after", *kept}
    finally:
        again.stop(signal.SIGKILL)


def _free() -> int:
    from tests.store.servers import free_port

    return free_port()


def test_a_damaged_database_is_refused_with_the_way_out(servers: Callable[..., Server], pki: Pki):
    server = servers()
    for at in range(30):
        server.client().post(PATH, config_map(f"c{at}", x="y" * 2000))
    assert server.stop() == 0
    file = server.dir / "data" / "store.db"
    blob = bytearray(file.read_bytes())
    blob[len(blob) // 2:len(blob) // 2 + 3000] = os.urandom(3000)
    file.write_bytes(blob)
    server.log.write_text("")
    with pytest.raises(AssertionError, match="did not start"):
        server.start()
    said = server.log.read_text()
    assert "Traceback" not in said
    command = re.search(r"`python -m (netlab\.store\.salvage) (\S+)`", said)
    assert command, said
    done = subprocess.run([sys.executable, "-P", "-m", command[1], command[2]], env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True,
                          text=True, timeout=30, check=False)
    assert "the damaged file is" in done.stdout, done.stderr
    server.start()
    assert server.client().get(PATH).status == 200
