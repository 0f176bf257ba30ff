"""Userspace mode: rules as the historical kube-proxy wrote them, and real connections through the relays."""

from __future__ import annotations

import asyncio
import os
import re
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from netlab.kernel import iptables, netns
from netlab.netfilter import parse
from netlab.netfilter.normalise import differences
from netlab.proxy import cleanup, user_rules
from netlab.proxy.balancer import Balancer
from netlab.proxy.metrics import Metrics
from netlab.proxy.relay import Relay
from netlab.proxy.services import service_ports
from netlab.proxy.user_proxier import UserProxier
from tests.proxy.builders import NODE_IP, a_port, a_service, a_settings, a_slice, an_endpoint
from tests.proxy.network import BRIDGE_IP6, FAR, NODE_IP6, PODS, PODS6, Network
from tests.proxy.test_live import until
from tests.proxy.test_packets import LOCAL, REMOTE, WAYS, a_web

PORTS = service_ports(a_service(type="LoadBalancer", externalIPs=["198.51.100.1"], ingress=["198.51.100.2"],
                                ports=[a_port(node_port=30080)]), "IPv4")


def test_rules_of_a_port():
    """The words are those of kube-proxy v1.25, where an address of its own is given for what comes from the node."""
    match = "-m comment --comment default/web:http -p tcp -m tcp --dport"
    wanted = user_rules.chains([(PORTS[0], 4444)], "0.0.0.0", NODE_IP)
    container, host = "-j REDIRECT --to-ports 4444", "-j DNAT --to-destination 172.30.0.11:4444"
    assert {chain: [rule.text.removeprefix(f"-A {chain} {match} ") for rule in rules] for (_, chain), rules in wanted.items()} == {
        "KUBE-NODEPORT-NON-LOCAL": ["4444 -m state --state NEW -j ACCEPT"],
        "KUBE-PORTALS-CONTAINER": [f"80 {rest} {container}" for rest in (
            "-d 10.96.0.10/32", "-d 198.51.100.1/32 -m physdev ! --physdev-is-in",
            "-d 198.51.100.1/32 -m addrtype --dst-type LOCAL", "-d 198.51.100.2/32")],
        "KUBE-PORTALS-HOST": [f"80 {rest} {host}" for rest in (
            "-d 10.96.0.10/32", "-d 198.51.100.1/32 -m addrtype --dst-type LOCAL", "-d 198.51.100.2/32")],
        "KUBE-NODEPORT-CONTAINER": [f"30080 {container}"], "KUBE-NODEPORT-HOST": [f"30080 {host}"]}
    alone = user_rules.chains([(PORTS[0], 4444)], "0.0.0.0", "")
    assert {chain for (_, chain), rules in alone.items() if rules} == {"KUBE-NODEPORT-NON-LOCAL", "KUBE-PORTALS-CONTAINER",
                                                                        "KUBE-NODEPORT-CONTAINER"}, "no address to send to"
    listens = user_rules.chains([(PORTS[0], 4444)], "172.30.0.9", NODE_IP)
    targets = {rule.target for rules in listens.values() for rule in rules if rule.target != "ACCEPT"}
    assert targets == {"DNAT --to-destination 172.30.0.9:4444"}, "one that listens on one address has no use for REDIRECT"


def test_turns_and_affinity():
    balancer = Balancer()
    assert balancer.next("c", 0.0) == ""
    balancer.update(["a:1", "b:1", "c:1"], 0)
    assert [balancer.next("c", 0.0) for _ in range(4)] == ["a:1", "b:1", "c:1", "a:1"]
    balancer.update(["c:1", "a:1", "b:1"], 0)
    assert balancer.next("c", 0.0) == "b:1", "the same endpoints in another order are no change"
    balancer.update(["a:1", "b:1"], 100)
    assert [balancer.next(client, at) for client, at in (("x", 0), ("y", 0), ("x", 99), ("x", 198), ("x", 298.0))] == [
        "a:1", "b:1", "a:1", "a:1", "a:1"], "each use begins the time anew; after it, whose turn it is"
    assert balancer.next("x", 299.0, anew=True) == "b:1"
    balancer.update(["b:1", "d:1"], 100)
    assert balancer.next("x", 300.0) == "b:1"
    balancer.update(["d:1", "e:1"], 100)
    assert balancer.next("x", 301.0) == "d:1", "its endpoint is gone"
    balancer.forget_idle(500.0)
    assert balancer.next("x", 302.0) == "e:1"


