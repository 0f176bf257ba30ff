"""The whole loop: an API server's stand-in on loopback, the rules in a network namespace of the test's own."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import os
import threading
import time
from collections.abc import AsyncIterator, Callable

import aiohttp
import pytest

from netlab.client.client import Client
from netlab.client.config import Config as ClientConfig
from netlab.kernel import conntrack, iptables, netns
from netlab.netfilter import parse
from netlab.netfilter.normalise import differences
from netlab.proxy import cleanup, host
from netlab.proxy.config import read
from netlab.proxy.health import ProxyHealth
from netlab.proxy.metrics import Metrics
from netlab.proxy.pace import Pace
from netlab.proxy.plan import whole
from netlab.proxy.proxier import Proxier
from netlab.proxy.service_health import ServiceHealth
from netlab.proxy.settings import INVALID_COUNTER, LOCALHOST_COUNTER
from netlab.proxy.sync import Sync
from netlab.proxy.tracker import wanted_for
from tests.proxy.api_stub import ApiStub
from tests.proxy.builders import a_node, a_port, a_service, a_settings, a_slice, an_endpoint, recorded, recorded_objects

pytestmark = pytest.mark.root

FREE = ("KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-EXTERNAL-SERVICES")


class Live:
    """A kube-proxy at work, and what it wrote."""

    def __init__(self, api: ApiStub, netns_fd: int, proxier: Proxier, health: ProxyHealth, metrics: Metrics) -> None:
        self.api, self.netns, self.proxier, self.health, self.metrics = api, netns_fd, proxier, health, metrics

    def kernel(self):
        return parse.parse(iptables.save(self.proxier.tool, netns=self.netns))

    def wanted(self):
        objects = [each for kind in self.api.objects.values() for each in kind.values()]
        return whole(wanted_for(objects, self.proxier.settings))

    async def settles(self, seconds: float = 8.0) -> None:
        """Wait until the kernel holds what the API's objects ask for."""
        await until(lambda: not differences(self.wanted(), self.kernel(), unordered=FREE), seconds,
                    lambda: differences(self.wanted(), self.kernel(), unordered=FREE))


async def until(holds: Callable[[], bool], seconds: float = 8.0, else_: Callable[[], object] = lambda: "") -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, else_()
        await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def live(*objects, backend: iptables.Backend = "auto", look_every: float = 30.0) -> AsyncIterator[Live]:
    api, metrics, health = ApiStub(), Metrics(), ProxyHealth(60.0)
    api.put(a_node(), *objects)
    runner = await api.start()
    namespace = netns.new_netns()
    health.expect("IPv4")
    proxier = Proxier(a_settings(node_ip=""), iptables.find("IPv4", backend), metrics, netns=namespace)
    config, _ = read(["--hostname-override=node1", "--cluster-cidr=10.244.0.0/16"])
    stop = asyncio.Event()
    try:
        async with Client(ClientConfig(server=api.url), "kube-proxy") as client:
            sync = Sync(client, [proxier], node="node1", pace=Pace(0.01), look_every=look_every, health=health,
                        checks=ServiceHealth(health, lambda: ("127.0.0.1",)), metrics=metrics,
                        settings=lambda node, family: host.settings(config, family, node=node))
            task = asyncio.create_task(sync.run(stop))
            try:
                yield Live(api, namespace, proxier, health, metrics)
            finally:
                stop.set()
                await task
    finally:
        await api.stop(runner)
        os.close(namespace)


def run(body) -> None:
    asyncio.run(asyncio.wait_for(body(), 60))


@pytest.mark.parametrize("backend", ["nft", "legacy"])
def test_the_kernel_holds_what_the_recording_holds(backend: iptables.Backend):
    async def body() -> None:
        async with live(*recorded_objects(), backend=backend) as it:
            await it.settles()
            settings = it.proxier.settings
            assert settings.node_ip == "172.30.0.11"
            if settings.counters == {INVALID_COUNTER, LOCALHOST_COUNTER}:
                theirs = parse.parse(recorded("iptables-save.txt"))
                found = differences(theirs, it.kernel(), unordered=FREE)
                assert [line for line in found if "KUBE-PROXY-CANARY" not in line] == []

    run(body)


