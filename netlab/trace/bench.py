"""What a trace costs: the tracer's own time, and what packets pay while it listens and while it does not.

Two namespaces with two routers between them, the first of which rewrites a Service's address; needs root, touches
nothing else.
"""

from __future__ import annotations

import os
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, Final

from netlab.kernel import iptables, link, netns, nft, process, route, sysctl
from netlab.kernel.rtnl import Rtnl
from netlab.kernel.taps import NftTrace, PacketTap, protocol_filter
from netlab.trace.listen import Ears, Tap
from netlab.trace.run import Request, trace

CLIENT, SERVER, SERVICE = "10.1.0.2", "10.2.0.2", "10.96.0.10"
_ECHOES: Final = 2000
_RATES: Final = (500, 1000, 2000, 4000, 8000, 16000, 32000)
"""Datagrams a second, one after the other until events are lost."""

_RULES = f"""*nat
:PREROUTING ACCEPT [0:0]
:KUBE-SERVICES - [0:0]
-A PREROUTING -j KUBE-SERVICES
-A KUBE-SERVICES -d {SERVICE}/32 -p tcp -m tcp --dport 80 -j DNAT --to-destination {SERVER}:8080
-A KUBE-SERVICES -d {SERVICE}/32 -p udp -m udp --dport 53 -j DNAT --to-destination {SERVER}:5353
-A KUBE-SERVICES -d {SERVICE}/32 -p udp -m udp --dport 54 -j DNAT --to-destination {SERVER}:5354
COMMIT
"""


def run(*, repeat: int = 3) -> Iterator[dict[str, Any]]:
    """Measure `repeat` times.

    Yields:
        Rows of {"what", "value", "unit", "note"}: medians; the ratios of one run are what to trust.
    """
    with ExitStack() as stack:
        taps = _network(stack)
        flood = Flood(taps[0].netns_fd, SERVICE, 54)  # a process of its own, and before there are threads
        stack.callback(flood.close)
        _serve(stack, taps[-1].netns_fd)
        for words, asked in (("with drop reasons (BPF)", None), ("without BPF", False)):
            walls = []
            for _ in range(repeat):
                begin = time.perf_counter()
                traced = trace(Request("pod/client", SERVICE, 80, bpf=asked), taps)
                walls.append(time.perf_counter() - begin)
                if traced.outcome.status != "connected":
                    raise AssertionError(traced.outcome.why)
            if asked is None and not traced.bpf:
                continue
            note = f"{len(taps)} namespaces, 2 nodes; without the start of the command"
            yield {"what": f"one TCP trace through a Service, {words}",
                   "value": round(statistics.median(walls) * 1000, 1), "unit": "ms", "note": note}
        yield from _events(taps, flood)
        off, idle, after = [], [], []
        with _one_core():
            for _ in range(repeat):
                off.append(_echo(taps[0].netns_fd))
                with _listening(taps):
                    idle.append(_echo(taps[0].netns_fd))
                after.append(_echo(taps[0].netns_fd))
        base = min(off)
        for words, times in (("nobody traces", off), ("armed, nothing matches", idle), ("after a trace", after)):
            took = min(times)
            yield {"what": f"UDP echo through the Service, {words}", "value": round(took * 1e6, 1), "unit": "us",
                   "note": f"{took / base:.2f} of the first; the least of {repeat} rounds"}


@contextmanager
def _one_core() -> Iterator[None]:
    """Keep all threads on one core: an answer from another one takes three times as long, whoever listens."""
    before: dict[int, set[int]] = {}
    for each in map(int, os.listdir("/proc/self/task")):
        with suppress(ProcessLookupError):  # a thread of the traces before may end just now
            before[each] = os.sched_getaffinity(each)
            os.sched_setaffinity(each, {min(before[each])})
    try:
        yield
    finally:
        for each, cores in before.items():
            with suppress(ProcessLookupError):
                os.sched_setaffinity(each, cores)


def _listening(taps: list[Tap]) -> ExitStack:
    stack = ExitStack()
    for tap in taps:
        for source in (PacketTap(tap.netns_fd, filter=protocol_filter(socket.IPPROTO_ICMP)), NftTrace(tap.netns_fd)):
            stack.callback(source.close)
        stack.enter_context(nft.armed(tap.netns_fd, "tcp dport 9"))
    return stack


