"""The tracer against the kernel: real namespaces, real rules, real packets."""

from __future__ import annotations

import json
import socket
import struct
import threading
from importlib import resources

import jsonschema
import pytest

from netlab.errors import UsageError
from netlab.kernel import netns
from netlab.trace.document import as_json
from netlab.trace.event import Hop, Trace
from netlab.trace.render import as_text
from netlab.trace.run import Request, trace
from tests.trace.topology import Network

pytestmark = pytest.mark.root
CLIENT = "pod/default/client"
BOTH = pytest.mark.parametrize("network", ["iptables-nft-restore", "iptables-legacy-restore"], indirect=True)


def run(net: Network, address: str, port: int = 0, protocol: str = "tcp", source: str = CLIENT, timeout: float = 1.0,
        **more: object) -> Trace:
    result = trace(Request(source, address, port, protocol, timeout=timeout, **more), net.taps(), net.names())  # type: ignore[arg-type]
    assert result.lost == 0
    assert not result.warnings
    return result


def way(hops: tuple[Hop, ...]) -> list[str]:
    """The hops in short, without policies."""
    return [f"{h.place.rpartition('/')[2]} {h.chain if h.kind == 'rule' else h.text.partition(':')[0] if h.kind == 'conntrack' else h.text}"
            for h in hops if h.kind != "policy"]


@BOTH
def test_a_service_across_nodes_shows_every_interface_and_rule_in_order(network: Network) -> None:
    network.serve("pod/default/web-2", 8080)
    result = run(network, "10.96.0.10", 80)
    assert way(result.request) == [
        "client sent by eth0", "client out eth0",
        "node1 in v-client", "node1 PREROUTING", "node1 KUBE-SERVICES", "node1 KUBE-SVC-WEB", "node1 KUBE-SEP-TWO",
        "node1 DNAT 10.96.0.10:80 → 10.244.2.3:8080", "node1 in cni0", "node1 forwarded to eth0", "node1 FORWARD",
        "node1 POSTROUTING", "node1 KUBE-POSTROUTING", "node1 conntrack", "node1 out eth0",
        "fabric in node1", "fabric bridged by br0", "fabric out node2",
        "node2 in eth0", "node2 PREROUTING", "node2 forwarded to cni0", "node2 FORWARD", "node2 POSTROUTING",
        "node2 KUBE-POSTROUTING", "node2 conntrack", "node2 out cni0", "node2 out v-web-2",
        "web-2 in eth0", "web-2 for this host itself", "web-2 arrived at pod/default/web-2",
    ]
    reply = way(result.reply)
    assert reply[:2] == ["web-2 sent by eth0", "web-2 out eth0"]
    assert "node1 un-DNAT 10.244.2.3:8080 → 10.96.0.10:80 (conntrack remembers)" in reply
    assert reply[-1] == "client back at pod/default/client"
    assert (result.outcome.status, result.outcome.endpoint, result.outcome.endpoint_place) == \
        ("connected", "10.244.2.3:8080", "pod/default/web-2")
    times = [hop.at for hop in (*result.request, *result.reply) if hop.at]
    assert times == sorted(times)


def test_a_service_of_the_control_plane_shows_its_rules_both_ways(network: Network) -> None:
    network.serve("pod/default/web-2", 6443)
    network.sh("node/node1", "iptables-nft -t nat -I PREROUTING -d 10.96.0.1 -p tcp --dport 443 -j DNAT --to 10.244.2.3:6443")
    result = run(network, "10.96.0.1", 443)
    assert [(h.place, h.text.split()[0]) for h in (*result.request, *result.reply) if h.kind == "nat"] == \
        [("node/node1", "DNAT"), ("node/node1", "un-DNAT")]
    assert {h.place for h in result.request if h.kind == "rule"} == {"node/node1", "node/node2"}


def test_rules_are_named_by_the_line_that_iptables_save_prints(network: Network) -> None:
    network.serve("pod/default/web-2", 8080)
    saved = network.sh("node/node1", "iptables-nft-save")
    for hop in run(network, "10.96.0.10", 80).request:
        if hop.kind == "rule" and hop.place == "node/node1":
            assert f"-A {hop.chain} {hop.rule}" in saved.splitlines()


