"""Six Services of all kinds, rule for rule: the outcome that upstream's TestOverallIPTablesRules states.

In short: `{text}` is a comment, `IP:80` a destination of tcp, `:80` a port alone, and the hashes stand for their chains.
"""

from __future__ import annotations

import re

import pytest

from netlab.netfilter import parse
from netlab.netfilter.model import Ruleset, Table
from netlab.netfilter.normalise import differences
from netlab.proxy.settings import LocalDetector
from tests.proxy.builders import a_port, a_service, a_slice, an_endpoint, rules_for

FREE = ("KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-EXTERNAL-SERVICES")
S1, S2, S3, S4, S5 = ("XPGD46QRK7WJZT7O", "GNZBNJ2PO5MGZ6GT", "X27LE4BHSL4DOUIK", "4SW47YFZTEDKD3PK", "NUKIZ6OKUXPJNT4C")

FILTER = f"""
KUBE-NODEPORTS {{ns2/svc2:p80 health check node port}} :30000 -j ACCEPT
KUBE-SERVICES {{ns6/svc6:p80 has no endpoints}} 172.30.0.46:80 -j REJECT
KUBE-EXTERNAL-SERVICES {{ns2/svc2:p80 has no local endpoints}} 192.168.99.22:80 -j DROP
KUBE-EXTERNAL-SERVICES {{ns2/svc2:p80 has no local endpoints}} 1.2.3.4:80 -j DROP
KUBE-EXTERNAL-SERVICES {{ns2/svc2:p80 has no local endpoints}} -m addrtype --dst-type LOCAL :3001 -j DROP
KUBE-FIREWALL {{block incoming localnet connections}} -d 127.0.0.0/8 ! -s 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP
KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
KUBE-FORWARD {{kubernetes forwarding rules}} -m mark --mark 0x4000/0x4000 -j ACCEPT
KUBE-FORWARD {{kubernetes forwarding conntrack rule}} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
KUBE-PROXY-FIREWALL {{ns5/svc5:p80 traffic not accepted by KUBE-FW-{S5}}} 5.6.7.8:80 -j DROP
"""

