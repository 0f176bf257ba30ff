"""Rule for rule what kube-proxy v1.36 wrote for the same objects (tests/golden/kube-proxy)."""

from __future__ import annotations

import pytest

from netlab.inspect.known import Known
from netlab.netfilter import parse, render
from netlab.netfilter.normalise import canonical, differences
from netlab.netfilter.terms import comment
from netlab.proxy import user_rules
from netlab.proxy.plan import whole
from netlab.proxy.settings import INVALID_COUNTER, LOCALHOST_COUNTER
from netlab.proxy.tracker import wanted_for
from tests.proxy.builders import NODE_IP, a_settings, recorded, recorded_objects, recorded_with_a_local_one

FREE = ("KUBE-SERVICES", "KUBE-NODEPORTS")
"""Chains in which the order of Services is free."""


@pytest.mark.parametrize(("file", "masquerade_all"), [
    ("iptables-save.txt", False), ("iptables-save.masquerade-all.txt", True)])
def test_rules_equal_the_recording(file: str, masquerade_all: bool):
    settings = a_settings(masquerade_all=masquerade_all, counters=frozenset({INVALID_COUNTER, LOCALHOST_COUNTER}))
    ours = parse.parse(render.ruleset(whole(wanted_for(recorded_objects(), settings))))
    theirs = parse.parse(recorded(file))
    assert differences(theirs, ours, unordered=FREE) == []
    assert differences(ours, theirs, unordered=FREE) == []
    last = [rules.chain("nat", "KUBE-SERVICES").rules[-1] for rules in (ours, theirs)]
    assert canonical(last[0]) == canonical(last[1])


def test_userspace_mode_equals_the_recording_of_the_last_that_had_it():
    """v1.20.2, with the ports that it listened on."""
    theirs = parse.parse(recorded("iptables-save.userspace.v1.20.txt"))
    ports = {comment(rule.match): int(rule.target.split()[-1]) for rule in theirs.chain("nat", "KUBE-PORTALS-CONTAINER").rules}
    tracker = Known.of(recorded_with_a_local_one(), a_settings()).tracker
    made = [port for service in tracker.services() for port in tracker.ports(service) if user_rules.served(port)]
    assert {port.name for port in made} == set(ports)
    ours = user_rules.whole(user_rules.chains(((port, ports[port.name]) for port in made), "0.0.0.0", NODE_IP))
    free = [chain for _, chain in user_rules.CHAINS]
    assert differences(theirs, ours, unordered=free) == []
    assert differences(ours, theirs, unordered=free) == []


def test_the_same_objects_in_any_order_give_the_same_text():
    objects = recorded_objects()
    texts = {render.ruleset(whole(wanted_for(each, a_settings()))) for each in (objects, objects[::-1])}
    assert len(texts) == 1
