"""One state, however it came about: rendered text, a full sync, many small syncs. And what it does: the documentation's.

Random clusters; longer runs with `-m soak`.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Iterator

import pytest

from netlab.kernel import conntrack, iptables, netns, nft_table
from netlab.netfilter import parse, render
from netlab.netfilter.matching import Host, Packet
from netlab.netfilter.normalise import differences
from netlab.netfilter.walk import receive, send
from netlab.proxy import cleanup, nft_names, nft_render
from netlab.proxy.metrics import Metrics
from netlab.proxy.nft_proxier import NftProxier
from netlab.proxy.nft_render import nft_wanted_for
from netlab.proxy.plan import whole
from netlab.proxy.proxier import Proxier
from netlab.proxy.tracker import wanted_for
from tests.proxy import oracle
from tests.proxy.builders import NODE_IP, a_settings
from tests.proxy.network import (
    BRIDGE_IP,
    BRIDGE_IP6,
    FAR,
    FAR6,
    HOST,
    NODE_IP6,
    OUTSIDE,
    OUTSIDE6,
    PODS,
    PODS6,
    Network,
)
from tests.proxy.nft_compare import tables, without_memory
from tests.proxy.oracle import Question
from tests.proxy.random_clusters import Cluster, change, cluster

FREE = ("KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-EXTERNAL-SERVICES", "KUBE-PROXY-FIREWALL")
FEW, MANY = range(3), range(100, 160)
PLACES = {"client": ("pod", PODS["client"], "cni0"), "web-1": ("pod", PODS["web-1"], "cni0"), "outside": ("outside", OUTSIDE, "eth0"),
          "node": ("node", NODE_IP, "")}
LOCAL_ADDRESSES = (NODE_IP, BRIDGE_IP, "127.0.0.1")
PLACES6 = {"client": ("pod", PODS6["client"], "cni0"), "web-1": ("pod", PODS6["web-1"], "cni0"), "outside": ("outside", OUTSIDE6, "eth0"),
           "node": ("node", NODE_IP6, "")}


@pytest.fixture
def places() -> Iterator[tuple[int, int]]:
    made = netns.new_netns(), netns.new_netns()
    yield made
    for fd in made:
        os.close(fd)


def tell(proxier: Proxier | NftProxier, changes) -> None:
    for kind, key, obj in changes:
        (proxier.service if kind == "Service" else proxier.slice)(key, obj)


def everything(made: Cluster):
    return [(*key, obj) for key, obj in made.objects.items()]


def same_in_iptables(places: tuple[int, int], seed: int, *, ipv6: bool, backend: iptables.Backend, steps: int) -> None:
    dice = random.Random(f"{seed} {ipv6}")
    made = cluster(dice, ipv6=ipv6)
    tool = iptables.find("IPv6" if ipv6 else "IPv4", backend)
    settings = a_settings(**made.settings)
    proxier = Proxier(settings, tool, Metrics(), netns=places[0])
    tell(proxier, everything(made))
    for step in range(steps):
        asyncio.run(proxier.sync(float(step)))
        tell(proxier, change(dice, made, ipv6=ipv6))
    asyncio.run(proxier.sync(float(steps)))
    live = parse.parse(iptables.save(tool, netns=places[0]))
    wanted = whole(wanted_for(made.all(), proxier.settings))
    assert differences(wanted, live, unordered=FREE) == []
    if not proxier.settings.counters:  # text for an empty namespace cannot name counters that nobody made
        iptables.restore(tool, render.ruleset(wanted), netns=places[1], flush=True)
        rendered = parse.parse(iptables.save(tool, netns=places[1]))
        assert differences(rendered, live, unordered=FREE) == []
    else:
        bare = whole(wanted_for(made.all(), settings))
        iptables.restore(tool, render.ruleset(bare), netns=places[1], flush=True)
        assert differences(bare, parse.parse(iptables.save(tool, netns=places[1]))) == []
    fresh = Proxier(settings, tool, Metrics(), netns=places[1])
    tell(fresh, everything(made))
    asyncio.run(fresh.sync(0.0))
    assert differences(live, parse.parse(iptables.save(tool, netns=places[1])), unordered=FREE) == [], "taken over from a stranger"


def same_in_nftables(places: tuple[int, int], seed: int, *, ipv6: bool, steps: int) -> None:
    dice = random.Random(f"{seed} {ipv6}")
    made = cluster(dice, ipv6=ipv6)
    settings = a_settings(**{**made.settings, "localhost_node_ports": False})
    proxier = NftProxier(settings, Metrics(), netns=places[0])
    tell(proxier, everything(made))
    for step in range(steps):
        asyncio.run(proxier.sync(float(step)))
        tell(proxier, change(dice, made, ipv6=ipv6))
    asyncio.run(proxier.sync(float(steps)))
    asyncio.run(proxier.sync(float(steps) + 1.0))  # emptied chains may be deleted one sync later
    live = listing(places[0], ipv6=ipv6)
    text = nft_render.text(nft_wanted_for(made.all(), settings))
    nft = nft_table.open_nft(places[1])
    nft.run(text)
    nft.close()
    assert live == listing(places[1], ipv6=ipv6) == tables(text)


def listing(fd: int, *, ipv6: bool):
    nft = nft_table.open_nft(fd)
    try:
        return without_memory(tables(nft.run(f"list table {'ip6' if ipv6 else 'ip'} {nft_names.TABLE}")))
    finally:
        nft.close()


@pytest.mark.root
@pytest.mark.parametrize("seed", FEW)
@pytest.mark.parametrize("ipv6", [False, True])
def test_iptables_of_every_path_are_the_same(places: tuple[int, int], seed: int, ipv6: bool):
    same_in_iptables(places, seed, ipv6=ipv6, backend="legacy" if seed % 3 == 2 else "nft", steps=4)


@pytest.mark.root
@pytest.mark.parametrize("seed", FEW)
@pytest.mark.parametrize("ipv6", [False, True])
def test_nftables_of_every_path_are_the_same(places: tuple[int, int], seed: int, ipv6: bool):
    same_in_nftables(places, seed, ipv6=ipv6, steps=4)


@pytest.mark.root
@pytest.mark.soak
@pytest.mark.parametrize("seed", MANY)
@pytest.mark.parametrize("ipv6", [False, True])
def test_every_path_many_times(places: tuple[int, int], seed: int, ipv6: bool):
    same_in_iptables(places, seed, ipv6=ipv6, backend="legacy" if seed % 5 == 0 else "nft", steps=12)
    same_in_nftables(places, seed, ipv6=ipv6, steps=12)


def question(dice: random.Random, made: Cluster, *, ipv6: bool = False) -> tuple[str, Question]:
    """Return a place and what it asks for: mostly something that a Service has."""
    service = dice.choice([each for (kind, _), each in made.objects.items() if kind == "Service"])
    port = dice.choice(service["spec"]["ports"])
    ways = [(service["spec"]["clusterIP"], port["port"])] * 2
    ways += [(ip, port["port"]) for ip in service["spec"].get("externalIPs", ()) if ip != "bogus"]
    ways += [(each["ip"], port["port"]) for each in service.get("status", {}).get("loadBalancer", {}).get("ingress", ())]
    if "nodePort" in port:
        ways += [(ip, port["nodePort"]) for ip in ((NODE_IP6, BRIDGE_IP6) if ipv6 else (NODE_IP, BRIDGE_IP))]
    place = dice.choice(sorted(PLACES))
    kind, source, _ = (PLACES6 if ipv6 else PLACES)[place]
    to, number = dice.choice(ways)
    if kind == "node" and not ipv6 and "nodePort" in port and dice.random() < 0.2:
        source, to, number = "127.0.0.1", "127.0.0.1", port["nodePort"]
    elif kind == "node" and to in (BRIDGE_IP, BRIDGE_IP6):
        source = to  # what a host sends to an address of its own comes from that address
    return place, Question(kind, source, to, number, port["protocol"].lower())


def walked(rules, place: str, asked: Question, host: Host = HOST) -> set[oracle.Answer]:
    packet = Packet("" if place == "node" else asked.source, asked.to, asked.protocol, dport=asked.port, iif=PLACES[place][2])
    result: set[oracle.Answer] = set()
    for outcome in (send if place == "node" else receive)(rules, packet, host):
        assert outcome.certain
        if outcome.verdict in ("DROP", "REJECT"):
            result.add((outcome.verdict, False))
        elif outcome.packet.dnat:
            result.add((f"{outcome.packet.dst}:{outcome.packet.dport}", outcome.packet.snat))
        else:
            result.add(oracle.UNTOUCHED)
    return result


def agree(seed: int, questions: int) -> None:
    dice = random.Random(seed)
    made = cluster(dice)
    settings = a_settings(**made.settings)
    rules = whole(wanted_for(made.all(), settings))
    for _ in range(questions):
        place, asked = question(dice, made)
        promised = oracle.ask(made.all(), settings, asked, LOCAL_ADDRESSES)
        assert walked(rules, place, asked) == promised, (seed, place, asked)


@pytest.mark.parametrize("seed", range(60))
def test_rules_do_what_the_documentation_says(seed: int):
    agree(seed, 40)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(1000, 3000))
def test_rules_do_what_the_documentation_says_many_times(seed: int):
    agree(seed, 80)


def packets(net: Network, mode: str, seed: int, count: int, *, ipv6: bool = False) -> None:
    """Send real packets: each ends as the documentation says, in either mode and family."""
    bridge, own, far = (BRIDGE_IP6, NODE_IP6, FAR6) if ipv6 else (BRIDGE_IP, NODE_IP, FAR)
    local = (own, bridge, "::1" if ipv6 else "127.0.0.1")
    conntrack.delete(conntrack.flows(net.places["node"], ipv6=ipv6), net.places["node"])  # nat asks the rules about new connections only
    dice = random.Random(seed)
    made = cluster(dice, services=3, ipv6=ipv6)
    settings = a_settings(**{**made.settings, "masquerade_bit": 14, "localhost_node_ports": mode == "iptables"
                             and made.settings["localhost_node_ports"]})
    if mode == "nftables":
        # Left to themselves, node ports of this mode are served on all addresses but loopback's.
        proxier = NftProxier(settings, Metrics(), netns=net.places["node"])
        tell(proxier, everything(made))
        asyncio.run(proxier.sync(0.0))
    else:
        net.load(whole(wanted_for(made.all(), settings)), iptables.find("IPv6" if ipv6 else "IPv4"))
    sent = refused = 0
    for _ in range(count * 20):
        place, asked = question(dice, made, ipv6=ipv6)
        promised = oracle.ask(made.all(), settings, asked, local, mode)
        if oracle.UNTOUCHED in promised:
            continue  # what is nobody's leaves for the wire
        if place == "outside" and any(not masquerade and host_of(end) in far for end, masquerade in promised):
            continue  # the far node would answer past the node, which only a balancer in front of it mends
        if mode == "nftables" and promised == {oracle.REJECT} and place == "node":
            continue  # this mode rejects what the node itself sends to outside addresses too
        if ipv6 and promised == {oracle.REJECT} and asked.protocol == "tcp":
            if refused == 2:
                continue  # over IPv6 a SYN that meets a REJECT is sent once more before connect() gives up: a second each
            refused += 1
        answer = net.ask(place, asked.to, asked.port, asked.protocol, wait=0.15 if promised <= {oracle.DROP} else 2.0)
        if answer.failure == "DROP" and promised == {oracle.REJECT}:  # the kernel sends so many ICMP errors a second and no more
            answer = net.ask(place, asked.to, asked.port, asked.protocol, wait=2.0)
        if answer.failure:
            assert answer.failure in {"HERE" if place == "node" and each in (oracle.DROP, oracle.REJECT) else each[0] for each in promised} | (
                {each[0] for each in promised}), (seed, place, asked, answer, promised)
        else:
            inside = host_of(answer.server) not in far
            expected = {(end, (bridge if inside else own) if masquerade else asked.source) for end, masquerade in promised}
            assert (answer.server, answer.seen) in expected, (seed, place, asked, answer, promised)
        sent += 1
        if sent == count:
            break


def host_of(end: str) -> str:
    return end.rpartition(":")[0].strip("[]")


@pytest.fixture
def clean(net: Network) -> Iterator[Network]:
    fd = net.places["node"]
    cleanup.run("auto", fd)
    cleanup.run_nft(fd)
    yield net
    for tool in (iptables.find(), iptables.find("IPv6")):
        iptables.restore(tool, "*filter\nCOMMIT\n*nat\nCOMMIT\n", netns=fd, flush=True)
    cleanup.run("auto", fd)
    cleanup.run_nft(fd)


@pytest.mark.root
@pytest.mark.parametrize("mode", ["iptables", "nftables"])
@pytest.mark.parametrize("seed", range(5))
def test_packets_end_as_the_documentation_says(clean: Network, mode: str, seed: int):
    packets(clean, mode, seed, 20)


@pytest.mark.root
@pytest.mark.parametrize("mode", ["iptables", "nftables"])
@pytest.mark.parametrize("seed", range(1, 3))
def test_packets_of_the_other_family_end_so_too(clean: Network, mode: str, seed: int):
    packets(clean, mode, seed, 20, ipv6=True)


@pytest.mark.root
@pytest.mark.soak
@pytest.mark.parametrize("mode", ["iptables", "nftables"])
@pytest.mark.parametrize("seed", range(200, 300))
@pytest.mark.parametrize("ipv6", [False, True])
def test_packets_end_as_the_documentation_says_many_times(clean: Network, mode: str, seed: int, ipv6: bool):
    packets(clean, mode, seed, 150, ipv6=ipv6)
