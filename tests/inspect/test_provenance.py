"""Which object and field a chain or rule comes from."""

from __future__ import annotations

import pytest

from netlab.errors import NotFound, UsageError
from netlab.inspect import guess, provenance
from netlab.inspect.world import World
from netlab.netfilter import parse
from netlab.proxy import names
from tests.inspect.worlds import changed, objects, world
from tests.proxy.builders import a_settings, recorded, recorded_objects, recorded_with_a_local_one, rules_for

TWO = objects("10.244.1.5", "10.244.2.6", sessionAffinity="ClientIP")
CODE = names.digest("default/web:httptcp")
SEP = names.endpoint_chain("default/web:http", "tcp", "10.244.1.5:8080")


def asked(text: str, kernel=None, listed=TWO):
    return provenance.why(text, kernel or rules_for(*listed), world(listed))


@pytest.mark.parametrize(("text", "sources"), [
    (f"KUBE-SVC-{CODE}", ["Service default/web (resourceVersion 11) metadata.namespace, metadata.name, spec.ports[0].name, spec.ports[0].protocol",
                          ("EndpointSlice default/web-1 (resourceVersion 12) endpoints[0].addresses[0], endpoints[1].addresses[0]: "
                          "10.244.1.5:8080 of Pod default/web-0, 10.244.2.6:8080 of Pod default/web-1")]),
    (SEP, ["Service default/web (resourceVersion 11) metadata.namespace, metadata.name, spec.ports[0].name, spec.ports[0].protocol",
           "EndpointSlice default/web-1 (resourceVersion 12) endpoints[0].addresses[0]: 10.244.1.5:8080 of Pod default/web-0"]),
    (f"{SEP}:2", ["Service default/web (resourceVersion 11) spec.ports[0].targetPort, spec.sessionAffinity",
                  "EndpointSlice default/web-1 (resourceVersion 12) endpoints[0].addresses[0]: 10.244.1.5:8080 of Pod default/web-0"]),
    (f"-A KUBE-SERVICES -d 10.96.0.10/32 -p udp --dport 53 -j KUBE-SVC-{names.digest('default/web:dnsudp')}",
     ["Service default/web (resourceVersion 11) spec.clusterIP, spec.ports[1].port, spec.ports[1].protocol: cluster address 10.96.0.10:53"]),
    ("has no endpoints", [("Service default/empty (resourceVersion 13) spec.clusterIP, spec.ports[0].port, spec.ports[0].protocol: "
                          "cluster address 10.96.0.99:80"), "EndpointSlice default/empty-1 (resourceVersion 14) endpoints: none"]),
    (f"-A KUBE-NODEPORTS -p tcp -m tcp --dport 30080 -j KUBE-EXT-{CODE}", ["Service default/web (resourceVersion 11) spec.ports[0].nodePort: 30080"]),
    (f"KUBE-SVC-{CODE}:1", ["Service default/web (resourceVersion 11) spec.clusterIP, spec.ports[0].port",
                            "KubeProxyConfiguration clusterCIDR, detectLocalMode: -s 10.244.0.0/16"]),
    (f"KUBE-SVC-{CODE}:2", ["Service default/web (resourceVersion 11) spec.sessionAffinity, spec.sessionAffinityConfig.clientIP.timeoutSeconds",
                            "EndpointSlice default/web-1 (resourceVersion 12) endpoints[0].addresses[0]: 10.244.1.5:8080 of Pod default/web-0"]),
    ("KUBE-MARK-MASQ:1", ["KubeProxyConfiguration iptables.masqueradeBit"]),
])
def test_objects_and_fields(text: str, sources: list[str]):
    (origin,) = asked(text)
    assert origin.maker == "kube-proxy"
    assert [str(each) for each in origin.sources] == sources


def test_a_load_balancer_s_rules_name_its_ranges_and_addresses():
    listed = objects("10.244.1.5", type="LoadBalancer", ingress=["192.0.2.9"], loadBalancerSourceRanges=["198.51.100.0/24"])
    (origin,) = asked(f"-A KUBE-FW-{CODE} -s 198.51.100.0/24 -j KUBE-EXT-{CODE}", listed=listed)
    assert origin.sources[0].fields == ("spec.loadBalancerSourceRanges[0]",)
    (origin,) = asked(f"-A KUBE-SERVICES -d 192.0.2.9/32 -p tcp -m tcp --dport 80 -j KUBE-FW-{CODE}", listed=listed)
    assert "status.loadBalancer.ingress[0].ip" in origin.sources[0].fields


