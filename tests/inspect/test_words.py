from __future__ import annotations

import pytest

from netlab.inspect import words
from netlab.netfilter import parse


@pytest.mark.parametrize(("line", "said"), [
    ("-d 10.96.0.10/32 -p tcp -m tcp --dport 80 -j KUBE-SVC-X", "to 10.96.0.10, tcp port 80: go to KUBE-SVC-X"),
    ("! -s 10.244.0.0/16 -j KUBE-MARK-MASQ", "not from 10.244.0.0/16: mark for masquerade"),
    ("-m statistic --mode random --probability 0.33333333349 -j A", "one in 3 by the dice: go to A"),
    ("-m comment --comment x -j DNAT --to-destination 10.244.1.5:8080", "rewrite the destination to 10.244.1.5:8080"),
    ("-p udp -m recent --set --name L --mask 255.255.255.255 --rsource -m udp -j DNAT --to-destination 1.2.3.4:5",
     "udp: rewrite the destination to 1.2.3.4:5"),
    ("-m recent --rcheck --seconds 600 --reap --name L -j A", "client seen here in the last 600 s: go to A"),
    ("-m mark ! --mark 0x4000/0x4000 -j RETURN", "not marked 0x4000: leave this chain"),
    ("-j MARK --set-xmark 0x4000/0x4000", "set mark 0x4000"), ("-j MARK --set-xmark 0x4000/0x0", "flip mark 0x4000"),
    ("-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", "connection related or established: accept"),
    ("-m conntrack ! --ctstate NEW -j DROP", "connection not new: drop"),
    ("-m addrtype --dst-type LOCAL -j KUBE-NODEPORTS", "to an address of the node: go to KUBE-NODEPORTS"),
    ("-m addrtype --src-type LOCAL -j A", "from the node itself: go to A"),
    ("-i cni0 -o eth+ -j ACCEPT", "in by cni0, out by eth*: accept"),
    ("-p tcp -m multiport --dports 80,443 -j REJECT --reject-with tcp-reset", "tcp ports 80,443: reject with tcp-reset"),
    ("-m unheard --of 7 -j A", "unheard --of 7: go to A"), ("-g A", "continue in A"),
    ("-m comment --comment hi", "count only"), ("-j MASQUERADE --random-fully", "masquerade: send from the node's own address"),
])
def test_words(line: str, said: str):
    assert words.explain(parse.rule("C", line)) == said