@asynccontextmanager
async def proxier(net: Network, *objects, **more) -> AsyncIterator[UserProxier]:
    it = UserProxier(a_settings(), iptables.find(), Metrics(), netns=net.places["node"], **more)
    tell(it, *objects)
    await it.sync(0.0)
    try:
        yield it
    finally:
        await it.close()


def tell(it: UserProxier, *objects) -> None:
    for each in objects:
        (it.service if each["kind"] == "Service" else it.slice)(f"default/{each['metadata']['name']}", each)


@pytest.fixture
def clean(net: Network) -> Iterator[Network]:
    cleanup.run("auto", net.places["node"])
    cleanup.run_nft(net.places["node"])
    yield net
    cleanup.run("auto", net.places["node"])


def run(body) -> None:
    asyncio.run(asyncio.wait_for(body(), 60))


async def asks(net: Network, *args, **kwargs):
    return await asyncio.to_thread(net.ask, *args, **kwargs)


@pytest.mark.root
@pytest.mark.parametrize("place", ["client", "node", "outside"])
def test_every_address_reaches_an_endpoint(clean: Network, place: str):
    async def body() -> None:
        async with proxier(clean, *a_web(LOCAL[:1])):
            for address, port, protocol in WAYS:
                if address == "198.51.100.1" and place != "outside":
                    continue  # what is sent to an external address that is not here leaves for the outside
                answer = await asks(clean, place, address, port, protocol, wait=2.0)
                assert answer.server == f"{PODS['web-1']}:{8080 if protocol == 'tcp' else 5353}", (address, port, protocol)
                assert answer.seen == "10.244.1.1", "the endpoint sees the proxy"

    run(body)


@pytest.mark.root
@pytest.mark.parametrize("place", ["client", "node", "outside"])
def test_ipv6(clean: Network, place: str):
    async def body() -> None:
        service = a_service(ip="fd00:96::10", type="LoadBalancer", ingress=["2001:db8:99::2"],
                            ports=[a_port(node_port=30080), a_port(53, "dns", "UDP", 30053)])
        slices = a_slice(endpoints=[an_endpoint(PODS6["web-1"])], ports=a_web([])[1]["ports"], family="IPv6")
        it = UserProxier(a_settings(family="IPv6", node_ip=NODE_IP6), iptables.find("IPv6"), Metrics(), netns=clean.places["node"])
        tell(it, service, slices)
        await it.sync(0.0)
        for address, port, protocol in (("fd00:96::10", 80, "tcp"), ("fd00:96::10", 53, "udp"), ("2001:db8:99::2", 80, "tcp"),
                                        ("2001:db8:99::2", 53, "udp"), (NODE_IP6, 30080, "tcp"), (NODE_IP6, 30053, "udp")):
            answer = await asks(clean, place, address, port, protocol, wait=2.0)
            assert answer.server == f"[{PODS6['web-1']}]:{8080 if protocol == 'tcp' else 5353}", (address, port, protocol)
            assert answer.seen == BRIDGE_IP6
        await it.close()

    run(body)


