"""From each mode to each other on a running node: what is connected, who is refused meanwhile, what is left behind."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from netlab.kernel import iptables, netns, nft_table
from netlab.netfilter import parse
from netlab.proxy import cleanup, nft_names
from netlab.proxy.main import main
from tests.proxy.api_stub import ApiStub
from tests.proxy.builders import a_node, a_port, a_service, a_slice, an_endpoint, recorded
from tests.proxy.network import PODS, Network
from tests.proxy.test_live import run, until

pytestmark = pytest.mark.root

CYCLE = ("iptables", "nftables", "userspace", "iptables", "userspace", "nftables", "iptables")
SERVICE, PORT = "10.96.0.10", 80
MARKS = {"iptables": "KUBE-SERVICES", "userspace": "KUBE-PORTALS-CONTAINER"}


class Echo:
    """A server in a Pod that gives back what it gets, however long a connection lasts."""

    def __init__(self, net: Network, place: str) -> None:
        self.listener = netns.socket_in(net.places[place], socket.AF_INET, socket.SOCK_STREAM)
        self.listener.bind((PODS[place], 9443))
        self.listener.listen(64)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        with suppress(OSError):
            while True:
                taken, _ = self.listener.accept()
                threading.Thread(target=self.serve, args=(taken,), daemon=True).start()

    def serve(self, taken: socket.socket) -> None:
        with taken, suppress(OSError):
            while data := taken.recv(100):
                taken.sendall(data)

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


class Caller:
    """A client that connects again and again and counts who did not get through."""

    def __init__(self, net: Network) -> None:
        self.net, self.failures, self.tries = net, 0, 0
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.call, daemon=True)
        self.thread.start()

    def call(self) -> None:
        while not self.stop.wait(0.005):
            self.tries += 1
            with suppress(OSError):
                connect(self.net).close()
                continue
            self.failures += 1

    def close(self) -> None:
        self.stop.set()
        self.thread.join(10)


def connect(net: Network) -> socket.socket:
    sock = netns.socket_in(net.places["client"], socket.AF_INET, socket.SOCK_STREAM)
    sock.settimeout(3)
    try:
        sock.connect((SERVICE, PORT))
        if echoed(sock):
            return sock
        raise ConnectionError("closed")
    except OSError:
        sock.close()
        raise


def echoed(sock: socket.socket) -> bool:
    try:
        sock.sendall(b"hello")
        return sock.recv(100) == b"hello"
    except OSError:
        return False


@pytest.fixture
def node(net: Network) -> Iterator[Network]:
    fd = net.places["node"]
    iptables.restore(iptables.find(), "*filter\nCOMMIT\n*nat\nCOMMIT\n", netns=fd, flush=True)
    cleanup.run("auto", fd)
    cleanup.run_nft(fd)
    yield net
    cleanup.run("auto", fd)
    cleanup.run_nft(fd)
    iptables.restore(iptables.find(), "*filter\nCOMMIT\n*nat\nCOMMIT\n", netns=fd, flush=True)


class Node:
    """kube-proxy as a process on the node, and its log."""

    def __init__(self, net: Network, api: ApiStub, log: Path) -> None:
        self.net, self.api, self.log = net, api, log
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, mode: str) -> None:
        program = "import sys; from netlab.proxy.main import main; sys.exit(main(sys.argv[1:]))"
        with netns.inside(self.net.places["node"]), self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", program, f"--master={self.api.url}", f"--proxy-mode={mode}", "--hostname-override=node1",
                 "--cluster-cidr=10.244.0.0/16", "--iptables-min-sync-period=10ms", "--conntrack-max-per-core=0"], stderr=log)

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            assert self.process.wait(20) == 0
            self.process = None

    def modes(self) -> set[str]:
        """Return the modes whose rules stand."""
        fd = self.net.places["node"]
        saved = parse.parse(iptables.save(iptables.find(), netns=fd))
        found = {mode for mode, chain in MARKS.items() if chain in saved.table("nat").chains}
        return found | ({"nftables"} if nft_table.held(socket.AF_INET, nft_names.TABLE, fd) is not None else set())

    def text(self) -> str:
        return self.log.read_text()


def test_every_mode_to_every_other(node: Network, tmp_path: Path):
    echo = Echo(node, "web-1")

    async def body() -> None:
        sock = netns.socket_in(node.places["node"], socket.AF_INET, socket.SOCK_STREAM)
        sock.bind(("127.0.0.1", 0))
        api = ApiStub()
        api.put(a_node(), a_service(ports=[a_port(), a_port(53, "dns", "UDP")]),
                a_slice(endpoints=[an_endpoint(PODS["web-1"])], ports=[{"name": "http", "port": 9443, "protocol": "TCP"},
                                                                       {"name": "dns", "port": 5353, "protocol": "UDP"}]))
        runner = await api.start(sock)
        it = Node(node, api, tmp_path / "log")
        it.start(CYCLE[0])
        try:
            await until(lambda: it.modes() == {CYCLE[0]}, 20, it.text)
            await until(lambda: answers(node), 20, it.text)
            for old, new in itertools.pairwise(CYCLE):
                await switch(it, old, new)
        finally:
            it.stop()
            await api.stop(runner)

    async def switch(it: Node, old: str, new: str) -> None:
        kept = await asyncio.to_thread(connect, node)
        assert await asyncio.to_thread(says), "a UDP client that keeps its port"
        caller = Caller(node)
        length = len(it.text())
        await asyncio.to_thread(it.stop)
        it.start(new)
        await until(lambda: it.modes() == {new}, 20, lambda: (old, new, it.modes(), it.text()[length:]))
        said = it.text()[length:]
        await asyncio.to_thread(caller.close)
        assert await asyncio.to_thread(answers, node), (old, new)
        assert await asyncio.to_thread(says), f"{old} to {new}: a UDP client that kept its port"
        alive = await asyncio.to_thread(echoed, kept)
        kept.close()
        assert alive == (old != "userspace"), (old, new, said)
        assert caller.tries
        if old == "userspace":
            assert "connections end with this process" in said
        else:
            assert caller.failures == 0, f"{old} to {new}: {caller.failures} of {caller.tries} did not get through"
        await until(lambda: f"mode {new} took over" in it.text()[length:], 10, it.text)

    def says() -> str:
        return node.ask("client", SERVICE, 53, "udp", source_port=5301, wait=3.0).server

    def answers(net: Network) -> bool:
        try:
            connect(net).close()
        except OSError:
            return False
        return True

    try:
        run(body)
    finally:
        echo.close()


def test_one_that_was_killed_is_cleaned_up_after(node: Network, tmp_path: Path):
    async def body() -> None:
        sock = netns.socket_in(node.places["node"], socket.AF_INET, socket.SOCK_STREAM)
        sock.bind(("127.0.0.1", 0))
        api = ApiStub()
        api.put(a_node(), a_service(), a_slice())
        runner = await api.start(sock)
        it = Node(node, api, tmp_path / "log")
        try:
            it.start("userspace")
            await until(lambda: "wrote all rules" in it.text(), 20, it.text)
            assert it.process is not None
            os.kill(it.process.pid, signal.SIGKILL)
            it.process.wait(10)
            it.start("nftables")
            await until(lambda: it.modes() == {"nftables"}, 20, it.text)
            await until(lambda: "its connections ended with its process" in it.text(), 10, it.text)
        finally:
            it.stop()
            await api.stop(runner)

    run(body)


FORMER = """*nat
:KUBE-XLB-ABCDEFGHIJKLMNOP - [0:0]
:KUBE-FW-ABCDEFGHIJKLMNOP - [0:0]
:KUBE-MARK-DROP - [0:0]
{more}-A KUBE-FW-ABCDEFGHIJKLMNOP -s 192.0.2.0/24 -j KUBE-XLB-ABCDEFGHIJKLMNOP
-A KUBE-FW-ABCDEFGHIJKLMNOP -j KUBE-MARK-DROP
-A KUBE-NODEPORTS -p tcp --dport 30060 -j KUBE-XLB-ABCDEFGHIJKLMNOP
-A KUBE-SERVICES -d 192.0.2.60 -p tcp --dport 80 -j KUBE-FW-ABCDEFGHIJKLMNOP
-A KUBE-XLB-ABCDEFGHIJKLMNOP -s 10.244.0.0/16 -j KUBE-SVC-ABCDEFGHIJKLMNOP
COMMIT
"""


@pytest.mark.parametrize(("more", "stays"), [
    pytest.param("", set(), id="the proxy made KUBE-MARK-DROP"),
    pytest.param("-A KUBE-MARK-DROP -j MARK --or-mark 0x8000\n", {"KUBE-MARK-DROP"}, id="an old kubelet uses it"),
    pytest.param(":MINE -\n-A MINE -j KUBE-MARK-DROP\n", {"KUBE-MARK-DROP"}, id="somebody else uses it")])
@pytest.mark.parametrize("mode", ["iptables", "nftables", "--cleanup"])
def test_nothing_of_a_kube_proxy_v1_20_is_left(node: Network, tmp_path: Path, mode: str, more: str, stays: set[str]):
    """Its recording, and the chains of one more Service, all in use."""
    fd = node.places["node"]
    text = recorded("iptables-save.v1.20.txt")
    iptables.restore(iptables.find(), text, netns=fd, flush=True)
    iptables.restore(iptables.find(), FORMER.format(more=more).replace(
        ":KUBE-MARK-DROP", ":KUBE-SVC-ABCDEFGHIJKLMNOP - [0:0]\n:KUBE-MARK-DROP"), netns=fd)

    def left() -> set[str]:
        nat = parse.parse(iptables.save(iptables.find(), netns=fd)).table("nat").chains
        return {name for name in nat if "XLB" in name or "MARK-DROP" in name or "ABCDEF" in name}

    async def body() -> None:
        sock = netns.socket_in(fd, socket.AF_INET, socket.SOCK_STREAM)
        sock.bind(("127.0.0.1", 0))
        api = ApiStub()
        api.put(a_node(), a_service(), a_slice())
        runner = await api.start(sock)
        it = Node(node, api, tmp_path / "log")
        it.start(mode)
        try:
            await until(lambda: left() == stays, 20, lambda: (left(), it.text()))
            assert it.modes() == {mode}
            assert "\nE" not in it.text()
        finally:
            it.stop()
            await api.stop(runner)

    if mode == "--cleanup":
        with netns.inside(fd):
            assert main([mode]) == 0
        assert left() == stays
        gone = {chain for table in parse.parse(iptables.save(iptables.find(), netns=fd)).tables.values() for chain in table.chains}
        assert {chain for chain in gone if chain.startswith("KUBE-")} == stays
    else:
        run(body)
