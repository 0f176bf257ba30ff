"""Upstream's apiextensions-apiserver beside ours: one program of v1.36, which asks a server of ours who may do what.

It is looked for on PATH, with an etcd. Debian has its source, as golang-k8s-apiextensions-apiserver-dev (`go build` of
k8s.io/apiextensions-apiserver, a minute).
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.apiserver.conftest import Client, Server

PROGRAM = "apiextensions-apiserver"


@contextmanager
def running(core: Server, folder: Path, *, store: str) -> Iterator[Client]:
    """Run it on a store, "etcd" or "netlab" (our own), and yield its client."""
    missing = [name for name in (PROGRAM, *(["etcd"] if store == "etcd" else [])) if shutil.which(name) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not on PATH")
    client, peer, port = _port(), _port(), _port()
    kubeconfig = core.kubeconfig(folder / "kubeconfig")
    keeper = _start(folder / "etcd.log", *(["etcd"] if store == "etcd" else [sys.executable, "-P", "-m", "netlab.store.main"]),
                    f"--data-dir={folder}/etcd", f"--listen-client-urls=http://127.0.0.1:{client}",
                    f"--advertise-client-urls=http://127.0.0.1:{client}", f"--listen-peer-urls=http://127.0.0.1:{peer}",
                    f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}", f"--initial-cluster=default=http://127.0.0.1:{peer}")
    server = _start(folder / "server.log", PROGRAM, f"--etcd-servers=http://127.0.0.1:{client}", f"--secure-port={port}",
                    "--bind-address=127.0.0.1", f"--tls-cert-file={core.pki.path('apiserver.crt')}",
                    f"--tls-private-key-file={core.pki.path('apiserver.key')}", f"--kubeconfig={kubeconfig}",
                    f"--authentication-kubeconfig={kubeconfig}", f"--authorization-kubeconfig={kubeconfig}",
                    f"--client-ca-file={core.pki.path('ca.crt')}")
    try:
        yield _ready(core, folder, port)
    finally:
        for process in (server, keeper):
            process.terminate()
            process.wait(20)


def _start(log: Path, *argv: str) -> subprocess.Popen[bytes]:
    root = str(Path(__file__).resolve().parents[3])
    with log.open("wb") as file:
        return subprocess.Popen(argv, stdout=file, stderr=file, env={**os.environ, "PYTHONPATH": root})


def _ready(core: Server, folder: Path, port: int) -> Client:
    """Return a client of it."""
    end = time.monotonic() + 60
    while True:
        try:
            client = Client(port, core.pki)
            if client.get("/readyz").status == 200:
                return client
        except OSError:
            pass
        assert time.monotonic() < end, (folder / "server.log").read_text()[-2000:]
        time.sleep(0.2)


def _port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
