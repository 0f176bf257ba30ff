"""Two states of rules compared by what they do."""

from __future__ import annotations

import pytest

from netlab.inspect.diff import diff
from netlab.inspect.names import Names
from netlab.netfilter import parse
from netlab.netfilter.render import ruleset
from tests.inspect.worlds import changed, objects
from tests.proxy.builders import a_port, a_service, a_slice, an_endpoint, recorded, rules_for

TWO = objects("10.244.1.5", "10.244.2.6")


def web(*ips: str, **spec):
    return rules_for(a_service(**spec), a_slice(endpoints=[an_endpoint(ip) for ip in ips]))


def test_alike_however_it_is_spelled():
    text = recorded("iptables-save.txt")
    assert diff(parse.parse(text), parse.parse(text)) == ()
    ours = rules_for(*TWO)
    counted = parse.parse(ruleset(ours, counters=True).replace("[0:0] -A", "[7:420] -A"))
    assert diff(ours, counted) == ()
    assert diff(ours, parse.parse(ruleset(ours).replace("-m tcp -p tcp", "-p tcp -m tcp"))) == ()


@pytest.mark.parametrize(("before", "after", "said"), [
    (web("10.244.1.5", "10.244.1.6"), web("10.244.1.5", "10.244.1.6", "10.244.1.7", "10.244.1.8"),
     ["endpoint 10.244.1.7:8080 is new, it has 25.0%", "endpoint 10.244.1.8:8080 is new, it has 25.0%",
      "the 2 endpoints that stay have 25.0% each, 50.0% before"]),
    (web("10.244.1.5", "10.244.1.6"), web("10.244.1.6"),
     ["endpoint 10.244.1.5:8080 is gone, it had 50.0%", "endpoint 10.244.1.6:8080 has 100.0%, 50.0% before"]),
    (web("10.244.1.5"), web(), ["10.96.0.10:80 is refused, is served before", "endpoint 10.244.1.5:8080 is gone, it had 100.0%"]),
    (web("10.244.1.5"), web("10.244.1.5", externalIPs=["192.0.2.1"]), ["192.0.2.1:80 is served, new"]),
    (web("10.244.1.5"), web("10.244.1.5", type="NodePort", ports=[a_port(node_port=30080)]), ["node port 30080 is served, new"]),
    (web("10.244.1.5"), web("10.244.1.5", sessionAffinity="ClientIP"), ["clients are now sent to the endpoint they had before"]),
])
def test_what_changed_about_a_service_in_words(before, after, said: list[str]):
    (part,) = diff(before, after)
    assert part.service == "default/web"
    assert [text.removeprefix("default/web:http tcp: ") for text in part.words] == said


def test_a_service_that_comes_and_one_that_goes():
    other = rules_for(a_service("api", ip="10.96.0.20"), a_slice("api"))
    found = diff(web("10.244.1.5"), other)
    assert [(part.service, part.words) for part in found] == [
        ("default/api", ("default/api:http tcp: new: 10.96.0.20:80, 1 endpoint",)),
        ("default/web", ("default/web:http tcp: gone: 10.96.0.10:80, 1 endpoint",))]
    assert {line.sign for line in found[0].lines} == {"+"}
    assert {line.sign for line in found[1].lines} == {"-"}


def test_endpoints_have_names():
    (part,) = diff(web(), web("10.244.1.5"), Names(pods={"10.244.1.5": "pod/default/web-1"}, nodes={"10.244.1.5": "node1"}))
    assert "default/web:http tcp: endpoint 10.244.1.5:8080 (pod/default/web-1 on node1) is new, it has 100.0%" in part.words


def test_what_is_of_no_service_comes_last():
    found = diff(rules_for(*TWO), changed(objects("10.244.1.5"), "filter", "-I FORWARD -d 198.51.100.9 -j DROP"))
    assert [part.service for part in found] == ["default/web", ""]
    assert [(line.sign, line.table, line.chain, line.words) for line in found[1].lines] == [
        ("+", "filter", "FORWARD", "to 198.51.100.9: drop")]


def test_a_policy_is_a_difference():
    text = ruleset(rules_for(*TWO))
    (part,) = diff(parse.parse(text), parse.parse(text.replace(":FORWARD ACCEPT", ":FORWARD DROP", 1).replace(
        ":FORWARD ACCEPT", ":FORWARD DROP")))
    assert part.service == ""
    assert "filter FORWARD has policy DROP, ACCEPT before" in part.words
