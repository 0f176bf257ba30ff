"""A large cluster: chains that nobody needs stay for a sync period, since nothing leads to them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

import pytest

from netlab.kernel import iptables, netns
from netlab.netfilter import parse
from netlab.proxy import tracker
from netlab.proxy.metrics import Metrics
from netlab.proxy.proxier import Proxier
from tests.proxy.builders import a_port, a_service, a_settings, a_slice, an_endpoint

IPS = tuple(f"10.244.1.{n}" for n in range(1, 6))


@pytest.fixture
def namespace() -> Iterator[int]:
    fd = netns.new_netns()
    yield fd
    os.close(fd)


@pytest.mark.root
@pytest.mark.parametrize(("limit", "seen"), [
    pytest.param(2, [5, 5, 5, 2, 2], id="large: once in a period"), pytest.param(1000, [5, 4, 3, 2, 1], id="small: at once")])
def test_chains_that_nobody_needs(namespace: int, monkeypatch: pytest.MonkeyPatch, limit: int, seen: list[int]):
    monkeypatch.setattr(tracker, "LARGE", limit)
    tool = iptables.find("IPv4", "nft")
    proxier = Proxier(a_settings(), tool, Metrics(), netns=namespace, tidy_every=30.0)
    proxier.service("default/web", a_service())
    found = []
    for now, count in ((100.0, 5), (110.0, 4), (130.0, 3), (131.0, 2), (132.0, 1)):
        hosts = [an_endpoint(ip) for ip in IPS[:count]]
        # What is not ready counts for the size of a cluster, and has no chain.
        rest = [an_endpoint(ip, ready=False, serving=False) for ip in IPS[count:]]
        proxier.slice("default/web-1", a_slice(endpoints=hosts + rest))
        asyncio.run(proxier.sync(now))
        nat = parse.parse(iptables.save(tool, netns=namespace)).table("nat")
        used = {rule.target for rule in nat.rules() if rule.target.startswith("KUBE-SEP-")}
        assert len(used) == count, "what is gone is no longer chosen"
        found.append(sum(name.startswith("KUBE-SEP-") for name in nat.chains))
    assert found == seen
    assert proxier.untidy() == (limit == 2)


@pytest.mark.root
def test_a_chain_that_is_needed_again_before_it_was_deleted_stays(namespace: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tracker, "LARGE", 1)
    tool = iptables.find("IPv4", "nft")
    proxier = Proxier(a_settings(), tool, Metrics(), netns=namespace, tidy_every=30.0)
    proxier.service("default/web", a_service())
    for now, ready in ((0.0, True), (1.0, False), (2.0, True), (40.0, True)):
        proxier.slice("default/web-1", a_slice(endpoints=[an_endpoint(IPS[0]), an_endpoint(IPS[1], ready=ready, serving=ready)]))
        asyncio.run(proxier.sync(now))
    nat = parse.parse(iptables.save(tool, netns=namespace)).table("nat")
    assert sum(bool(chain.rules) for name, chain in nat.chains.items() if name.startswith("KUBE-SEP-")) == 2
    assert not proxier.untidy()


def test_a_cluster_is_large_by_the_endpoints_of_ports_that_there_are(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tracker, "LARGE", 4)
    it = tracker.Tracker("IPv4")
    three, two = ([an_endpoint(ip) for ip in IPS[:count]] for count in (3, 2))
    it.slice("default/web-1", a_slice(endpoints=three))
    it.slice("default/web-2", a_slice(endpoints=two, name="web-2"))
    assert not it.large, "no Service, no rules"
    it.service("default/web", a_service())
    assert it.large
    it.service("default/web", a_service(ports=[a_port(name="other")]))
    assert not it.large, "endpoints of a port that the Service has not"
    it.service("default/web", a_service(ports=[a_port(), a_port(81, name="other")]))
    assert it.large
    it.slice("default/web-2", a_slice("else", endpoints=two, name="web-2"))
    assert not it.large, "the slice is another's now"
    it.service("default/else", a_service("else", ip="10.96.0.11"))
    assert it.large
    it.slice("default/web-1", None)
    assert not it.large
