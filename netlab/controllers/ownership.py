"""Who owns whom, as a graph, and what becomes of an object: pure (k8s:pkg/controller/garbagecollector)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum

from netlab.api import meta
from netlab.api.kinds import Resource
from netlab.api.meta import Object

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"


class Fate(Enum):
    """What the owners of an object mean for it."""

    KEEP = "an owner lives, or there never was one"
    TRIM = "an owner lives, others are gone: only the references to those go"
    DELETE = "every owner is gone"
    DELETE_FIRST = "every owner is gone or waits for this object to go before it"


@dataclass(eq=False)
class Node:
    """One object in the graph. `kind` is None while it is known only from a reference."""

    uid: str
    kind: Resource | None = None
    name: str = ""
    namespace: str = ""
    owners: list[Object] = field(default_factory=list)
    dependents: set[Node] = field(default_factory=set)
    deleting: bool = False
    finalizers: tuple[str, ...] = ()

    @property
    def waits_for_dependents(self) -> bool:
        """Tell whether it is being deleted in the foreground."""
        return self.deleting and FOREGROUND in self.finalizers

    @property
    def orphans_dependents(self) -> bool:
        """Tell whether it is being deleted and its dependents are to stay."""
        return self.deleting and ORPHAN in self.finalizers


class Graph:
    """All objects by uid, with edges from owners to dependents."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}

    def see(self, kind: Resource, obj: Object) -> Node:
        """Put an object's present state in; return its node."""
        node = self.nodes.setdefault(meta.uid(obj), Node(meta.uid(obj)))
        node.kind, node.name, node.namespace = kind, meta.name(obj), meta.namespace(obj)
        node.deleting = meta.deleting(obj)
        node.finalizers = tuple(obj["metadata"].get("finalizers") or ())
        owners = [dict(row) for row in obj["metadata"].get("ownerReferences") or []]
        for row in node.owners:
            self._unlink(row["uid"], node)
        for row in owners:
            self.nodes.setdefault(row["uid"], Node(row["uid"])).dependents.add(node)
        node.owners = owners
        return node

    def forget(self, uid: str) -> tuple[list[Node], list[Node]]:
        """Take out an object that is gone; return (its dependents, its owners that may have waited for it)."""
        node = self.nodes.get(uid)
        if node is None:
            return [], []
        owners = [self.nodes[row["uid"]] for row in node.owners if row["uid"] in self.nodes]
        for row in node.owners:
            self._unlink(row["uid"], node)
        node.owners, node.kind = [], None
        if not node.dependents:
            del self.nodes[uid]
        return list(node.dependents), owners

    def blockers(self, node: Node) -> list[Node]:
        """Return the dependents that must be gone before `node` may go."""
        return [one for one in node.dependents
                if any(row["uid"] == node.uid and row.get("blockOwnerDeletion") for row in one.owners)]

    def _unlink(self, owner: str, node: Node) -> None:
        above = self.nodes.get(owner)
        if above is not None:
            above.dependents.discard(node)
            if above.kind is None and not above.dependents:
                del self.nodes[owner]


def fate(references: Iterable[Object], state: Callable[[Object], str]) -> tuple[Fate, list[Object]]:
    """Return what becomes of an object with these owner references, and the references to keep.

    `state` says of an owner: "solid" (it lives), "waiting" (it is being deleted in the foreground) or "gone".
    """
    rows = list(references)
    states = [state(row) for row in rows]
    if not rows:
        return Fate.KEEP, rows
    if "solid" in states:
        kept = [row for row, word in zip(rows, states, strict=True) if word == "solid"]
        return (Fate.KEEP if len(kept) == len(rows) else Fate.TRIM), kept
    return (Fate.DELETE_FIRST if "waiting" in states else Fate.DELETE), rows
