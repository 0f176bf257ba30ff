"""Following the live traffic of a lab: its places become taps, also those that come later, its objects become names."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from netlab.errors import NetlabError
from netlab.lab.places import Namespace, Places, enter_lab
from netlab.lab.state import LabRecord
from netlab.lab.tracing import addresses_of_places, objects
from netlab.trace import ends, follow
from netlab.trace.listen import Tap
from netlab.trace.target import Objects, names
from netlab.trace.watch import Watch


@dataclass(frozen=True)
class Wish:
    """What to follow: flows that have one end of each word of `targets`, and one among the Pods of `selector`."""

    targets: tuple[str, ...] = ()
    selector: str = ""
    protocols: frozenset[int] = frozenset()
    sample: int = 1
    drops_only: bool = False
    count: int = 0
    duration: float = 0.0
    ready: Callable[[], None] = lambda: None
    bpf: bool | None = None


async def run(lab: LabRecord, wish: Wish, tell: Callable[[follow.Told, dict[str, str]], None]) -> follow.Closing:
    """Follow until a limit is reached, or until SIGINT or SIGTERM comes.

    Args:
        lab: whose traffic.
        wish: what to follow.
        tell: called for each flow, in another thread, with the node of each place.

    Raises:
        UsageError: a target is none; NotFound: there is no such object.
    """
    places = Places(lab)
    known = await objects(lab, places)
    slices: list[dict[str, object]] = []
    if wish.targets and known.services:
        async with places.client() as client:
            slices, _ = await client.list("endpointslices.discovery.k8s.io")
    enter_lab(lab)
    room = _Room(places, await places.all())
    stop = threading.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        known = replace(known, places=addresses_of_places(room.namespaces, nodes=True))
        room.take(known)
        groups = [ends.ends(text, known) for text in wish.targets]
        near: frozenset[str] = frozenset().union(*(ends.near(text, slices) for text in wish.targets))
        if wish.selector:
            groups.append(ends.selected(wish.selector, known))
        watch = Watch(tuple(groups), near, wish.sample, wish.drops_only, wish.protocols)

        def refresh() -> Sequence[Tap]:
            return asyncio.run_coroutine_threadsafe(room.renew(lab), loop).result(10)

        limits = follow.Limits(wish.count, wish.duration, stop=stop.is_set, ready=wish.ready)

        def told(flow: follow.Told) -> None:
            tell(flow, room.nodes)

        return await asyncio.to_thread(follow.follow, watch, room.taps(), room.names, told, limits=limits,
                                       bpf=wish.bpf, refresh=refresh, release=room.release)
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
        room.close()


class _Room:
    """The namespaces of the lab and their names, as they come and go."""

    def __init__(self, places: Places, namespaces: list[Namespace]) -> None:
        self.namespaces = namespaces
        self.names: dict[str, str] = {}
        self.nodes: dict[str, str] = {}
        self._places = places
        self._leaving: list[Namespace] = []

    def take(self, known: Objects) -> None:
        """Learn names and nodes from the API's objects."""
        self.names.update(names(known))
        self.nodes.update({f"pod/{pod['metadata']['namespace']}/{pod['metadata']['name']}":
                           pod["spec"].get("nodeName", "") for pod in known.pods})

    def taps(self) -> list[Tap]:
        """Return a tap for each namespace."""
        return [Tap(entry.place, entry.fd, self.nodes.get(entry.place, "")) for entry in self.namespaces]

    async def renew(self, lab: LabRecord) -> list[Tap]:
        """Look for namespaces that have come and gone; nothing changes while the lab does not answer.

        A namespace that is gone stays open until it is released; one of the same name may have come by then.
        """
        try:
            found = await self._places.all()
        except NetlabError:
            return self.taps()
        have = {(entry.place, _inode(entry.fd)): entry for entry in self.namespaces}
        there: list[Namespace] = []
        new = False
        for entry in found:
            old = have.get((entry.place, _inode(entry.fd)))
            if old is None:
                new = True
                there.append(entry)
            else:
                os.close(entry.fd)
                there.append(old)
        self._leaving += [entry for entry in self.namespaces if entry not in there]
        self.namespaces = there
        if new:
            known = await objects(lab, self._places)
            self.take(replace(known, places=addresses_of_places(there, nodes=True)))
        return self.taps()

    def release(self, tap: Tap) -> None:
        """Close a namespace that is listened in no longer."""
        for entry in [entry for entry in self._leaving if entry.fd == tap.netns_fd]:
            os.close(entry.fd)
            self._leaving.remove(entry)

    def close(self) -> None:
        """Close every descriptor."""
        for entry in (*self.namespaces, *self._leaving):
            os.close(entry.fd)


def _inode(fd: int) -> int:
    return os.fstat(fd).st_ino
