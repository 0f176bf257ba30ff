"""A trace inside a lab: its places become taps, its API objects become names, then `trace.run` does the work."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from netlab.api.meta import Object
from netlab.client import oneshot
from netlab.errors import NetlabError, UsageError
from netlab.kernel import link
from netlab.kernel.netns import OWN, open_netns
from netlab.kernel.process import read_file
from netlab.kernel.rtnl import Rtnl
from netlab.lab import fromhost
from netlab.lab.places import Namespace, Place, Places, closing, enter_lab
from netlab.lab.state import LabRecord, NodeRecord
from netlab.runtime.shimclient import ShimClient
from netlab.trace import look, run
from netlab.trace.craft import Craft
from netlab.trace.event import Trace
from netlab.trace.packet import join
from netlab.trace.send import Protocol
from netlab.trace.target import Objects, Target, names, resolve

if TYPE_CHECKING:
    from netlab.trace.agree import Agreement

BARE = ("outside", "fabric", "host")
"""Places that have no files of their own, and so no resolver: names of the cluster come from the API there."""


@dataclass(frozen=True)
class Wish:
    """What the user asked for: PLACE, TO[:PORT], and how; the fields as of `run.Request`.

    `payload` None sends something suitable: over TCP an HTTP request to a port that is known for it, else nothing.
    """

    source: str
    target: str
    protocol: Protocol = "tcp"
    timeout: float = 3.5
    payload: bytes | None = None
    source_address: str = ""
    craft: Craft | None = None
    bpf: bool | None = None
    ipv6: bool = False
    predict: bool = True


@dataclass(frozen=True)
class Traced:
    """A trace with the words that only the lab knows: the node of each place, the far end of each interface."""

    trace: Trace
    nodes: Mapping[str, str]
    links: Mapping[str, str]
    agreement: Agreement | None = None


async def trace(lab: LabRecord, wish: Wish) -> Traced:
    """Send what was asked for and return all that the kernel told about it.

    Raises:
        UsageError: a place or a destination that is none.
        NotFound: no such place, or a destination that has no address.
    """
    places = Places(lab)
    known = await objects(lab, places)
    source = Place("host") if wish.source == "host" else await places.resolve(wish.source, known.pods)
    on = {f"pod/{pod['metadata']['namespace']}/{pod['metadata']['name']}": pod["spec"].get("nodeName", "")
          for pod in known.pods}
    if source.name == "host" and lab.rootless:
        raise UsageError("a trace from the host listens in the host's own network, which takes root",
                         hint="this lab is rootless: trace from outside, a host beyond the cluster")
    own = [Namespace("host", open_netns(OWN))] if source.name == "host" else []
    enter_lab(lab)
    with closing([*await places.all(), *own]) as namespaces:
        taps = [run.Tap(entry.place, entry.fd, on.get(entry.place, "")) for entry in namespaces]
        here = source.name
        if here not in {tap.place for tap in taps}:
            here = f"node/{source.node}"  # a Pod on its node's own network
        known = replace(known, places=addresses_of_places(namespaces))
        target = resolve(wish.target, known, protocol=wish.protocol, ipv6=wish.ipv6)
        relay = ""
        if own:
            target = fromhost.target(lab, own[0].fd, target, known, wish.protocol)
            relay = fromhost.relay(lab, target)
        payload = _payload(wish, target) if wish.payload is None else wish.payload
        request = run.Request(here, target.address, target.port, wish.protocol, wish.timeout, payload,
                              wish.source_address, wish.craft, wish.bpf, relay)
        family = look.family_of(target.address) if target.address else 6 if wish.ipv6 else 4
        world = (await asyncio.to_thread(look.world, taps, names(known), family=family, lazy=True)
                 if wish.predict and not own and wish.craft is None else None)
        # It takes as long to import as the packet takes there and back: most of a trace is waiting.
        foresight = asyncio.ensure_future(asyncio.to_thread(importlib.import_module, "netlab.trace.foresee")) \
            if world else None
        if target.name and not (source.name in BARE and target.address):
            from netlab.trace import byname  # with a DNS library, which other traces do without
            from netlab.trace import resolve as resolvers

            conf = resolvers.parse(await resolv_conf(places, source))
            fd = next(tap.netns_fd for tap in taps if tap.place == here)
            six = wish.ipv6 or ":" in target.address or _only_six(fd)
            traced = await asyncio.to_thread(byname.trace, request, target.name, conf, taps, names(known),
                                             target=target.label, ipv6=six)
        else:
            traced = await asyncio.to_thread(run.trace, request, taps, names(known), target=target.label)
        agreement = (await foresight).compared(world, request, traced) if foresight else None
        return Traced(traced, on, far_ends(namespaces, on), agreement)


async def resolv_conf(places: Places, place: Place) -> str:
    """Return the resolv.conf of a place; "" where it has none of its own."""
    if place.name in BARE:
        return ""
    with contextlib.suppress(NetlabError, OSError):
        async with ShimClient(places.shim(place.node)) as shim:
            process = await shim.open_place(place.target)
        try:
            return read_file(process, "/etc/resolv.conf")
        finally:
            os.close(process)
    return ""


def _payload(wish: Wish, target: Target) -> bytes:
    """Return what to say when nobody said what: over TCP to a port of HTTP, a request that ends the connection."""
    if wish.protocol != "tcp" or wish.craft is not None or not target.http:
        return b""
    return f"GET / HTTP/1.1\r\nHost: {join(target.address, target.port)}\r\nConnection: close\r\n\r\n".encode()


async def objects(lab: LabRecord, places: Places) -> Objects:
    """Return the Services, Pods and Nodes that the API server knows; nothing at all while it is away."""
    try:
        lists = await oneshot.get(places.config(), ("/api/v1/services", "/api/v1/pods", "/api/v1/nodes"))
    except NetlabError:  # a trace by address works without the control plane, and may be wanted just then
        return Objects(nodes=[_node(node) for node in lab.nodes])
    services, pods, nodes = (each.get("items") or () for each in lists)
    return Objects(services, pods, nodes)


def _node(record: NodeRecord) -> Object:
    return {"metadata": {"name": record.name},
            "status": {"addresses": [{"type": "InternalIP", "address": ip} for ip in record.ips]}}


def _only_six(netns: int) -> bool:
    """Tell whether a namespace has IPv6 addresses alone, and so asks for no others."""
    with Rtnl(netns) as sock:
        found = [address.ip for address in link.addresses(sock) if not address.ip.startswith(("127.", "::1", "fe80:"))]
    return bool(found) and all(":" in ip for ip in found)


def addresses_of_places(namespaces: Sequence[Namespace], *, nodes: bool = False) -> dict[str, list[str]]:
    """Return the addresses of `outside`, which is no API object, and of all that nodes have; IPv4's come first."""
    found: dict[str, list[str]] = {}
    for entry in namespaces:
        if entry.place == "outside" or (nodes and entry.place.startswith("node/")):
            with Rtnl(entry.fd) as sock:
                for address in link.addresses(sock):
                    if not address.ip.startswith(("127.", "::1", "fe80:")):
                        found.setdefault(entry.place, []).append(address.ip)
    return {place: sorted(several, key=lambda ip: ":" in ip) for place, several in found.items()}


def far_ends(namespaces: Sequence[Namespace], nodes: Mapping[str, str]) -> dict[str, str]:
    """Return what is at the other end of each cable, by `place interface`."""
    found: dict[str, str] = {}
    names_of: dict[str, dict[int, str]] = {}
    by_place: dict[str, int] = {entry.place: entry.fd for entry in namespaces}

    def links(place: str) -> dict[int, str]:
        if place not in names_of:
            with Rtnl(by_place[place]) as sock:
                names_of[place] = {entry.ifindex: entry.name for entry in link.links(sock)}
        return names_of[place]

    for place, fd in by_place.items():
        node = nodes.get(place, "")
        if place.startswith("pod/") and f"node/{node}" in by_place:
            far, words = f"node/{node}", place
        elif place.startswith("node/") and "fabric" in by_place:
            far, words = "fabric", place
        else:
            continue
        with Rtnl(fd) as sock:
            own = link.find(sock, "eth0")
        if own is not None and own.peer in links(far):
            found[f"{far} {links(far)[own.peer]}"] = words
    return found
