"""Following live traffic: real connections of others, told flow by flow."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from importlib import resources
from pathlib import Path

import jsonschema
import pytest

from netlab.errors import UsageError
from netlab.kernel import netns
from netlab.kernel.taps import PacketTap
from netlab.trace import flowtext
from netlab.trace import follow as following
from netlab.trace.follow import Closing, Limits, Told, follow
from netlab.trace.listen import Ears, Source, Tap
from netlab.trace.packet import parse
from netlab.trace.watch import End, Watch, parse_sample, reduced
from tests.trace.topology import Network

CLIENT = "pod/default/client"
SCHEMA = json.loads((resources.files("netlab") / "docs" / "trace.schema.json").read_text())


def while_following(network: Network, watch: Watch, traffic: Callable[[], None], *, count: int = 0,
                    **more: object) -> tuple[list[Told], Closing]:
    """Follow in a thread, make traffic once the ears are open, and return what was told."""
    network.sh(CLIENT, "ping -c 1 -W 5 10.244.2.3")
    told: list[Told] = []
    closing: list[Closing] = []
    done, opened = threading.Event(), threading.Event()

    def stop() -> bool:
        opened.set()
        return done.is_set()

    def body() -> None:
        closing.append(follow(watch, network.taps(), network.names() | {"10.96.0.10": "svc/default/web"}, told.append,
                              limits=Limits(count=count, duration=20, patience=1.0, stop=stop), **more))  # type: ignore[arg-type]

    thread = threading.Thread(target=body)
    thread.start()
    assert opened.wait(10)
    traffic()
    if not count:
        done.set()
    thread.join(30)
    return told, closing[0]


def connect(network: Network, address: str, port: int, place: str = CLIENT) -> None:
    with netns.socket_in(network.places[place]) as sock:
        sock.settimeout(1)
        try:
            sock.connect((address, port))
        except OSError:
            return


@pytest.mark.root
@pytest.mark.parametrize("network", ["iptables-nft-restore", "iptables-legacy-restore"], indirect=True)
def test_flows_are_told_with_their_names_and_ends(network: Network) -> None:
    network.serve("pod/default/web-2", 8080)

    def traffic() -> None:
        connect(network, "10.96.0.10", 80)
        connect(network, "10.96.0.99", 80)
        connect(network, "10.244.2.3", 81)

    told, closing = while_following(network, Watch(), traffic, count=3)
    by_status = {flow.status: flow for flow in told if flow.trace.destination != "10.244.2.3:81"}
    good = by_status["connected"]
    assert (good.trace.source, good.trace.target, good.trace.outcome.endpoint_place) == \
        (CLIENT, "svc/default/web:80", "pod/default/web-2")
    assert [hop.chain for hop in good.trace.request if hop.kind == "rule" and hop.place == "node/node1"][:3] == \
        ["PREROUTING", "KUBE-SERVICES", "KUBE-SVC-WEB"]
    assert by_status["refused"].trace.outcome.why == "rejected by filter KUBE-SERVICES: default/none has no endpoints"
    assert (closing.flows, closing.shown, closing.dropped) == (3, 3, 2)
    assert closing.lost == {"frames": 0, "rules": 0, "drops": 0}
    for flow in told:
        document = json.loads(json.dumps(flowtext.as_json(flow, hops=True)))
        jsonschema.Draft202012Validator({"$ref": "#/$defs/flow", "$defs": SCHEMA["$defs"]}).validate(document)
    jsonschema.Draft202012Validator({"$ref": "#/$defs/end", "$defs": SCHEMA["$defs"]}).validate(
        json.loads(json.dumps(flowtext.closing_json(closing))))
    assert "pod/default/client → svc/default/web:80 ⇒ pod/default/web-2 10.244.2.3:8080  connected" in flowtext.line(good)


@pytest.mark.root
@pytest.mark.parametrize("bpf", [False, None])
def test_only_drops_of_one_service(network: Network, bpf: bool | None) -> None:
    network.serve("pod/default/web-2", 8080)
    network.sh("node/node2", "iptables -A FORWARD -s 10.244.1.2 -p tcp -j DROP")

    def traffic() -> None:
        connect(network, "10.96.0.99", 80)  # another Service
        connect(network, "10.96.0.10", 80)
        connect(network, "10.96.0.10", 80, place="pod/default/web-1")

    watch = Watch(ends=((End("10.96.0.10", 80, "destination"),),), near=frozenset({"10.244.2.3"}), drops_only=True)
    told, _ = while_following(network, watch, traffic, count=1, bpf=bpf)
    assert [(flow.status, flow.trace.outcome.place, flow.trace.outcome.why) for flow in told] == \
        [("dropped", "node/node2", "dropped by filter FORWARD: -s 10.244.1.2/32 -p tcp -j DROP")]


@pytest.mark.root
def test_udp_questions_are_one_flow_each_pair_of_ports(network: Network) -> None:
    network.serve("pod/default/web-2", 5353, socket.SOCK_DGRAM)

    def traffic() -> None:
        with netns.socket_in(network.places[CLIENT], socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(2)
            for n in range(5):
                sock.sendto(b"question %d" % n, ("10.96.0.10", 53))
                sock.recv(100)

    told, closing = while_following(network, Watch(protocols=frozenset({17})), traffic, count=1)
    assert [flow.status for flow in told] == ["replied"]
    assert closing.flows == 1


@pytest.mark.root
def test_kernel_and_we_agree_about_the_sample(network: Network) -> None:
    """Flows of the sample have their rules, and only those are told."""
    network.serve("pod/default/web-2", 5353, socket.SOCK_DGRAM)
    network.serve("pod/default/web-2", 8080)
    sent: list[int] = []

    def traffic() -> None:
        for _ in range(60):
            with netns.socket_in(network.places[CLIENT], socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.settimeout(2)
                sock.sendto(b"question", ("10.96.0.10", 53))
                sent.append(sock.getsockname()[1])
                sock.recv(100)
        for _ in range(60):
            connect(network, "10.96.0.10", 80)

    told, closing = while_following(network, Watch(sample=4), traffic)
    udp = [flow for flow in told if flow.trace.protocol == "udp"]
    tcp = [flow for flow in told if flow.trace.protocol == "tcp"]
    assert {flow.trace.request[0].packet.sport for flow in udp} <= {port for port in sent if reduced(port, 4) == 0}
    assert 0 < len(udp) < 60
    assert 0 < len(tcp) < 60
    for flow in (*udp, *tcp):
        assert any(hop.kind == "rule" and hop.place == "node/node1" for hop in flow.trace.request)
    assert closing.sample == 4


@pytest.mark.root
def test_rules_read_before_their_packets_are_kept(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine one socket is read later than another."""
    network.serve("pod/default/web-2", 8080)
    take = Ears.take

    def slow(ears: Ears, place: str, source: Source) -> bool:
        late = isinstance(source, PacketTap) and int(time.monotonic() * 10) % 2
        return False if late else take(ears, place, source)

    def traffic() -> None:
        for _ in range(30):
            connect(network, "10.96.0.10", 80)
            time.sleep(0.02)

    monkeypatch.setattr(Ears, "take", slow)
    told, closing = while_following(network, Watch(), traffic)
    assert closing.lost == {"frames": 0, "rules": 0, "drops": 0}
    assert len(told) == 30
    for flow in told:
        assert any(hop.kind == "rule" and hop.place == "node/node1" for hop in flow.trace.request)


