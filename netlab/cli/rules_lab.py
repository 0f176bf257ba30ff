"""What the views of `netlab rules` ask of a lab: each node's rules, and the objects of its API."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from netlab.api.meta import Object
    from netlab.inspect.names import Names
    from netlab.inspect.world import World
    from netlab.lab.state import LabRecord
    from netlab.netfilter.model import Ruleset

KINDS = {"services": "Service", "endpointslices.discovery.k8s.io": "EndpointSlice", "nodes": "Node", "pods": "Pod"}


@dataclass(frozen=True)
class Held:
    """What one node holds: its rules by kube-proxy's backend, by the other one if it has any, and a sysctl."""

    node: str
    rules: Ruleset
    other: Ruleset | None = None
    liberal: bool = False


def find(name: str, node: str) -> tuple[LabRecord, str]:
    """Return the lab and the node's name ("" for all), from the words of the command line.

    Raises:
        NotFound: there is no such lab or node.
    """
    from netlab.errors import NotFound
    from netlab.lab import state

    lab = state.find(name)
    only = node.removeprefix("node/")
    known = [each.name for each in lab.nodes]
    if only and only not in known:
        raise NotFound(f'lab "{lab.name}" has no node "{only}"', hint=f"there are: {', '.join(known)}")
    return lab, only


def saved(lab: LabRecord, only: str, *, ipv6: bool = False, both: bool = False) -> Iterator[Held]:
    """Yield each node's rules with their counters. For a rootless lab this process moves into it for good.

    Args:
        lab: which.
        only: one node's name, "" for all.
        ipv6: the rules of which family.
        both: with those of the other backend.
    """
    from netlab.lab.places import Places, closing, enter_lab

    enter_lab(lab)
    with closing(Places(lab).own()) as namespaces:
        for each in namespaces:
            kind, _, node = each.place.partition("/")
            if kind == "node" and (not only or node == only):
                yield _held(node, each.fd, "IPv6" if ipv6 else "IPv4", both)


def _held(node: str, netns: int, family: Any, both: bool) -> Held:
    from netlab.kernel import iptables
    from netlab.kernel import netns as namespaces
    from netlab.netfilter.parse import parse
    from netlab.proxy.host import conntrack_liberal

    main = iptables.find(family)
    text = iptables.save(main, netns=netns, counters=True)
    legacy = "nat" in iptables.tables_in_use(netns)[family]
    second = ""
    if main.backend == "nft" and legacy and (both or "KUBE-SERVICES" not in text):
        second = iptables.save(iptables.find(family, "legacy"), netns=netns, counters=True)
    elif main.backend == "legacy" and both:
        second = iptables.save(iptables.find(family, "nft"), netns=netns, counters=True)
    if "KUBE-SERVICES" not in text and "KUBE-SERVICES" in second:
        text, second = second, text
    with namespaces.inside(netns):
        liberal = conntrack_liberal()
    return Held(node, parse(text), parse(second) if second else None, liberal)


def objects(lab: LabRecord) -> list[Object]:
    """Return the Services, EndpointSlices, Nodes and Pods of a lab, with their kinds.

    Raises:
        TemporaryError: its API server does not answer.
    """
    return asyncio.run(_objects(lab))


def names(lab: LabRecord) -> Names:
    """Return what the API calls addresses; nothing while its server is away."""
    from netlab.errors import NetlabError
    from netlab.inspect.names import Names

    try:
        return Names.of(objects(lab))
    except NetlabError:
        return Names()


async def _objects(lab: LabRecord) -> list[Object]:
    from netlab.errors import TemporaryError
    from netlab.lab.places import Places

    try:
        async with asyncio.timeout(10), Places(lab).client() as client:
            lists = await asyncio.gather(*(client.list(resource) for resource in KINDS))
    except TimeoutError:
        raise TemporaryError("the API server does not answer: there is nothing to compare the rules with") from None
    return [{**item, "kind": kind} for kind, (items, _) in zip(KINDS.values(), lists, strict=True) for item in items]


def world(held: Held, listed: Sequence[Object], *, ipv6: bool = False) -> World:
    """Return what the kube-proxy of a node would write, with the settings that its rules show."""
    from netlab.inspect import guess
    from netlab.inspect.world import World

    node = next((each for each in listed if each["kind"] == "Node" and each["metadata"]["name"] == held.node), None)
    return World.of(listed, guess.settings(held.rules, "IPv6" if ipv6 else "IPv4", name=held.node, node=node,
                                           liberal=held.liberal))
