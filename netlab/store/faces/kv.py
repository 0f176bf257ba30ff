"""etcd's service KV: Range, Put, DeleteRange, Txn, Compact."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from netlab.store.errors import Compacted
from netlab.store.faces import refusal
from netlab.store.faces.face import BACKLOG, Face
from netlab.store.model import Compare, Delete, Event, Get, KeyValue, Op, Put, Range, Txn, TxnResult
from netlab.store.rpc import messages as pb

_TARGETS: tuple[Literal["version", "create", "mod", "value", "lease"], ...] = (
    "version", "create", "mod", "value", "lease")
_RESULTS: tuple[Literal["=", ">", "<", "!="], ...] = ("=", ">", "<", "!=")
_ASCEND, _DESCEND = 1, 2


async def range_(face: Face, request: pb.RangeRequest) -> pb.RangeResponse:
    """Answer Range."""
    _check_range(request)
    op = _get(request)
    revision = max(request.revision, 0)
    if op.end:
        found = await face.store.range(op.key, op.end, revision=revision)
    else:
        kv = await face.store.get(op.key, revision=revision)
        found = Range([] if kv is None else [kv], face.store.revision)
    return _ranged(face.header(), request, found.kvs)


async def put(face: Face, request: pb.PutRequest) -> pb.PutResponse:
    """Answer Put."""
    _check_put(request)
    _room(face, len(request.key) + len(request.value))
    result = await face.store.transact((), [_put(request)])
    return _did_put(face.header(result.revision), request, result.results[0])


async def delete_range(face: Face, request: pb.DeleteRangeRequest) -> pb.DeleteRangeResponse:
    """Answer DeleteRange."""
    _check_key(request.key)
    _room(face, 0)
    result = await face.store.transact((), [Delete(request.key, request.range_end)])
    return _did_delete(face.header(result.revision), request, result.results[0])


async def txn(face: Face, request: pb.TxnRequest) -> pb.TxnResponse:
    """Answer Txn."""
    _check_txn(request, face.max_ops)
    _room(face, _size(request))
    asked = _txn(request)
    result = await face.store.transact(asked.compares, asked.then, asked.otherwise)
    return _did_txn(face.header(result.revision), request, result)


async def compact(face: Face, request: pb.CompactionRequest) -> pb.CompactionResponse:
    """Answer Compact."""
    if request.revision <= face.store.compacted:
        raise Compacted(request.revision, face.store.compacted)
    await face.store.compact(request.revision)
    return pb.CompactionResponse(face.header())


def _check_key(key: bytes) -> None:
    if not key:
        refusal.invalid("key is not provided")


def _check_range(request: pb.RangeRequest) -> None:
    _check_key(request.key)
    if not 0 <= request.sort_order <= 2 or not 0 <= request.sort_target <= 4:
        refusal.invalid("invalid sort option")


def _check_put(request: pb.PutRequest) -> None:
    _check_key(request.key)
    if request.ignore_value and request.value:
        refusal.invalid("value is provided")
    if request.ignore_lease and request.lease:
        refusal.invalid("lease is provided")


def _check_txn(request: pb.TxnRequest, max_ops: int) -> None:
    """Check a transaction; those in it may have as many operations as it leaves them."""
    used = max(len(request.compare), len(request.success), len(request.failure))
    if used > max_ops:
        refusal.invalid("too many operations in txn request")
    for compare in request.compare:
        _check_key(compare.key)
        if not 0 <= compare.result <= 3 or not 0 <= compare.target <= 4:
            refusal.invalid("unknown compare")
    for op in (*request.success, *request.failure):
        if op.request_range is not None:
            _check_range(op.request_range)
        elif op.request_put is not None:
            _check_put(op.request_put)
        elif op.request_delete_range is not None:
            _check_key(op.request_delete_range.key)
        elif op.request_txn is not None:
            _check_txn(op.request_txn, max_ops - used)
        else:
            refusal.invalid("key not found")


def _room(face: Face, size: int) -> None:
    if size > face.max_bytes:
        refusal.too_large()
    if face.store.waiting > BACKLOG:
        refusal.too_many()


def _size(request: pb.TxnRequest) -> int:
    """Return about how many bytes a transaction writes."""
    return sum(len(op.request_put.key) + len(op.request_put.value) if op.request_put is not None
               else _size(op.request_txn) if op.request_txn is not None else 0
               for op in (*request.success, *request.failure))


def _txn(request: pb.TxnRequest) -> Txn:
    return Txn([_compare(row) for row in request.compare], _ops(request.success), _ops(request.failure))


def _ops(rows: Sequence[pb.RequestOp]) -> list[Op]:
    ops: list[Op] = []
    for row in rows:
        if row.request_range is not None:
            ops.append(_get(row.request_range))
        elif row.request_put is not None:
            ops.append(_put(row.request_put))
        elif row.request_delete_range is not None:
            ops.append(Delete(row.request_delete_range.key, row.request_delete_range.range_end))
        elif row.request_txn is not None:
            ops.append(_txn(row.request_txn))
    return ops


def _get(request: pb.RangeRequest) -> Get:
    return Get(request.key, request.range_end, revision=request.revision)


def _put(request: pb.PutRequest) -> Put:
    return Put(request.key, request.value, request.lease, request.ignore_value, request.ignore_lease)


def _compare(row: pb.Compare) -> Compare:
    target = _TARGETS[row.target]
    operands: dict[str, int | bytes] = {"version": row.version, "create": row.create_revision,
                                        "mod": row.mod_revision, "value": row.value, "lease": row.lease}
    return Compare(row.key, target, _RESULTS[row.result], operands[target], row.range_end)


def _ranged(header: pb.ResponseHeader, request: pb.RangeRequest, kvs: Sequence[KeyValue]) -> pb.RangeResponse:
    """Filter, sort and cut what a range found, in etcd's order; `count` is of all that it found."""
    response = pb.RangeResponse(header, count=len(kvs))
    if request.count_only:
        return response
    filtered = _filters(request)
    chosen = [kv for kv in kvs if _passes(request, kv)] if filtered else list(kvs)
    if request.limit > 0 and not request.sort_order and not filtered:
        chosen = chosen[:request.limit + 1]  # also if a target asks for sorting: etcd cuts first then
    order = request.sort_order or (_ASCEND if request.sort_target else 0)
    if order and (request.sort_target or order == _DESCEND):
        chosen.sort(key=_SORT[request.sort_target], reverse=order == _DESCEND)
    if 0 < request.limit < len(chosen):
        chosen, response.more = chosen[:request.limit], True
    response.kvs = [message(kv, keys_only=request.keys_only) for kv in chosen]
    return response


