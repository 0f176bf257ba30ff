"""Network namespaces by file descriptor: make one, step into one, open a socket in one.

Nothing here mounts a name: a descriptor is all that keeps a namespace alive, so whoever dies takes it along
(namespaces(7), network_namespaces(7)).
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from netlab.errors import KernelError, NetnsGone
from netlab.kernel import libc

OWN = "/proc/thread-self/ns/net"  # /proc/self is the main thread's, and setns moves one thread only


def open_netns(path: str | os.PathLike[str]) -> int:
    """Open a namespace by path (/run/netns/x, /proc/PID/ns/net, /proc/PID/fd/N). The caller closes the descriptor.

    Raises:
        NetnsGone: nothing is there.
    """
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise NetnsGone(f"no network namespace at {os.fspath(path)}: {error.strerror}",
                        errno=error.errno or 0) from None


def new_netns() -> int:
    """Make a network namespace with its loopback down and return its descriptor.

    A short-lived thread unshares, so that the caller's own threads stay where they are (0.34 ms).
    """
    import threading  # not at the top: a CNI plugin's start-up is most of its cost
    made: list[int | OSError] = []

    def body() -> None:
        try:
            libc.unshare(libc.CLONE_NEWNET)
            made.append(os.open(OWN, os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:
            made.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    result = made[0]
    if isinstance(result, OSError):
        raise KernelError(f"cannot make a network namespace: {result}", errno=result.errno or 0)
    return result


@contextmanager
def inside(netns: int | str | os.PathLike[str]) -> Iterator[None]:
    """Run the body in another network namespace. Only this thread moves; threads it starts inherit.

    Never across an await: the event loop's other tasks would run in there too.

    Raises:
        NetnsGone: nothing is behind the path or the descriptor; its Pod or node was torn down.
    """
    away = netns if isinstance(netns, int) else open_netns(netns)
    try:
        home = os.open(OWN, os.O_RDONLY | os.O_CLOEXEC)
        try:
            try:
                libc.setns(away, libc.CLONE_NEWNET)
            except OSError as error:
                raise NetnsGone(f"cannot enter the network namespace {netns}: {error.strerror}",
                                errno=error.errno or 0) from None
            try:
                yield
            finally:
                libc.setns(home, libc.CLONE_NEWNET)  # must raise if it fails: never run on in the wrong network
        finally:
            os.close(home)
    finally:
        if not isinstance(netns, int):
            os.close(away)


@contextmanager
def within(netns: int | str | os.PathLike[str] | None) -> Iterator[None]:
    """Do the same, or stay where we are for None, which needs no right to enter anything.

    Raises:
        NetnsGone: as `inside`.
    """
    if netns is None:
        yield
        return
    with inside(netns):
        yield


def socket_in(netns: int | str | os.PathLike[str], family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM,
              proto: int = 0) -> socket.socket:
    """Open a socket that belongs to another namespace for good; it can be used from anywhere afterwards."""
    with inside(netns):
        return socket.socket(family, kind | socket.SOCK_CLOEXEC, proto)


def loopback_up() -> None:
    """Set the loopback of this thread's namespace up; its addresses come with that (netdevice(7), SIOCSIFFLAGS)."""
    import fcntl
    import struct

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        request = struct.pack("16sH14x", b"lo", 0)
        flags = struct.unpack_from("16sH", fcntl.ioctl(sock, 0x8913, request))[1]
        fcntl.ioctl(sock, 0x8914, struct.pack("16sH14x", b"lo", flags | 1))  # IFF_UP


def inode(netns: int | str | os.PathLike[str]) -> int:
    """Return the inode number that identifies a namespace on this machine, as `ls -l /proc/PID/ns` shows it."""
    return os.stat(netns).st_ino