@BOTH
def test_udp_shows_the_rewrite_and_its_memory(network: Network) -> None:
    network.serve("pod/default/web-2", 5353, socket.SOCK_DGRAM)
    result = run(network, "10.96.0.10", 53, "udp")
    assert result.outcome.status == "replied"
    assert [h.text for h in result.request if h.kind == "nat"] == ["DNAT 10.96.0.10:53 → 10.244.2.3:5353"]
    assert [h.text for h in result.reply if h.kind == "nat"] == \
        ["un-DNAT 10.244.2.3:5353 → 10.96.0.10:53 (conntrack remembers)"]


def test_a_packet_sent_again_that_nat_gave_another_port_is_no_part_of_its_first_way(network: Network) -> None:
    network.serve("pod/default/web-2", 8080)
    with netns.socket_in(network.places["node/node1"], socket.AF_INET, socket.SOCK_STREAM) as stale:
        stale.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close() sends a reset
        stale.bind(("172.18.0.2", 1634))
        stale.connect(("10.244.2.3", 8080))
        network.sh("node/node1", "iptables-nft -I OUTPUT -p tcp --sport 1634 -j DROP")
    for node in ("node/node1", "node/node2"):
        network.sh(node, "conntrack -F 2>/dev/null")
    network.sh("node/node1", "iptables-nft -t nat -I POSTROUTING -p tcp -j SNAT --to 172.18.0.2:1635; iptables-nft -t nat "
               "-I POSTROUTING -p tcp -m statistic --mode nth --every 2 --packet 0 -j SNAT --to 172.18.0.2:1634")
    result = run(network, "10.244.2.3", 8080)  # the server answers for its old connection, and is told that it is over
    assert [(passage.what, passage.again) for passage in result.passages][:3] == [
        ("SYN", False), ("SYN", True), ("SYN ACK", False)]
    assert [h.text.rpartition(":")[2] for h in result.request if h.kind == "nat"] == ["1634"]
    assert [h.place for h in result.request if h.kind == "conntrack"] == ["node/node1", "node/node2"]
    assert [(h.place, h.text) for h in result.request if h.kind == "iface"] == [
        ("pod/default/client", "out eth0"), ("node/node1", "in v-client"), ("node/node1", "in cni0"),
        ("node/node1", "out eth0"), ("fabric", "in node1"), ("fabric", "out node2"), ("node/node2", "in eth0"),
        ("node/node2", "out cni0"), ("node/node2", "out v-web-2"), ("pod/default/web-2", "in eth0")]


@BOTH
def test_a_policy_that_drops_is_named(network: Network, request: pytest.FixtureRequest) -> None:
    legacy = "legacy" in str(request.node.callspec.params["network"])
    network.sh("node/node1", f"iptables-{'legacy' if legacy else 'nft'} -P FORWARD DROP")
    result = run(network, "10.244.2.3", 8080, timeout=0.5, bpf=False)
    assert result.outcome.why == "no rule accepted it, and the policy of filter FORWARD is DROP"
    assert {(h.table, h.chain) for h in result.request if h.kind == "policy" and h.verdict != "ACCEPT"} == {("filter", "FORWARD")}


