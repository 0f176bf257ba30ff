"""Rules and elements read by netlink, against libnftables' own listing of the same table."""

from __future__ import annotations

import os
import socket

import pytest

from netlab.errors import Unsupported
from netlab.kernel import netns, nft, nft_listing
from netlab.kernel.nft_pick import Picker
from netlab.netfilter.nft import meaning, parse
from netlab.proxy.nft_render import nft_wanted_for, text
from tests.proxy.builders import a_port, a_service, a_settings, a_slice, an_endpoint, recorded_objects

pytestmark = pytest.mark.root
V6 = [a_service("six", ip="fd00:10:96::9", ports=[a_port(node_port=30090)], type="NodePort", sessionAffinity="ClientIP", externalTrafficPolicy="Local"),
      a_slice("six", [an_endpoint("fd00:10:244::5"), an_endpoint("fd00:10:244:1::6", "node2")], family="IPv6")]
LB = [a_service("lb2", ip="10.96.0.77", ports=[a_port(node_port=30077)], type="LoadBalancer", ingress=["192.0.2.77"], externalTrafficPolicy="Local",
                loadBalancerSourceRanges=["198.51.100.0/25", "203.0.113.7/32", "203.0.112.0/23"]),
      a_slice("lb2", [an_endpoint("10.244.1.77"), an_endpoint("10.244.2.77", "node2")])]


@pytest.fixture
def fd():
    found = netns.new_netns()
    yield found
    os.close(found)


def load(fd: int, commands: str) -> None:
    context = nft.Nft(fd)
    try:
        context.run(commands)
    finally:
        context.close()


@pytest.mark.parametrize(("family", "objects", "settings"), [
    pytest.param("ip", [*recorded_objects(), *LB], {}, id="IPv4"),
    pytest.param("ip", LB, {"masquerade_bit": 3, "detector": type(a_settings().detector)("-i veth+")}, id="by interface"),
    pytest.param("ip6", V6, {"family": "IPv6", "detector": type(a_settings().detector)("-s fd00:10:244::/56")}, id="IPv6")])
def test_the_same_words_as_libnftables(fd: int, family: str, objects, settings):
    load(fd, text(nft_wanted_for(objects, a_settings(**settings))))
    (whole,) = parse(nft_listing.listing([(family, "kube-proxy")], fd))
    picker = Picker(socket.AF_INET6 if family == "ip6" else socket.AF_INET, "kube-proxy", fd)
    own = [chain for chain in whole.chains.values() if "/" in chain.name]
    assert len(own) >= 4
    try:
        for chain in own:
            found = parse("\n".join((f"table {family} t {{", f"chain {chain.name} {{", *picker.rules(chain.name), "}", "}")))
            rules = found[0].chain(chain.name).rules
            assert [(meaning(rule.text), rule.comment, rule.handle) for rule in rules] == [
                (meaning(rule.text), rule.comment, rule.handle) for rule in chain.rules]
        for name in ("service-ips", "service-nodeports", "firewall-ips", "no-endpoint-services"):
            listed = list(picker.elements(name, (b"",)))
            assert {key.partition(" comment")[0]: value for key, value in listed} == {
                each.key: each.value for each in whole.elements(name).values()}
        assert list(picker.elements("service-ips", (b"nobody/",))) == []
    finally:
        picker.close()


def test_what_only_nft_can_say_is_refused(fd: int):
    load(fd, "add table ip kube-proxy\nadd chain ip kube-proxy x\nadd rule ip kube-proxy x tcp flags syn limit rate 3/second accept")
    picker = Picker(socket.AF_INET, "kube-proxy", fd)
    try:
        with pytest.raises(Unsupported):
            picker.rules("x")
    finally:
        picker.close()
