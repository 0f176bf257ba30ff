"""A Service's chains as a graph."""

from __future__ import annotations

import re

from netlab.inspect.graph import dot, graph, mermaid
from netlab.inspect.names import Names
from netlab.netfilter import parse
from tests.inspect.worlds import objects
from tests.proxy.builders import a_service, recorded, rules_for

TWO = graph(rules_for(*objects("10.244.1.5", "10.244.2.6")), "default/web", Names(pods={"10.244.1.5": "pod/default/web-0"}))


def reached(start: str, value=TWO) -> set[str]:
    found, waiting = set(), [start]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += [edge.target for edge in value.edges if edge.source == name]
    return found


def test_every_endpoint_is_reached_from_where_packets_enter():
    ends = {node.name for node in TWO.nodes if node.kind == "endpoint"}
    assert ends == {"10.244.1.5:8080", "10.244.2.6:8080", "10.244.1.5:53", "10.244.2.6:53"}
    assert ends <= reached("nat PREROUTING")
    assert [node.name for node in TWO.nodes][:2] == ["nat PREROUTING", "nat OUTPUT"]


def test_edges_carry_shares_and_conditions():
    labels = {edge.target: edge.label for edge in TWO.edges if edge.source.startswith("nat KUBE-SVC-")}
    assert sorted(label for name, label in labels.items() if name.startswith("nat KUBE-SEP-")) == ["50.0%"] * 4
    assert "tcp port 30080" in {edge.label for edge in TWO.edges if edge.source == "nat KUBE-NODEPORTS"}


def test_what_is_refused_ends_in_a_verdict():
    found = graph(rules_for(a_service()), "default/web")
    assert [node.label for node in found.nodes if node.kind == "verdict"] == ["reject with icmp-port-unreachable"]
    assert "filter REJECT" in reached("filter FORWARD", found)


def test_a_stranger_has_no_graph():
    assert graph(rules_for(*objects("10.244.1.5")), "default/other").nodes == ()


def test_the_texts_name_every_node_and_edge_once():
    for value in (TWO, graph(parse.parse(recorded("iptables-save.txt")), "default/clusterip")):
        drawn = mermaid(value, "default/web")
        ids = re.findall(r"^  (n\d+)[\[({]", drawn, re.MULTILINE)
        assert len(ids) == len(set(ids)) == len(value.nodes) > 3
        ways = re.findall(r"^  (n\d+) -->(?:\|.*\|)? (n\d+)$", drawn, re.MULTILINE)
        assert len(ways) == len(value.edges)
        assert {each for way in ways for each in way} <= set(ids)
        said = dot(value, "default/web")
        assert said.count("shape=") == len(value.nodes)
        assert said.count(" -> ") == len(value.edges)
        assert said.startswith("digraph rules {\n")
        assert said.endswith("}")


def test_quotes_and_lines_are_safe():
    assert '"10.244.1.5:8080\\npod/default/web-0"' in dot(TWO, 'a "b"')
    assert 'label="a \\"b\\""' in dot(TWO, 'a "b"')
    assert '"10.244.1.5:8080<br/>pod/default/web-0"' in mermaid(TWO, "x")
