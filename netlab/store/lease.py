"""Leases: keys that go when their time is up (events of the API, mostly)."""

from __future__ import annotations

from collections.abc import Iterable

from netlab.store.model import KeyValue, Lease

REUSE_SHARE = 0.05
REUSE_SECONDS = 60.0
REUSE_KEYS = 1000
"""Keys with the same ttl that are written within this share of it (at most so many seconds) share a lease, up to so
many of them; such a lease lives longer by that span. As in apiserver/pkg/storage/etcd3/lease_manager.go."""


_LARGEST = (1 << 63) - 1


class Leases:
    """The leases of a store and the keys attached to them."""

    def __init__(self, leases: Iterable[Lease] = (), attached: Iterable[KeyValue] = ()) -> None:
        self._leases = {lease.id: lease for lease in leases}
        self._keys: dict[int, set[bytes]] = {identity: set() for identity in self._leases}
        self._shared: dict[int, tuple[float, int]] = {}  # by ttl: reusable until, lease id
        self._last = max(self._leases, default=0)
        for kv in attached:
            if kv.lease in self._keys:
                self._keys[kv.lease].add(kv.key)

    def get(self, identity: int) -> Lease | None:
        """Return a lease."""
        return self._leases.get(identity)

    def all(self) -> list[Lease]:
        """Return all leases."""
        return list(self._leases.values())

    def keys(self, identity: int) -> list[bytes]:
        """Return the keys of a lease, sorted."""
        return sorted(self._keys.get(identity, ()))

    def grant(self, ttl: int, now: float, identity: int = 0) -> Lease:
        """Make a lease of `ttl` seconds from `now`; `identity` 0 picks one."""
        if not identity:
            identity = self._free()
        lease = self._leases[identity] = Lease(identity, ttl, now + ttl)
        self._keys[identity] = set()
        return lease

    def _free(self) -> int:
        while True:
            self._last = self._last % _LARGEST + 1
            if self._last not in self._leases:
                return self._last

    def shared(self, ttl: int, now: float) -> tuple[Lease, bool]:
        """Return a lease that lives at least `ttl` seconds more, and whether it is a new one."""
        until, identity = self._shared.get(ttl, (0.0, 0))
        lease = self._leases.get(identity)
        if lease is not None and now <= until and len(self._keys[identity]) < REUSE_KEYS:
            return lease, False
        span = min(ttl * REUSE_SHARE, REUSE_SECONDS)
        lease = self.grant(ttl + int(span) + 1, now)
        self._shared[ttl] = (now + span, lease.id)
        return lease, True

    def keep(self, identity: int, now: float) -> Lease:
        """Renew a lease for its whole time.

        Raises:
            KeyError: no such lease.
        """
        lease = self._leases[identity]
        self._leases[identity] = lease = lease._replace(expires=now + lease.ttl)
        return lease

    def moved(self, old: int, new: int, key: bytes) -> None:
        """Note that a key went from one lease to another (0: none)."""
        if old != new and old in self._keys:
            self._keys[old].discard(key)
        if new in self._keys:
            self._keys[new].add(key)

    def drop(self, identity: int) -> None:
        """Forget a lease; its keys are the caller's matter."""
        self._leases.pop(identity, None)
        self._keys.pop(identity, None)

    def expired(self, now: float) -> list[int]:
        """Return the leases whose time is up."""
        return [lease.id for lease in self._leases.values() if lease.expires <= now]