def test_changes_reach_the_kernel_and_leave_the_rest_alone():
    async def body() -> None:
        async with live(a_service("a", ip="10.96.0.1"), a_slice("a"), a_service("b", ip="10.96.0.2"), a_slice("b")) as it:
            await it.settles()
            it.api.put(a_slice("a", [an_endpoint("10.244.1.7")]))
            await it.settles()
            it.api.put(a_service("c", ip="10.96.0.3", ports=[a_port(node_port=30003)]))
            await it.settles()
            it.api.put(a_slice("c", []))
            it.api.remove("Service", "default/b")
            await it.settles()
            assert it.metrics.value("sync_full_proxy_rules_duration_seconds", "IPv4") > 0
            assert it.metrics.value("sync_proxy_rules_service_changes_total") == 4
            it.proxier.report()
            assert it.metrics.value("sync_proxy_rules_iptables_total", "nat", "IPv4") == 5 + 2 + 3

    run(body)


def test_a_foreign_rule_outlives_every_sync_and_counters_of_unchanged_chains_too():
    async def body() -> None:
        async with live(a_service("a", ip="10.96.0.1"), a_slice("a")) as it:
            await it.settles()
            foreign = "*nat\n-A POSTROUTING -s 10.244.0.0/16 -j MASQUERADE\nCOMMIT\n*filter\n-I FORWARD 1 -j LOG\nCOMMIT\n"
            iptables.restore(it.proxier.tool, foreign, netns=it.netns)
            it.api.put(a_service("b", ip="10.96.0.2"), a_slice("b"))
            await until(lambda: len(differences(it.wanted(), it.kernel(), unordered=FREE)) == 2)
            it.proxier.full = True
            it.api.remove("Service", "default/b")
            left = {"nat: too many -A POSTROUTING -s 10.244.0.0/16 -j MASQUERADE", "filter: too many -A FORWARD -j LOG"}
            await until(lambda: set(differences(it.wanted(), it.kernel(), unordered=FREE)) == left)
            assert it.metrics.value("sync_full_proxy_rules_duration_seconds", "IPv4") > 0

    run(body)


def test_many_services_come_and_go():
    async def body() -> None:
        many = [each for n in range(1, 90) for each in (a_service(f"s{n}", ip=f"10.96.0.{n}"), a_slice(f"s{n}"))]
        async with live(*many) as it:
            await it.settles()
            it.api.put(a_service("new", ip="10.96.1.1"), a_slice("new"))
            await it.settles()
            it.api.put(a_slice("s5", []))
            it.api.remove("Service", "default/s6")
            await it.settles()
            assert it.kernel().chain("nat", "KUBE-SERVICES").rules[-1].jump == "KUBE-NODEPORTS"

    run(body)


def test_a_flush_by_somebody_else_is_noticed_and_repaired():
    async def body() -> None:
        async with live(a_service(), a_slice(), look_every=0.1) as it:
            await it.settles()
            iptables.restore(it.proxier.tool, "*nat\nCOMMIT\n*filter\nCOMMIT\n", netns=it.netns, flush=True)
            assert differences(it.wanted(), it.kernel())
            await it.settles()

    run(body)


def test_a_refused_text_is_written_again_as_a_whole_once_it_can_be(caplog):
    async def body() -> None:
        async with live(a_service(), a_slice()) as it:
            await it.settles()
            # A rule of somebody's holds the chain of the endpoint: it cannot be deleted while it stays.
            (old,) = (name for name in it.kernel().table("nat").chains if name.startswith("KUBE-SEP-"))
            iptables.restore(it.proxier.tool, f"*nat\n-A PREROUTING -s 192.0.2.1 -j {old}\nCOMMIT\n", netns=it.netns)
            it.api.put(a_slice(endpoints=[an_endpoint("10.244.1.6")]))
            await until(lambda: any("10.244.1.6" in rule.target for rule in it.kernel().table("nat").rules()))
            assert it.metrics.value("sync_proxy_rules_iptables_restore_failures_total", "IPv4") >= 1
            iptables.restore(it.proxier.tool, f"*nat\n-D PREROUTING -s 192.0.2.1 -j {old}\nCOMMIT\n", netns=it.netns)
            it.proxier.full = True
            it.api.put(a_service("other", ip="10.96.0.99"))
            await it.settles()

    run(body)
    assert sum("iptables refused line" in record.message for record in caplog.records) <= 2


def test_kill_in_the_middle_and_a_new_start_converge():
    """Half of the pieces are in when the first proxy dies; the second finds them and makes them whole."""
    async def body() -> None:
        objects = [each for n in range(5) for each in (a_service(f"s{n}", ip=f"10.96.0.{n + 1}"), a_slice(f"s{n}"))]
        async with live(*objects) as it:
            await it.settles()
            half = whole(wanted_for(objects[:4], it.proxier.settings))
            broken = "*nat\n" + "".join(f":{name} - [0:0]\n" for name in half.table("nat").chains if name.startswith("KUBE-SVC"))
            iptables.restore(it.proxier.tool, f"{broken}:KUBE-SVC-DEADDEADDEADDEAD - [0:0]\nCOMMIT\n", netns=it.netns)
            it.proxier.full = True  # what a new process starts with
            it.api.put(a_service("s9", ip="10.96.0.9"))
            await it.settles()

    run(body)


