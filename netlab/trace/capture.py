"""Capture in many namespaces at once: taps that come and go, one stream of frames in order of time.

A `Recorder` owns the taps and never waits: whoever runs it (an event loop) calls `drain` when descriptors are readable
and `emit` now and then. Frames are held back for a moment, for those of another namespace may be older.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from netlab.errors import NotFound
from netlab.kernel import link, stamps
from netlab.kernel.frames import ARPHRD_ETHER, ARPHRD_LOOPBACK, RAW_KINDS, FrameTap, WholeFrame
from netlab.kernel.pcapfilter import Program
from netlab.kernel.rtnl import Rtnl

HOLD: Final = 50_000_000
"""ns that a frame waits for older ones: reading one tap takes much less."""
_BATCH: Final = 4096
_LAST_READS: Final = 64
"""How often an ending tap is read: more than its buffer holds, and yet an end where traffic has none."""


@dataclass(frozen=True)
class Caught:
    """A frame with the place that it was caught in. `raw`: it begins with the IP header, without a link layer's."""

    place: str
    frame: WholeFrame

    @property
    def raw(self) -> bool:
        """Tell whether there is no link-layer header."""
        return self.frame.kind in RAW_KINDS

    @property
    def name(self) -> str:
        """Return `node/worker1:cni0`."""
        return f"{self.place}:{self.frame.interface}"


class Sink(Protocol):
    """Where frames go."""

    def frame(self, caught: Caught) -> None:
        """Take one."""

    def place_ends(self, place: str, at: int, tally: Tally) -> None:
        """Take note that nothing more comes from a place: `at` is ns since the epoch."""

    def flush(self) -> None:
        """Hand over what was taken: nothing more comes for a moment."""


@dataclass
class Tally:
    """What a place gave: frames by interface, since when (ns), and what the kernel says of its own buffer.

    `passed` counts frames that passed the filter, `lost` those among them that found no room.
    """

    started: int
    interfaces: dict[str, int] = field(default_factory=dict)
    passed: int = 0
    lost: int = 0


@dataclass
class _Place:
    tap: FrameTap
    inode: int
    tally: Tally


@dataclass(frozen=True)
class Total:
    """How a capture ended: frames written, lost by the kernel, and how many interfaces and places they came from.

    `why` says what ended it, if that was nothing that was asked for.
    """

    frames: int
    lost: int
    interfaces: int
    places: int
    why: str = ""


