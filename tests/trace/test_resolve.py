"""Names resolved from the sender's place, each question a trace of its own."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import suppress
from importlib import resources

import dnslib
import jsonschema
import pytest

from netlab.errors import NotFound
from netlab.kernel import netns
from netlab.trace import byname, foresee
from netlab.trace.document import as_json
from netlab.trace.event import Outcome, Part, Trace
from netlab.trace.render import as_text
from netlab.trace.resolve import ResolvConf, parse, resolve
from netlab.trace.run import Request
from netlab.trace.world import Space, World
from tests.trace.topology import Network

CONF = "search default.svc.cluster.local svc.cluster.local\nnameserver 10.96.0.10\noptions ndots:5 edns0\n# nothing\n"


def test_resolv_conf() -> None:
    conf = parse(CONF)
    assert conf == ResolvConf(("10.96.0.10",), ("default.svc.cluster.local", "svc.cluster.local"), 5)
    assert conf.candidates("web") == ["web.default.svc.cluster.local.", "web.svc.cluster.local.", "web."]
    assert conf.candidates("a.b.c.d.e.f")[0] == "a.b.c.d.e.f."
    assert conf.candidates("web.example.") == ["web.example."]
    with pytest.raises(NotFound, match="names no server"):
        resolve("web", parse(""), lambda server, question: pytest.fail("asked"))


def serve_names(net: Network, place: str, names: dict[str, str]) -> None:
    sock = netns.socket_in(net.places[place], socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("0.0.0.0", 5353))
    net.stops.append(sock)

    def answer() -> None:
        with suppress(OSError):
            while True:
                data, peer = sock.recvfrom(512)
                if peer is None:
                    return
                question = dnslib.DNSRecord.parse(data)
                reply = question.reply()
                address = names.get(str(question.q.qname).rstrip("."))
                if address:
                    reply.add_answer(dnslib.RR(question.q.qname, rdata=dnslib.A(address)))
                else:
                    reply.header.rcode = 3 if address is None else 0
                sock.sendto(reply.pack(), peer)

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    net.threads.append(thread)


@pytest.mark.root
def test_a_name_is_asked_for_as_a_program_would(network: Network) -> None:
    network.sh("pod/default/client", "ping -c 1 -W 5 10.244.2.3")
    serve_names(network, "pod/default/web-2", {"web.svc.cluster.local": "10.96.0.10"})
    network.serve("pod/default/web-2", 8080)
    request = Request("pod/default/client", "", 80)
    result = byname.trace(request, "web", parse(CONF), network.taps(), network.names(), target="web")
    assert [part.words for part in result.parts] == ["web.default.svc.cluster.local A → NXDOMAIN",
                                                     "web.svc.cluster.local A → 10.96.0.10"]
    assert [hop.text for hop in result.parts[0].trace.request if hop.kind == "nat"] == ["DNAT 10.96.0.10:53 → 10.244.2.3:5353"]
    assert (result.outcome.status, result.destination, result.target) == ("connected", "10.96.0.10:80", "web")
    schema = json.loads((resources.files("netlab") / "docs" / "trace.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(json.loads(json.dumps(as_json(result))))
    assert "RESOLUTION  web.svc.cluster.local A → 10.96.0.10" in as_text(result)


@pytest.mark.root
def test_a_name_that_is_none_and_a_server_that_is_silent(network: Network) -> None:
    network.sh("pod/default/client", "ping -c 1 -W 5 10.244.2.3")
    serve_names(network, "pod/default/web-2", {})
    request = Request("pod/default/client", "", 80, timeout=1.0)
    unknown = byname.trace(request, "nobody.", parse(CONF), network.taps(), network.names(), target="nobody.")
    assert unknown.outcome.status == "unreachable"
    assert unknown.outcome.why == "nobody. has no address: nobody A → NXDOMAIN"
    network.sh("node/node2", "iptables -I FORWARD -p udp -j DROP")
    silent = byname.trace(request, "nobody.", parse(CONF), network.taps(), network.names(), target="nobody.")
    assert silent.outcome.place == "node/node2"
    assert "could not be resolved: dropped by filter FORWARD" in silent.outcome.why


@pytest.mark.root
def test_a_name_without_an_address_of_the_family_is_said_to_be_there(network: Network) -> None:
    serve_names(network, "pod/default/web-2", {"web.default.svc.cluster.local": ""})
    told = byname.trace(Request("pod/default/client", "", 80, timeout=1.0), "web", parse(CONF), network.taps(),
                        network.names(), target="web")
    assert told.outcome.why == "web has no IPv4 address: web.default.svc.cluster.local A → no such record"
    assert "ipFamilies" in told.outcome.fix


def test_a_name_that_led_nowhere_is_no_difference_to_what_the_api_server_knows() -> None:
    place = "pod/default/client"
    asked = Trace(place, "dns", "udp", "10.96.0.10:53", (), (), Outcome("replied"))
    observed = Trace(place, "six.default", "tcp", "six.default", (), (), Outcome("unreachable"),
                     parts=(Part("resolution", "six.default A", asked),))
    world = World({place: Space(place)})
    found = foresee.compared(world, Request(place, "fd00:96::1", 80), observed)
    assert (found.status, found.words) == ("skipped", "nothing was sent")
