"""Predictions against the kernel: random clusters, random rules beside kube-proxy's, real packets; none may differ."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from netlab.kernel import netns
from netlab.netfilter import render
from netlab.netfilter.model import Ruleset
from netlab.proxy.settings import LocalDetector
from netlab.trace import foresee, look
from netlab.trace.agree import Agreement
from netlab.trace.event import Trace
from netlab.trace.run import Request, trace
from tests.proxy.builders import a_port, a_service, a_slice, an_endpoint, rules_for
from tests.trace import longrun, topology
from tests.trace.topology import FORWARDS, NODES, Network

pytestmark = pytest.mark.root

LIVE = {"10.244.1.2": "node1", "10.244.1.3": "node1", "10.244.2.3": "node2"}
NOBODY = {"10.244.1.77": "node1", "10.244.2.77": "node2"}
PLACES = ("pod/default/client", "pod/default/web-1", "pod/default/web-2", "node/node1", "node/node2")
SLICE_PORTS = [{"name": "http", "port": 8080, "protocol": "TCP"}, {"name": "dns", "port": 5353, "protocol": "UDP"}]
FOREIGN = ("-A FORWARD -p tcp -m tcp --dport 8080 -j DROP", "-A FORWARD -d 10.244.2.0/24 -j REJECT",
           "-A FORWARD -p tcp -j REJECT --reject-with tcp-reset", "-A INPUT -p tcp -m tcp --dport 81 -j DROP",
           "-A OUTPUT -d 10.96.0.10/32 -j REJECT --reject-with icmp-admin-prohibited",
           "-A FORWARD -m conntrack --ctstate ESTABLISHED -j DROP", "-A FORWARD -p icmp -j DROP",
           "-A FORWARD -m limit --limit 1000/sec -j ACCEPT")
KERNEL = ("sysctl -qw net.ipv4.ip_forward=0", "ip route add blackhole 10.244.1.3/32",
          "ip route add prohibit 10.244.2.3/32", "ip route add unreachable 10.96.0.10/32",
          "sysctl -qw net.bridge.bridge-nf-call-iptables=0", "sysctl -qw net.ipv4.conf.eth0.rp_filter=1",
          "ip route del 10.244.1.0/24 via 172.18.0.2", "sysctl -eqw net.ipv4.conf.cni0.forwarding=0",
          "sysctl -eqw net.ipv4.conf.eth0.forwarding=0", "sysctl -qw net.ipv4.ip_forward=0; ip route add prohibit 10.244.2.3/32",
          HOPS := "ip route add 10.244.2.3/32 nexthop via 172.18.0.3 weight 2 nexthop via 172.18.0.99 2>/dev/null || true")

DOUBTS = ("neighbour discovery", "ICMP redirect", "the program there may answer from")
PLAIN = {"foreign": "", "masquerade_all": False, "policy": "ACCEPT", "detector": "-s 10.244.0.0/16", "affinity": "None",
         "internal": "Cluster", "external": "Cluster", "node": "node2", "kernel": "", "endpoints": []}


@dataclass(frozen=True)
class Try:
    place: str
    address: str
    port: int
    protocol: Any


endpoints = st.lists(st.builds(lambda ip, state: an_endpoint(ip, (LIVE | NOBODY)[ip], ready=state == "ready",
                                                             serving=state != "dead", terminating=state != "ready"),
                               st.sampled_from([*LIVE, *LIVE, *NOBODY]), st.sampled_from(["ready", "ready", "dying", "dead"])),
                     max_size=4, unique_by=lambda each: each["addresses"][0])


def some(commands: Sequence[str]) -> st.SearchStrategy[str]:
    """None, one or two of them; of two that make the same the second may fail."""
    one = st.sampled_from(commands)
    return st.one_of(st.just(""), one, st.tuples(one, one, st.just("true")).map("; ".join))


clusters = st.fixed_dictionaries({
    "endpoints": endpoints, "external": st.sampled_from(["Cluster", "Local"]),
    "internal": st.sampled_from(["Cluster", "Cluster", "Local"]), "affinity": st.sampled_from(["None", "None", "ClientIP"]),
    "detector": st.sampled_from(["-s 10.244.0.0/16", "-i cni0", ""]), "masquerade_all": st.booleans(),
    "foreign": st.lists(st.sampled_from(FOREIGN), max_size=2, unique=True).map("\n".join),
    "policy": st.sampled_from(["ACCEPT", "ACCEPT", "ACCEPT", "DROP"]),
    "kernel": some(KERNEL), "node": st.sampled_from(sorted(NODES))})
tcp = st.builds(Try, st.sampled_from(PLACES), st.sampled_from(["10.96.0.10", "10.96.0.10", "172.18.0.2", "172.18.0.3"]),
                st.sampled_from([80, 80, 30080, 81]), st.just("tcp"))
direct = st.builds(Try, st.sampled_from(PLACES), st.sampled_from([*LIVE, "10.244.1.1"]),
                   st.sampled_from([8080, 81]), st.just("tcp"))
udp = st.builds(Try, st.sampled_from(PLACES), st.just("10.96.0.10"), st.sampled_from([53, 54]), st.just("udp"))
ping = st.builds(Try, st.sampled_from(PLACES), st.sampled_from([*LIVE, "172.18.0.2", "10.96.0.10"]), st.just(0), st.just("icmp"))


@pytest.fixture(scope="module", params=["iptables-nft", "ip6tables-nft", "iptables-legacy", "ip6tables-legacy"])
def net(request: pytest.FixtureRequest) -> Iterator[Network]:
    made = topology.build(6 if "6" in request.param else 4)
    made.tool = request.param
    try:
        made.serve_all()
        yield made
    finally:
        made.close()


def spelled(net: Network, line: str) -> str:
    """A rule or a command in the words of the network's family."""
    if net.family == 4 or not line:
        return line
    line = re.sub(r"sysctl \S+ \S+rp_filter=1(; )?", "", line)
    for old, new in (("-p icmp", "-p ipv6-icmp -m icmp6 --icmpv6-type echo-request"), ("icmp-admin", "icmp6-adm"),
                     ("ipv4.ip_forward", "ipv6.conf.all.forwarding"), ("call-iptables", "call-ip6tables"),
                     ("ip route", "ip -6 route")):
        line = line.replace(old, new)
    # of IPv6 an interface has no say in it, but for this one (Linux 6.17)
    line = re.sub(r"ipv4(\.conf\.\w+\.)forwarding=(.)", lambda found: (
        f"ipv6.conf.all.forwarding={found[2]} net.ipv6{found[1]}force_forwarding={1 - int(found[2])}"), line)
    return topology.six(line)