def _events(taps: list[Tap], flood: Flood) -> Iterator[dict[str, Any]]:
    """Yield how many events a second can be read and parsed without losing one: faster and faster, until some are."""
    best, packets, lost = 0.0, 0, 0
    for rate in _RATES:
        ears = Ears()
        try:
            for tap in taps:
                ears.open(tap, ["udp dport { 54, 5354 }"], protocol_filter(socket.IPPROTO_UDP), armed=True)
            flood.start(rate)
            begin, count = time.perf_counter(), 0
            while not flood.done() and time.perf_counter() - begin < 10:
                for key, _ in ears.loop.select(0.01):
                    ears.take(*key.data)
                heard = ears.heard
                count += len(heard.seen) + sum(len(hits) for hits in heard.hits.values())
                heard.seen, heard.hits = [], {}
            took = time.perf_counter() - begin
            lost = sum(ears.lost_by_kind().values())
        finally:
            ears.close()
        if lost:
            break
        best, packets = count / took, rate
    yield {"what": "events a second without loss", "value": round(best), "unit": "1/s",
           "note": f"{packets} packets a second through {len(taps)} namespaces, every rule traced"
                   + (f"; {rate} lost {lost} times" if lost else "")}


class Flood:
    """A process that sends datagrams from a namespace at a wanted rate, half a second each time it is told to."""

    def __init__(self, netns_fd: int, address: str, port: int) -> None:
        told, self._tell = os.pipe2(os.O_CLOEXEC)
        self._hear, tell = os.pipe2(os.O_CLOEXEC)
        sock = netns.socket_in(netns_fd, kind=socket.SOCK_DGRAM)

        def body() -> int:
            sock.connect((address, port))
            while data := os.read(told, 4):
                rate, began = int.from_bytes(data, "big"), time.monotonic()
                for sent in range(rate // 2):
                    with suppress(OSError):
                        sock.send(b"flood")
                    ahead = sent / rate - (time.monotonic() - began)
                    if ahead > 0.002:
                        time.sleep(ahead)
                os.write(tell, b".")
            return 0

        self._pid = process.fork(body, keep={told, tell, sock.fileno()})
        for fd in (told, tell):
            os.close(fd)
        sock.close()
        os.set_blocking(self._hear, False)

    def start(self, rate: int) -> None:
        """Send for half a second, `rate` datagrams a second."""
        os.write(self._tell, rate.to_bytes(4, "big"))

    def done(self) -> bool:
        """Tell, once, that all have been sent."""
        try:
            return bool(os.read(self._hear, 1))
        except BlockingIOError:
            return False

    def close(self) -> None:
        """End the process."""
        os.close(self._tell)
        os.close(self._hear)
        os.waitpid(self._pid, 0)


def _network(stack: ExitStack) -> list[Tap]:
    fds: list[int] = []
    for _ in range(4):
        fds.append(netns.new_netns())
        stack.callback(os.close, fds[-1])
    client, node, other, server = fds
    for here, far, name, own in ((node, client, "client", "10.1.0.1"), (other, server, "server", "10.2.0.1"),
                                 (node, other, "other", "10.3.0.1")):
        with Rtnl(here) as sock:
            link.add_veth(sock, name, "eth0", peer_netns=far)
            link.add_address(sock, name, f"{own}/24")
    ways = ((client, f"{CLIENT}/24", "0.0.0.0/0", "10.1.0.1"), (server, f"{SERVER}/24", "0.0.0.0/0", "10.2.0.1"),
            (other, "10.3.0.2/24", "10.1.0.0/24", "10.3.0.1"))
    for fd, address, destination, gateway in ways:
        with Rtnl(fd) as sock:
            link.set_up(sock, "lo", "eth0")
            link.add_address(sock, "eth0", address)
            sock.send(route.new_route(route.Route(destination, gateway, link.get(sock, "eth0").ifindex)))
    with Rtnl(node) as sock:
        sock.send(route.new_route(route.Route("10.2.0.0/24", "10.3.0.2", link.get(sock, "other").ifindex)))
    for fd in (node, other):
        sysctl.write("net.ipv4.ip_forward", 1, fd)
        iptables.restore(iptables.find(), _RULES, netns=fd)
    return [Tap("pod/client", client), Tap("node/one", node), Tap("node/two", other), Tap("pod/server", server)]


def _serve(stack: ExitStack, fd: int) -> None:
    """Accept on 8080 and echo on 5353, until the stack is closed."""
    tcp = netns.socket_in(fd)
    tcp.bind((SERVER, 8080))
    tcp.listen()
    stack.callback(tcp.close)
    udp = netns.socket_in(fd, kind=socket.SOCK_DGRAM)
    udp.bind((SERVER, 5353))
    sink = netns.socket_in(fd, kind=socket.SOCK_DGRAM)
    sink.bind((SERVER, 5354))
    stack.callback(sink.close)

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