@pytest.mark.root
def test_endpoints_take_turns_and_clients_come_back(clean: Network):
    async def body() -> None:
        async with proxier(clean, *a_web(LOCAL + REMOTE)) as it:
            every = [f"{ip}:8080" for ip in (PODS["web-1"], PODS["web-2"], *FAR)]
            assert [(await asks(clean, "client", "10.96.0.10", 80)).server for _ in range(8)] == every * 2
            tell(it, a_web(LOCAL + REMOTE, sessionAffinity="ClientIP")[0])
            await it.sync(1.0)
            assert len({(await asks(clean, "client", "10.96.0.10", 80)).server for _ in range(8)}) == 1
            (first,) = {(await asks(clean, "client", "10.96.0.10", 53, "udp")).server for _ in range(8)}
            tell(it, a_slice(endpoints=[each for each in LOCAL + REMOTE if not first.startswith(each["addresses"][0] + ":")],
                             ports=a_web([])[1]["ports"]))
            await it.sync(2.0)
            assert (await asks(clean, "client", "10.96.0.10", 53, "udp")).server not in (first, "")
            tell(it, a_web([])[1])
            await it.sync(3.0)
            assert not (await asks(clean, "client", "10.96.0.10", 80)).server, "closed at once: nobody is behind it"

    run(body)


@pytest.mark.root
def test_the_kernel_holds_the_rules_and_loses_them_in_a_cleanup(clean: Network):
    async def body() -> None:
        fd = clean.places["node"]
        iptables.restore(iptables.find(), "*filter\nCOMMIT\n*mangle\nCOMMIT\n*nat\n-A PREROUTING -p sctp -j ACCEPT\nCOMMIT\n",
                         netns=fd, flush=True)
        async with proxier(clean, *a_web(LOCAL), ports=range(41000, 41010)) as it:
            assert {relay.port for _, relay in it.relays.values()} <= set(range(41000, 41010))
            wanted = user_rules.chains([(port, relay.port) for _, (port, relay) in sorted(it.relays.items())],
                                       "0.0.0.0", NODE_IP)
            kernel = parse.parse(iptables.save(iptables.find(), netns=fd))
            assert differences(user_rules.whole(wanted), kernel) == ["nat: too many -A PREROUTING -p sctp -j ACCEPT"]
            assert not await it.sync(1.0), "nothing changed, nothing is written"
            assert not await it.flushed()
            iptables.restore(iptables.find(), "*nat\nCOMMIT\n", netns=fd, flush=True)
            assert await it.flushed()
            await it.sync(2.0)
            assert not await it.flushed()
            assert (await asks(clean, "client", "10.96.0.10", 80)).server
            it.service("default/web", None)
            await it.sync(3.0)
            assert not it.relays
            assert not parse.parse(iptables.save(iptables.find(), netns=fd)).chain("nat", "KUBE-PORTALS-HOST").rules
        assert cleanup.run("auto", fd) == 5
        assert "KUBE" not in iptables.save(iptables.find(), netns=fd)

    run(body)


@pytest.mark.root
def test_what_cannot_be_served_is_said_once(clean: Network, caplog):
    async def body() -> None:
        taken = netns.socket_in(clean.places["node"])
        taken.bind(("0.0.0.0", 41500))
        taken.listen()
        sctp = a_service("s", ip="10.96.0.11", ports=[a_port(protocol="SCTP")])
        async with proxier(clean, sctp, *a_web(LOCAL), ports=range(41500, 41501)) as it:
            it.full = True
            await it.sync(1.0)
            assert list(it.relays) == [("default/web:dns", "udp")]
        taken.close()

    run(body)
    said = [record.message for record in caplog.records if "not served" in record.message]
    assert len(said) == 2
    assert {"speaks no SCTP" in line or "nowhere to listen" in line for line in said} == {True}


class Echo:
    """A server that answers when its client has said everything, with what it said in capitals."""

    async def __aenter__(self) -> str:
        self.server = await asyncio.start_server(self.answer, "127.0.0.1", 0)
        return f"127.0.0.1:{self.server.sockets[0].getsockname()[1]}"

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.read()).upper())
        await writer.drain()
        writer.close()

    async def __aexit__(self, *_) -> None:
        self.server.close()


