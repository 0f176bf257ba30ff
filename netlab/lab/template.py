"""The warm interpreter: every program imported, no key, socket, thread or event loop; nodes are forked from it.

A shim that is forked from here starts in a few milliseconds and shares most of its memory with its siblings.
"""

from __future__ import annotations

import gc
import importlib
import signal
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from netlab.errors import KernelError, NetlabError
from netlab.kernel.process import set_title
from netlab.lab import control

Program = Callable[[list[str]], int]


class Lazy(Mapping[str, Program]):
    """Programs by name, each looked up in its (already imported) module when it is started."""

    def __init__(self, table: Mapping[str, str]) -> None:
        self._table = dict(table)

    def __getitem__(self, name: str) -> Program:
        module, _, function = self._table[name].partition(":")
        program: Program = getattr(importlib.import_module(module), function)
        return program

    def __iter__(self) -> Any:
        return iter(self._table)

    def __len__(self) -> int:
        return len(self._table)


def main(argv: list[str], *, warm: Callable[[], None], programs: Mapping[str, str]) -> int:
    """Import everything, then fork a node for each message on the socket whose descriptor is argv[0]; end at EOF."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C at the launcher is the launcher's business
    set_title(["netlab-template"])
    sock = socket.socket(fileno=int(argv[0]))
    sock.set_inheritable(False)
    try:
        warm()
        from netlab.runtime.node import start_node
        from netlab.runtime.nodespec import NodeSpec

        trouble = ""
    except (ImportError, SyntaxError) as error:
        trouble = f"netlab's installation is broken: {error}"
    gc.collect()
    gc.freeze()
    table = Lazy(programs)
    while (got := control.receive(sock)) is not None:
        message, fds = got
        try:
            if trouble:
                raise KernelError(trouble, hint="run vagrant/provision.sh again")
            spec = NodeSpec(netns_fd=fds[0], **_paths(message["spec"]))
            control.send(sock, {"pid": start_node(spec, table)})
        except NetlabError as error:
            control.send(sock, {"error": str(error), "hint": error.hint})
        except Exception as error:  # noqa: BLE001 - whatever it is, the holder has to hear of it
            control.send(sock, {"error": f"{type(error).__name__}: {error}"})
        finally:
            for fd in fds:
                _close(fd)
    return 0


def _paths(spec: dict[str, Any]) -> dict[str, Any]:
    store = spec.get("image_store")
    return {**spec, "state_dir": Path(spec["state_dir"]), "socket": Path(spec["socket"]),
            "kubelet_argv": tuple(spec["kubelet_argv"]), "image_store": Path(store) if store else None}


def _close(fd: int) -> None:
    socket.close(fd)