NAT = f"""
KUBE-NODEPORTS {{ns2/svc2:p80}} :3001 -j KUBE-EXT-{S2}
KUBE-NODEPORTS {{ns3/svc3:p80}} :3003 -j KUBE-EXT-{S3}
KUBE-NODEPORTS {{ns5/svc5:p80}} :3002 -j KUBE-EXT-{S5}
KUBE-SERVICES {{ns1/svc1:p80 cluster IP}} 172.30.0.41:80 -j KUBE-SVC-{S1}
KUBE-SERVICES {{ns2/svc2:p80 cluster IP}} 172.30.0.42:80 -j KUBE-SVC-{S2}
KUBE-SERVICES {{ns2/svc2:p80 external IP}} 192.168.99.22:80 -j KUBE-EXT-{S2}
KUBE-SERVICES {{ns2/svc2:p80 loadbalancer IP}} 1.2.3.4:80 -j KUBE-EXT-{S2}
KUBE-SERVICES {{ns3/svc3:p80 cluster IP}} 172.30.0.43:80 -j KUBE-SVC-{S3}
KUBE-SERVICES {{ns4/svc4:p80 cluster IP}} 172.30.0.44:80 -j KUBE-SVC-{S4}
KUBE-SERVICES {{ns4/svc4:p80 external IP}} 192.168.99.33:80 -j KUBE-EXT-{S4}
KUBE-SERVICES {{ns5/svc5:p80 cluster IP}} 172.30.0.45:80 -j KUBE-SVC-{S5}
KUBE-SERVICES {{ns5/svc5:p80 loadbalancer IP}} 5.6.7.8:80 -j KUBE-FW-{S5}
KUBE-SERVICES {{kubernetes service nodeports; NOTE: this must be the last rule in this chain}} -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
KUBE-EXT-{S2} {{pod traffic for ns2/svc2:p80 external destinations}} -s 10.0.0.0/8 -j KUBE-SVC-{S2}
KUBE-EXT-{S2} {{masquerade LOCAL traffic for ns2/svc2:p80 external destinations}} -m addrtype --src-type LOCAL -j KUBE-MARK-MASQ
KUBE-EXT-{S2} {{route LOCAL traffic for ns2/svc2:p80 external destinations}} -m addrtype --src-type LOCAL -j KUBE-SVC-{S2}
KUBE-EXT-{S3} {{masquerade traffic for ns3/svc3:p80 external destinations}} -j KUBE-MARK-MASQ
KUBE-EXT-{S3} -j KUBE-SVC-{S3}
KUBE-EXT-{S4} {{masquerade traffic for ns4/svc4:p80 external destinations}} -j KUBE-MARK-MASQ
KUBE-EXT-{S4} -j KUBE-SVC-{S4}
KUBE-EXT-{S5} {{masquerade traffic for ns5/svc5:p80 external destinations}} -j KUBE-MARK-MASQ
KUBE-EXT-{S5} -j KUBE-SVC-{S5}
KUBE-FW-{S5} {{ns5/svc5:p80 loadbalancer IP}} -s 203.0.113.0/25 -j KUBE-EXT-{S5}
KUBE-FW-{S5} {{other traffic to ns5/svc5:p80 will be dropped by KUBE-PROXY-FIREWALL}}
KUBE-MARK-MASQ -j MARK --or-mark 0x4000
KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
KUBE-POSTROUTING -j MARK --xor-mark 0x4000
KUBE-POSTROUTING {{kubernetes service traffic requiring SNAT}} -j MASQUERADE
KUBE-SEP-SXIVWICOYRO3J4NJ {{ns1/svc1:p80}} -s 10.180.0.1 -j KUBE-MARK-MASQ
KUBE-SEP-SXIVWICOYRO3J4NJ {{ns1/svc1:p80}} -p tcp -j DNAT --to-destination 10.180.0.1:80
KUBE-SEP-RS4RBKLTHTF2IUXJ {{ns2/svc2:p80}} -s 10.180.0.2 -j KUBE-MARK-MASQ
KUBE-SEP-RS4RBKLTHTF2IUXJ {{ns2/svc2:p80}} -p tcp -j DNAT --to-destination 10.180.0.2:80
KUBE-SEP-OYPFS5VJICHGATKP {{ns3/svc3:p80}} -s 10.180.0.3 -j KUBE-MARK-MASQ
KUBE-SEP-OYPFS5VJICHGATKP {{ns3/svc3:p80}} -p tcp -j DNAT --to-destination 10.180.0.3:80
KUBE-SEP-UKSFD7AGPMPPLUHC {{ns4/svc4:p80}} -s 10.180.0.4 -j KUBE-MARK-MASQ
KUBE-SEP-UKSFD7AGPMPPLUHC {{ns4/svc4:p80}} -p tcp -j DNAT --to-destination 10.180.0.4:80
KUBE-SEP-C6EBXVWJJZMIWKLZ {{ns4/svc4:p80}} -s 10.180.0.5 -j KUBE-MARK-MASQ
KUBE-SEP-C6EBXVWJJZMIWKLZ {{ns4/svc4:p80}} -p tcp -j DNAT --to-destination 10.180.0.5:80
KUBE-SEP-I77PXRDZVX7PMWMN {{ns5/svc5:p80}} -s 10.180.0.3 -j KUBE-MARK-MASQ
KUBE-SEP-I77PXRDZVX7PMWMN {{ns5/svc5:p80}} -p tcp -j DNAT --to-destination 10.180.0.3:80
KUBE-SVC-{S1} {{ns1/svc1:p80 cluster IP}} 172.30.0.41:80 ! -s 10.0.0.0/8 -j KUBE-MARK-MASQ
KUBE-SVC-{S1} {{ns1/svc1:p80 -> 10.180.0.1:80}} -j KUBE-SEP-SXIVWICOYRO3J4NJ
KUBE-SVC-{S2} {{ns2/svc2:p80 cluster IP}} 172.30.0.42:80 ! -s 10.0.0.0/8 -j KUBE-MARK-MASQ
KUBE-SVC-{S2} {{ns2/svc2:p80 -> 10.180.0.2:80}} -j KUBE-SEP-RS4RBKLTHTF2IUXJ
KUBE-SVC-{S3} {{ns3/svc3:p80 cluster IP}} 172.30.0.43:80 ! -s 10.0.0.0/8 -j KUBE-MARK-MASQ
KUBE-SVC-{S3} {{ns3/svc3:p80 -> 10.180.0.3:80}} -j KUBE-SEP-OYPFS5VJICHGATKP
KUBE-SVC-{S4} {{ns4/svc4:p80 cluster IP}} 172.30.0.44:80 ! -s 10.0.0.0/8 -j KUBE-MARK-MASQ
KUBE-SVC-{S4} {{ns4/svc4:p80 -> 10.180.0.4:80}} -m statistic --mode random --probability 0.5000000000 -j KUBE-SEP-UKSFD7AGPMPPLUHC
KUBE-SVC-{S4} {{ns4/svc4:p80 -> 10.180.0.5:80}} -j KUBE-SEP-C6EBXVWJJZMIWKLZ
KUBE-SVC-{S5} {{ns5/svc5:p80 cluster IP}} 172.30.0.45:80 ! -s 10.0.0.0/8 -j KUBE-MARK-MASQ
KUBE-SVC-{S5} {{ns5/svc5:p80 -> 10.180.0.3:80}} -j KUBE-SEP-I77PXRDZVX7PMWMN
"""