@pytest.mark.root
def test_somebody_else_may_trace_at_the_same_time(network: Network) -> None:
    network.serve("pod/default/web-2", 8080)
    other: list[list[object]] = []
    program = ("import sys, json; from tests.trace import drops; from netlab.trace.run import Request, Tap, trace; "
               "taps = [Tap(place, fd) for place, fd in json.loads(sys.argv[1]).items()]; "
               "found = trace(Request('pod/default/client', '10.96.0.10', 80), taps); "
               "print(json.dumps([found.warnings, found.outcome.status, "
               "[h.chain for h in found.request if h.kind == 'rule' and h.place == 'node/node1']]))")

    def traffic() -> None:
        done = subprocess.run([sys.executable, "-P", "-c", program, json.dumps(network.places)], capture_output=True,
                              text=True, check=True, pass_fds=list(network.places.values()), cwd="/",
                              env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])})
        other.append(json.loads(done.stdout))

    told, _ = while_following(network, Watch(), traffic, count=1)
    chains = ["PREROUTING", "KUBE-SERVICES", "KUBE-SVC-WEB", "KUBE-SEP-TWO"]
    warnings, status, met = other[0]
    assert (warnings, status, met[:4]) == ([], "connected", chains)
    mine = [hop.chain for hop in told[0].trace.request if hop.kind == "rule" and hop.place == "node/node1"]
    assert (told[0].status, mine) == ("connected", met)


