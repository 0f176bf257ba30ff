"""Labs for tests: brought up by the command line, as a user would, in folders and with a kubeconfig of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


class Netlab:
    """`netlab` in an environment of its own; `home` is a folder for all that it leaves in a user's home."""

    def __init__(self, home: Path, *, uid: int = 0) -> None:
        self.home, self.uid = home, uid
        self.run_dir = Path(f"/run/netlab-{home.name}") if uid == 0 else home / "run"
        self.kubeconfig = home / "kubeconfig"
        self.env = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(home), "LANG": "C.UTF-8",
                    "PYTHONPATH": str(ROOT), "KUBECONFIG": str(self.kubeconfig), "TERM": "xterm",
                    "NETLAB_RUN_DIR": str(self.run_dir), "NETLAB_STATE_DIR": str(home / "state")}

    def argv(self, *words: str) -> list[str]:
        """Return the command line."""
        user = [] if self.uid == 0 else ["setpriv", f"--reuid={self.uid}", f"--regid={self.uid}", "--clear-groups"]
        return [*user, sys.executable, "-P", "-m", "netlab.cli.main", *words]

    def __call__(self, *words: str, input: str | bytes = "", check: bool = True,
                 timeout: float = 100) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        raw = input.encode() if isinstance(input, str) else input
        done = subprocess.run(self.argv(*words), input=raw, capture_output=True, env=self.env, cwd="/",
                              timeout=timeout, check=False)
        text = subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(errors="replace"),
                                           done.stderr.decode(errors="replace"))
        assert not check or text.returncode == 0, f"{' '.join(words)}: {text.returncode}\n{text.stdout}{text.stderr}"
        return text

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """Start a command."""
        return subprocess.Popen(self.argv(*words), env=self.env, cwd="/", stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def kubectl(self, *words: str, **more: object) -> str:
        """Run kubectl and return what it says."""
        return self("kubectl", *words, **more).stdout  # type: ignore[arg-type]

    def record(self, lab: str) -> dict:
        """Return lab.json, {} when there is none."""
        try:
            return json.loads((self.run_dir / lab / "lab.json").read_text())
        except (OSError, ValueError):
            return {}

    def leftovers(self, lab: str) -> list[str]:
        """Return what is left of a lab on this machine, in words."""
        found = [f"name {path}" for path in Path("/run/netns").glob(f"{lab}-*")]
        found += [f"cgroup {top}/{name}" for top, names, _ in os.walk("/sys/fs/cgroup") for name in names
                  if name == f"netlab-{lab}"]
        found += [f"folder {path}" for path in (self.run_dir / lab, self.home / "state" / lab) if path.exists()]
        for path in Path("/proc").iterdir():
            if path.name.isdigit():
                try:
                    words = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                except OSError:
                    continue
                if words.startswith(("netlab-holder", "netlab-gate", "netlab-relay", "netlab-shim")) and lab in words.replace(
                        "/", " ").split():
                    found.append(f"process {path.name}: {words}")
        return found


def eventually(true: Callable[[], object], what: str, seconds: float = 30) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.05)