_SORT = (lambda kv: kv.key, lambda kv: kv.version, lambda kv: kv.create_revision, lambda kv: kv.mod_revision,
         lambda kv: kv.value)


def _filters(request: pb.RangeRequest) -> bool:
    return bool(request.min_mod_revision or request.max_mod_revision or request.min_create_revision
                or request.max_create_revision)


def _passes(request: pb.RangeRequest, kv: KeyValue) -> bool:
    return ((not request.min_mod_revision or kv.mod_revision >= request.min_mod_revision)
            and (not request.max_mod_revision or kv.mod_revision <= request.max_mod_revision)
            and (not request.min_create_revision or kv.create_revision >= request.min_create_revision)
            and (not request.max_create_revision or kv.create_revision <= request.max_create_revision))


def message(kv: KeyValue, *, keys_only: bool = False) -> pb.KeyValue:
    """Return a key at a revision as it goes over the wire."""
    return pb.KeyValue(kv.key, kv.create_revision, kv.mod_revision, kv.version, b"" if keys_only else kv.value,
                       kv.lease)


def _did_put(header: pb.ResponseHeader, request: pb.PutRequest, result: object) -> pb.PutResponse:
    assert isinstance(result, Event)
    before = message(result.prev) if request.prev_kv and result.prev is not None else None
    return pb.PutResponse(header, before)


def _did_delete(header: pb.ResponseHeader, request: pb.DeleteRangeRequest, result: object) -> pb.DeleteRangeResponse:
    assert isinstance(result, list)
    before = [message(event.prev) for event in result if event.prev is not None] if request.prev_kv else []
    return pb.DeleteRangeResponse(header, len(result), before)


def _did_txn(header: pb.ResponseHeader, request: pb.TxnRequest, result: TxnResult) -> pb.TxnResponse:
    """Return what a transaction did. Inside it headers have a revision only, and those of transactions nothing."""
    response = pb.TxnResponse(header, result.succeeded)
    inner = pb.ResponseHeader(revision=result.revision)
    for op, done in zip(request.success if result.succeeded else request.failure, result.results, strict=True):
        if op.request_range is not None:
            assert isinstance(done, Range)
            one = pb.ResponseOp(response_range=_ranged(pb.ResponseHeader(revision=done.revision), op.request_range,
                                                       done.kvs))
        elif op.request_put is not None:
            one = pb.ResponseOp(response_put=_did_put(inner, op.request_put, done))
        elif op.request_delete_range is not None:
            one = pb.ResponseOp(response_delete_range=_did_delete(inner, op.request_delete_range, done))
        else:
            assert op.request_txn is not None
            assert isinstance(done, TxnResult)
            one = pb.ResponseOp(response_txn=_did_txn(pb.ResponseHeader(), op.request_txn, done))
        response.responses.append(one)
    return response