def service_of(net: Network, cluster: dict[str, Any]) -> dict[str, Any]:
    return a_service(ip=net.at("10.96.0.10"), type="NodePort", ports=[a_port(node_port=30080), a_port(53, "dns", "UDP", 30053)],
                     externalTrafficPolicy=cluster["external"], internalTrafficPolicy=cluster["internal"],
                     sessionAffinity=cluster["affinity"])


def prepare(net: Network, cluster: dict[str, Any]) -> None:
    service = service_of(net, cluster)
    listed = [{**each, "addresses": [net.at(each["addresses"][0])]} for each in cluster["endpoints"]]
    family = "IPv6" if net.family == 6 else "IPv4"
    slices = a_slice(endpoints=listed, ports=SLICE_PORTS, family=family)
    lay(net, cluster, {node: rules_for(
        service, slices, node=node, node_ip=net.at(ip), family=family, detector=LocalDetector(net.at(cluster["detector"])),
        masquerade_all=cluster["masquerade_all"]) for node, (ip, _) in NODES.items()})


def lay(net: Network, cluster: dict[str, Any], rules: dict[str, Ruleset]) -> None:
    """Give each node its rules, one of them foreign rules and settings too, and forget what was before."""
    for node in NODES:
        place = f"node/{node}"
        text = render.ruleset(rules[node])
        if node == cluster["node"]:
            text = text.replace(":FORWARD ACCEPT", f":FORWARD {cluster['policy']}")
            text += f"*filter\n{spelled(net, cluster['foreign'])}\nCOMMIT\n" if cluster["foreign"] else ""
        with netns.inside(net.places[place]):
            for more in ([], ["-t", "nat"]):
                subprocess.run([net.tool, "-F", *more], check=True)
            # two texts: each of them flushes nothing but what it names
            pieces = text.rpartition("*filter\n") if node == cluster["node"] and cluster["foreign"] else (text, "", "")
            subprocess.run([f"{net.tool}-restore"], input=pieces[0], text=True, check=True)
            if pieces[2]:
                subprocess.run([f"{net.tool}-restore", "--noflush"], input=pieces[1] + pieces[2], text=True, check=True)
        lines = [*FORWARDS, "sysctl -qw net.bridge.bridge-nf-call-iptables=1",
                 *(f"ip route flush type {kind}" for kind in ("blackhole", "prohibit", "unreachable")),
                 "ip route flush 10.244.2.3/32"]
        net.sh(place, "conntrack -F 2>/dev/null; sysctl -qw net.ipv4.conf.eth0.rp_filter=0 "
               "net.ipv4.conf.all.rp_filter=0; " + "; ".join(spelled(net, line) for line in lines) + "; true")
    net.sh("node/node2", spelled(net, "ip route replace 10.244.1.0/24 via 172.18.0.2"))
    change = spelled(net, cluster["kernel"])
    net.sh("node/node2" if " route del" in change else f"node/{cluster['node']}", change or "true")


