"""Servers that a benchmark starts and that must not outlive it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from netlab.kernel import process


def spawn(argv: Sequence[str]) -> int:
    """Start a server that ends with this process, however that ends. Returns its pid.

    setpriv(1) asks for the signal at the parent's death; without that tool, ending it is left to who started it.

    Raises:
        KernelError: it can't be executed.
    """
    setpriv = shutil.which("setpriv")
    return process.spawn(setpriv or argv[0], [*([setpriv, "--pdeathsig", "KILL"] if setpriv else []), *argv])
