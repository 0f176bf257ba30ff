"""What every answer of the faces needs: the store, and who this member is."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from netlab.store.store import LocalStore

if TYPE_CHECKING:
    from netlab.store.rpc.messages import ResponseHeader

VERSION = "3.5.21"
"""The etcd whose API is spoken; clients choose what they use by it (storage/feature/feature_support_checker.go)."""
CLUSTER_VERSION = VERSION.rpartition(".")[0] + ".0"
TERM = 2
REQUEST_BYTES = 1536 * 1024
"""etcd's --max-request-bytes."""
TXN_OPS = 128
"""etcd's --max-txn-ops."""
BACKLOG = 5000
"""Writes that may wait before new ones are refused (etcd's maxGapBetweenApplyAndCommitIndex)."""


@dataclass
class Face:
    """A store as the only member of an etcd cluster. URLs are the ones that clients are told.

    `notify` is in seconds: how often a quiet watch that asked for it hears of the progress.
    """

    store: LocalStore
    name: str = "default"
    client_urls: Sequence[str] = ()
    peer_urls: Sequence[str] = ()
    notify: float = 5.0
    max_ops: int = TXN_OPS
    max_bytes: int = REQUEST_BYTES
    member: int = field(init=False)
    cluster: int = field(init=False)

    def __post_init__(self) -> None:
        self.cluster, self.member = _number("cluster"), _number(f"member {self.name}")

    def header(self, revision: int = 0) -> ResponseHeader:
        """Return the head of an answer; `revision` 0 is the newest."""
        from netlab.store.rpc.messages import ResponseHeader  # 10 ms that a start without etcdctl does not need

        return ResponseHeader(self.cluster, self.member, revision or self.store.revision, TERM)


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(f"netlab {text}".encode()).digest()[:8], "big")
