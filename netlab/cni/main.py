"""The plugins as programs, and the files that make them executables in a node's /opt/cni/bin."""

from __future__ import annotations

import os
import sys
from typing import Final

from netlab.cni import delegate, skel

_WRAPPER: Final = """#!{python} -IS
{mark}{name}
import gc, os, sys
gc.disable()
sys.path.insert(0, {folder!r})
from netlab.cni.main import {function}
os._exit({function}([]))
"""


def bridge(argv: list[str]) -> int:  # noqa: ARG001 - all programs are called alike
    """Be the plugin bridge."""
    return skel.main(delegate.plugin("bridge"))


def host_local(argv: list[str]) -> int:  # noqa: ARG001
    """Be the plugin host-local."""
    return skel.main(delegate.plugin("host-local"))


def loopback(argv: list[str]) -> int:  # noqa: ARG001
    """Be the plugin loopback."""
    return skel.main(delegate.plugin("loopback"))


def portmap(argv: list[str]) -> int:  # noqa: ARG001
    """Be the plugin portmap."""
    return skel.main(delegate.plugin("portmap"))


def install(directory: str, *, replace: bool = False) -> list[str]:
    """Write the executables into a directory; return the names of those written.

    One that is there stays (somebody may have put another plugin in its place), unless `replace`. Each file is put in
    place whole. They run on this interpreter without its site packages, which is a third of the start-up.
    """
    folder = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    os.makedirs(directory, exist_ok=True)
    written = []
    for name in delegate.OWN:
        file = os.path.join(directory, name)
        if os.path.lexists(file) and not replace:
            continue
        text = _WRAPPER.format(python=sys.executable, mark=delegate.MARK, name=name, folder=folder,
                               function=delegate.OWN[name])
        with open(file + ".new", "w", encoding="utf-8") as opened:
            opened.write(text)
        os.chmod(file + ".new", 0o755)  # noqa: S103 - programs are for everybody
        os.rename(file + ".new", file)
        written.append(name)
    return written
