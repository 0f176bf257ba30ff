"""Objects and neighbours that nobody wishes for: whatever comes, the kernel holds what the objects ask for."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from netlab.kernel import iptables
from netlab.proxy import cleanup
from tests.proxy.api_stub import ApiStub
from tests.proxy.builders import a_port, a_service, a_slice, an_endpoint
from tests.proxy.test_live import live, run, until
from tests.proxy.test_nft_live import machine

pytestmark = pytest.mark.root

HUNDRED = [a_port(1000 + at, f"p{at}", "UDP" if at % 3 == 0 else "TCP", 30100 + at) for at in range(100)]
BOTH = [a_port(53, "tcp", "TCP", 30053), a_port(53, "udp", "UDP", 30053), a_port(53, "sctp", "SCTP", 30053)]


def ports(listed: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"name": each["name"], "port": 8000 + at, "protocol": each["protocol"]} for at, each in enumerate(listed)]


def a_crowd(api: ApiStub) -> None:
    """1,200 endpoints in one slice, then half of them in another, and a hundred in both."""
    ends = [an_endpoint(f"10.244.{at // 250}.{at % 250 + 1}") for at in range(1200)]
    api.put(a_service("crowd", ip="10.96.7.7"), a_slice("crowd", ends))
    api.put(a_slice("crowd", ends[:650]), a_slice("crowd", ends[550:], name="crowd-2"))


def twice(api: ApiStub) -> None:
    """An endpoint in two slices, dying in one; it leaves the one and then the other."""
    api.put(a_service("moved", ip="10.96.7.8"), a_slice("moved", [an_endpoint("10.244.1.1"), an_endpoint("10.244.1.2")]),
            a_slice("moved", [an_endpoint("10.244.1.1", ready=False, serving=True, terminating=True)], name="moved-2"))
    api.put(a_slice("moved", [an_endpoint("10.244.1.2")]))
    api.remove("EndpointSlice", "default/moved-2")


def elsewhere(api: ApiStub) -> None:
    """A slice's label says another Service, and then none."""
    api.put(a_service("one", ip="10.96.7.9"), a_service("two", ip="10.96.7.10"), a_slice("one", name="roams"))
    api.put(a_slice("two", name="roams"))
    api.put(a_slice("", name="roams"), a_slice("one", name="roams"))


def flips(api: ApiStub) -> None:
    name = a_service("flips", ip="", type="ExternalName", externalName="example.org")
    real = a_service("flips", ip="10.96.7.11")
    for each in (name, real, name, real, a_service("flips", ip="None"), name):
        api.put(each)
    api.put(a_slice("flips"), real)


def reborn(api: ApiStub) -> None:
    """Deleted and made again with another address, in one breath; somebody else gets the first."""
    api.put(a_service("phoenix", ip="10.96.7.12"), a_slice("phoenix"))
    api.remove("Service", "default/phoenix")
    api.put(a_service("phoenix", ip="10.96.7.13"), a_service("heir", ip="10.96.7.12"), a_slice("heir"))


def quarrel(api: ApiStub) -> None:
    """Two Services with one address, one node port and one external address, and one gives up."""
    same: dict[str, Any] = {"ip": "10.96.7.14", "type": "NodePort", "externalIPs": ["203.0.113.9"],
                            "ports": [a_port(node_port=30999)]}
    api.put(a_service("first", **same), a_slice("first", [an_endpoint("10.244.1.8")]),
            a_service("second", **same), a_slice("second", [an_endpoint("10.244.1.9")]))
    api.remove("Service", "default/first")


def nulls(api: ApiStub) -> None:
    """What Go's JSON has as null where a list or map is meant, and annotations of nonsense."""
    service, slice_ = a_service("nulls", ip="10.96.7.15", sessionAffinityConfig=None, externalIPs=None, sessionAffinity=None,
                                loadBalancerSourceRanges=None), a_slice("nulls", [an_endpoint("10.244.1.3")])
    service["metadata"] |= {"annotations": None, "labels": None}
    service["status"] = {"loadBalancer": None}
    slice_["metadata"]["annotations"] = {"endpoints.kubernetes.io/last-change-trigger-time": "yesterday, or so"}
    slice_["endpoints"] += [{"addresses": ["10.244.1.4"], "conditions": None, "hints": None, "nodeName": None},
                            {"addresses": ["10.244.1.5"], "hints": {"forZones": None, "forNodes": None}}]
    empty = a_slice("nulls", name="nulls-2") | {"endpoints": None, "ports": None}
    odd = a_slice("nulls", name="nulls-3")
    odd["metadata"]["annotations"] = {"endpoints.kubernetes.io/last-change-trigger-time": "9999-99-99T99:99:99Z"}
    odd["ports"] = [{"name": None, "port": None, "protocol": None}]
    api.put(service, slice_, empty, odd)