class Recorder:
    """The taps of a capture and what they have caught."""

    def __init__(self, sink: Sink, *, clock: Callable[[], int], program: Program | None = None,
                 interfaces: Sequence[str] = (), snap_length: int = 262144, most: int = 0) -> None:
        """Make a recorder.

        Args:
            sink: where frames go.
            clock: gives ns since the epoch.
            program: the filter.
            interfaces: names or patterns (`veth*`) of interfaces to keep; all without.
            snap_length: bytes kept of a frame.
            most: stop after so many frames; 0 for no end.
        """
        self._sink, self._clock, self._program = sink, clock, program or []
        self._patterns, self._snap_length, self._most = tuple(interfaces), snap_length, most
        self._places: dict[str, _Place] = {}
        self._there: dict[str, tuple[str, ...]] = {}
        self._ended: list[tuple[str, Tally]] = []
        self._held: list[Caught] = []
        self._tallies: list[Tally] = []
        self.written = 0
        self._stamps = stamps.keep()

    @property
    def places(self) -> Mapping[str, int]:
        """Return the places that are listened in, with the inodes of their namespaces."""
        return {place: entry.inode for place, entry in self._places.items()}

    @property
    def descriptors(self) -> list[int]:
        """Return the descriptors of the taps, for an event loop."""
        return [entry.tap.fileno() for entry in self._places.values()]

    @property
    def full(self) -> bool:
        """Tell whether as many frames are written as were asked for."""
        return 0 < self._most <= self.written

    def add(self, place: str, netns_fd: int, inode: int) -> FrameTap | None:
        """Listen in a namespace too; None when that is done already, under this name or another.

        Raises:
            NetnsGone: it can't be entered.
        """
        if any(entry.inode == inode for entry in self._places.values()):
            return None
        tap = FrameTap(netns_fd, snap_length=self._snap_length, filter=self._program)
        if self._patterns:
            with Rtnl(netns_fd) as sock:
                self._there[place] = tuple(entry.name for entry in link.links(sock))
        self._places[place] = _Place(tap, inode, Tally(self._clock()))
        return tap

    def absent(self) -> tuple[str, ...]:
        """Return those of the interfaces asked for that no place has.

        Raises:
            NotFound: one of them is a name, and no pattern of what may come.
        """
        missing = tuple(each for each in self._patterns if self._there and not any(
            fnmatch.fnmatchcase(name, each) for names in self._there.values() for name in names))
        named = next((each for each in missing if not set(each) & set("*?[")), "")
        if named:
            places = [f"{place} has {', '.join(names)}" for place, names in list(self._there.items())[:4]]
            raise NotFound(f"no interface there is called {named}", hint="; ".join(places))
        return missing

    def remove(self, place: str) -> FrameTap:
        """Take in what is left of a place, and let go of its namespace. Returns the tap, closed by `close`."""
        entry = self._places[place]
        for _ in range(_LAST_READS):
            if not self.drain(place):
                break
        entry.tally.passed, entry.tally.lost = entry.tap.count()
        self._ended.append((place, entry.tally))
        del self._places[place]
        return entry.tap

    def drain(self, place: str) -> bool:
        """Take in what waits in a tap; a part of it when there is much, so that others get their turn.

        Returns whether there may be more.
        """
        entry = self._places.get(place)
        if entry is None:
            return False
        frames = entry.tap.read(_BATCH)
        for frame in frames:
            if self._wanted(frame):
                entry.tally.interfaces[frame.interface] = entry.tally.interfaces.get(frame.interface, 0) + 1
                self._held.append(Caught(place, frame))
        return len(frames) == _BATCH

    def emit(self, *, everything: bool = False) -> None:
        """Hand over the frames that are old enough, in order of time; and the ends of places behind their frames."""
        before = self._clock() - (0 if everything else HOLD)
        self._held.sort(key=lambda caught: caught.frame.at)
        taken = 0
        for caught in self._held:
            if self.full or (not everything and caught.frame.at > before):
                break
            self._sink.frame(caught)
            self.written += 1
            taken += 1
        del self._held[:taken]
        waiting = {caught.place for caught in self._held} if not self.full else set()
        for place, tally in [entry for entry in self._ended if entry[0] not in waiting]:
            self._ended.remove((place, tally))
            self._sink.place_ends(place, self._clock(), tally)
            self._tallies.append(tally)
        self._sink.flush()

    def finish(self) -> Total:
        """End all taps, hand everything over, and say how it was."""
        taps = [self.remove(place) for place in list(self._places)]
        self.emit(everything=True)
        for tap in taps:
            tap.close()
        if self._stamps is not None:
            self._stamps.close()
        tallies = self._tallies
        return Total(self.written, sum(tally.lost for tally in tallies),
                     sum(len(tally.interfaces) for tally in tallies), len(tallies))

    def _wanted(self, frame: WholeFrame) -> bool:
        if frame.kind not in (ARPHRD_ETHER, ARPHRD_LOOPBACK) and frame.kind not in RAW_KINDS:
            return False
        return not self._patterns or any(fnmatch.fnmatchcase(frame.interface, each) for each in self._patterns)


def patterns(texts: Iterable[str]) -> tuple[str, ...]:
    """Return the interface patterns of `-i a,b -i c`."""
    return tuple(word for text in texts for word in text.split(",") if word)