@pytest.mark.parametrize(("table", "commands", "text", "said"), [
    ("filter", ["-I FORWARD 2 -d 198.51.100.9 -j DROP"], "-A FORWARD -d 198.51.100.9/32 -j DROP",
     ("foreign: no object of the API explains it. It stands in filter FORWARD behind the jump to KUBE-PROXY-FIREWALL and before "
     "the jumps to KUBE-FORWARD, KUBE-SERVICES, KUBE-EXTERNAL-SERVICES")),
    ("filter", [":MINE -", "-A MINE -j DROP", "-I INPUT -j MINE"], "MINE:1", "It stands in MINE, called by INPUT rule 1 (in filter INPUT before"),
    ("filter", [":MINE -", "-A MINE -j DROP"], "MINE:1", "in MINE, which no rule jumps to: it never applies"),
    ("filter", [":MINE -"], "MINE", "It is called by no rule"),
    ("nat", ["-I KUBE-SERVICES -d 192.0.2.1 -j RETURN"], "-A KUBE-SERVICES -d 192.0.2.1 -j RETURN", "foreign: it stands in a chain of kube-proxy's"),
    ("nat", [f"-A KUBE-SVC-{CODE} -s 192.0.2.1 -j RETURN"], "-s 192.0.2.1", "left from an earlier state of default/web:http, or changed by hand"),
    ("nat", [":KUBE-SVC-ABCDEFGHIJKLMNOP -"], "KUBE-SVC-ABCDEFGHIJKLMNOP", "no object gives this hash"),
    ("mangle", [":KUBE-KUBELET-CANARY -"], "KUBE-KUBELET-CANARY", "the kubelet has it"),
])
def test_what_no_object_explains(table: str, commands, text: str, said: str):
    (origin,) = asked(text, changed(TWO, table, *commands))
    assert origin.maker in ("foreign", "former", "kubelet")
    assert said in origin.said


def test_a_chain_whose_objects_are_gone_is_known_by_its_hash():
    kernel = rules_for(*TWO)
    left = [each for each in TWO if each["metadata"]["name"] not in ("web", "web-1")]
    (origin,) = provenance.why(SEP, kernel, world(left))
    assert origin.maker == "former"
    assert "the endpoint 10.244.1.5:8080 of default/web:http tcp (the hash agrees)" in origin.said


def test_every_rule_of_a_real_kube_proxy_is_explained():
    kernel, listed = parse.parse(recorded("iptables-save.txt")), recorded_objects()
    node = next(each for each in listed if each["kind"] == "Node" and each["metadata"]["name"] == "node1")
    known = World.of(listed, guess.settings(kernel, "IPv4", name="node1", node=node))
    found = [provenance.of_rule(table, chain.name, number, known) for table in kernel.tables.values()
             for chain in table.chains.values() if chain.name.startswith("KUBE-") for number in range(1, len(chain.rules) + 1)]
    assert len(found) > 80
    assert [each.text for each in found if each.maker != "kube-proxy"] == []


@pytest.mark.parametrize("fields", [{}, {"masquerade_all": True}, {"masquerade_bit": 20}, {"random_fully": False},
                                    {"localhost_node_ports": False}, {"conntrack_liberal": True}])
def test_settings_are_read_off_the_rules(fields):
    kernel = rules_for(*TWO, **fields)
    found = guess.settings(kernel, "IPv4", name="node1", node=TWO[-1], liberal=bool(fields.get("conntrack_liberal")))
    assert rules_for(*TWO, **{name: getattr(found, name) for name in found.__slots__}) == kernel
    assert found.masquerade_bit == a_settings(**fields).masquerade_bit


def test_what_is_not_there():
    assert asked("KUBE-NOTHING") == ()
    assert asked("-A FORWARD -j DROP") == ()
    with pytest.raises(NotFound, match="no rule 99"):
        asked("KUBE-FORWARD:99")
    with pytest.raises(UsageError):
        asked(" ")



def test_chains_and_rules_of_an_older_kube_proxy_are_named_with_their_objects():
    kernel, listed = parse.parse(recorded("iptables-save.v1.20.txt")), recorded_with_a_local_one()
    known = world(listed)
    code = names.digest("default/stay:httptcp")
    chain, = provenance.why(f"KUBE-XLB-{code}", kernel, known)
    assert chain.said.startswith("a kube-proxy before v1.24 made it for what comes from outside the cluster")
    assert "default/stay:http tcp" in chain.said
    assert chain.sources[0].object == "Service default/stay"
    for rule in provenance.why("default/stay:http external IP", kernel, known):
        assert rule.maker == "former"
        assert rule.said == "an older kube-proxy, from before v1.24, wrote it for default/stay:http: v1.36 would not"
    same, = provenance.why("forwarding conntrack pod source rule", kernel, known)
    assert same.maker == "kube-proxy", "it does what v1.36 has a rule for, whatever its comment says"
    assert provenance.why(f"KUBE-SEP-{names.digest('default/stay:httptcp10.244.1.60:8080')}", kernel, known)[0].maker == "kube-proxy"
