"""nftables mode as a program: an API server's stand-in, the loop, switching from one mode to the other and back."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator

import aiohttp
import pytest

from netlab.errors import KernelError
from netlab.kernel import iptables, netns, nft_table
from netlab.netfilter import parse
from netlab.proxy import nft_names, nft_render
from netlab.proxy.nft_render import nft_wanted_for
from tests.proxy.api_stub import ApiStub
from tests.proxy.builders import NODE_IP, a_node, a_port, a_service, a_settings, a_slice, an_endpoint, recorded_objects
from tests.proxy.nft_compare import tables, without_memory
from tests.proxy.test_live import run, until

pytestmark = pytest.mark.root

NETWORK = {"kind": "ServiceCIDR", "apiVersion": "networking.k8s.io/v1", "metadata": {"name": "kubernetes"},
           "spec": {"cidrs": ["10.96.0.0/16"]}}


class Machine:
    """A node's network namespace, an API server on its loopback, and kube-proxy as a process."""

    def __init__(self, api: ApiStub, fd: int) -> None:
        self.api, self.fd = api, fd
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, mode: str, *flags: str, first: str = "") -> None:
        """Start it; `first` is Python that runs before anything of ours."""
        program = first + "import sys; from netlab.proxy.main import main; sys.exit(main(sys.argv[1:]))"
        with netns.inside(self.fd):
            self.process = subprocess.Popen(
                [sys.executable, "-c", program, f"--master={self.api.url}", f"--proxy-mode={mode}", "--hostname-override=node1",
                 "--cluster-cidr=10.244.0.0/16", f"--{mode}-min-sync-period=10ms", f"--{mode}-sync-period=200ms", *flags])

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            assert self.process.wait(10) == 0
            self.process = None

    def table(self):
        if nft_table.held(socket.AF_INET, nft_names.TABLE, self.fd) is None:
            return {}
        nft = nft_table.open_nft(self.fd)
        try:
            return without_memory(tables(nft.run(f"list table ip {nft_names.TABLE}")))
        except KernelError:  # it went between one question and the other
            return {}
        finally:
            nft.close()

    def get(self, address: str) -> str:
        """Return what it answers over HTTP."""
        with netns.inside(self.fd):
            return subprocess.run(["curl", "-s", "-m", "5", f"http://{address}"], capture_output=True, text=True, check=True).stdout

    def chains(self) -> set[str]:
        saved = parse.parse(iptables.save(iptables.find(), netns=self.fd))
        return {name for table in saved.tables.values() for name in table.chains if name.startswith("KUBE-")}

    def wanted(self, **settings):
        objects = [each for kind in self.api.objects.values() for each in kind.values()]
        made = a_settings(node_port_addresses=(f"{NODE_IP}/32",), node_addresses=(NODE_IP,), **settings)
        return tables(nft_render.text(nft_wanted_for(objects, made)))

    async def settles(self, **settings) -> None:
        await until(lambda: self.table() == self.wanted(**settings))


def addressed_netns() -> int:
    fd = netns.new_netns()
    with netns.inside(fd):
        subprocess.run(["ip", "-batch", "-"], input=f"link set lo up\naddr add {NODE_IP}/32 dev lo", text=True, check=True)
    return fd


@contextlib.asynccontextmanager
async def machine(*objects, without: str = "") -> AsyncIterator[Machine]:
    fd = addressed_netns()
    sock = netns.socket_in(fd, socket.AF_INET, socket.SOCK_STREAM)
    sock.bind(("127.0.0.1", 0))
    api = ApiStub()
    api.put(a_node(), *objects)
    runner = await api.start(sock, without)
    it = Machine(api, fd)
    try:
        yield it
    finally:
        it.stop()
        await api.stop(runner)
        os.close(fd)


def test_changes_reach_the_kernel_and_a_flush_is_repaired():
    async def body() -> None:
        async with machine(*recorded_objects(), NETWORK) as it:
            it.start("nftables")
            await it.settles(service_cidrs=("10.96.0.0/16",))
            it.api.put(a_service("new", ip="10.96.1.1", ports=[a_port(node_port=30003)], type="NodePort"))
            it.api.put(a_slice("new", [an_endpoint("10.244.1.7")]))
            it.api.remove("Service", "default/affinity")
            it.api.remove("ServiceCIDR", "/kubernetes")
            await it.settles()
            it.process.send_signal(signal.SIGSTOP)  # else it may repair before anyone can look
            nft = nft_table.open_nft(it.fd)
            nft.run("flush ruleset")
            nft.close()
            assert it.table() == {}
            it.process.send_signal(signal.SIGCONT)
            await it.settles()

    run(body)