def letters(api: ApiStub) -> None:
    """Names that no API server takes today, and the longest that one takes."""
    long = a_service("s" * 63, ip="10.96.7.17", ports=[a_port(name="p" * 15)])
    ends = a_slice("s" * 63, ports=[{"name": "p" * 15, "port": 1, "protocol": "TCP"}], name="long")
    for each in (long, ends):
        each["metadata"]["namespace"] = "n" * 63
    api.put(a_service("größe-日本", ip="10.96.7.16"), a_slice("größe-日本"), long, ends)


STEPS: dict[str, Callable[[ApiStub], None]] = {
    "a hundred ports": lambda api: api.put(a_service("many", ip="10.96.7.1", type="NodePort", ports=HUNDRED),
                                           a_slice("many", ports=ports(HUNDRED))),
    "half of them gone": lambda api: api.put(a_service("many", ip="10.96.7.1", type="NodePort", ports=HUNDRED[::2])),
    "one number, three protocols": lambda api: api.put(a_service("dns", ip="10.96.7.2", type="NodePort", ports=BOTH),
                                                       a_slice("dns", ports=ports(BOTH))),
    "one protocol less": lambda api: api.put(a_service("dns", ip="10.96.7.2", type="NodePort", ports=BOTH[1:])),
    "twice": twice, "elsewhere": elsewhere, "flips": flips, "reborn": reborn, "quarrel": quarrel, "nulls": nulls,
    "letters": letters,
}
CROWD: dict[str, Callable[[ApiStub], None]] = {
    "comes": a_crowd, "shrinks": lambda api: api.remove("EndpointSlice", "default/crowd-2"),
    "goes": lambda api: api.remove("Service", "default/crowd"), "comes again": a_crowd}


@pytest.mark.parametrize("steps", [STEPS, CROWD], ids=["odd ones", "a crowd"])
@pytest.mark.parametrize("backend", ["nft", "legacy"])
def test_iptables_mode_holds_what_the_objects_ask_for_after_each(backend: iptables.Backend, steps, caplog):
    caplog.set_level(logging.WARNING)

    async def body() -> None:
        async with live(backend=backend) as it:
            for name, step in steps.items():
                step(it.api)
                await it.settles(20.0)
                assert not [each.getMessage() for each in caplog.records if "is gone from table" not in each.message], name

    run(body)


def test_nftables_mode_holds_what_the_objects_ask_for_after_each(capfd):
    async def body() -> None:
        async with machine() as it:
            it.start("nftables")
            for step in (STEPS | CROWD).values():
                step(it.api)
                await it.settles()

    run(body)
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("backend", ["nft", "legacy"])
def test_a_foreign_jump_into_our_chains_bothers_neither_syncs_nor_a_cleanup(backend: iptables.Backend, caplog):
    """The chains that it holds stay, empty; all others go."""
    async def body() -> None:
        async with live(a_service(), a_slice(), backend=backend) as it:
            await it.settles()
            svc = next(chain for chain in it.kernel().table("nat").chains if chain.startswith("KUBE-SVC-"))
            mine = f"*nat\n:MINE - [0:0]\n-A MINE -j {svc}\n-A OUTPUT -j MINE\n-I PREROUTING -p tcp -j KUBE-SERVICES\nCOMMIT\n"
            iptables.restore(it.proxier.tool, mine, netns=it.netns)
            it.api.put(a_slice(endpoints=[an_endpoint("10.244.1.9")]))
            await until(lambda: any("10.244.1.9" in rule.target for rule in it.kernel().table("nat").rules()))
            assert cleanup.run("auto", it.netns) > 5
            left = it.kernel().table("nat")
            assert {chain for chain in left.chains if chain.startswith("KUBE-")} == {svc, "KUBE-SERVICES"}
            assert {rule.text for rule in left.rules()} == {f"-A MINE -j {svc}", "-A OUTPUT -j MINE",
                                                            "-A PREROUTING -p tcp -j KUBE-SERVICES"}
            assert f"nat -A MINE -j {svc}" in caplog.text
            assert cleanup.run("auto", it.netns) == 0

    run(body)
