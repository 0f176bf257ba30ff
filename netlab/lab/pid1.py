"""The first breath of a lab: start the template, whose imports are what everybody waits for, then become the holder."""

from __future__ import annotations

import os
import socket
import sys


def spawn(program: list[str], *fds: int) -> None:
    """Start a program of ours in a fresh interpreter, with these descriptors as its last arguments."""
    for fd in fds:
        os.set_inheritable(fd, True)
    argv = [sys.executable, "-s", "-P", "-m", "netlab.programs", *program, *(str(fd) for fd in fds)]
    os.posix_spawn(sys.executable, argv, dict(os.environ))
    for fd in fds:
        os.set_inheritable(fd, False)


def spawn_template() -> socket.socket:
    """Start a template and return the socket to it; it answers once it is warm."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    with theirs:
        spawn(["template"], theirs.fileno())
    return ours


def main(argv: list[str]) -> int:
    """Run as pid 1 of a lab: argv is the lab's name and the descriptor of the leash."""
    template = spawn_template()
    from netlab.lab import holder

    return holder.main(argv, template)