def asked(net: Network, wish: Try) -> Request:
    return Request(wish.place, net.at(wish.address), wish.port, wish.protocol, timeout=0.4, payload=b"question")


def sent(net: Network, request: Request) -> tuple[Agreement, Trace]:
    """Send a packet; return how it went beside what was predicted just before, and how it went."""
    world = look.world(net.taps(), net.names(), family=net.family)
    observed = trace(request, net.taps(), net.names())
    found = foresee.compared(world, request, observed)
    longrun.TALLY[found.status] += 1
    return found, observed


def check(net: Network, cluster: dict[str, Any], wishes: list[Try], prepare: Callable[..., None] = prepare) -> None:
    prepare(net, cluster)
    for wish in wishes:
        found, observed = sent(net, asked(net, wish))
        assert found.status in ("agrees", "unsure") or observed.lost, (wish, found, observed.outcome)
        if found.status == "unsure":
            assert "limit" in cluster["foreign"] or any(each in found.words for each in DOUBTS), (wish, found)


# Not made smaller on failure: every try costs real packets, and the first failure tells all.
SOME = partial(settings, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate],
               suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
WISHES = st.lists(st.one_of(tcp, tcp, direct, udp, ping), min_size=1, max_size=3, unique=True)


@SOME(max_examples=2, derandomize=True)
@given(cluster=clusters, wishes=WISHES)
def test_no_packet_goes_otherwise_than_predicted(net: Network, cluster: dict[str, Any], wishes: list[Try]) -> None:
    check(net, cluster, wishes)


def test_a_program_that_does_not_answer_is_no_difference(net: Network) -> None:
    prepare(net, PLAIN)
    version = socket.AF_INET6 if net.family == 6 else socket.AF_INET
    with netns.socket_in(net.places["pod/default/web-2"], version, socket.SOCK_DGRAM) as silent:
        silent.bind((net.at("10.244.2.3"), 99))
        world = look.world(net.taps(), net.names(), family=net.family)
        request = asked(net, Try("pod/default/client", "10.244.2.3", 99, "udp"))
        observed = trace(request, net.taps(), net.names())
    found = foresee.compared(world, request, observed)
    assert (observed.outcome.status, found.status) == ("timeout", "agrees"), found
    assert "did not answer" in found.words


def test_who_is_refused_by_a_rule_hears_of_it_at_once_in_either_family(net: Network) -> None:
    prepare(net, PLAIN)
    for port, status in ((80, "refused"), (81, "timeout")):
        if port == 81:
            net.sh("node/node1", f"{net.tool} -I FORWARD -p tcp --dport 81 -j DROP")
        outcome = sent(net, asked(net, Try("pod/default/client", "10.96.0.10", port, "tcp")))[1].outcome
        assert outcome.status == status, outcome
    net.sh("node/node1", f"{net.tool} -F FORWARD")
    assert f"({net.tool.partition('-')[0]} -t filter -D FORWARD " in outcome.fix


@pytest.mark.parametrize("kind", ["blackhole", "prohibit", "unreachable", ""])
def test_a_rules_reset_goes_back_by_the_bridges_port_where_a_route_leads_back(net: Network, kind: str) -> None:
    prepare(net, {**PLAIN, "foreign": FOREIGN[2], "kernel": f"ip route add {kind} 10.244.2.3/32" if kind else ""})
    found, observed = sent(net, asked(net, Try("pod/default/web-2", "10.244.1.1", 8080, "tcp")))
    assert found.status == "agrees" or observed.lost, found
    assert bool(observed.reply) == (not kind)


