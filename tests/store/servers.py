"""netlab/etcd, and the real etcd where it is installed, as processes to talk to."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
REAL = shutil.which("etcd")
CTL = shutil.which("etcdctl")


@dataclass
class Server:
    url: str
    process: subprocess.Popen[bytes]
    directory: Path
    real: bool

    def ctl(self, *argv: str, stdin: str = "", api: str = "3", timeout: float = 20) -> str:
        """Run the real etcdctl; returns what it prints, its last line of complaint behind it."""
        env = {"PATH": os.environ["PATH"], "ETCDCTL_API": api, "ETCDCTL_ENDPOINTS": self.url, "HOME": "/"}
        assert CTL is not None
        done = subprocess.run([CTL, *argv], env=env, input=stdin, capture_output=True, text=True, timeout=timeout, check=False)
        errors = [line for line in done.stderr.splitlines() if line.startswith("Error")]
        return done.stdout + "".join(f"{line}\n" for line in errors)

    def own(self, *argv: str, stdin: str = "", api: str = "3") -> str:
        """Run our own etcdctl in the same way."""
        env = {"PATH": "/nowhere", "ETCDCTL_ENDPOINTS": self.url, "PYTHONPATH": str(ROOT), "HOME": "/"}
        if api == "2":
            env["ETCDCTL_API"] = "2"
        done = subprocess.run([sys.executable, "-P", "-m", "netlab.store.etcdctl.main", *argv], env=env, input=stdin,
                              capture_output=True, text=True, timeout=20, check=False)
        return done.stdout + done.stderr

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def start(directory: Path, *, real: bool, port: int = 0, flags: tuple[str, ...] = ()) -> Server:
    port, peer = port or free_port(), free_port()
    url = f"http://127.0.0.1:{port}"
    argv = [REAL or "", "--enable-v2=true", "--listen-peer-urls", f"http://127.0.0.1:{peer}", "--initial-advertise-peer-urls",
            f"http://127.0.0.1:{peer}", "--initial-cluster", f"default=http://127.0.0.1:{peer}",
            "--experimental-watch-progress-notify-interval=200ms"] \
        if real else [sys.executable, "-P", "-m", "netlab.store.main", "--watch-progress-notify-interval=200ms"]
    directory.mkdir(parents=True, exist_ok=True)
    log = (directory / "log").open("ab")
    process = subprocess.Popen([*argv, "--data-dir", str(directory / "data"), "--listen-client-urls", url,
                                "--advertise-client-urls", url, *flags], stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                               env={**os.environ, "PYTHONPATH": str(ROOT)})
    until = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):
                return Server(url, process, directory, real)
        except (urllib.error.URLError, OSError):
            if time.monotonic() > until or process.poll() is not None:
                process.kill()
                raise AssertionError((directory / "log").read_text()[-2000:]) from None
            time.sleep(0.02)


@contextmanager
def running(directory: Path, *, real: bool, flags: tuple[str, ...] = ()) -> Iterator[Server]:
    server = start(directory, real=real, flags=flags)
    try:
        yield server
    finally:
        server.kill()
