"""Trace and capture on a machine that is no lab: a real node, or the node containers of a kind cluster.

Namespaces are found by `inspect.foreign`, names come from an API server or a file. Everything that listens is a socket
of this process and goes with it; the one thing that would stay, the log binding that iptables-legacy's trace needs, is
put back by `kernel.logbinding`.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from netlab.api import meta, selector
from netlab.api.meta import Object
from netlab.errors import NetlabError, NotFound, UsageError
from netlab.inspect import foreign
from netlab.inspect.foreign import Spot
from netlab.kernel import logbinding, procs
from netlab.kernel.process import read_file
from netlab.trace import byname, cables, foresee, look, run
from netlab.trace import resolve as resolvers
from netlab.trace.listen import Tap
from netlab.trace.recording import Found
from netlab.trace.target import Objects, Target, named, names, resolve, split
from netlab.trace.views import Subject

LOOK_AGAIN: Final = 1.0
"""Seconds between two looks at /proc's list for namespaces that came and went during a capture."""
ASK_AGAIN: Final = 5.0
"""Seconds between two questions to the API server for Pods whose labels have changed."""


@dataclass(frozen=True)
class Ground:
    """What was attached to: the namespaces, and what the API knows."""

    spots: Sequence[Spot]
    objects: Sequence[Object]

    @property
    def nodes(self) -> dict[str, str]:
        """Return the place of the node of each Pod's place."""
        return {spot.place: spot.node for spot in self.spots if spot.node}

    def find(self, text: str) -> Spot:
        """Return the namespace that a PLACE means; a Pod on its node's network is there.

        Raises:
            NotFound: it is not among those attached to.
        """
        kind, _, rest = text.partition("/")
        kind = {"pods": "pod", "po": "pod", "nodes": "node", "no": "node"}.get(kind, kind)
        spellings = [text, f"{kind}/{rest}", f"{kind}/default/{rest}"] if rest else \
            [text, f"pod/default/{text}", f"node/{text}"]  # a bare name as in kubectl exec
        for spot in self.spots:
            if spot.place in spellings:
                return spot
        for pod in self._pods():
            if f"pod/{meta.key(pod)}" in spellings and (pod.get("spec") or {}).get("hostNetwork"):
                home = f"node/{pod['spec'].get('nodeName', '')}"
                return next((spot for spot in self.spots if spot.place == home), None) or self._none(home)
        return self._none(text)

    def _none(self, text: str) -> Spot:
        there = ", ".join(spot.place for spot in self.spots[:12])
        raise NotFound(f"no place {text} among those attached to", hint=f"there are: {there}")

    def _pods(self) -> Iterator[Object]:
        return (each for each in self.objects if each.get("kind") == "Pod")

    def known(self) -> Objects:
        """Return what a destination can be named by; places that the API does not know stand with their addresses."""
        by_kind = {kind: [each for each in self.objects if each.get("kind") == kind]
                   for kind in ("Service", "Pod", "Node")}
        named = set(names(Objects(by_kind["Service"], by_kind["Pod"], by_kind["Node"])).values())
        places = {spot.place: spot.addresses for spot in self.spots if spot.addresses and spot.place not in named}
        return Objects(by_kind["Service"], by_kind["Pod"], by_kind["Node"], places)

    def address(self, place: str, *, ipv6: bool) -> str:
        """Return an address of a place, of the wished family if it has one."""
        mine = next(spot.addresses for spot in self.spots if spot.place == place)
        return next((ip for ip in mine if (":" in ip) == ipv6), mine[0])

    def labelled(self, text: str, namespace: str) -> set[str]:
        """Return the places of the Pods that a label selector chooses; "" as namespace means all.

        Raises:
            UsageError: it is no selector.
        """
        try:
            wanted = selector.parse(text)
        except ValueError as error:
            raise UsageError(f"-l {text}: {error}", hint="such as: -l app=web,tier!=cache") from None
        return {f"pod/{meta.key(pod)}" for pod in self._pods() if wanted.matches(meta.labels(pod))
                and (not namespace or meta.namespace(pod) == namespace)}


async def ground(attach: Sequence[str], *, kubeconfig: str = "", file: str = "") -> Ground:
    """Look at the machine.

    Raises:
        UsageError, NotFound, KernelError: as of `foreign.wish`, `foreign.objects` and `foreign.discover`.
    """
    wishes = [foreign.wish(text) for text in attach]
    objects = await foreign.objects(kubeconfig, file)
    return Ground(foreign.discover(wishes, objects), objects)


async def renewed(old: Ground, wishes: Sequence[foreign.Wish], kubeconfig: str, *, ask: bool = False) -> Ground:
    """Look at the machine again. The API server is asked when namespaces have come that were not there, or on `ask`.

    Raises:
        NetlabError: as of `foreign.discover`; an API server that is away is no error, what it said still counts.
    """
    spots = await asyncio.to_thread(foreign.discover, wishes, old.objects)
    if not kubeconfig or not (ask or {spot.inode for spot in spots} - {spot.inode for spot in old.spots}):
        return replace(old, spots=spots)
    try:
        objects = await foreign.objects(kubeconfig)
    except NetlabError:
        return replace(old, spots=spots)
    return Ground(await asyncio.to_thread(foreign.discover, wishes, objects), objects)


