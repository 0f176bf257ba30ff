"""The values of the store: what a key holds at a revision, what happened, what a reader gets, what a writer asks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeAlias


@dataclass(slots=True, eq=False)
class KeyValue:
    """One key at one revision (etcd's mvccpb.KeyValue). Never changed once made, but for `memo`.

    `create_revision`, `mod_revision`: the revisions that created the key and wrote this value. `version` counts the
    writes since the creation, from 1; a tombstone has version 0 and an empty value. `lease` is 0 without a lease.
    `sub` is the place within its revision, from 0: a transaction writes several keys in one revision.
    `memo` is the reader's: whatever it derives from this revision (bytes for the wire, a decoded object) and wants to
    have dropped together with it.
    """

    key: bytes
    value: bytes
    create_revision: int
    mod_revision: int
    version: int
    lease: int = 0
    sub: int = 0
    memo: Any = field(default=None, repr=False)

    @property
    def deleted(self) -> bool:
        """Tell whether this is the mark of a deletion."""
        return self.version == 0


@dataclass(slots=True, eq=False)
class Event:
    """One change of one key. Every watch gets the same Event, so `memo` can hold its encoded form for all of them.

    `kv` is the key after the change; after a deletion it is a tombstone whose mod_revision is that of the deletion.
    `prev` is the key before, None when it was not there.
    """

    kv: KeyValue
    prev: KeyValue | None
    memo: Any = field(default=None, repr=False)

    @property
    def revision(self) -> int:
        """Return the revision of the change."""
        return self.kv.mod_revision

    @property
    def deleted(self) -> bool:
        """Tell whether the key was deleted."""
        return self.kv.version == 0

    @property
    def created(self) -> bool:
        """Tell whether the key came into being."""
        return self.kv.version == 1


class Range(NamedTuple):
    """A page of a consistent snapshot: keys in byte order, as they were at `revision`.

    `remaining` counts the keys after this page; `more` says that there are some.
    """

    kvs: list[KeyValue]
    revision: int
    remaining: int = 0

    @property
    def more(self) -> bool:
        """Tell whether another page follows."""
        return self.remaining > 0


class Put(NamedTuple):
    """Write a value. `lease` 0 detaches the key from its lease.

    `keep_value` and `keep_lease` leave what the key has, which must be there.
    """

    key: bytes
    value: bytes
    lease: int = 0
    keep_value: bool = False
    keep_lease: bool = False


class Delete(NamedTuple):
    """Delete a key, or with `end` all keys in [key, end); `end` of one zero byte means to the last key."""

    key: bytes
    end: bytes = b""


class Get(NamedTuple):
    """Read a key, or with `end` all keys in [key, end), inside a transaction (its own writes included)."""

    key: bytes
    end: bytes = b""
    limit: int = 0
    revision: int = 0


class Txn(NamedTuple):
    """Run `then` if all compares hold, else `otherwise`."""

    compares: Sequence[Compare] = ()
    then: Sequence[Op] = ()
    otherwise: Sequence[Op] = ()


Op: TypeAlias = "Put | Delete | Get | Txn"
Target: TypeAlias = Literal["mod", "create", "version", "value", "lease"]


class Compare(NamedTuple):
    """A condition on one key. A missing key has mod, create, version and lease 0, and fails any compare of its value.

    With `end` the condition must hold for every key in [key, end).
    """

    key: bytes
    target: Target
    op: Literal["=", "!=", "<", ">"]
    operand: int | bytes
    end: bytes = b""


class TxnResult(NamedTuple):
    """What a transaction did: `results` has one entry per operation that ran.

    Of a Put: its Event; of a Delete: the list of its Events; of a Get: a Range; of a Txn: a TxnResult. `revision` is
    the store's revision after it (unchanged if nothing was written).
    """

    succeeded: bool
    results: list[Event | list[Event] | Range | TxnResult]
    revision: int


class Lease(NamedTuple):
    """A lease: keys attached to it are deleted when it runs out.

    `ttl` and `expires` are in seconds, the latter on the store's clock.
    """

    id: int
    ttl: int
    expires: float


def prefix_end(prefix: bytes) -> bytes:
    """Return the first key after all with this prefix (clientv3.GetPrefixRangeEnd); one zero byte: there is none."""
    for at in range(len(prefix) - 1, -1, -1):
        if prefix[at] < 0xFF:
            return prefix[:at] + bytes((prefix[at] + 1,))
    return b"\0"
