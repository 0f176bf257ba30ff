"""etcd's transactions, decided on a draft: conditions, then operations, all or nothing."""

from __future__ import annotations

from collections.abc import Sequence

from netlab.store.draft import Draft
from netlab.store.errors import DuplicateKey, KeyMissing
from netlab.store.model import Compare, Delete, Event, Get, KeyValue, Op, Put, Range, Txn, TxnResult


def transact(draft: Draft, txn: Txn) -> TxnResult:
    """Run a transaction. What it raises, it raises before anything is written.

    Raises:
        DuplicateKey: it writes a key twice.
        LeaseMissing: it puts a key under a lease that is not there.
        KeyMissing: it keeps the value or the lease of a key that is not there.
        Compacted, FutureRevision: it reads at a revision that can't be read.
    """
    check_once(txn.then)
    check_once(txn.otherwise)
    path = _path(draft, txn)
    _check(draft, txn, path)
    return _run(draft, txn, path)


def check_once(ops: Sequence[Op]) -> tuple[dict[bytes, None], list[Delete]]:
    """Return what these operations put and delete, nested ones included.

    Raises:
        DuplicateKey: a key is put twice, or put and deleted. Of the two ways of a nested transaction only one is taken;
            and what one nested transaction has put, a later one may delete (v3rpc/key.go, checkIntervals).
    """
    put: dict[bytes, None] = {}
    deleted = [op for op in ops if isinstance(op, Delete)]
    for op in ops:
        if isinstance(op, Txn):
            (then, gone), (otherwise, lost) = check_once(op.then), check_once(op.otherwise)
            inner, removed = then | otherwise, gone + lost
            for key in inner:
                _not_twice(key, put, deleted)
            put |= inner
            deleted += removed
    for op in ops:
        if isinstance(op, Put):
            _not_twice(op.key, put, deleted)
            put[op.key] = None
    return put, deleted


def _not_twice(key: bytes, put: dict[bytes, None], deleted: Sequence[Delete]) -> None:
    if key in put or any(inside(key, row.key, row.end) for row in deleted):
        raise DuplicateKey(key)


def inside(key: bytes, start: bytes, end: bytes) -> bool:
    """Tell whether a key is in [start, end), or is `start` when `end` is empty."""
    return key >= start and (end == b"\0" or key < end) if end else key == start


def _path(draft: Draft, txn: Txn) -> list[bool]:
    """Return which way each transaction goes, in order: all is decided before anything is written, as in etcd."""
    succeeded = all(_holds(draft, compare) for compare in txn.compares)
    path = [succeeded]
    for op in txn.then if succeeded else txn.otherwise:
        if isinstance(op, Txn):
            path += _path(draft, op)
    return path


def _check(draft: Draft, txn: Txn, path: Sequence[bool]) -> int:
    """Check what the chosen operations need; returns how many transactions there were."""
    used = 1
    for op in txn.then if path[0] else txn.otherwise:
        match op:
            case Put():
                if op.lease:
                    draft.known(op.lease)
                if (op.keep_value or op.keep_lease) and draft.get(op.key) is None:
                    raise KeyMissing(op.key)
            case Get():
                if op.revision > 0:
                    draft.log.check(op.revision)
            case Txn():
                used += _check(draft, op, path[used:])
    return used


def _run(draft: Draft, txn: Txn, path: list[bool]) -> TxnResult:
    succeeded = path.pop(0)
    results: list[Event | list[Event] | Range | TxnResult] = []
    for op in txn.then if succeeded else txn.otherwise:
        match op:
            case Put():
                results.append(_put(draft, op))
            case Delete(key, end):
                results.append([draft.delete(kv) for kv in draft.range(key, end)])
            case Get():
                results.append(_get(draft, op))
            case Txn():
                results.append(_run(draft, op, path))
    return TxnResult(succeeded, results, draft.revision)


def _put(draft: Draft, op: Put) -> Event:
    before = draft.get(op.key)
    value, lease = op.value, op.lease
    if before is not None:
        value = before.value if op.keep_value else value
        lease = before.lease if op.keep_lease else lease
    return draft.put(op.key, value, lease)


def _get(draft: Draft, op: Get) -> Range:
    kvs = _at(draft, op) if op.revision > 0 else draft.range(op.key, op.end)
    return Range(kvs[:op.limit] if op.limit else kvs, draft.revision, len(kvs[op.limit:]) if op.limit else 0)


def _at(draft: Draft, op: Get) -> list[KeyValue]:
    if op.end:
        return draft.log.range(op.key, op.end, revision=op.revision).kvs
    kv = draft.log.get(op.key, op.revision)
    return [] if kv is None else [kv]


def _holds(draft: Draft, compare: Compare) -> bool:
    if compare.end:
        kvs = draft.range(compare.key, compare.end)
        return all(_compare(kv, compare) for kv in kvs) if kvs else _compare(None, compare)
    return _compare(draft.get(compare.key), compare)


def _compare(kv: KeyValue | None, compare: Compare) -> bool:
    if compare.target == "value":
        if kv is None or not isinstance(compare.operand, bytes):
            return False
        return _test(kv.value, compare.op, compare.operand)
    actual = 0 if kv is None else {"mod": kv.mod_revision, "create": kv.create_revision, "version": kv.version,
                                   "lease": kv.lease}[compare.target]
    return isinstance(compare.operand, int) and _test(actual, compare.op, compare.operand)


def _test(left: int | bytes, op: str, right: int | bytes) -> bool:
    if op == "=":
        return left == right
    if op == "!=":
        return left != right
    return left < right if op == "<" else left > right  # type: ignore[operator]  # both of one type: see the callers