def written_out(table: str, short: str) -> str:
    lines = []
    for line in short.strip().splitlines():
        text = re.sub(r"\{([^}]*)\}", r'-m comment --comment "\1"', line)
        head, quote, tail = text.rpartition('"')
        tail = re.sub(r"^ (\d+\.\d+\.\d+\.\d+):(\d+)", r" -m tcp -p tcp -d \1 --dport \2", tail)
        tail = re.sub(r" :(\d+) ", r" -m tcp -p tcp --dport \1 ", tail)
        lines.append(f"-A {head}{quote}{tail}")
    chains = sorted({line.split()[1] for line in lines})
    return "\n".join((f"*{table}", *(f":{chain} - [0:0]" for chain in chains), *lines, "COMMIT\n"))


def objects():
    def service(number: int, **spec):
        node_port = spec.pop("node_port", 0)
        made = a_service(f"svc{number}", ip=f"172.30.0.4{number}", ports=[a_port(80, "p80", node_port=node_port)], **spec)
        return made | {"metadata": {**made["metadata"], "namespace": f"ns{number}"}}

    def ends(number: int, *hosts: tuple[str, str]):
        made = a_slice(f"svc{number}", [an_endpoint(ip, node) for ip, node in hosts], ports=[{"name": "p80", "port": 80, "protocol": "TCP"}])
        return made | {"metadata": {**made["metadata"], "namespace": f"ns{number}"}}

    return [service(1), ends(1, ("10.180.0.1", "")),
            service(2, type="LoadBalancer", externalTrafficPolicy="Local", node_port=3001, ingress=["1.2.3.4"], externalIPs=["192.168.99.22"],
                    healthCheckNodePort=30000), ends(2, ("10.180.0.2", "")),
            service(3, type="NodePort", node_port=3003), ends(3, ("10.180.0.3", "")),
            service(4, type="NodePort", externalIPs=["192.168.99.33"]), ends(4, ("10.180.0.4", ""), ("10.180.0.5", "node1")),
            service(5, type="LoadBalancer", externalTrafficPolicy="Cluster", node_port=3002, ingress=["5.6.7.8"], healthCheckNodePort=30000,
                    loadBalancerSourceRanges=[" 203.0.113.0/25"]), ends(5, ("10.180.0.3", "")),
            service(6)]


@pytest.mark.parametrize("table", ["filter", "nat"])
def test_overall_rules(table: str):
    rules = rules_for(*objects(), detector=LocalDetector("-s 10.0.0.0/8"), random_fully=False, node_ip="192.168.0.2").table(table)
    ours = Table(table, {name: chain for name, chain in rules.chains.items() if name.startswith("KUBE-") and "CANARY" not in name})
    wanted = parse.parse(written_out(table, FILTER if table == "filter" else NAT))
    found = differences(wanted, Ruleset({table: ours}), unordered=FREE)
    assert found == []
    assert sum(len(chain.rules) for chain in wanted.table(table).chains.values()) == {"filter": 10, "nat": 51}[table]
