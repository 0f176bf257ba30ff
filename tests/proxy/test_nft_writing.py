"""What our own messages make of a cluster against what libnftables makes of the same text: nft lists the same."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Iterator

import pytest

from netlab.errors import Unsupported
from netlab.kernel import netns, nft_table
from netlab.kernel import nft as kernel_nft
from netlab.kernel.nft_batch import Encoder, Writer
from netlab.proxy import cleanup, nft_render
from netlab.proxy.metrics import Metrics
from netlab.proxy.nft_plan import NftWanted, change_text, deletions, full_texts, rebuild
from netlab.proxy.nft_proxier import NftProxier
from netlab.proxy.nft_render import nft_wanted_for
from netlab.proxy.settings import LocalDetector
from netlab.proxy.tracker import Tracker
from tests.proxy.builders import NODE_IP, a_port, a_service, a_settings, a_slice, an_endpoint, recorded_objects
from tests.proxy.nft_compare import tables

pytestmark = pytest.mark.root


@pytest.fixture
def writers() -> Iterator[Writers]:
    made = Writers()
    yield made
    made.close()


class Writers:
    """Two namespaces: one for libnftables, one for our own messages."""

    def __init__(self) -> None:
        self.places = netns.new_netns(), netns.new_netns()
        self.nft, self.own, self.reader = nft_table.open_nft(self.places[0]), Writer(self.places[1]), nft_table.open_nft(
            self.places[1])

    def run(self, text: str) -> None:
        self.nft.run(text)
        self.own.run(text)

    def same(self) -> None:
        theirs, ours = (tables(each.run("list ruleset")) for each in (self.nft, self.reader))
        assert ours.keys() == theirs.keys()
        for table, sections in theirs.items():
            assert ours[table].keys() == sections.keys()
            for name, section in sections.items():
                assert ours[table][name] == section, name

    def held(self, *, v6: bool) -> nft_table.Held:
        found = nft_table.held(10 if v6 else 2, "kube-proxy", self.places[1], elements=True)
        assert found is not None
        return found

    def close(self) -> None:
        for each in (self.nft, self.own, self.reader):
            each.close()
        for fd in self.places:
            os.close(fd)


SETTINGS = [
    {}, {"service_cidrs": ("10.96.0.0/16",), "node_port_addresses": (f"{NODE_IP}/32",), "node_addresses": ("127.0.0.1", NODE_IP)},
    {"detector": LocalDetector("-i veth+"), "service_cidrs": ("10.96.0.0/16", "10.97.0.0/17")},
    {"detector": LocalDetector("-i cni0"), "masquerade_bit": 31}, {"detector": LocalDetector(), "masquerade_all": True},
    {"family": "IPv6", "node_ip": "", "detector": LocalDetector("-s fd00:10::/63"), "service_cidrs": ("fd00:96::/108",)}]


@pytest.mark.parametrize("settings", SETTINGS)
def test_the_recorded_cluster(writers: Writers, settings):
    wanted = nft_wanted_for(recorded_objects(), a_settings(**settings))
    for text in full_texts(wanted, (), {}, size=3):
        writers.run(text)
    writers.same()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("settings", [SETTINGS[1], SETTINGS[5]], ids=["IPv4", "IPv6"])
def test_random_clusters_change_by_change(writers: Writers, settings, seed: int):
    dice = random.Random(seed)
    made = a_settings(**settings)
    tracker, wanted, v6 = Tracker(made.family), NftWanted(made), made.family == "IPv6"
    for step in range(12):
        for _ in range(dice.choice([1, 1, 4])):
            shake(dice, tracker, v6=v6)
        rebuild(tracker, wanted, tracker.take_changed())
        change = wanted.take_changes()
        if step == 0:
            texts = list(full_texts(wanted, (), {}))
        else:
            texts = [change_text(change, made)] if change else []
            texts += [deletions(change.stale_chains, made)] if change.stale_chains else []
        for text in texts:
            writers.run(text)
        writers.same()
    # What a new process finds: things that are not wanted, things that lack, things that lead elsewhere.
    table = f"{'ip6' if v6 else 'ip'} kube-proxy"
    assert writers.held(v6=v6).elements == wanted.elements()
    key = "fd00:96::99 . tcp . 1" if v6 else "10.96.0.99 . tcp . 1"
    writers.run("\n".join((f"add chain {table} service-OLD", f"add element {table} service-ips {{ {key} : goto service-OLD }}",
                           f"flush set {table} cluster-ips", f"flush map {table} service-nodeports",
                           *(f"delete element {table} service-ips {{ {name} }}\nadd element {table} service-ips {{ {name} : drop }}"
                             for (where, name) in wanted.elements() if where == "service-ips"))))
    held = writers.held(v6=v6)
    for text in full_texts(wanted, held.chains, held.sets, held.elements, size=5):
        writers.run(text)
    writers.same()
    assert writers.held(v6=v6).elements == wanted.elements()
    assert {*wanted.chains(), *wanted.fixed.chains, "service-OLD"} == writers.held(v6=v6).chains


def test_a_cluster_of_thousands_of_elements_fits_what_a_user_without_rights_may_send(writers: Writers):
    made = a_settings()
    tracker, wanted = Tracker("IPv4"), NftWanted(made)
    for n in range(2500):
        tracker.service(f"default/s{n}", a_service(f"s{n}", f"10.96.{n >> 8}.{n & 255}"))
        tracker.slice(f"default/s{n}-1", a_slice(f"s{n}", [an_endpoint("10.244.2.5", "node2")]))
    rebuild(tracker, wanted, tracker.take_changed())
    batches = [Encoder().encode(text) for text in full_texts(wanted, (), {})]
    assert max(map(len, batches)) < 400_000
    assert sum(map(len, batches)) > 1_000_000
    for batch in batches:
        writers.own.send(batch)
    assert writers.held(v6=False).elements == wanted.elements()


def test_neither_nft_nor_its_library_is_needed(monkeypatch: pytest.MonkeyPatch):
    def absent() -> None:
        raise Unsupported("libnftables is not installed")

    fd = netns.new_netns()
    try:
        with monkeypatch.context() as patch:
            patch.setattr(kernel_nft, "_load", absent)
            proxier = NftProxier(a_settings(), Metrics(), netns=fd)
            for at in range(3):
                proxier.service("default/web", a_service())
                proxier.slice("default/web-1", a_slice(endpoints=[an_endpoint(f"10.244.1.{at + 5}")]))
                proxier.full |= at == 2
                asyncio.run(proxier.sync(0.0))
        reader = nft_table.open_nft(fd)
        wanted = nft_render.text(nft_wanted_for([a_service(), a_slice(endpoints=[an_endpoint("10.244.1.7")])], a_settings()))
        assert tables(reader.run("list ruleset")) == tables(wanted)
        reader.close()
        assert cleanup.run_nft(fd) == 1
    finally:
        os.close(fd)


def shake(dice: random.Random, tracker: Tracker, *, v6: bool) -> None:
    """Change, make or remove a Service or its endpoints."""
    number = dice.randrange(1, 9)
    name, net = f"s{number}", "fd00:96::" if v6 else "10.96.0."
    what = dice.random()
    if what < 0.1:
        tracker.service(f"default/{name}", None)
    elif what < 0.55:
        more = dice.choice([{}, {"type": "NodePort"}, {"type": "LoadBalancer", "ingress": [f"fd00:99::{number}" if v6 else f"192.0.2.{number}"]}])
        if more and dice.random() < 0.5:
            more |= {"externalTrafficPolicy": "Local"}
        if dice.random() < 0.3:
            more |= {"internalTrafficPolicy": "Local"}
        if dice.random() < 0.3:
            more |= {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": dice.choice([60, 10800])}}}
        if dice.random() < 0.3:
            more |= {"externalIPs": ["fd00:98::1" if v6 else "198.51.100.1"]}
        if more.get("type") == "LoadBalancer" and dice.random() < 0.6:
            more |= {"loadBalancerSourceRanges": ["fd00:77::/64", "fd00:78::/65"] if v6 else ["203.0.113.0/24", "172.30.0.0/25", "10.0.0.1/32"]}
        node_port = 30000 + number if more.get("type") else 0
        protocol = dice.choice(["TCP", "UDP", "SCTP"])
        tracker.service(f"default/{name}", a_service(name, f"{net}{number}", [a_port(protocol=protocol, node_port=node_port)], **more))
    else:
        ends = [an_endpoint(f"fd00:10::{at}" if v6 else f"10.244.1.{at}", dice.choice(["node1", "node2"]))
                for at in dice.sample(range(1, 9), dice.randrange(5))]
        ports = [{"name": "http", "port": 8080, "protocol": each} for each in ("TCP", "UDP", "SCTP")]
        tracker.slice(f"default/{name}-1", a_slice(name, ends, ports=ports, family="IPv6" if v6 else "IPv4"))
