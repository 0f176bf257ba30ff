"""The API servers that `netlab bench api` measures: netlab's on each of its stores, and upstream's on an etcd."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import ssl
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from netlab.client import tls
from netlab.errors import TemporaryError
from netlab.lab import bound, load, usage
from netlab.lab.load import Target
from netlab.lab.nodefiles import make_keys

NAMES = {"full": "own store, synchronous FULL", "normal": "own store, synchronous NORMAL", "etcd": "etcd",
         "upstream": "kube-apiserver and etcd"}
READY_SECONDS = 60.0
_PROGRAMS = {"etcd": ("etcd",), "upstream": ("etcd", "kube-apiserver")}
_NOWHERE = "192.0.2.1"  # a server on a loopback address has to advertise another one


def missing(mode: str) -> list[str]:
    """Return the programs that measuring this needs and that are not installed."""
    return [program for program in _PROGRAMS.get(mode, ()) if shutil.which(program) is None]


class Server:
    """One server of those that are measured, with a folder and keys of its own. `mode` is a key of NAMES."""

    def __init__(self, mode: str, folder: Path) -> None:
        self.mode, self.folder = mode, folder
        self.pid = self.etcd_pid = 0
        keys = make_keys(now=time.time())
        server = keys.ca.server("kube-apiserver", names=["127.0.0.1"])
        files = {"ca.crt": keys.ca.pair.certificate, "tls.crt": server.certificate, "tls.key": server.key,
                 "sa.key": keys.service_accounts.private, "sa.pub": keys.service_accounts.public}
        for name, content in files.items():
            (folder / name).write_bytes(content)
        self._keys = keys
        self._etcd = ""

    @property
    def name(self) -> str:
        """Return what the figures call it."""
        return NAMES[self.mode]

    def context(self, protocol: str = "http/1.1") -> ssl.SSLContext:
        """Return a client's TLS settings: the administrator's."""
        made = tls.client_context(ca=self._keys.ca.pair.certificate, certificate=self._keys.admin.certificate,
                                  key=self._keys.admin.key, insecure=False)
        made.set_alpn_protocols([protocol])
        return made

    def cpu(self) -> float:
        """Return the CPU seconds that the API server and its etcd, if it has one, have spent so far."""
        return sum(usage.cpu(pid) for pid in (self.pid, self.etcd_pid) if pid)

    def memory(self) -> float:
        """Return their proportional set size in MiB."""
        return sum(usage.pss(pid) for pid in (self.pid, self.etcd_pid) if pid) / 2**20

    @contextlib.contextmanager
    def etcd(self) -> Iterator[None]:
        """Run a real etcd, where the API server needs one."""
        if "etcd" not in _PROGRAMS.get(self.mode, ()):
            yield
            return
        client, peer = f"http://127.0.0.1:{_port()}", f"http://127.0.0.1:{_port()}"
        self._etcd = client
        self.etcd_pid = self._spawn("etcd", [
            "etcd", f"--data-dir={self.folder}/etcd", f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}", f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}", f"--initial-cluster=default={peer}"])
        try:
            yield
        finally:
            _end(self.etcd_pid)
            self.etcd_pid = 0

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[tuple[Target, float]]:
        """Run the API server; yields how to reach it and the seconds until it said that it is ready."""
        port, folder = _port(), self.folder
        begun = time.perf_counter()
        self.pid = self._spawn("kube-apiserver", [
            *self._command(), "--bind-address=127.0.0.1",
            f"--secure-port={port}", f"--client-ca-file={folder}/ca.crt", f"--tls-cert-file={folder}/tls.crt",
            f"--tls-private-key-file={folder}/tls.key", f"--service-account-key-file={folder}/sa.pub",
            f"--service-account-signing-key-file={folder}/sa.key", "--authorization-mode=Node,RBAC",
            "--disable-admission-plugins=ServiceAccount"])
        target = Target("127.0.0.1", port, self.context())
        try:
            await self._ready(target, begun)
            yield target, time.perf_counter() - begun
        finally:
            _end(self.pid)
            self.pid = 0

    def _command(self) -> list[str]:
        if self.mode == "upstream":
            return ["kube-apiserver", f"--etcd-servers={self._etcd}", f"--cert-dir={self.folder}",
                    "--service-account-issuer=https://kubernetes.default.svc", "--endpoint-reconciler-type=none",
                    f"--advertise-address={_NOWHERE}", "--service-cluster-ip-range=10.96.0.0/16"]
        code = ("import sys; sys.path.insert(0, sys.argv.pop(1)); from netlab.programs import main; "
                "sys.exit(main(sys.argv[1:]))")
        keep = [f"--etcd-servers={self._etcd}"] if self._etcd else [
            f"--data-dir={self.folder / 'data'}", f"--store-synchronous={self.mode}"]
        return [sys.executable, "-I", "-c", code, str(Path(__file__).resolve().parents[2]), "kube-apiserver", *keep]

    def _spawn(self, name: str, argv: list[str]) -> int:
        """Start a program whose words go to a file."""
        argv[0] = shutil.which(argv[0]) or argv[0]
        return bound.spawn(["/bin/sh", "-c", f'exec "$@" >>"{self.folder}/{name}.log" 2>&1', name, *argv])

    async def _ready(self, target: Target, begun: float) -> None:
        while True:
            with contextlib.suppress(OSError):
                if not (await load.run_one(target, target.request("GET", "/readyz"))).failed:
                    return
            if usage.gone(self.pid) or time.perf_counter() - begun > READY_SECONDS:
                said = (self.folder / "kube-apiserver.log").read_text(errors="replace").strip().splitlines()
                raise TemporaryError(f"{self.name}: not ready after {time.perf_counter() - begun:.0f} s: "
                                     f"{said[-1] if said else 'it said nothing'}")
            await asyncio.sleep(0.005)


def _end(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, ChildProcessError):
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)


def _port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