@pytest.mark.parametrize(("source", "words"), [("what", "no IP address"), ("fd00::1", "two families")])
def test_a_source_that_fits_no_packet_is_refused(network: Network, source: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        run(network, "10.244.1.3", 8080, source_address=source)


def test_ping(network: Network) -> None:
    result = run(network, "10.244.1.3", protocol="icmp")
    assert result.outcome.status == "replied"
    assert "node1 bridged by cni0" in way(result.request)
    assert way(result.reply)[-1] == "client back at pod/default/client"


def test_what_dies_between_bridge_and_port_has_left_the_bridge_before(network: Network) -> None:
    network.sh("node/node1", "iptables-nft -t nat -I PREROUTING -d 10.96.0.77 -p tcp -j DNAT --to 10.244.1.3")
    network.sh("node/node1", "iptables-nft -I FORWARD -p tcp -j DROP")
    network.sh("node/node1", "ip neigh flush dev cni0")  # br_netfilter sends by the bridge where it has to ask first
    hops = way(run(network, "10.96.0.77", 80).request)
    assert [hop for hop in hops if hop.startswith("node1 ")][-4:] == [
        "node1 forwarded to cni0", "node1 out cni0", "node1 FORWARD", "node1 dropped by filter FORWARD: -p tcp -j DROP"]


@BOTH
def test_hairpin_is_rewritten_twice_and_comes_back_by_the_same_port(network: Network) -> None:
    network.serve("pod/default/web-2", 8080)
    result = run(network, "10.96.0.10", 80, source="pod/default/web-2")
    assert result.outcome.status == "connected"
    nat = [h.text.split(" → ")[0].split()[0] for h in result.request if h.kind == "nat"]
    assert nat == ["DNAT", "SNAT"]
    interfaces = [h.text for h in result.request if h.kind == "iface" and h.place == "node/node2"]
    assert (interfaces[0], interfaces[-1]) == ("in v-web-2", "out v-web-2")


@pytest.mark.parametrize("bpf", [None, False])
@pytest.mark.parametrize(("place", "broken", "why", "fix"), [
    ("node/node2", "bridge link set dev v-web-2 hairpin off",
     "the bridge cni0 of node/node2 sends nothing back by the port v-web-2, where the packet came from", "hairpin on"),
    ("pod/default/web-2", "iptables -t nat -I POSTROUTING -o cni0 -j ACCEPT",
     "pod/default/web-2 has sent it, and drops what comes back with its own address 10.244.2.3 as the source", "masquerade")])
def test_a_broken_hairpin_is_told_as_what_it_is(network: Network, place: str, broken: str, why: str, fix: str,
                                                bpf: bool | None) -> None:
    network.serve("pod/default/web-2", 8080)
    network.sh("node/node2", broken)
    end = trace(Request("pod/default/web-2", "10.96.0.10", 80, timeout=0.5, bpf=bpf), network.taps(), network.names()).outcome
    assert (end.status, end.place, end.why) == ("timeout", place, why)
    assert fix in end.fix


def test_hairpin_without_br_netfilter_is_rewritten_behind_the_bridge(network: Network) -> None:
    network.serve("pod/default/web-2", 8080)
    network.sh("node/node2", "sysctl -qw net.bridge.bridge-nf-call-iptables=0")
    result = run(network, "10.96.0.10", 80, source="pod/default/web-2")
    assert result.outcome.status == "connected"
    assert [h.text.split()[0] for h in result.request if h.kind == "nat"] == ["DNAT", "SNAT"]
    assert [h.text.split()[0] for h in result.reply if h.kind == "nat"] == ["un-SNAT", "un-DNAT"]
    there = [h.kind for h in result.request if h.place == "node/node2"]
    assert there[:3] == ["iface", "iface", "rule"]  # the port, the bridge, and then PREROUTING


def test_an_answer_that_passes_by_the_hooks_is_not_known_to_the_sender(network: Network) -> None:
    network.serve("pod/default/web-1", 8080)
    network.sh("node/node1", "iptables -t nat -R KUBE-SEP-TWO 2 -p tcp -j DNAT --to-destination 10.244.1.3:8080; "
               "sysctl -qw net.bridge.bridge-nf-call-iptables=0")
    outcome = run(network, "10.96.0.10", 80, timeout=0.5).outcome
    assert (outcome.status, outcome.place) == ("timeout", CLIENT)
    assert outcome.why.startswith("the answer came from 10.244.1.3:8080 where 10.96.0.10:80 was asked")
    assert outcome.fix.endswith("sysctl net.bridge.bridge-nf-call-iptables=1")


def test_from_a_node(network: Network) -> None:
    network.serve("pod/default/web-2", 8080)
    result = run(network, "10.96.0.10", 80, source="node/node1")
    assert way(result.request)[:5] == ["node1 OUTPUT", "node1 KUBE-SERVICES", "node1 KUBE-SVC-WEB", "node1 KUBE-SEP-TWO",
                                       "node1 DNAT 10.96.0.10:80 → 10.244.2.3:8080"]
    assert result.outcome.status == "connected"


@BOTH
def test_a_service_without_endpoints_is_rejected_by_name(network: Network) -> None:
    result = run(network, "10.96.0.99", 80)
    assert result.outcome.status == "refused"
    assert result.outcome.place == "node/node1"
    assert result.outcome.why == "rejected by filter KUBE-SERVICES: default/none has no endpoints"
    assert "selector" in result.outcome.fix
    assert result.reply[0].packet.what == "port unreachable"


@pytest.mark.parametrize(("place", "rule", "expected"), [
    ("node/node2", "iptables -A FORWARD -s 10.244.1.2 -j DROP", "dropped by filter FORWARD: -s 10.244.1.2/32 -j DROP"),
    ("pod/default/client", "iptables -A OUTPUT -p tcp -j DROP", "dropped by filter OUTPUT: -p tcp -j DROP"),
    ("pod/default/web-2", "iptables -t mangle -A PREROUTING -p tcp -j DROP", "dropped by mangle PREROUTING: -p tcp -j DROP"),
    ("node/node1", "iptables -P FORWARD DROP", "no rule accepted it, and the policy of filter FORWARD is DROP"),
    ("node/node1", ("nft add table ip t; nft add chain ip t c '{ type filter hook forward priority 5; }'; "
                    "nft add rule ip t c tcp dport 8080 drop"), "dropped by t c: tcp dport 8080 drop"),
])
def test_a_foreign_drop_is_named_where_it_is(network: Network, place: str, rule: str, expected: str) -> None:
    network.serve("pod/default/web-2", 8080)
    network.sh(place, rule)
    result = run(network, "10.96.0.10", 80)
    assert (result.outcome.status, result.outcome.place, result.outcome.why) == ("timeout", place, expected)
    assert result.request[-1].kind == "drop"


def test_an_answer_that_dies_on_its_way_back(network: Network) -> None:
    network.serve("pod/default/web-2", 8080)
    network.sh("node/node2", "iptables -A FORWARD -s 10.244.2.3 -j DROP")
    result = run(network, "10.96.0.10", 80, timeout=0.5)
    assert result.outcome.status == "timeout"
    assert result.outcome.place == "node/node2"
    assert result.outcome.why.startswith("the answer died on its way back: dropped by filter FORWARD")
    assert result.request[-1].kind == "deliver"


def test_a_changed_dnat_shows_where_the_packet_really_went(network: Network) -> None:
    network.serve("pod/default/web-1", 8080)
    network.sh("node/node1", "iptables -t nat -R KUBE-SEP-TWO 2 -p tcp -j DNAT --to-destination 10.244.1.3:8080")
    outcome = run(network, "10.96.0.10", 80).outcome
    assert (outcome.status, outcome.endpoint, outcome.endpoint_place) == ("connected", "10.244.1.3:8080", "pod/default/web-1")


def test_a_closed_port(network: Network) -> None:
    outcome = run(network, "10.244.2.3", 81).outcome
    assert (outcome.status, outcome.place) == ("refused", "pod/default/web-2")
    assert outcome.why == "pod/default/web-2 answered with a reset: nothing listens on 10.244.2.3:81"


@pytest.mark.parametrize(("route", "status", "words"), [
    ("blackhole", "timeout", "a `blackhole` route"),
    ("unreachable", "unreachable", "an `unreachable` route"),
    ("prohibit", "unreachable", "a `prohibit` route"),
])
def test_a_route_that_leads_nowhere(network: Network, route: str, status: str, words: str) -> None:
    network.sh("node/node1", f"ip route add {route} 10.244.2.3/32")
    outcome = run(network, "10.244.2.3", 8080, timeout=0.5).outcome
    assert (outcome.status, outcome.place) == (status, "node/node1")
    assert words in outcome.why


def test_no_route_at_all(network: Network) -> None:
    network.sh("node/node1", "ip route del default")
    outcome = run(network, "203.0.113.9", 80, timeout=0.5).outcome
    assert (outcome.status, outcome.place) == ("unreachable", "node/node1")
    assert "no route for 203.0.113.9" in outcome.why


def test_nobody_has_the_address(network: Network) -> None:
    outcome = run(network, "10.244.2.9", 80, timeout=4).outcome
    assert (outcome.status, outcome.place) == ("unreachable", "node/node2")
    assert outcome.why == "node/node2 asked on cni0 who has 10.244.2.9, and nobody answered"


def test_a_cable_that_is_down(network: Network) -> None:
    network.serve("pod/default/web-2", 8080)
    network.sh("fabric", "ip link set node2 down")
    outcome = run(network, "10.96.0.10", 80, timeout=0.5).outcome
    assert outcome.status == "timeout"
    assert outcome.place in ("fabric", "node/node1")


def test_udp_that_nobody_answers_has_arrived(network: Network) -> None:
    with netns.socket_in(network.places["pod/default/web-2"], socket.AF_INET, socket.SOCK_DGRAM) as mute:
        mute.bind(("10.244.2.3", 99))
        result = run(network, "10.244.2.3", 99, "udp", timeout=0.4)
    assert result.outcome.why == "it arrived at pod/default/web-2, and nothing came back"
    assert result.request[-1].kind == "deliver"


def test_the_rules_are_untouched_and_nothing_is_left(network: Network) -> None:
    network.serve("pod/default/web-2", 8080)
    before = network.sh("node/node1", "iptables-save; nft list tables")
    run(network, "10.96.0.10", 80)
    assert network.sh("node/node1", "iptables-save; nft list tables").count("\n") == before.count("\n")
    assert "netlab" not in network.sh("node/node1", "nft list tables")


def test_vxlan_is_looked_into(network: Network) -> None:
    network.serve("pod/default/web-2", 8080)
    for node, ip, other, pods in (("node1", "172.18.0.2", "172.18.0.3", "10.244.2"),
                                  ("node2", "172.18.0.3", "172.18.0.2", "10.244.1")):
        network.sh(f"node/{node}", f"ip link add vx1 type vxlan id 1 local {ip} remote {other} dstport 8472 dev eth0; "
                                   f"ip addr add 10.250.0.{ip[-1]}/24 dev vx1; ip link set vx1 up; "
                                   f"ip route replace {pods}.0/24 via 10.250.0.{other[-1]}")
    result = run(network, "10.96.0.10", 80)
    assert result.outcome.status == "connected"
    assert [h.text for h in result.request if h.place == "fabric" and h.kind == "iface"] == \
        ["in node1 in VXLAN 1: 172.18.0.2 → 172.18.0.3", "out node2 in VXLAN 1: 172.18.0.2 → 172.18.0.3"]


def test_json_follows_its_schema_and_text_has_every_rule(network: Network) -> None:
    network.serve("pod/default/web-2", 8080)
    result = run(network, "10.96.0.10", 80)
    schema = json.loads((resources.files("netlab") / "docs" / "trace.schema.json").read_text())
    document = json.loads(json.dumps(as_json(result, {CLIENT: "node1"})))
    jsonschema.Draft202012Validator(schema).validate(document)
    assert document["hops"][0]["node"] == "node1"
    text = as_text(result)
    assert "nat KUBE-SVC-WEB" in text
    assert "\x1b" not in text
    assert "connected to 10.244.2.3:8080 (pod/default/web-2)" in text


def test_a_source_that_is_not_there(network: Network) -> None:
    from netlab.errors import NotFound

    with pytest.raises(NotFound, match="no place pod/default/nobody"):
        run(network, "10.96.0.10", 80, source="pod/default/nobody")


def test_a_whole_connection_with_its_payload_and_close(network: Network) -> None:
    network.sh(CLIENT, "ping -c 1 -W 5 10.244.2.3")
    with netns.socket_in(network.places["pod/default/web-2"]) as listener:
        listener.bind(("0.0.0.0", 8080))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"you said " + connection.recv(100))

        thread = threading.Thread(target=serve)
        thread.start()
        result = run(network, "10.96.0.10", 80, timeout=5, payload=b"hello")
        thread.join()
    assert (result.outcome.status, result.outcome.answer) == ("connected", "you said hello")
    assert [(p.direction, p.payload) for p in result.passages if p.payload] == [("request", 5), ("reply", 14)]
    whats = [passage.what for passage in result.passages]
    assert whats[:3] == ["SYN", "SYN ACK", "ACK"]
    assert sum("FIN" in what for what in whats) == 2
    assert not any(passage.again for passage in result.passages)
    assert len(result.passages[0].crossed) == 10
    assert all(crossing.data for passage in result.passages for crossing in passage.crossed)