def test_health_checks_of_services():
    async def body() -> None:
        service = a_service(type="LoadBalancer", externalTrafficPolicy="Local", healthCheckNodePort=0, ingress=["192.0.2.9"])
        async with live(service, a_slice()) as it, aiohttp.ClientSession() as http:
            await it.settles()
            port = free_port()
            service = copy.deepcopy(service)
            service["spec"]["healthCheckNodePort"] = port
            it.api.put(service)
            await it.settles()
            await until_async(lambda: asked(http, port), lambda found: found[0] == 200)
            assert await asked(http, port) == (200, {"service": {"namespace": "default", "name": "web"}, "localEndpoints": 1,
                                    "serviceProxyHealthy": True}, "1")
            it.api.put(a_slice(endpoints=[an_endpoint("10.244.2.5", "node2")]))
            await it.settles()
            await until_async(lambda: asked(http, port), lambda found: found[0] == 503)
            it.api.remove("Service", "default/web")
            await it.settles()
            await until_async(lambda: asked(http, port), lambda found: found[0] == 0)

    run(body)


def test_a_health_check_whose_port_is_taken_is_told_once(caplog):
    async def body() -> None:
        import socket

        told: list[tuple[str, str]] = []
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            checks = ServiceHealth(ProxyHealth(60.0), lambda: ("127.0.0.1",), lambda service, words: told.append((service, words)))
            for _ in range(3):
                await checks.serve({"default/web": port}, {"default/web": 1})
        ((service, words),) = told
        assert service == "default/web"
        assert words.startswith(f"cannot serve the health check of default/web on port {port}: ")
        await checks.serve({"default/web": port}, {"default/web": 1})
        async with aiohttp.ClientSession() as http:
            assert (await asked(http, port))[0] == 503, "the proxy has not written anything yet"
        await checks.close()

    run(body)


async def asked(http: aiohttp.ClientSession, port: int):
    try:
        async with http.get(f"http://127.0.0.1:{port}/anything") as answer:
            return answer.status, await answer.json(), answer.headers["X-Load-Balancing-Endpoint-Weight"]
    except aiohttp.ClientConnectionError:
        return 0, {}, ""


async def until_async(ask, holds, seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not holds(found := await ask()):
        assert time.monotonic() < end, found
        await asyncio.sleep(0.02)


def free_port() -> int:
    import socket

    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@pytest.mark.parametrize("backend", ["nft", "legacy"])
def test_cleanup_leaves_what_is_not_ours(backend: iptables.Backend):
    async def body() -> None:
        async with live(*recorded_objects(), backend=backend) as it:
            await it.settles()
            foreign = "*nat\n:MINE - [0:0]\n-A MINE -j ACCEPT\n-A POSTROUTING -j MINE\nCOMMIT\n"
            iptables.restore(it.proxier.tool, foreign, netns=it.netns)
            assert cleanup.run("auto", it.netns) > 30
            left = it.kernel()
            ours = {chain for table in left.tables.values() for chain in table.chains if chain.startswith("KUBE-")}
            assert ours == {"KUBE-FIREWALL"}
            assert [rule.text for rule in left.table("nat").rules()] == ["-A POSTROUTING -j MINE", "-A MINE -j ACCEPT"]
            assert [rule.jump for rule in left.chain("filter", "INPUT").rules] == ["KUBE-FIREWALL"]
            assert cleanup.run("auto", it.netns) == 0, "twice without complaint"

    run(body)


def test_other_things_are_answered_while_conntrack_is_cleaned(monkeypatch):
    """Where a node has hundreds of thousands of flows, reading them takes seconds."""
    reading, go = threading.Event(), threading.Event()

    def slow(*_args: object, **_options: object) -> list[conntrack.Flow]:
        reading.set()
        assert go.wait(20), "the loop stands still while flows are read"
        return []

    monkeypatch.setattr(conntrack, "flows", slow)

    async def body() -> None:
        udp = [a_port(53, "dns", "UDP")]
        async with live(a_service(ports=udp), a_slice(ports=[{"name": "dns", "port": 53, "protocol": "UDP"}])) as it:
            await until(reading.is_set, 20)
            go.set()
            await it.settles()

    run(body)