def test_an_api_server_without_service_cidrs_will_do():
    async def body() -> None:
        async with machine(a_service(), a_slice(), without="ServiceCIDR") as it:
            it.start("nftables")
            await it.settles()

    run(body)


def test_each_mode_cleans_up_after_the_other_once_its_own_rules_stand():
    async def body() -> None:
        async with machine(a_service(), a_slice()) as it:
            it.start("iptables")
            await until(lambda: any(name.startswith("KUBE-SEP-") for name in it.chains()))
            it.stop()
            it.start("nftables")
            await it.settles()
            await until(lambda: it.chains() == {"KUBE-FIREWALL"}, else_=it.chains)  # the kubelet's
            it.stop()
            assert it.table(), "rules stay when the program ends"
            it.start("iptables")
            await until(lambda: any(name.startswith("KUBE-SEP-") for name in it.chains()))
            await until(lambda: it.table() == {}, else_=it.table)
            it.stop()
            it.start("nftables")
            await it.settles()
            it.stop()
            it.start("nftables", "--cleanup")
            assert it.process is not None
            assert await asyncio.to_thread(it.process.wait, 10) == 0
            it.process = None
            assert it.table() == {}

    run(body)


@pytest.mark.parametrize(("addresses", "there"), [(f"{NODE_IP}/32", {NODE_IP}), ("", {NODE_IP, "127.0.0.1"})])
def test_health_checks_listen_where_node_ports_do(addresses: str, there: set[str]):
    async def body() -> None:
        service = a_service(type="LoadBalancer", externalTrafficPolicy="Local", healthCheckNodePort=31999, ingress=["192.0.2.9"])
        async with machine(service, a_slice()) as it:
            it.start("iptables", f"--nodeport-addresses={addresses}")
            await until(lambda: listens(it.fd, 31999) == there)

    run(body)


def listens(fd: int, port: int) -> set[str]:
    found = set()
    for ip in (NODE_IP, "127.0.0.1"):
        with netns.socket_in(fd, socket.AF_INET, socket.SOCK_STREAM) as sock:
            if sock.connect_ex((ip, port)) == 0:
                found.add(ip)
    return found


def test_it_says_its_mode_and_counts():
    async def body() -> None:
        async with machine(a_service(externalTrafficPolicy="Local", type="NodePort"), a_slice("web", [an_endpoint("10.244.2.5", "node2")])) as it:
            it.start("nftables")
            await it.settles()

            connector = aiohttp.TCPConnector(socket_factory=lambda info: netns.socket_in(it.fd, info[0], info[1]))
            async with aiohttp.ClientSession(connector=connector) as http:
                async with http.get("http://127.0.0.1:10249/proxyMode") as answer:
                    assert await answer.text() == "nftables"
                async with http.get("http://127.0.0.1:10249/metrics") as answer:
                    text = await answer.text()
                assert 'kubeproxy_sync_proxy_rules_no_local_endpoints_total{ip_family="IPv4",traffic_policy="external"} 1' in text
                assert "iptables_total" not in text
                async with http.get("http://127.0.0.1:10256/healthz") as answer:
                    assert answer.status == 200

    run(body)


def test_a_port_that_somebody_has_is_served_once_it_is_free(capfd):
    async def body() -> None:
        async with machine(a_service(), a_slice()) as it:
            with netns.inside(it.fd):
                other = [socket.create_server(("127.0.0.1", port)) for port in (10256, 10249)]
            it.start("nftables", "--healthz-bind-address=127.0.0.1:10256", first="import netlab.proxy.main as made\nmade._AGAIN = 0.1\n")
            await it.settles()
            for sock in other:
                sock.close()
            await until(lambda: answers(it, "10256/livez") and answers(it, "10249/proxyMode"), 20)

    def answers(it: Machine, path: str) -> bool:
        with contextlib.suppress(subprocess.CalledProcessError):
            return bool(it.get(f"127.0.0.1:{path}"))
        return False

    run(body)
    assert capfd.readouterr().err.count("it is tried again") == 2


def test_with_hard_fail_it_ends_instead(capfd):
    async def body() -> None:
        async with machine() as it:
            with netns.inside(it.fd):
                other = socket.create_server(("127.0.0.1", 10249))
            it.start("nftables", "--bind-address-hard-fail")
            assert await asyncio.to_thread(it.process.wait, 20) == 1
            it.process = None
            other.close()

    run(body)
    assert "cannot serve on 127.0.0.1:10249" in capfd.readouterr().err
