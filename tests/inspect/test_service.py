from __future__ import annotations

import json

import pytest

from netlab.inspect import merge, overview, service, shares, show
from netlab.inspect.names import Names
from netlab.netfilter import parse
from netlab.netfilter.model import Chain
from tests.proxy.builders import a_node, a_port, a_service, a_slice, an_endpoint, recorded, rules_for

RECORDED = parse.parse(recorded("iptables-save.txt"))
POD = {"kind": "Pod", "metadata": {"namespace": "default", "name": "web-1"}, "spec": {"nodeName": "node1"},
       "status": {"phase": "Running", "podIPs": [{"ip": "10.244.1.5"}]}}


@pytest.mark.parametrize(("comment", "name"), [
    ("default/web:http cluster IP", "default/web:http"), ("default/web", "default/web"),
    ("default/web:http -> 10.244.1.5:8080", "default/web:http"), ("default/web has no endpoints", "default/web"),
    ("masquerade traffic for default/web:http external destinations", "default/web:http"),
    ("other traffic to ns/a:b will be dropped by KUBE-PROXY-FIREWALL", "ns/a:b"),
    ("kubernetes service portals", ""), ("", ""),
])
def test_whose_rule_it_is(comment: str, name: str):
    assert service.service_of(comment) == name


@pytest.mark.parametrize("text", ["svc/web", "web", "default/web", "service/default/web", "svc/default/web"])
def test_names_of_services(text: str):
    assert service.full_name(text) == "default/web"


def test_namesakes_are_told_apart():
    rules = rules_for(a_service("web", ip="10.96.0.1"), a_slice("web"), a_service("web-2", ip="10.96.0.2"), a_slice("web-2"))
    assert [port.name for port in service.ports(rules, "default/web")] == ["default/web:http"]


@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_true_shares_are_even_though_the_dice_are_not(n: int):
    rules = rules_for(a_service(), a_slice(endpoints=[an_endpoint(f"10.244.1.{i}") for i in range(1, n + 1)]))
    (port,) = service.ports(rules, "default/web")
    assert [round(each.share, 6) for each in port.endpoints] == [round(1 / n, 6)] * n


def test_a_hand_made_die_shows_in_the_shares():
    chain = Chain("KUBE-SVC-X", parse.rules([
        "-A KUBE-SVC-X -m statistic --mode random --probability 0.9 -j KUBE-SEP-A",
        "-A KUBE-SVC-X -m statistic --mode random --probability 0.5 -j KUBE-SEP-B", "-A KUBE-SVC-X -j KUBE-SEP-C"]))
    assert [round(each.nominal, 4) for each in shares.of_chain(chain)] == [0.9, 0.05, 0.05]


def test_observed_shares_come_from_counters():
    text = recorded("iptables-save.txt").splitlines()
    counts = iter([30, 50, 20])
    counted = "\n".join(f"[{next(counts)}:0] {line}" if "-> " in line and "default/clusterip" in line else line for line in text)
    (port,) = service.ports(parse.parse(counted), "default/clusterip")
    assert [(each.address, each.packets, each.observed) for each in port.endpoints] == [
        ("10.244.1.5:8080", 30, 0.3), ("10.244.2.5:8080", 50, 0.5), ("10.244.2.6:8080", 20, 0.2)]


def test_remembered_clients_count_as_observed_but_not_in_the_share():
    (port,) = service.ports(RECORDED, "default/affinity")
    assert [each.share for each in port.endpoints] == [0.5, 0.5]


def test_the_tree_follows_every_way_in():
    (port,) = service.ports(RECORDED, "default/lb", Names.of([POD, a_node("node2", "10.244.2.5")]))
    assert [(entry.table, entry.chain, entry.number) for entry in port.entries] == [
        ("nat", "KUBE-SERVICES", 5), ("nat", "KUBE-SERVICES", 6), ("nat", "KUBE-NODEPORTS", 3), ("nat", "KUBE-NODEPORTS", 4)]
    first = port.entries[0]
    assert [each.endpoint for each in first.rules] == ["", "10.244.1.5:8080", "10.244.2.5:8080"]
    assert [each.who for each in port.endpoints] == ["pod/default/web-1 on node1", "node/node2"]
    assert [entry.repeated for entry in port.entries] == [False, False, True, True]


def test_a_service_without_endpoints():
    (port,) = service.ports(RECORDED, "default/none")
    assert (port.endpoints, [entry.table for entry in port.entries]) == ((), ["filter"])
    assert "reject" in show.tree(["node1"], "nf_tables", [port])


