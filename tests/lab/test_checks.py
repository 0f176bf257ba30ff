"""Checks that are not true fail, and say what was there instead."""

from __future__ import annotations

import json

import pytest
import yaml

from netlab.errors import ManifestError
from netlab.lab import rulecheck, scenario

CASES = {
    "another Pod": ({"from": "pod/client", "to": "http://web/hostname", "answeredBy": {"labels": "app=client"}},
                    "answered by web-"),
    "never all": ({"from": "pod/client", "to": "http://web/hostname", "answeredBy": {"labels": "app=web", "every": True}},
                  "never answered by web-"),
    "not the same": ({"from": "pod/client", "to": "http://web/hostname", "times": 60,
                      "answeredBy": {"labels": "app=web", "same": True}}, "answered by 3 Pods: web-"),
    "not there": ({"from": "pod/client", "to": "http://web/hostname", "times": 60,
                   "answeredBy": {"labels": "app=web", "node": "control-plane"}}, "no Pod with app=web on control-plane"),
    "seen otherwise": ({"from": "pod/client", "to": "http://web/clientip", "seenAs": "outside"},
                       "(pod/default/client)"),
    "says otherwise": ({"from": "pod/client", "to": "http://web/echo?msg=hello", "says": "^bye$"}, "it says 'hello'"),
    "not refused": ({"from": "pod/client", "to": "tcp://web:80", "expect": "refused"}, "1 of 1: reachable"),
    "no IPv6": ({"from": "pod/client", "to": "tcp://svc/web:80", "family": "IPv6"}, "svc/web has no address of IPv6"),
    "it lives": ({"from": "pod/client", "to": "tcp://svc/web:80", "dropped": {"where": "*", "why": "no route"}},
                 "connected at no place"),
    "no such rule": ({"rule": {"chain": "KUBE-SERVICES", "contains": ["default/web:http", "REJECT"]}},
                     "no such rule on control-plane, worker1, worker2"),
    "a rule that must not be": ({"rule": {"chain": "KUBE-SERVICES", "contains": "default/web:http", "present": False,
                                          "node": "worker1"}}, "worker1: "),
    "no table of nftables": ({"rule": {"table": "kube-proxy", "chain": ".*"}}, "no such rule"),
    "a step fails": ({"run": "kubectl get pod nobody"}, 'pods "nobody" not found'),
    "a step in a place fails": ({"run": "echo oops >&2; exit 3", "at": "node/worker1"}, "exit code 3: oops"),
    "a look sees something else": ({"run": "kubectl get service web -o jsonpath={.spec.type}", "says": "^ClusterIP$"},
                                   "NodePort"),
    "no such place": ({"run": "true", "at": "pod/nobody"}, 'no pod "nobody"'),
}


SKIPPED = {"about another mode": {"modes": ["nftables"], "run": "kubectl get pod nobody"}}


@pytest.fixture(scope="module")
def results(netlab, services, tmp_path_factory):
    """What `netlab test` says of all of them; each is tried for a moment only."""
    file = tmp_path_factory.mktemp("checks") / "scenario.yaml"
    checks = [{"name": name, "within": "1ms", **check} for name, (check, _) in CASES.items()]
    checks += [{"name": name, **check} for name, check in SKIPPED.items()]
    file.write_text(yaml.safe_dump({"checks": checks}))
    done = netlab("test", str(file), "--name", services[0], "-o", "json", check=False)
    assert done.returncode == 1
    return {row["check"]: row for row in json.loads(done.stdout)}


@pytest.mark.lab
@pytest.mark.root
@pytest.mark.parametrize("name", CASES)
def test_what_is_not_so_fails(results, name):
    assert not results[name]["passed"]
    assert CASES[name][1] in results[name]["seen"]


@pytest.mark.lab
@pytest.mark.root
def test_what_is_about_another_mode_of_kube_proxy_is_skipped(results):
    row = results["about another mode"]
    assert (row["passed"], row["skipped"]) == (True, True)
    assert row["seen"] == "it is about nftables; kube-proxy's mode is iptables"


@pytest.mark.parametrize(("text", "field", "expected"), [
    ("- {name: a, run: kubectl get pods, modes: [ipvs]}", "checks[0].modes[0]", "one of iptables, nftables, userspace"),
    ("- {name: a, run: iptables -F}", "checks[0].run", "a command of kubectl or netlab, or one with a place"),
    ("- {name: a, run: 'kubectl get \"', at: 7}", "checks[0].at", "a place"),
    ("- {name: a, run: 'kubectl get \"'}", "checks[0].run", "a command"),
    ("- {name: a, run: kubectl get pods, to: 'tcp://web:80'}", "checks[0]", 'a step has no "to"'),
    ("- {name: a, from: outside, to: 'tcp://web:80', at: outside}", "checks[0]", 'a connection has no "at"'),
    ("- {name: a, from: outside, to: 'tcp://web:80', says: '('}", "checks[0].says", "a pattern"),
    ("- {name: a, from: outside, to: 'tcp://web:80', family: 6}", "checks[0].family", "one of IPv4, IPv6"),
    ("- {name: a, from: outside, to: 'tcp://web:80', seenAs: Web}", "checks[0].seenAs", "a place such as node/worker1"),
    ("- {name: a, rule: {chain: A, contains: ['']}}", "checks[0].rule.contains[0]", "expected text"),
    ("- {name: a, from: outside, to: 'tcp://web:80', answeredBy: {labels: a, same: 1}}", "checks[0].answeredBy.same",
     "true or false"),
])
def test_mistakes_in_checks(text, field, expected, tmp_path):
    with pytest.raises(ManifestError) as caught:
        scenario.parse(f"checks:\n{text}", tmp_path / "scenario.yaml")
    assert (caught.value.line, caught.value.field) == (2, field)
    assert expected in str(caught.value)


def test_the_lines_of_an_nftables_table_belong_to_their_chains_and_maps():
    listing = ("table ip kube-proxy {\n\tmap service-ips {\n\t\ttype ipv4_addr : verdict\n"
               "\t\telements = { 10.96.0.1 : goto a,\n\t\t\t     10.96.0.2 : goto b }\n\t}\n\n"
               "\tchain services {\n\t\tip daddr vmap @service-ips\n\t}\n}\n")
    assert list(rulecheck.lines(listing)) == [
        ("service-ips", "type ipv4_addr : verdict"), ("service-ips", "elements = { 10.96.0.1 : goto a"),
        ("service-ips", "10.96.0.2 : goto b }"), ("services", "ip daddr vmap @service-ips")]
