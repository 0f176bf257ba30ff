"""What a packet pays: new connections per second through the Service that comes last."""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import suppress

from netlab.kernel import link, netns, route
from netlab.kernel.rtnl import Rtnl

CLIENT = "10.200.0.1"
"""Where connections come from: an address of the Pods' network, so that nothing is masqueraded."""


def rate(where: int, address: str, endpoints: Sequence[str], *, port: int = 80, target: int = 8080,
         connections: int = 2000) -> float:
    """Return how many TCP connections a second one client makes, each after the other, server on the same machine.

    Args:
        where: a namespace that has the rules and else nothing; it gets the addresses.
        address: the Service's.
        endpoints: addresses that the Service leads to.
        port: the Service's port.
        target: the endpoints' port.
        connections: how many are made.
    """
    with Rtnl(where) as sock:
        link.set_up(sock, "lo")
        number = link.get(sock, "lo").ifindex
        for ip in (CLIENT, *endpoints):
            link.add_address(sock, "lo", f"{ip}/32")
        sock.send(route.new_route(route.Route(f"{address}/32", "", number)))
    servers = [netns.socket_in(where) for _ in endpoints]
    stop = threading.Event()
    thread = threading.Thread(target=_serve, args=(servers, stop), daemon=True)
    try:
        for server, ip in zip(servers, endpoints, strict=True):
            server.bind((ip, target))
            server.listen(512)
        thread.start()
        began = time.perf_counter()
        for _ in range(connections):
            with netns.socket_in(where) as client:
                client.settimeout(5)
                client.bind((CLIENT, 0))
                client.connect((address, port))
        return connections / (time.perf_counter() - began)
    finally:
        stop.set()
        if thread.is_alive():
            thread.join(timeout=5)
        for server in servers:
            server.close()


def _serve(servers: Sequence[socket.socket], stop: threading.Event) -> None:
    with selectors.DefaultSelector() as selector:
        for server in servers:
            server.setblocking(False)
            selector.register(server, selectors.EVENT_READ)
        while not stop.is_set():
            for key, _ in selector.select(timeout=0.1):
                with suppress(OSError):
                    while True:
                        key.fileobj.accept()[0].close()  # type: ignore[union-attr]
