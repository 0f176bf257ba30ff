"""Listening on a port in both address families, as Go programs do."""

from __future__ import annotations

import socket
from collections.abc import Sequence

from netlab.errors import KernelError


def listen(port: int, kind: int = socket.SOCK_STREAM, addresses: Sequence[str] = ()) -> list[socket.socket]:
    """Return listening sockets on a port: on the given addresses, or on every IPv4 and IPv6 one of the machine.

    One socket per family, so that an IPv4 client's address is not shown as an IPv6 one.

    Raises:
        KernelError: the port is taken, or needs a right we lack.
    """
    opened: list[socket.socket] = []
    for address in addresses or ("0.0.0.0", "::"):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            one = socket.socket(family, kind)
        except OSError:
            continue  # a machine without this family
        try:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            one.bind((address, port))
            if kind == socket.SOCK_STREAM:
                one.listen(1024)
            one.setblocking(False)
        except OSError as error:
            one.close()
            if address == "::" and opened:
                continue  # IPv6 is switched off here
            for other in opened:
                other.close()
            raise KernelError(f"listen on {join(address, port)}: {error.strerror}", errno=error.errno or 0) from None
        opened.append(one)
    return opened


def join(host: str, port: int) -> str:
    """Return `10.0.0.1:80` or `[fd00::1]:80`."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def split(text: str) -> tuple[str, int]:
    """Return the host and port of `host:port` or `[host]:port`.

    Raises:
        ValueError: there is no port, or it is no number.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit():
        raise ValueError(f"address {text}: missing port in address")
    return host.strip("[]"), int(port)