def test_a_retransmission_is_marked_and_the_first_attempt_shown(network: Network) -> None:
    network.sh(CLIENT, "ping -c 1 -W 5 10.244.2.3")
    network.sh("node/node2", "ip route add blackhole 10.244.2.3/32")
    result = run(network, "10.244.2.3", 8080, timeout=2.2)
    again = [passage.again for passage in result.passages if passage.what == "SYN"]
    assert again[:2] == [False, True]
    assert all(again[1:])
    assert [h.interface for h in result.request if h.kind == "iface" and h.place == CLIENT] == ["eth0"]
    assert [h.interface for h in result.request if h.kind == "iface" and h.place == "node/node1"] == ["v-client", "cni0", "eth0"]
    assert result.outcome.place == "node/node2"


def test_ipv6_and_neighbours_and_routes(network: Network) -> None:
    for place, address, gateway in ((CLIENT, "fd00:1::2/64", "fd00:1::1"), ("pod/default/web-2", "fd00:2::3/64", "fd00:2::1")):
        network.sh(place, f"ip -6 addr add {address} dev eth0 nodad; ip -6 route add default via {gateway}")
    for node, pods, own, other, peer in (("node1", "fd00:1::1/64", "fd00:f::2", "fd00:2::/64", "fd00:f::3"),
                                         ("node2", "fd00:2::1/64", "fd00:f::3", "fd00:1::/64", "fd00:f::2")):
        network.sh(f"node/{node}", f"sysctl -qw net.ipv6.conf.all.forwarding=1; ip -6 addr add {pods} dev cni0 nodad; "
                                   f"ip -6 addr add {own}/64 dev eth0 nodad; ip -6 route add {other} via {peer}")
    network.sh("node/node1", "ip6tables -t nat -A PREROUTING -d fd00:96::10 -p tcp --dport 80 -j DNAT --to-destination [fd00:2::3]:8080")
    network.sh(CLIENT, "ping -6 -c 1 -W 5 fd00:2::3")
    with netns.socket_in(network.places["pod/default/web-2"], socket.AF_INET6) as listener:
        listener.bind(("::", 8080))
        listener.listen()
        result = run(network, "fd00:96::10", 80, timeout=5)
    assert (result.outcome.status, result.outcome.endpoint) == ("connected", "[fd00:2::3]:8080")
    assert [h.text for h in result.request if h.kind == "nat"] == ["DNAT [fd00:96::10]:80 → [fd00:2::3]:8080"]
    routed = next(h for h in result.request if h.place == "node/node1" and h.kind == "route")
    assert routed.route is not None
    assert (routed.route.table, routed.route.prefix, routed.route.gateway) == ("main", "fd00:2::/64", "fd00:f::3")
    assert routed.route.state in ("reachable", "delay", "stale", "probe")
    assert routed.route.mac
    tracked = next(h for h in result.request if h.kind == "conntrack" and h.place == "node/node1")
    assert tracked.entry is not None
    assert (tracked.entry.destination, tracked.entry.reply_source) == ("[fd00:96::10]:80", "[fd00:2::3]:8080")
    assert run(network, "fd00:2::3", protocol="icmp").outcome.status == "replied"
