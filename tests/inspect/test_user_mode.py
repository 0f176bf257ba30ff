"""Userspace mode in the views of rules."""

from __future__ import annotations

from netlab.inspect import graph, node_check, overview, service, show, whence
from netlab.inspect.holding import Holding
from netlab.inspect.nft_diff import sides
from netlab.netfilter import parse
from netlab.netfilter.render import ruleset
from netlab.proxy import user_rules
from netlab.proxy.services import service_ports
from tests.inspect.worlds import objects, world
from tests.proxy.builders import rules_for

LISTED = objects("10.244.1.5")
PORTS = [(port, 40000 + at) for at, port in enumerate(port for each in LISTED if each["kind"] == "Service"
                                                     for port in service_ports(each, "IPv4"))]
RULES = user_rules.whole(user_rules.chains(PORTS, "0.0.0.0", "172.30.0.11"))
HELD = Holding("node1", rules=RULES)


def test_the_tree_says_who_chooses():
    (http, _) = service.ports(RULES, "default/web")
    assert [entry.chain for entry in http.entries] == ["KUBE-PORTALS-CONTAINER", "KUBE-PORTALS-HOST", "KUBE-NODEPORT-CONTAINER", "KUBE-NODEPORT-HOST"]
    assert "kube-proxy itself takes connections" in show.tree(["node1"], "nf_tables", [http])
    assert {row.name: row.addresses for row in overview.table({"node1": RULES})}["default/web:http"] == ("10.96.0.10:80", "node:30080")


def test_the_graph_ends_at_the_ports_that_kube_proxy_listens_on():
    found = graph.graph(RULES, "default/web")
    assert [node.label for node in found.nodes if node.kind == "hook"] == ["nat PREROUTING", "nat OUTPUT", "filter INPUT"]
    aside = {port.name: at for port, at in PORTS if port.service == "default/web"}
    ends = {node.label for node in found.nodes if node.kind == "verdict"}
    assert ends >= {f"redirect to the node's own port {at}" for at in aside.values()}
    assert {edge.source for edge in found.edges} >= {"nat KUBE-PORTALS-CONTAINER", "nat KUBE-NODEPORT-HOST"}


def test_the_overview_claims_no_number_of_endpoints():
    rows = show.service_rows(overview.table({"node1": RULES}), ["node1"], {"node1"})
    assert {row[3:] for row in rows} == {("-", "kube-proxy itself chooses")}
    assert show.overview_rows([overview.overview("node1", RULES)], {"node1"})[0][4] == "-"


def test_where_its_rules_come_from():
    (origin,) = whence.why("KUBE-NODEPORT-CONTAINER:1", HELD, world(LISTED), None)
    assert (origin.maker, str(origin.sources[0])) == (
        "kube-proxy", "Service default/web (resourceVersion 11) spec.ports[0].nodePort, spec.ports[0].protocol")
    (origin,) = whence.why("PREROUTING:1", HELD, world(LISTED), None)
    assert "in userspace mode" in origin.said


def test_what_is_wrong_with_them():
    assert {each.kind for each in node_check.findings(HELD, world(LISTED), None)} == {"no-masquerade"}
    text = ruleset(RULES).replace("default/empty:http", "default/gone:http")
    found = node_check.findings(Holding("node1", rules=parse.parse(text)), world(LISTED), None)
    assert {(each.kind, each.service) for each in found} == {
        ("missing-rule", "default/empty"), ("extra-rule", "default/gone"), ("no-masquerade", "")}


def test_against_another_mode_only_addresses_are_compared():
    found = sides(HELD, Holding(rules=rules_for(*LISTED)))
    assert [part.words for part in found if part.service] == [("default/empty:http tcp: 10.96.0.99:80 is refused, is served before",)]