@pytest.mark.root
def test_namespaces_that_end_are_let_go_and_those_that_come_anew_are_heard(
        network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "REFRESH", 0.1)
    network.serve("pod/default/web-2", 8080)
    gone, anew = "pod/default/web-1", CLIENT
    again = os.dup(network.places[anew])  # as a Pod of the same name in another namespace would be
    taps = [tap for tap in network.taps() if tap.place != gone]
    taps = [replace(tap, netns_fd=again) if tap.place == anew else tap for tap in taps]
    released: list[str] = []
    enough = threading.Event()

    def release(tap: Tap) -> None:
        released.append(tap.place)
        if set(released) == {gone, anew}:
            enough.set()

    def traffic() -> None:
        assert enough.wait(20)
        assert "netlab" not in network.sh(gone, "nft list tables")
        connect(network, "10.96.0.10", 80)

    told, closing = while_following(network, Watch(), traffic, count=1, refresh=lambda: taps, release=release)
    os.close(again)
    assert (released, told[0].trace.source, told[0].status) == ([anew, gone], CLIENT, "connected")
    assert not any(closing.lost.values())


@pytest.mark.root
def test_nothing_stays_behind(network: Network) -> None:
    told, _ = while_following(network, Watch(), lambda: None)
    assert told == []
    assert "netlab" not in network.sh("node/node1", "nft list tables")


@pytest.mark.root
def test_a_nodes_own_flow_is_told_by_the_service_that_it_asked(network: Network) -> None:
    """No interface sees its first packet as it was made: nat OUTPUT comes before."""
    network.serve("pod/default/web-2", 8080)
    watch = Watch(ends=((End("10.96.0.10", 80, "destination"),),))
    told, _ = while_following(network, watch, lambda: connect(network, "10.96.0.10", 80, "node/node1"), count=1)
    assert [(flow.trace.source, flow.trace.target, flow.trace.outcome.endpoint_place) for flow in told] == [
        ("node/node1", "svc/default/web:80", "pod/default/web-2")]


@pytest.mark.root
def test_of_many_short_flows_each_has_its_endpoint(network: Network) -> None:
    network.serve("pod/default/web-2", 8080)

    def traffic() -> None:
        threads = [threading.Thread(target=lambda: [connect(network, "10.96.0.10", 80) for _ in range(20)]) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    told, closing = while_following(network, Watch(), traffic, count=120)
    assert len(told) == 120 or any(closing.lost.values())
    assert {(flow.status, flow.trace.target, flow.trace.outcome.endpoint_place) for flow in told} == {
        ("connected", "svc/default/web:80", "pod/default/web-2")}


def test_ends() -> None:
    pod = Watch(ends=((End("10.244.1.2"),), (End("10.96.0.10", 80, "destination"),)))
    assert pod.wants({("10.244.1.2", 999, "10.96.0.10", 80)}, 6)
    assert not pod.wants({("10.244.1.2", 999, "10.96.0.10", 81)}, 6)
    assert not pod.wants({("10.96.0.10", 80, "10.244.1.2", 999)}, 6)
    assert Watch(protocols=frozenset({17})).wants({("1.1.1.1", 1, "2.2.2.2", 2)}, 17)
    assert not Watch(protocols=frozenset({17})).wants({("1.1.1.1", 1, "2.2.2.2", 2)}, 6)


def test_samples() -> None:
    assert parse_sample("1/16") == 16
    for bad in ("16", "2/3", "1/0", "1/x"):
        with pytest.raises(UsageError, match="no share"):
            parse_sample(bad)
    counts = [sum(reduced(port, 8) == n for port in range(20000, 60000)) for n in range(8)]
    assert min(counts) > 4500
    syn = parse(bytes.fromhex("450000280000400040060000" + "0af40102" + "0a60000a" + "d43100500001000100000000" + "5002ffff00000000"))
    assert syn is not None
    assert Watch(sample=65536).sampled(syn) is False
    assert Watch(sample=4).sampled(syn)
