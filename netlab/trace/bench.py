"""What a trace costs: the tracer's own time, and what packets pay while it listens and while it does not.

Two namespaces with a router between them that rewrites a Service's address; needs root, touches nothing else.
"""

from __future__ import annotations

import os
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, Final

from netlab.kernel import iptables, link, netns, nft, route, sysctl
from netlab.kernel.rtnl import Rtnl
from netlab.kernel.taps import NftTrace, PacketTap, protocol_filter
from netlab.trace.run import Request, Tap, trace

CLIENT, NODE, SERVER, SERVICE = "10.1.0.2", "10.1.0.1", "10.2.0.2", "10.96.0.10"
_ECHOES: Final = 2000
_RULES = f"""*nat
:PREROUTING ACCEPT [0:0]
:KUBE-SERVICES - [0:0]
-A PREROUTING -j KUBE-SERVICES
-A KUBE-SERVICES -d {SERVICE}/32 -p tcp -m tcp --dport 80 -j DNAT --to-destination {SERVER}:8080
-A KUBE-SERVICES -d {SERVICE}/32 -p udp -m udp --dport 53 -j DNAT --to-destination {SERVER}:5353
COMMIT
"""


def run(*, repeat: int = 3) -> Iterator[dict[str, Any]]:
    """Measure `repeat` times.

    Yields:
        Rows of {"what", "value", "unit", "note"}: medians; the ratios of one run are what to trust.
    """
    with ExitStack() as stack:
        taps = _network(stack)
        _serve(stack, taps[2].netns_fd)
        walls = []
        for _ in range(repeat):
            begin = time.perf_counter()
            traced = trace(Request("client", SERVICE, 80), taps)
            walls.append(time.perf_counter() - begin)
            if traced.outcome.status != "connected":
                raise AssertionError(traced.outcome.why)
        yield {"what": "one TCP trace through a Service", "value": round(statistics.median(walls) * 1000, 1),
               "unit": "ms", "note": "3 namespaces, without the start of the command"}
        off = [_echo(taps[0].netns_fd) for _ in range(repeat)]
        with _listening(taps):
            idle = [_echo(taps[0].netns_fd) for _ in range(repeat)]
        after = [_echo(taps[0].netns_fd) for _ in range(repeat)]
        base = statistics.median(off)
        for words, times in (("nobody traces", off), ("armed, nothing matches", idle), ("after a trace", after)):
            took = statistics.median(times)
            yield {"what": f"UDP echo through the Service, {words}", "value": round(took * 1e6, 1), "unit": "us",
                   "note": f"{took / base:.2f} of the first"}


def _listening(taps: list[Tap]) -> ExitStack:
    stack = ExitStack()
    for tap in taps:
        for source in (PacketTap(tap.netns_fd, filter=protocol_filter(socket.IPPROTO_ICMP)), NftTrace(tap.netns_fd)):
            stack.callback(source.close)
        stack.enter_context(nft.armed(tap.netns_fd, "tcp dport 9"))
    return stack


def _network(stack: ExitStack) -> list[Tap]:
    fds: list[int] = []
    for _ in range(3):
        fds.append(netns.new_netns())
        stack.callback(os.close, fds[-1])
    client, node, server = fds
    with Rtnl(node) as sock:
        for name, fd, own in (("client", client, NODE), ("server", server, "10.2.0.1")):
            link.add_veth(sock, name, "eth0", peer_netns=fd)
            link.add_address(sock, name, f"{own}/24")
    for fd, address, gateway in ((client, CLIENT, NODE), (server, SERVER, "10.2.0.1")):
        with Rtnl(fd) as sock:
            link.set_up(sock, "lo", "eth0")
            link.add_address(sock, "eth0", f"{address}/24")
            sock.send(route.new_route(route.Route("0.0.0.0/0", gateway, link.get(sock, "eth0").ifindex)))
    sysctl.write("net.ipv4.ip_forward", 1, node)
    iptables.restore(iptables.find(), _RULES, netns=node)
    return [Tap("client", client), Tap("node", node), Tap("server", server)]


def _serve(stack: ExitStack, fd: int) -> None:
    """Accept on 8080 and echo on 5353, until the stack is closed."""
    tcp = netns.socket_in(fd)
    tcp.bind((SERVER, 8080))
    tcp.listen()
    stack.callback(tcp.close)
    udp = netns.socket_in(fd, kind=socket.SOCK_DGRAM)
    udp.bind((SERVER, 5353))

    def echo() -> None:
        while True:
            data, peer = udp.recvfrom(64)
            if not data:
                return
            udp.sendto(data, peer)

    thread = threading.Thread(target=echo, daemon=True)
    thread.start()

    def stop() -> None:
        with netns.socket_in(fd, kind=socket.SOCK_DGRAM) as last:
            last.sendto(b"", (SERVER, 5353))
        thread.join()
        udp.close()

    stack.callback(stop)


def _echo(fd: int) -> float:
    """Return the median time (s) of one question and its answer."""
    now: Callable[[], float] = time.perf_counter
    times = []
    with netns.socket_in(fd, kind=socket.SOCK_DGRAM) as sock:
        sock.settimeout(2)
        sock.connect((SERVICE, 53))
        for _ in range(_ECHOES):
            begin = now()
            sock.send(b"x")
            sock.recv(16)
            times.append(now() - begin)
    return statistics.median(times)
