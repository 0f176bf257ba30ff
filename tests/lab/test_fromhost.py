"""`netlab trace host`: the machine itself, whose one way into a lab is the gate."""

from __future__ import annotations

import json

import pytest

pytestmark = [pytest.mark.lab, pytest.mark.root]


@pytest.fixture
def lab(services):
    return services[0]


def record(netlab, lab):
    return next(entry for entry in json.loads(netlab("ls", "-o", "json").stdout) if entry["name"] == lab)


@pytest.mark.parametrize("target", ["svc/kubernetes", "node/control-plane:6443", "kubernetes.default", "gate"])
def test_the_api_server_is_reached_through_the_gate_whose_other_side_is_traced_too(netlab, lab, target):
    gate = f"127.0.0.1:{record(netlab, lab)['port']}"
    found = json.loads(netlab("trace", "--name", lab, "host", gate if target == "gate" else target, "-o", "json").stdout)
    assert (found["destination"], found["outcome"]["status"]) == (gate, "connected")
    assert {hop["place"] for hop in found["hops"]} == {"host"}
    assert not [hop for hop in found["hops"] if hop["kind"] == "rule"], "the machine's own rules are its own affair"
    part = found["parts"][0]
    assert part["role"] == "proxied"
    assert "gate" in part["words"]
    assert part["trace"]["source"] == "fabric"
    assert part["trace"]["outcome"]["endpointPlace"] == "node/control-plane"
    assert found["outcome"]["endpointPlace"] == "node/control-plane"
    assert any(hop["kind"] == "rule" for hop in part["trace"]["hops"])


def test_what_would_leave_the_machine_is_refused_with_the_way_that_there_is(netlab, lab):
    for words in (["svc/web"], ["node/worker1:30080"], ["node/control-plane:6443", "-p", "udp"]):
        done = netlab("trace", "--name", lab, "host", *words, check=False)
        assert done.returncode == 1
        assert f"127.0.0.1:{record(netlab, lab)['port']}" in done.stderr
        assert f"netlab trace outside {words[0]}" in done.stderr


@pytest.mark.parametrize(("words", "said"), [(["there-is-none.default"], "there-is-none.default is no Service"),
                                             (["svc/web", "--predict"], "predict from outside")])
def test_what_the_host_cannot_do_is_said(netlab, lab, words, said):
    done = netlab("trace", "--name", lab, "host", *words, check=False)
    assert done.returncode != 0
    assert said in done.stderr


def test_a_port_of_the_machine_where_nothing_listens_refuses(netlab, lab):
    done = netlab("trace", "--name", lab, "host", "127.0.0.1:1", check=False)
    assert done.returncode == 1
    assert "refused at host" in done.stdout