async def trace(attach: Sequence[str], request: run.Request, target: str, *, kubeconfig: str = "", file: str = "",
                ipv6: bool = False, predict: bool = True) -> Subject:
    """Send one exchange from a place that was found, and tell of it as in a lab.

    Args:
        attach: the words of `--attach`.
        request: what to send; its `source` is the PLACE as the user wrote it, its address does not matter.
        target: TO[:PORT].
        kubeconfig: names the API server that knows the names, "" for none.
        file: objects from a file instead.
        ipv6: to the IPv6 address of what has both.
        predict: lay a prediction beside it, made from what all the namespaces say just before.
    """
    found = await ground(attach, kubeconfig=kubeconfig, file=file)
    source = found.find(request.source)
    known = found.known()
    name, port = split(named(target, known))
    if name in (known.places or {}):  # a place that the API does not know: `node/worker1`, `pod/2a9b1c3d`
        goal = Target(found.address(name, ipv6=ipv6), port, target)
    else:
        goal = resolve(target, known, protocol=request.protocol, ipv6=ipv6)
    with foreign.opened(found.spots) as places:
        descriptors = [(spot.place, fd) for spot, fd in places]
        taps = [Tap(spot.place, fd, spot.node.removeprefix("node/")) for spot, fd in places]
        asked = replace(request, source=source.place, address=goal.address, port=goal.port)
        world = (look.world(taps, names(known), family=look.family_of(goal.address) if goal.address else 4, lazy=True,
                            alone=False)
                 if predict and request.craft is None else None)
        with logbinding.restored([fd for _, fd in descriptors]):
            if goal.name:
                conf = resolvers.parse(_resolv_conf(source))
                told = byname.trace(asked, goal.name, conf, taps, names(known), target=goal.label, ipv6=ipv6)
            else:
                told = run.trace(asked, taps, names(known), target=goal.label)
        return Subject(told, {place: node.removeprefix("node/") for place, node in found.nodes.items()},
                       cables.far_ends(descriptors, found.nodes),
                       foresee.compared(world, asked, told) if world else None)


def _resolv_conf(spot: Spot) -> str:
    """Return the resolv.conf that a process in the namespace sees, "" when none is known."""
    if not spot.pid:
        return ""
    with contextlib.suppress(OSError):
        process = os.pidfd_open(spot.pid)
        try:
            return read_file(process, "/etc/resolv.conf")
        finally:
            os.close(process)
    return ""


class AttachSource:
    """Finds the namespaces of a capture (see recording.Source): looks at /proc again every second."""

    def __init__(self, wishes: Sequence[foreign.Wish], first: Ground, words: Sequence[str], labels: str,
                 namespace: str, kubeconfig: str = "") -> None:
        """Make a source. Without PLACEs and labels everything that was attached to is listened in.

        The API server of `kubeconfig` is asked again when namespaces have come, and now and then for labels.

        Raises:
            NotFound: a PLACE that is not there; UsageError: labels that are none.
        """
        self._wishes, self._ground, self._labels, self._namespace = wishes, first, labels, namespace
        self._everything = (not words and not labels) or "all" in words
        self._fixed = {first.find(word).place for word in words if word != "all"}
        if labels:
            first.labelled(labels, namespace)
        self.links: dict[str, str] = {}
        self.names: Mapping[str, str] = names(first.known())
        self._first = True
        self._kubeconfig = kubeconfig
        self._pids = procs.pids()

    async def changed(self) -> None:
        """Wait until processes have come or gone, and at least a second; with labels no more than ASK_AGAIN."""
        rounds = itertools.count(1)
        while not (self._labels and self._kubeconfig and next(rounds) * LOOK_AGAIN > ASK_AGAIN):
            await asyncio.sleep(LOOK_AGAIN)
            if (now := procs.pids()) != self._pids:
                self._pids = now
                return

    async def look(self) -> tuple[Sequence[Found], bool]:
        """Return the namespaces that are there now; those of the first look are there as they were found."""
        if not self._first:
            with contextlib.suppress(NetlabError):  # all gone for now
                self._ground = await renewed(self._ground, self._wishes, self._kubeconfig, ask=bool(self._labels))
                self.names = {**self.names, **names(self._ground.known())}
        self._first = False
        chosen = self._fixed | (self._ground.labelled(self._labels, self._namespace) if self._labels else set())
        with foreign.opened(self._ground.spots) as places:
            self.links |= cables.far_ends([(spot.place, fd) for spot, fd in places], self._ground.nodes)
            return [Found(spot.place, os.dup(fd)) for spot, fd in places
                    if self._everything or spot.place in chosen], False


async def source(attach: Sequence[str], words: Sequence[str], labels: str, namespace: str, *, kubeconfig: str = "",
                 file: str = "") -> AttachSource:
    """Return the source of a capture.

    Raises:
        UsageError, NotFound, KernelError: as of `ground`; labels without anything that knows labels.
    """
    if labels and not (kubeconfig or file):
        raise UsageError("-l needs to know the Pods' labels", hint="add --kubeconfig FILE or --objects FILE")
    found = await ground(attach, kubeconfig=kubeconfig, file=file)
    return AttachSource([foreign.wish(text) for text in attach], found, words, labels, namespace,
                        kubeconfig)
