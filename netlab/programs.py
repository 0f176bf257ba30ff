"""The programs of this package by the names that images and command lines use; the one place that knows them all.

A program is a function `main(argv) -> exit code` whose argv lacks the program's name. A node's shim forks one from the
warm interpreter when a container of a built-in image runs it; `netlab kube-proxy …` and
`python -m netlab.programs kube-proxy …` run the same function in a process of its own.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from typing import TypeAlias

from netlab.errors import NetlabError, NotFound
from netlab.imports import uncollected, without_system_roots

Program: TypeAlias = Callable[[list[str]], int]

PROGRAMS: dict[str, str] = {
    "kube-apiserver": "netlab.apiserver.main:main",
    "kube-controller-manager": "netlab.controllers.main:main",
    "kube-scheduler": "netlab.scheduler.main:main",
    "kubelet": "netlab.kubelet.main:main",
    "kube-proxy": "netlab.proxy.main:main",
    "netd": "netlab.netd.main:main",
    "coredns": "netlab.dns.main:main",
    "etcd": "netlab.store.main:main",
    "agnhost": "netlab.agnhost.main:main",
    "bridge": "netlab.cni.main:bridge",
    "host-local": "netlab.cni.main:host_local",
    "loopback": "netlab.cni.main:loopback",
}
"""Program name → "module:function"."""

LAB_PROGRAMS: dict[str, str] = {
    "holder": "netlab.lab.pid1:main",
    "gate": "netlab.lab.gate:main",
    "relay": "netlab.lab.relay:main",
    "template": "netlab.programs:template",
}
"""The processes that hold a lab together; nothing in a Pod may run them."""


def load(name: str) -> Program:
    """Import a program and return its main function.

    Raises:
        NotFound: there is no program of that name.
    """
    where = PROGRAMS.get(name) or LAB_PROGRAMS.get(name)
    if where is None:
        raise NotFound(f'no program is called "{name}"', hint=f"there are: {', '.join(sorted(PROGRAMS))}")
    module, _, function = where.partition(":")
    with uncollected(), without_system_roots():
        program: Program = getattr(importlib.import_module(module), function)
    return program


_LATE = ("cryptography.x509", "cryptography.hazmat.primitives.serialization", "cryptography.hazmat.primitives.hashes",
         "cryptography.hazmat.primitives.asymmetric.ec", "encodings.idna", "encodings.ascii",
         "netlab.agnhost.http", "netlab.agnhost.sockets", "netlab.agnhost.dial", "netlab.cni.bridge",
         "netlab.cni.host_local", "netlab.cni.nat", "netlab.cni.ranges", "netlab.kernel.lookup", "netlab.kernel.podnet")
"""What programs import only when they come to use it, which in a lab every one of them does: imported once, shared."""


def warm() -> None:
    """Import every program, so that a fork of this process starts any of them at once."""
    with uncollected(), without_system_roots():
        for where in PROGRAMS.values():
            importlib.import_module(where.partition(":")[0])
        for module in _LATE:
            importlib.import_module(module)
        from netlab.apiserver import version

        version.built()


def template(argv: list[str]) -> int:
    """Run the warm interpreter that nodes are forked from."""
    from netlab.lab import template as lab_template

    return lab_template.main(argv, warm=warm, programs=PROGRAMS)


def main(argv: list[str]) -> int:
    """Run one program: `NAME ARGS…`. Returns its exit code."""
    if not argv or argv[0] in ("-h", "--help"):
        sys.stdout.write(f"Usage: python -m netlab.programs NAME [flags]\n\nNAME is one of: {', '.join(PROGRAMS)}\n")
        return 0 if argv else 2
    try:
        return load(argv[0])(argv[1:])
    except NetlabError as error:
        sys.stderr.write(f"error: {error}\n" + (f"hint: {error.hint}\n" if error.hint else ""))
        return 1


if __name__ == "__main__":
    # A lab's own processes leave nothing to Python's shutdown: their children and descriptors die with the process.
    code = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    if sys.argv[1:2] and sys.argv[1] in LAB_PROGRAMS:
        os._exit(code)
    sys.exit(code)
