"""The name server over real sockets, asked by dig and by raw bytes; informers read from objects in memory."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import dnslib
import pytest

from netlab.client.informer import Informer
from netlab.dns import corefile, objects
from netlab.dns.build import build
from netlab.dns.message import Reply, Request
from netlab.dns.plugins.kubernetes import Config, Kubernetes
from netlab.dns.server import Server
from tests.dns.builders import Api, a_namespace, a_pod, a_service, a_slice, an_endpoint

COREFILE = """.:53 {
    errors
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        pods verified
        ttl 5
    }
    forward . UPSTREAM
    cache 30
}
"""


class Running:
    """A server on loopback. `ask` returns a parsed answer."""

    def __init__(self, server: Server, port: int, api: Api, cluster: objects.Cluster) -> None:
        self.server, self.port, self.api, self.cluster = server, port, api, cluster
        self.changes = asyncio.Event()

    async def ask(self, name: str, type: str = "A", *, tcp: bool = False, edns: int = 0, **header: Any) -> Any:
        question = dnslib.DNSRecord.question(name, type)
        if edns:
            question.add_ar(dnslib.EDNS0(udp_len=edns))
        data = await (self.tcp if tcp else self.udp)(bytes(question.pack()))
        answer = dnslib.DNSRecord.parse(data)
        assert answer.header.id == question.header.id
        return answer

    async def udp(self, data: bytes, seconds: float = 5.0) -> bytes:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            one.setblocking(False)
            await loop.sock_connect(one, ("127.0.0.1", self.port))
            await loop.sock_sendall(one, data)
            async with asyncio.timeout(seconds):
                return await loop.sock_recv(one, 65535)

    async def tcp(self, *questions: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        for data in questions:
            writer.write(len(data).to_bytes(2, "big") + data)
        answer = b""
        for _ in questions:
            size = int.from_bytes(await reader.readexactly(2), "big")
            answer = await reader.readexactly(size)
        writer.close()
        return answer


def an_api() -> Api:
    many = tuple(an_endpoint(f"10.244.{i // 250}.{i % 250 + 1}") for i in range(400))
    return Api(namespaces=[a_namespace("default")],
               services=[a_service("web", ips=("10.96.0.10",)), a_service("big", ips=("None",)),
                         a_service("away", external="outer.example"),
                         a_service("alias", external="web.default.svc.cluster.local"),
                         a_service("loop", external="loop.default.svc.cluster.local")],
               endpointslices=[a_slice("big", endpoints=many),
                               a_slice("big", endpoints=(an_endpoint("10.244.9.9", ready=False),))],
               pods=[a_pod("p", ip="10.244.0.1")])


def serve(body: Callable[[Running], Awaitable[None]], *, text: str = COREFILE, upstream: str = "127.0.0.1:1",
          synced: bool = True) -> None:
    async def run() -> None:
        api, generation, stop = an_api(), [0], asyncio.Event()
        client: Any = api
        cluster = objects.Cluster(Informer(client, "services"), Informer(client, "endpointslices.discovery.k8s.io"),
                                  Informer(client, "namespaces"), Informer(client, "pods"))
        servers: list[Server] = []

        async def resolve(request: Request) -> Reply:
            return await servers[0].ask(request)

        def make(config: Config) -> Kubernetes:
            return Kubernetes(config, cluster, resolve=resolve, serial=lambda: 7)

        blocks = corefile.parse(text.replace("UPSTREAM", upstream))
        settings = build(blocks, "Corefile", make)
        servers.append(Server(settings.chains[53], lambda: generation[0]))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        await servers[0].start(port, ("127.0.0.1",))
        running = Running(servers[0], port, api, cluster)

        def changed() -> None:
            generation[0] += 1
            running.changes.set()

        cluster.on_change(changed)
        tasks = [asyncio.ensure_future(one.run(stop)) for one in cluster.informers()] if synced else []
        try:
            for one in cluster.informers() if synced else ():
                await one.synced.wait()
            await body(running)
        finally:
            stop.set()
            servers[0].close()
            await asyncio.gather(*tasks)

    asyncio.run(asyncio.wait_for(run(), 20))


def texts(answer: Any) -> list[str]:
    return sorted(str(record.rdata) for record in answer.rr)


def test_answers_over_udp_and_tcp() -> None:
    async def body(dns: Running) -> None:
        for tcp in (False, True):
            answer = await dns.ask("web.default.svc.cluster.local", tcp=tcp)
            assert texts(answer) == ["10.96.0.10"]
            assert answer.header.aa == 1
            assert answer.rr[0].ttl == 5
    serve(body)


def test_no_name_and_no_data_carry_the_soa() -> None:
    async def body(dns: Running) -> None:
        for name, kind, rcode in (("nope.default.svc.cluster.local", "A", 3),
                                  ("web.default.svc.cluster.local", "AAAA", 0)):
            answer = await dns.ask(name, kind)
            assert (answer.header.rcode, answer.rr) == (rcode, [])
            assert answer.auth[0].rtype == dnslib.QTYPE.SOA
            assert str(answer.auth[0].rname) == "cluster.local."
            assert answer.auth[0].rdata.times[4] == 5
    serve(body)


def test_spelling_of_the_question_comes_back() -> None:
    async def body(dns: Running) -> None:
        answer = await dns.ask("WeB.Default.svc.CLUSTER.local")
        assert str(answer.q.qname) == str(answer.rr[0].rname) == "WeB.Default.svc.CLUSTER.local."
    serve(body)


def test_what_does_not_fit_is_cut_and_comes_whole_over_tcp() -> None:
    async def body(dns: Running) -> None:
        for edns, least, most in ((0, 20, 40), (4096, 200, 300)):
            cut = await dns.ask("big.default.svc.cluster.local", edns=edns)
            assert cut.header.tc == 1
            assert least <= len(cut.rr) <= most
        whole = await dns.ask("big.default.svc.cluster.local", tcp=True)
        assert (len(whole.rr), whole.header.tc) == (400, 0)
        assert "10.244.9.9" not in texts(whole)
    serve(body)


def test_questions_of_one_connection_are_answered_in_turn() -> None:
    async def body(dns: Running) -> None:
        one, two = (bytes(dnslib.DNSRecord.question(f"{name}.default.svc.cluster.local").pack())
                    for name in ("web", "big"))
        assert len(dnslib.DNSRecord.parse(await dns.tcp(one, two)).rr) == 400
    serve(body)


def test_a_new_service_is_seen_at_once() -> None:
    async def body(dns: Running) -> None:
        name = "late.default.svc.cluster.local"
        assert (await dns.ask(name)).header.rcode == 3
        assert (await dns.ask(name)).header.rcode == 3  # from the kept bytes
        dns.changes.clear()
        dns.api.put("services", a_service("late", ips=("10.96.0.77",)))
        await dns.changes.wait()
        assert texts(await dns.ask(name)) == ["10.96.0.77"]
        dns.changes.clear()
        dns.api.remove("services", dns.api.objects["services"]["default/late"])
        await dns.changes.wait()
        assert (await dns.ask(name)).header.rcode == 3
    serve(body)


def test_aliases_are_followed_inside_the_cluster_and_never_for_ever() -> None:
    async def body(dns: Running) -> None:
        answer = await dns.ask("alias.default.svc.cluster.local")
        assert [record.rtype for record in answer.rr] == [dnslib.QTYPE.CNAME, dnslib.QTYPE.A]
        assert str(answer.rr[1].rdata) == "10.96.0.10"
        assert len((await dns.ask("loop.default.svc.cluster.local")).rr) == 1
    serve(body)


def test_before_the_first_list_nothing_is_denied() -> None:
    async def body(dns: Running) -> None:
        assert (await dns.ask("web.default.svc.cluster.local")).header.rcode == 2
        assert not dns.cluster.synced
    serve(body, synced=False)


def test_reverse_names_and_pods() -> None:
    async def body(dns: Running) -> None:
        assert texts(await dns.ask("10.0.96.10.in-addr.arpa", "PTR")) == ["web.default.svc.cluster.local."]
        assert texts(await dns.ask("10-244-0-1.default.pod.cluster.local")) == ["10.244.0.1"]
        assert (await dns.ask("10-244-0-2.default.pod.cluster.local")).header.rcode == 3
        assert (await dns.ask("cluster.local", "SOA")).rr[0].rtype == dnslib.QTYPE.SOA
        assert texts(await dns.ask("cluster.local", "NS")) == ["ns.dns.cluster.local."]
    serve(body)


@pytest.mark.parametrize(("data", "rcode"), [
    pytest.param(b"\x12\x34\x01\x00\x00\x01" + bytes(6) + b"\x05abc", 1, id="cut off"),
    pytest.param(b"\x12\x34\x29\x00\x00\x01" + bytes(6) + b"\x00\x00\x01\x00\x01", 4, id="an update"),
    pytest.param(b"\x12\x34\x01\x00\x00\x01" + bytes(6) + b"\xc0\x0c\x00\x01\x00\x01", 1, id="a name that is itself"),
    pytest.param(b"\x12\x34\x01\x00\x00\x00" + bytes(6), 1, id="no question"),
    pytest.param(b"\x12\x34\x01\x00\x00\x01" + bytes(6) + b"\x01a\x00\x00\x01\x00\x03", 5, id="another class"),
])
def test_hostile_bytes_get_a_refusal(data: bytes, rcode: int) -> None:
    async def body(dns: Running) -> None:
        answer = await dns.udp(data)
        assert answer[:2] == data[:2]
        assert answer[3] & 0xF == rcode
        assert texts(await dns.ask("web.default.svc.cluster.local")) == ["10.96.0.10"]
    serve(body)


def test_answers_and_fragments_get_silence() -> None:
    async def body(dns: Running) -> None:
        for data in (b"", b"\x12\x34", b"\x12\x34\x81\x80\x00\x01" + bytes(6) + b"\x00\x00\x01\x00\x01"):
            with pytest.raises(TimeoutError):
                await dns.udp(data, 0.1)
    serve(body)


def test_an_unknown_edns_version_is_named() -> None:
    async def body(dns: Running) -> None:
        question = dnslib.DNSRecord.question("web.default.svc.cluster.local")
        question.add_ar(dnslib.EDNS0(version=1))
        answer = dnslib.DNSRecord.parse(await dns.udp(bytes(question.pack())))
        assert (answer.header.rcode, answer.ar[0].edns_rcode) == (0, 1)  # BADVERS, 16, in two parts
    serve(body)


class Upstream(asyncio.DatagramProtocol):
    """Another name server: knows every name, counts the questions."""

    def __init__(self) -> None:
        self.asked = 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.asked += 1
        question = dnslib.DNSRecord.parse(data)
        answer = question.reply()
        if "nx" in str(question.q.qname):
            answer.header.rcode = 3
            answer.add_auth(dnslib.RR("example", dnslib.QTYPE.SOA, rdata=dnslib.SOA("a", "b", (1, 2, 3, 4, 60)), ttl=60))
        else:
            answer.add_answer(dnslib.RR(question.q.qname, dnslib.QTYPE.A, rdata=dnslib.A("192.0.2.9"), ttl=60))
        self.transport.sendto(struct.pack("!H", 0) + answer.pack()[2:], addr)  # a stray first: another id
        self.transport.sendto(answer.pack(), addr)


def test_other_names_are_forwarded_and_remembered() -> None:
    async def run() -> None:
        transport, upstream = await asyncio.get_running_loop().create_datagram_endpoint(
            Upstream, local_addr=("127.0.0.1", 0))
        port = transport.get_extra_info("sockname")[1]
        try:
            await asyncio.to_thread(serve, body(upstream), upstream=f"127.0.0.1:{port}")
        finally:
            transport.close()

    def body(upstream: Upstream) -> Callable[[Running], Awaitable[None]]:
        async def ask(dns: Running) -> None:
            for _ in range(2):
                answer = await dns.ask("Outer.example")
                assert texts(answer) == ["192.0.2.9"]
                assert str(answer.rr[0].rname) == "Outer.example."
                assert 29 <= answer.rr[0].ttl <= 60
            assert upstream.asked == 1
            for _ in range(2):
                assert (await dns.ask("nx.example")).header.rcode == 3
            assert upstream.asked == 2
            followed = await dns.ask("away.default.svc.cluster.local")
            assert texts(followed) == ["192.0.2.9", "outer.example."]
            assert upstream.asked == 2
        return ask

    asyncio.run(run())


@pytest.mark.parametrize("text", [COREFILE, COREFILE.replace("    forward . UPSTREAM\n", "")], ids=["dead", "none"])
def test_without_an_upstream_other_names_fail(text: str) -> None:
    async def body(dns: Running) -> None:
        assert (await dns.ask("outer.example")).header.rcode == (2 if "forward" in text else 5)
    serve(body, text=text)


@pytest.mark.parametrize("arguments", [["+noedns"], ["+edns=0", "+bufsize=1232"], ["+tcp"]])
def test_dig_understands(arguments: list[str]) -> None:
    async def body(dns: Running) -> None:
        child = await asyncio.create_subprocess_exec(
            "dig", "@127.0.0.1", "-p", str(dns.port), "+time=3", "+tries=1", "+short", *arguments,
            "big.default.svc.cluster.local", stdout=asyncio.subprocess.PIPE)
        out, _ = await child.communicate()
        assert len(out.split()) == 400
    serve(body)
