"""Nftables mode in the views of rules: trees, provenance, checks, differences, graphs."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest

from netlab.errors import NotFound
from netlab.inspect import expected, graph_svg, holding, nft_check, nft_graph, nft_provenance, nft_service, nft_words
from netlab.inspect import nft_world as worlds
from netlab.inspect.names import Names
from netlab.inspect.nft_diff import sides
from netlab.netfilter import nft, render
from netlab.proxy.nft_render import nft_wanted_for, text
from tests.inspect.worlds import objects
from tests.proxy.builders import a_settings, recorded, recorded_objects, rules_for

LISTED = recorded_objects()
NODE = next(each for each in LISTED if each["kind"] == "Node" and each["metadata"]["name"] == "node1")
TABLE = nft.parse(recorded("nft-ruleset.txt"))[0]
WORLD = worlds.NftWorld.of(LISTED, worlds.settings(TABLE, "IPv4", name="node1", node=NODE))


def edited(*pairs: tuple[str, str]) -> nft.NftTable:
    listing = recorded("nft-ruleset.txt")
    for old, new in pairs:
        assert old in listing
        listing = listing.replace(old, new)
    return nft.parse(listing)[0]


def table_for(*listed, **settings) -> nft.NftTable:
    made = {"node_port_addresses": ("172.30.0.11/32",), "node_addresses": ("172.30.0.11",), **settings}
    return nft.parse(text(nft_wanted_for(listed, a_settings(**made))))[0]


def test_a_tree_by_port():
    names = Names({"10.244.1.5": "pod/default/web-0"}, {"10.244.1.5": "node1"})
    (port,) = nft_service.ports(TABLE, "default/nodeport", names)
    assert (port.name, port.protocol) == ("default/nodeport:http", "tcp")
    assert [(each.address, each.who, each.share) for each in port.endpoints] == [
        ("10.244.1.5:8080", "pod/default/web-0 on node1", 0.5), ("10.244.2.5:8080", "", 0.5)]
    assert [entry.chain for entry in port.entries] == ["@service-ips", "@service-nodeports"]
    assert port.entries[1].rules[1].repeated
    (port,) = nft_service.ports(TABLE, "default/affinity")
    assert [each.address for each in port.endpoints] == ["10.244.1.5:8080", "10.244.2.5:8080"]
    (port,) = nft_service.ports(TABLE, "default/none")
    assert (port.endpoints, port.entries[0].words) == ((), "to 10.96.0.12, tcp port 80: continue in reject-chain")


def test_names_of_chains_are_read():
    assert nft_service.port_of("endpoint-2VOTELDU-default/affinity/tcp/http__10.244.1.5/8080") == ("default/affinity:http", "tcp")
    assert nft_service.port_of("service-W2EKLNYN-default/unnamed/tcp/") == ("default/unnamed", "tcp")
    assert nft_service.port_of("cluster-ips-check") == ("", "")
    assert nft_service.address_of("affinity-2VOTELDU-default/a/tcp/__fd00.10.244..5/80") == "[fd00:10:244::5]:80"


def test_everything_of_a_real_kube_proxy_is_explained():
    origins = [nft_provenance.of_chain(TABLE, name, WORLD) for name in TABLE.chains]
    origins += [nft_provenance.of_rule(TABLE, name, number, WORLD) for name, chain in TABLE.chains.items()
                for number in range(1, len(chain.rules) + 1)]
    origins += [nft_provenance.of_element(TABLE, name, number, each, WORLD) for name, found in TABLE.sets.items()
                for number, each in enumerate(found.elements.values(), 1)]
    assert len(origins) > 80
    assert [(each.chain, each.number) for each in origins if each.maker != "kube-proxy"] == []


@pytest.mark.parametrize(("asked", "places", "source"), [
    ("10.96.0.10:80", ["@service-ips 2"], "Service default/clusterip (resourceVersion 94) spec.clusterIP, spec.ports[0].port"),
    ("@service-nodeports:1", ["@service-nodeports 1"], "Service default/nodeport"),
    ("default/none", ["@no-endpoint-services 1"], "Service default/none"),
    ("services:1", ["services 1"], "KubeProxyConfiguration nftables.masqueradeBit, clusterCIDR, detectLocalMode"),
    ("10.244.2.6:8080", ["service-MCOWACZE-default/clusterip/tcp/http 1"], "Service default/clusterip"),
    ("service-MCOWACZE-default/clusterip/tcp/http", ["service-MCOWACZE-default/clusterip/tcp/http 0"], "Service default/clusterip")])
def test_why(asked: str, places: list[str], source: str):
    found = nft_provenance.why(asked, TABLE, WORLD)
    assert [f"{each.chain} {each.number}" for each in found] == places
    assert str(found[0].sources[0]).startswith(source)


def test_why_says_what_is_not_there():
    assert nft_provenance.why("198.51.100.1", TABLE, WORLD) == ()
    with pytest.raises(NotFound, match="no rule 9"):
        nft_provenance.why("services:9", TABLE, WORLD)


def test_check_finds_nothing_on_what_kube_proxy_wrote():
    assert list(nft_check.check(TABLE, WORLD)) == []


REJECT = "\tchain reject-chain {\n\t\tcomment \"helper for @no-endpoint-services / @no-endpoint-nodeports\"\n"


@pytest.mark.parametrize(("pairs", "kinds"), [
    ([("0 : 10.244.1.5 . 8080, 1 : 10.244.2.5 . 8080, 2 : 10.244.2.6 . 8080", "0 : 10.244.1.5 . 8080, 1 : 10.9.9.9 . 8080, 2 : 10.244.2.6 . 8080")],
     {"changed-rule", "stale-endpoint"}),
    ([("10.96.0.12 . tcp . 80 comment \"default/none:http\" : goto reject-chain", "10.96.0.12 . tcp . 80 : drop")], {"changed-element", "unreached-chain"}),
    ([("elements = { 10.96.0.1, 10.96.0.10,", "elements = { 10.96.9.9, 10.96.0.10,")], {"missing-element", "extra-element"}),
    ([("\t\tjump masquerading\n", "")], {"missing-rule", "unreached-chain"}),
    ([("\t\tjump masquerading\n", "\t\taccept\n\t\tjump masquerading\n")], {"extra-rule", "unreachable-rule"}),
    ([("\tchain firewall-check {", "\tchain mine {\n\t\tdrop\n\t}\n\n\tchain firewall-check {")], {"extra-chain", "unreached-chain"}),
    ([("type filter hook forward priority filter; policy accept;", "type filter hook forward priority filter; policy drop;")], {"changed-hook"}),
    ([(REJECT, REJECT + "\t\treject\n")], {"extra-rule", "unreachable-rule"})])
def test_check_finds(pairs, kinds: set[str]):
    found = list(nft_check.check(edited(*pairs), WORLD))
    assert {each.kind for each in found} == kinds
    assert all(each.words for each in found)


def test_foreign_tables_that_refuse():
    tables = nft.parse("table inet guard {\n\tchain f {\n\t\ttype filter hook forward priority filter - 5; policy drop;\n"
                       "\t\tip saddr 10.244.0.0/16 counter packets 1 bytes 2 reject # handle 9\n\t}\n\tchain lost {\n\t\tdrop\n\t}\n}\n")
    found = list(nft_check.foreign_drops(tables))
    assert [(each.kind, each.table, each.chain, each.number) for each in found] == [
        ("policy-drop", "inet guard", "f", 0), ("foreign-drop", "inet guard", "f", 1)]
    assert "nft delete rule inet guard f handle 9" in found[1].hint


def test_differences_of_two_tables_and_of_two_modes():
    one, two = objects("10.244.1.5"), objects("10.244.1.5", "10.244.2.6")
    nfts = [holding.Holding(nft=table_for(*listed)) for listed in (one, two)]
    (part, *_) = sides(*nfts)
    assert part.service == "default/web"
    assert "default/web:http tcp: endpoint 10.244.2.6:8080 is new, it has 50.0%" in part.words
    gone = sides(nfts[1], holding.Holding(nft=table_for(*two[2:])))  # its cluster address goes with the Service
    assert [part.service for part in gone if any(line.chain == "@cluster-ips" for line in part.lines)] == ["default/web"]
    iptables = holding.Holding(rules=rules_for(*two))
    part, places = sides(nfts[0], iptables)
    assert any("endpoint 10.244.2.6:8080 is new" in each for each in part.words)
    assert part.lines == ()
    assert sides(nfts[1], iptables) == (places,)
    assert places.words == ("node ports are served on every address of the node, on 172.30.0.11 before",)


@pytest.mark.parametrize("mode", ["iptables", "nftables"])
def test_the_settings_of_one_mode_give_the_other_s_rules(mode: str):
    listed = objects("10.244.1.5", "10.244.2.6", sessionAffinity="ClientIP")
    held = holding.Holding("node1", rules=rules_for(*listed))
    here = expected.expected(held, listed, "nftables")
    assert here.nft == table_for(*listed)
    there = expected.expected(here, listed, mode)
    assert there.mode == mode
    assert sides(there, held if mode == "iptables" else here) == ()


def test_a_saved_file_of_either_kind():
    both = render.ruleset(rules_for(*objects("10.244.1.5"))) + recorded("nft-ruleset.txt")
    found = holding.of_text(both)
    assert (found.mode, found.in_iptables, found.native) == ("nftables", True, ())
    assert holding.of_text(recorded("nft-ruleset.txt"), ipv6=True).nft == nft.parse(recorded("nft-ruleset.txt"))[1]


def test_a_graph_is_drawn():
    found = nft_graph.graph(TABLE, "default/lb")
    assert [node.name for node in found.nodes if node.kind == "hook"] == ["nat-prerouting", "nat-output"]
    assert {node.name for node in found.nodes if node.kind == "endpoint"} == {"10.244.1.5:8080", "10.244.2.5:8080"}
    root = ElementTree.fromstring(graph_svg.draw(found, "a <title> & more"))
    texts = [each.text for each in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "a <title> & more" in texts
    assert "50.0%" in texts
    width, height = float(root.get("width", 0)), float(root.get("height", 0))
    for rect in root.iter("{http://www.w3.org/2000/svg}rect"):
        assert 0 <= float(rect.get("x", 0)) <= width - float(rect.get("width", 0)) + 1
        assert 0 <= float(rect.get("y", 0)) <= height - float(rect.get("height", 0)) + 1


def test_no_two_boxes_of_a_graph_overlap():
    root = ElementTree.fromstring(graph_svg.draw(nft_graph.graph(TABLE, "default/affinity"), "x"))
    boxes = [tuple(float(rect.get(name, 0)) for name in ("x", "y", "width", "height"))
             for rect in root.iter("{http://www.w3.org/2000/svg}rect") if rect.get("stroke")]
    assert len(boxes) > 5
    for at, (x, y, w, h) in enumerate(boxes):
        for x2, y2, w2, h2 in boxes[at + 1:]:
            assert x + w <= x2 or x2 + w2 <= x or y + h <= y2 or y2 + h2 <= y


@pytest.mark.parametrize(("rule", "said"), [
    ("ip daddr @cluster-ips ip saddr != 10.244.0.0/16 meta mark set meta mark | 0x00004000", "to one of @cluster-ips, not from 10.244.0.0/16: mark for masquerade"),
    ("ip saddr 10.0.0.0/8 tcp dport { 80, 443 } limit rate 10/second counter drop", "from 10.0.0.0/8, tcp port one of { 80, 443 }, at most 10/second: drop"),
    ("iifname \"eth0\" odd words drop", "in by \"eth0\", odd words: drop"),
    ("udp sport 53 log prefix \"x y\" reject with icmp type host-unreachable", "udp source port 53: write to the kernel log, then reject with icmp type host-unreachable"),
    ("ct state established,related accept", "connection established or related: accept")])
def test_words(rule: str, said: str):
    assert nft_words.explain(rule) == said
