"""The sets of ipset in a network namespace, as its program saves them."""

from __future__ import annotations

import shutil
import subprocess

from netlab.errors import NetnsGone
from netlab.kernel import netns as namespaces

_PATIENCE = 10.0


def save(netns: int) -> str:
    """Return what `ipset save` prints in a namespace, "" where there is no such program or it fails."""
    program = shutil.which("ipset")
    if program is None:
        return ""
    try:
        with namespaces.within(netns):
            done = subprocess.run([program, "save"], capture_output=True, text=True, timeout=_PATIENCE, check=False)
    except (OSError, subprocess.SubprocessError, NetnsGone):
        return ""
    return done.stdout if done.returncode == 0 else ""