@pytest.mark.parametrize("kind", ["blackhole", "prohibit", "unreachable"])
def test_a_nodes_own_packet_is_sent_where_no_route_leads(net: Network, kind: str) -> None:
    cluster = {**PLAIN, "kernel": f"ip route add {kind} 10.244.1.3/32", "endpoints": [an_endpoint("10.244.1.3", "node1")]}
    prepare(net, cluster)
    for wish in (Try("node/node2", "10.96.0.10", 53, "udp"), Try("node/node2", "10.96.0.10", 80, "tcp")):
        found, observed = sent(net, asked(net, wish))
        assert found.status == "agrees" or observed.lost, found
        assert "node/node2 has no route to where it was sent by nat KUBE-SEP-" in observed.outcome.why, observed.outcome


@pytest.mark.parametrize("net", ["iptables-nft", "iptables-legacy"], indirect=True)  # IPv6 has no such setting
@pytest.mark.parametrize("localnet", [1, 0])
@pytest.mark.parametrize(("address", "node"), [("10.244.1.3", "node1"), ("10.244.2.3", "node2")])
def test_a_node_port_of_localhost_leaves_by_route_localnet_alone(net: Network, localnet: int, address: str, node: str) -> None:
    prepare(net, {**PLAIN, "node": "node1", "kernel": f"sysctl -qw net.ipv4.conf.all.route_localnet={localnet}",
                  "endpoints": [an_endpoint(address, node)]})
    found, observed = sent(net, asked(net, Try("node/node1", "127.0.0.1", 30080, "tcp")))
    assert found.status == "agrees" or observed.lost, found
    assert observed.outcome.status == ("connected" if localnet else "timeout")
    assert localnet or "route_localnet" in observed.outcome.fix, observed.outcome


def test_what_dnat_turns_round_on_a_bridge_needs_no_forwarding_in_ipv6(net: Network) -> None:
    cluster = {**PLAIN, "node": "node1", "kernel": "sysctl -qw net.ipv4.ip_forward=0",
               "endpoints": [an_endpoint("10.244.1.3", "node1")]}
    check(net, cluster, [Try("pod/default/client", "10.96.0.10", 80, "tcp")])


def test_that_rules_on_a_bridge_may_drop_neighbour_discovery_is_said(net: Network) -> None:
    prepare(net, {**PLAIN, "node": "node1", "policy": "DROP"})
    wish = Try("pod/default/client", "10.244.1.3", 8080, "tcp")
    net.sh("pod/default/client", "ip -6 neigh flush dev eth0")
    world = look.world(net.taps(), net.names(), family=net.family)
    found = foresee.compared(world, asked(net, wish), trace(asked(net, wish), net.taps(), net.names()))
    if net.family == 4:  # ARP is nothing that ip6tables or iptables see
        assert found.status == "agrees", found
    else:
        assert (found.status, "neighbour discovery" in found.words) == ("unsure", True), found


def test_an_error_that_nobody_could_be_found_for_is_seen_where_it_was_made(net: Network) -> None:
    prepare(net, {**PLAIN, "kernel": "ip route del 10.244.1.0/24 via 172.18.0.2; ip route add prohibit 10.244.2.3/32"})
    for wish in (Try("pod/default/web-1", "10.244.2.3", 0, "icmp"), Try("pod/default/web-1", "10.244.2.3", 8080, "tcp")):
        found, observed = sent(net, asked(net, wish))
        assert found.status == "agrees" or observed.lost, (wish, found)
        assert (observed.outcome.status, observed.reply[0].place) == ("timeout", "node/node2"), observed
        assert (observed.reply[-1].kind, "172.18.0.1" in observed.reply[-1].text or "fd00:18::1" in observed.reply[-1].text) \
            == ("drop", True), observed.reply[-1]


@pytest.mark.parametrize("net", ["iptables-nft", "iptables-legacy"], indirect=True)
def test_a_redirect_is_no_answer(net: Network) -> None:
    """node2 forwards to a neighbour that is not there, by the interface that the packet came in by."""
    prepare(net, {**PLAIN, "kernel": "ip route add 10.244.2.3/32 via 172.18.0.99"})
    found, observed = sent(net, asked(net, Try("node/node1", "10.244.2.3", 0, "icmp")))
    net.sh("node/node2", "ip route del 10.244.2.3/32")
    assert found.status == "agrees" or observed.lost, found
    assert (observed.reply, observed.outcome.why) == ((), "node/node2 asked on eth0 who has 172.18.0.99, and nobody answered")