def test_ports_of_one_service():
    assert [(port.name, port.protocol) for port in service.ports(RECORDED, "default/multiport")] == [
        ("default/multiport:http", "tcp"), ("default/multiport:dns", "udp")]
    assert service.ports(RECORDED, "default/nothing") == ()


def test_the_tree_as_text():
    text = show.tree(["node1"], "nf_tables", service.ports(RECORDED, "default/nodeport", Names.of([POD])), a_service(type="NodePort"))
    assert "default/nodeport:http tcp, type NodePort, node/node1, nf_tables" in text
    assert "50.0% to 10.244.1.5:8080  pod/default/web-1 on node1" in text
    assert "nat KUBE-NODEPORTS rule 2: tcp port 30080: go to KUBE-EXT-PKMRSDTV7XNERZIJ (above)" in text


def test_the_tree_as_data():
    (data,) = show.ports_data(service.ports(RECORDED, "default/clusterip"))
    assert [each["sharePercent"] for each in data["endpoints"]] == [33.33, 33.33, 33.33]
    assert data["rules"][0]["rules"][1]["endpoint"] == "10.244.1.5:8080"
    json.dumps(data)


def test_overview_counts_and_tells_foreign_rules_from_ours():
    text = recorded("iptables-save.txt").replace(
        ":KUBE-EXT-JSLC", ":MINE - [0:0]\n:KUBE-EXT-JSLC", 1).replace("-A PREROUTING", "-A PREROUTING -j MINE\n-A PREROUTING", 1)
    text = text.replace(":FORWARD ACCEPT", ":FORWARD DROP").replace("-A KUBE-MARK-MASQ", "-A MINE -p tcp -j LOG\n-A KUBE-MARK-MASQ", 1)
    found = overview.overview("node1", parse.parse(text))
    assert (found.services, found.ports, found.endpoints, found.rules) == (9, 10, 16, 101)
    assert [(rule.table, rule.chain, rule.number) for rule in found.foreign] == [("nat", "PREROUTING", 1), ("nat", "MINE", 1)]
    assert "filter FORWARD" in found.dropping
    lines = show.foreign_lines([found])
    assert "node/node1: nat PREROUTING 1: go to MINE (0 pkts)" in lines


def test_a_chain_that_nothing_leads_to():
    text = recorded("iptables-save.txt").replace('-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD\n', "")
    assert overview.overview("n", parse.parse(text)).unjumped == ("filter KUBE-FORWARD",)


def test_the_table_of_services_shows_where_nodes_differ():
    web, none = [a_service(ports=[a_port(node_port=30080)]), a_slice()], [a_service(ports=[a_port(node_port=30080)]), a_slice(endpoints=[])]
    rows = overview.table({"a": rules_for(*web), "b": rules_for(*none), "c": rules_for()})
    assert show.service_rows(rows, ["a", "b", "c"]) == [
        ("default/web:http", "tcp", "10.96.0.10:80,node:30080", "a:1 b:0", "missing on c; refused on b")]
    json.dumps(show.overview_data([overview.overview("a", rules_for(*web))], rows))


def test_nodes_with_the_same_rules_are_told_once_and_their_counters_added_up():
    text = recorded("iptables-save.txt").splitlines()

    def counted(*counts: int) -> tuple[service.PortRules, ...]:
        left = iter(counts)
        lines = (f"[{next(left)}:60] {line}" if "-> " in line and "default/clusterip" in line else line for line in text)
        return service.ports(parse.parse("\n".join(lines)), "default/clusterip")

    other = service.ports(rules_for(a_service("clusterip"), a_slice("clusterip")), "default/clusterip")
    (nodes, (port,)), (alone, _) = merge.alike({"a": counted(1, 2, 3), "b": other, "c": counted(9, 8, 7)})
    assert (nodes, alone) == (("a", "c"), ("b",))
    assert [(each.packets, each.observed) for each in port.endpoints] == [(10, 1 / 3), (10, 1 / 3), (10, 1 / 3)]
    assert [branch.observed for branch in port.entries[0].rules if branch.share is not None] == [1 / 3] * 3
    assert "node/a, node/c (alike, counters added up)" in show.tree(nodes, "nf_tables", [port])


def test_several_ways_to_one_address_are_added_up():
    text = recorded("iptables-save.txt").replace("--to-destination 10.244.2.6:8080", "--to-destination 10.244.2.5:8080")
    (port,) = service.ports(parse.parse(text), "default/clusterip")
    assert [(each.address, round(each.share, 6)) for each in port.endpoints] == [
        ("10.244.1.5:8080", round(1 / 3, 6)), ("10.244.2.5:8080", round(2 / 3, 6))]
