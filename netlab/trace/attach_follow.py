"""Follow the live traffic of a machine that is no lab: nothing is sent, the flows are told as in a lab."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Protocol

from netlab.errors import NetlabError
from netlab.inspect import foreign
from netlab.inspect.foreign import Spot
from netlab.kernel import logbinding, procs
from netlab.trace import ends, follow
from netlab.trace.attach import Ground, ground, renewed
from netlab.trace.listen import Tap
from netlab.trace.target import names
from netlab.trace.watch import Watch


class Wish(Protocol):
    """What to follow, as in a lab: flows with one end of each word of `targets`, and one among `selector`'s Pods."""

    @property
    def targets(self) -> tuple[str, ...]: ...
    @property
    def selector(self) -> str: ...
    @property
    def protocols(self) -> frozenset[int]: ...
    @property
    def sample(self) -> int: ...
    @property
    def drops_only(self) -> bool: ...
    @property
    def count(self) -> int: ...
    @property
    def duration(self) -> float: ...
    @property
    def ready(self) -> Callable[[], None]: ...
    @property
    def bpf(self) -> bool | None: ...


async def run(attach: Sequence[str], wish: Wish, tell: Callable[[follow.Told, dict[str, str]], None], *,
              kubeconfig: str = "", file: str = "") -> follow.Closing:
    """Follow until a limit is reached, or until SIGINT or SIGTERM comes.

    Args:
        attach: the words of `--attach`.
        wish: what to follow.
        tell: called for each flow, with the node of each place.
        kubeconfig: names the API server that knows the names, "" for none.
        file: objects from a file.

    Raises:
        UsageError: a target is none; NotFound: there is no such object or namespace.
    """
    found = await ground(attach, kubeconfig=kubeconfig, file=file)
    known = found.known()
    own = {spot.place: spot.addresses for spot in found.spots if spot.place.startswith("node/")}
    known = replace(known, places={**(known.places or {}), **own})
    groups = [ends.ends(text, known) for text in wish.targets]
    slices = [each for each in found.objects if each.get("kind") == "EndpointSlice"]
    near: frozenset[str] = frozenset().union(*(ends.near(text, slices) for text in wish.targets))
    if wish.selector:
        groups.append(ends.selected(wish.selector, known))
    watch = Watch(tuple(groups), near, wish.sample, wish.drops_only, wish.protocols)
    room = _Room([foreign.wish(text) for text in attach], found, kubeconfig)
    stop = threading.Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with logbinding.restored(room.descriptors):
            return follow.follow(watch, room.taps(), room.names, lambda told: tell(told, room.nodes),
                                 limits=follow.Limits(wish.count, wish.duration, stop=stop.is_set, ready=wish.ready),
                                 bpf=wish.bpf, refresh=room.renew, release=room.release)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        room.close()


class _Room:
    """The namespaces that are listened in; those that come are added."""

    def __init__(self, wishes: Sequence[foreign.Wish], found: Ground, kubeconfig: str) -> None:
        self._wishes, self._ground, self._kubeconfig = wishes, found, kubeconfig
        self.names = dict(names(found.known()))
        self._open: dict[int, tuple[Spot, int]] = {}
        self._leaving: list[int] = []
        self._pids = procs.pids()
        self._add()

    @property
    def descriptors(self) -> list[int]:
        """Return the descriptors of the namespaces."""
        return [fd for _, fd in self._open.values()]

    @property
    def nodes(self) -> dict[str, str]:
        """Return the name of the node of each Pod's place."""
        return {place: node.removeprefix("node/") for place, node in self._ground.nodes.items()}

    def taps(self) -> list[Tap]:
        """Return a tap for each namespace."""
        return [Tap(spot.place, fd, spot.node.removeprefix("node/")) for spot, fd in self._open.values()]

    def renew(self) -> list[Tap]:
        """Look for namespaces that have come and gone, if processes have."""
        if (now := procs.pids()) != self._pids:
            self._pids = now
            try:
                with ThreadPoolExecutor(1) as pool:  # this thread has a loop already
                    self._ground = pool.submit(asyncio.run, renewed(self._ground, self._wishes,
                                                                    self._kubeconfig)).result()
            except NetlabError:  # all gone for now
                return self.taps()
            self.names.update(names(self._ground.known()))
            there = {spot.inode for spot in self._ground.spots}
            for inode in [inode for inode in self._open if inode not in there]:
                self._leaving.append(self._open.pop(inode)[1])
            self._add()
        return self.taps()

    def _add(self) -> None:
        with foreign.opened(spot for spot in self._ground.spots if spot.inode not in self._open) as places:
            for spot, fd in places:
                self._open[spot.inode] = (spot, os.dup(fd))

    def release(self, tap: Tap) -> None:
        """Close a namespace that is listened in no longer."""
        if tap.netns_fd in self._leaving:
            self._leaving.remove(tap.netns_fd)
            os.close(tap.netns_fd)

    def close(self) -> None:
        """Close every descriptor."""
        for fd in (*self.descriptors, *self._leaving):
            os.close(fd)