@asynccontextmanager
async def relay(*endpoints: str, protocol: str = "tcp") -> AsyncIterator[Relay]:
    it = Relay("default/web", protocol, Balancer(endpoints=endpoints))
    it.open("127.0.0.1", 0)
    try:
        yield it
    finally:
        await it.abort()


async def say(port: int, text: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(text)
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    return answer


def test_a_client_that_has_said_everything_still_gets_its_answer():
    async def body() -> None:
        async with Echo() as endpoint, relay(endpoint) as it:
            assert await say(it.port, b"hello" * 300_000) == b"HELLO" * 300_000

    run(body)


def test_many_connections_at_once():
    async def body() -> None:
        async with Echo() as endpoint, relay(endpoint) as it:
            answers = await asyncio.gather(*(say(it.port, f"client {n}".encode()) for n in range(200)))
            assert answers == [f"CLIENT {n}".encode() for n in range(200)]

    run(body)


def test_an_endpoint_that_does_not_answer_is_passed_over():
    async def body() -> None:
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))
            dead = f"127.0.0.1:{nobody.getsockname()[1]}"
            async with Echo() as endpoint, relay(dead, endpoint) as it:
                assert [await say(it.port, b"x") for _ in range(3)] == [b"X"] * 3
            async with relay(dead) as it:
                assert await say(it.port, b"") == b""

    run(body)


def test_udp_endpoints_that_cannot_be_reached_hurt_nobody_else():
    async def body() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            server.bind(("127.0.0.1", 0))
            server.setblocking(False)
            client.setblocking(False)
            loop = asyncio.get_running_loop()
            good = f"127.0.0.1:{server.getsockname()[1]}"
            async with relay("255.255.255.255:9", good, protocol="udp") as it:  # a broadcast address takes no connect()
                client.connect(("127.0.0.1", it.port))
                for word in (b"lost", b"kept"):
                    await loop.sock_sendall(client, word)
                data, peer = await loop.sock_recvfrom(server, 100)
                assert data == b"kept"
                await loop.sock_sendto(server, b"yes", peer)
                assert await loop.sock_recv(client, 100) == b"yes"

    run(body)


def test_a_closed_relay_lets_its_connections_end_by_themselves():
    async def body() -> None:
        async with Echo() as endpoint, relay(endpoint) as it:
            reader, writer = await asyncio.open_connection("127.0.0.1", it.port)
            writer.write(b"first ")
            await writer.drain()
            await until(lambda: bool(it.connections))
            await it.close()
            with pytest.raises(OSError):
                await asyncio.open_connection("127.0.0.1", it.port)
            writer.write(b"last")
            writer.write_eof()
            assert await reader.read() == b"FIRST LAST"
            writer.close()

    run(body)


def test_ending_says_how_many_connections_end(caplog):
    async def body() -> None:
        fd = netns.new_netns()
        it = UserProxier(a_settings(), iptables.find(), Metrics(), netns=fd)
        async with Echo() as endpoint, relay(endpoint) as inner:
            it.relays["default/web", "tcp"] = PORTS[0], inner
            _, writer = await asyncio.open_connection("127.0.0.1", inner.port)
            await until(lambda: any(" to " in task.get_name() for task in inner.connections))
            await it.close()
            writer.close()
        os.close(fd)

    if os.geteuid() != 0:
        pytest.skip("needs root")
    run(body)
    assert "1 connections end with this process" in caplog.text
    assert re.search(r"connect again: 127\.0\.0\.1:\d+ to 127\.0\.0\.1:\d+", caplog.text)


def test_endpoints_that_are_not_ready_are_left_out():
    ports = [{"name": "http", "port": 8080, "protocol": "TCP"}]
    it = UserProxier(a_settings(), iptables.find(), Metrics())
    tell(it, a_service(), a_slice(endpoints=[an_endpoint("10.244.1.5", ready=False), an_endpoint("10.244.1.6")], ports=ports))

    async def body() -> None:
        await it._listen()
        assert [relay.balancer.endpoints for _, relay in it.relays.values()] == [("10.244.1.6:8080",)]
        await it.close()

    run(body)
