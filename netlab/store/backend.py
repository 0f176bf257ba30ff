"""Where the log is kept: the few calls that a backend answers, and the one that keeps nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from netlab.store.model import Event, KeyValue, Lease


@dataclass(frozen=True)
class Kept:
    """What a backend had kept: the versions that are live at `compacted`, and every event since."""

    revision: int = 1
    compacted: int = 0
    base: Sequence[KeyValue] = ()
    events: Sequence[Event] = ()
    leases: Sequence[Lease] = ()


@dataclass
class Batch:
    """What one commit writes: the events of whole revisions, leases granted or renewed, leases that ended.

    `compacted`, if not 0, is the revision that history is forgotten up to, and `dead` are the versions that go.
    """

    events: list[Event] = field(default_factory=list)
    leases: list[Lease] = field(default_factory=list)
    ended: list[int] = field(default_factory=list)
    compacted: int = 0
    dead: list[KeyValue] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.events or self.leases or self.ended or self.compacted)


class Backend(Protocol):
    """The disk's side of the store. Calls come one at a time."""

    @property
    def blocking(self) -> bool:
        """Tell whether `append` waits for a disk, so that it belongs in a thread."""

    def load(self) -> Kept:
        """Return what is kept. Raises Corrupt, Locked, StorageFailed."""

    def begin(self, batch: Batch) -> None:
        """Do the part of `append` that needs no wait; `append` follows, or on an error does not. Raises as that."""

    def append(self, batch: Batch) -> None:
        """Keep a batch, whole or not at all. Raises StorageFailed, StorageFull."""

    def checkpoint_due(self) -> bool:
        """Tell whether `checkpoint` is worth its time."""

    def ahead(self) -> bool:
        """Tell whether so much was written since the last `checkpoint` began that writers should wait for its end."""

    def checkpoint(self) -> None:
        """Tidy up what has been written; runs in a thread beside `append`."""

    def finish_checkpoint(self) -> None:
        """Tidy up what was written meanwhile, if it is too much to leave; not beside `append`."""

    def size(self) -> int:
        """Return the bytes that the files take."""

    def defragment(self) -> None:
        """Give free room back; not beside anything else. Raises StorageFailed, StorageFull."""

    def close(self) -> None:
        """Let go of the files."""


class Memory:
    """Keeps nothing: for tests, and for labs that need no second life."""

    blocking = False

    def load(self) -> Kept:
        """Return an empty store."""
        return Kept()

    def begin(self, batch: Batch) -> None:
        """Begin nothing."""

    def append(self, batch: Batch) -> None:
        """Keep nothing."""

    def checkpoint_due(self) -> bool:
        """Return that there is nothing to tidy."""
        return False

    def ahead(self) -> bool:
        """Return that nobody has to wait."""
        return False

    def checkpoint(self) -> None:
        """Do nothing."""

    def finish_checkpoint(self) -> None:
        """Do nothing."""

    def size(self) -> int:
        """Return that there are no files."""
        return 0

    def defragment(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""