@pytest.mark.parametrize("net", ["iptables-nft", "ip6tables-nft"], indirect=True)
def test_whether_a_neighbour_behind_a_link_that_is_down_is_known_is_a_doubt(net: Network) -> None:
    prepare(net, PLAIN)
    wish = Try("pod/default/client", "10.244.2.3", 8080, "tcp")
    assert sent(net, asked(net, wish))[1].outcome.status == "connected"
    net.sh("fabric", "ip link set node2 down")
    try:
        found, observed = sent(net, asked(net, wish))
    finally:
        net.sh("fabric", "ip link set node2 up")
        again = [sent(net, asked(net, wish))[1].outcome.status for _ in range(2)]
    assert found.status == "unsure" or observed.lost, found
    assert "172.18.0.3 is down" in found.words or "fd00:18::3 is down" in found.words, found
    assert again[-1] == "connected"


@pytest.mark.parametrize("net", ["iptables-nft", "iptables-legacy"], indirect=True)
def test_an_error_about_what_was_masqueraded_here_goes_straight_back(net: Network) -> None:
    """It is for the node's own address until nat OUTPUT remembers who asked: it never crosses lo."""
    prepare(net, {**PLAIN, "node": "node1"})
    net.sh("node/node1", f"{net.tool} -t nat -A POSTROUTING -o eth0 -j MASQUERADE; "
           "sysctl -qw net.ipv4.neigh.eth0.mcast_solicit=1 net.ipv4.neigh.eth0.retrans_time_ms=100")
    found, observed = sent(net, asked(net, Try("pod/default/client", "172.18.0.99", 80, "tcp")))
    net.sh("node/node1", "sysctl -qw net.ipv4.neigh.eth0.mcast_solicit=3 net.ipv4.neigh.eth0.retrans_time_ms=1000")
    assert found.status == "agrees" or observed.lost, found
    assert observed.outcome.status == "unreachable" or observed.lost, observed.outcome


@pytest.mark.parametrize("net", ["iptables-nft", "iptables-legacy"], indirect=True)
@pytest.mark.parametrize("kind", ["REJECT", "REJECT --reject-with tcp-reset"])
def test_that_a_redirect_may_take_an_errors_place_is_said(net: Network, kind: str) -> None:
    tcp = "-p tcp " if "tcp" in kind else ""
    prepare(net, {**PLAIN, "foreign": f"-A FORWARD {tcp}-d 10.244.2.3 -j {kind}",
                  "kernel": "ip route add 10.244.2.3/32 via 172.18.0.99"})
    found, observed = sent(net, asked(net, Try("node/node1", "10.244.2.3", 81, "tcp")))
    net.sh("node/node2", "ip route del 10.244.2.3/32")
    if tcp:  # a reset has no rate
        assert (found.status, observed.outcome.status) == ("agrees", "refused"), found
    else:
        assert (found.status, "ICMP redirect" in found.words, observed.outcome.status) == ("unsure", True, "timeout"), found


def test_a_local_route_of_another_table_keeps_a_packet_here(net: Network) -> None:
    prepare(net, {**PLAIN, "node": "node1", "kernel": "ip route add local 10.244.2.0/24 dev lo table 77"})
    ip = "ip -6" if net.family == 6 else "ip"
    net.sh("node/node1", f"{ip} rule add priority 12 iif cni0 lookup 77")
    found, observed = sent(net, asked(net, Try("pod/default/client", "10.244.2.3", 8080, "tcp")))
    net.sh("node/node1", f"{ip} rule del priority 12; {ip} route flush table 77")
    assert found.status == "agrees" or observed.lost, found
    assert observed.outcome.status == ("refused" if net.family == 6 else "timeout"), observed.outcome
    assert observed.request[-1].place == "node/node1"


@pytest.mark.skipif(not shutil.which("ipset"), reason="needs ipset")
def test_a_set_of_ipset_is_looked_into(net: Network) -> None:
    family = "inet6" if net.family == 6 else "inet"
    prepare(net, {**PLAIN, "node": "node1"})
    net.sh("node/node1", net.at(f"ipset create banned hash:ip,port family {family}; ipset add banned 10.244.1.2,tcp:8080; "
                                f"{net.tool} -I FORWARD -m set --match-set banned src,dst -j DROP"))
    ends = []
    for port in (8080, 81):
        found, observed = sent(net, asked(net, Try("pod/default/client", "10.244.2.3", port, "tcp")))
        assert (found.status == "agrees" and "judged" not in found.words) or observed.lost, found
        ends.append(observed.outcome.status)
    net.sh("node/node1", f"{net.tool} -F FORWARD; ipset destroy banned")
    assert ends == ["timeout", "refused"]


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_no_packet_goes_otherwise_than_predicted_for_long(net: Network) -> None:
    longrun.for_long(net.tool, partial(check, net), cluster=clusters, wishes=WISHES)
