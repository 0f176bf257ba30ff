"""etcd's gRPC API by a client of our own: watches in all their forms; against the real etcd, too, where it is installed."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from netlab.errors import TemporaryError
from netlab.store import main
from netlab.store.rpc import admin, codec
from netlab.store.rpc import messages as pb
from netlab.store.rpc.client import Client
from tests.store import servers
from tests.store.servers import Server, running


@pytest.fixture(scope="module", params=["ours", "real"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if request.param == "real" and servers.REAL is None:
        pytest.skip("etcd is not installed")
    with running(tmp_path_factory.mktemp(request.param), real=request.param == "real") as found:
        yield found


class Wire:
    """One connection, and one watch stream on it."""

    def __init__(self, client: Client, stream) -> None:
        self.client, self.stream = client, stream

    async def put(self, key: bytes, value: bytes, **more) -> pb.PutResponse:
        return await self.client.call("KV/Put", pb.PutRequest(key, value, **more), pb.PutResponse)

    async def delete(self, key: bytes, end: bytes = b"") -> pb.DeleteRangeResponse:
        return await self.client.call("KV/DeleteRange", pb.DeleteRangeRequest(key, end), pb.DeleteRangeResponse)

    async def send(self, **request) -> None:
        await self.stream.send_message(pb.WatchRequest(**request))

    async def watch(self, key: bytes, **more) -> int:
        await self.send(create_request=pb.WatchCreateRequest(key, **more))
        answer = await self.next()
        assert answer.created, answer
        return answer.watch_id

    async def next(self) -> pb.WatchResponse:
        async with asyncio.timeout(20):
            answer = await self.stream.recv_message()
        assert answer is not None
        return answer

    async def events(self, count: int) -> list[pb.Event]:
        found: list[pb.Event] = []
        while len(found) < count:
            found += (await self.next()).events
        return found


@asynccontextmanager
async def wire(server: Server) -> AsyncIterator[Wire]:
    client = Client([server.url], None)
    try:
        async with client.stream("Watch/Watch", pb.WatchRequest, pb.WatchResponse) as stream:
            yield Wire(client, stream)
            await stream.cancel()
    finally:
        client.close()


async def test_a_watch_tells_history_and_news_once(server: Server):
    async with wire(server) as w:
        first = (await w.put(b"/w/a", b"1")).header.revision
        await w.put(b"/w/b", b"2")
        await w.delete(b"/w/a")
        await w.watch(b"/w/", range_end=b"/w0", start_revision=first, prev_kv=True)
        await w.put(b"/w/b", b"3")
        found = await w.events(4)
        assert [(event.type, event.kv.key, event.kv.value, event.kv.mod_revision - first) for event in found] == [
            (0, b"/w/a", b"1", 0), (0, b"/w/b", b"2", 1), (1, b"/w/a", b"", 2), (0, b"/w/b", b"3", 3)]
        assert [event.prev_kv.value if event.prev_kv else None for event in found] == [None, None, b"1", b"2"]
        assert found[3].kv.version == 2


async def test_filters_and_single_keys(server: Server):
    async with wire(server) as w:
        puts = await w.watch(b"/f/", range_end=b"/f0", filters=[1])
        deletes = await w.watch(b"/f/", range_end=b"/f0", filters=[0])
        single = await w.watch(b"/f/b")
        assert len({puts, deletes, single}) == 3
        await w.put(b"/f/a", b"1")
        await w.delete(b"/f/a")
        await w.put(b"/f/b", b"1")
        got: dict[int, list[tuple[int, bytes]]] = {puts: [], deletes: [], single: []}
        while sum(map(len, got.values())) < 4:
            answer = await w.next()
            got[answer.watch_id] += [(event.type, event.kv.key) for event in answer.events]
        assert got == {puts: [(0, b"/f/a"), (0, b"/f/b")], deletes: [(1, b"/f/a")], single: [(0, b"/f/b")]}


async def test_numbers_cancel_and_what_is_refused(server: Server):
    async with wire(server) as w:
        assert await w.watch(b"/n", watch_id=42) == 42
        await w.send(create_request=pb.WatchCreateRequest(b"/n", watch_id=42))
        answer = await w.next()
        assert answer.canceled
        assert "duplicate watch ID" in answer.cancel_reason
        await w.send(cancel_request=pb.WatchCancelRequest(42))
        answer = await w.next()
        assert (answer.canceled, answer.watch_id) == (True, 42)
        await w.put(b"/n", b"1")
        assert await w.watch(b"/n", watch_id=43) == 43
        await w.put(b"/n", b"2")
        assert [event.kv.value for event in await w.events(1)] == [b"2"]


async def test_a_watch_of_what_is_compacted_says_where_to_begin(server: Server):
    async with wire(server) as w:
        first = (await w.put(b"/c", b"1")).header.revision
        last = first
        for _ in range(5):
            last = (await w.put(b"/c", b"1")).header.revision
        await w.client.call("KV/Compact", pb.CompactionRequest(last - 1), pb.CompactionResponse)
        await w.send(create_request=pb.WatchCreateRequest(b"/c", start_revision=first))
        assert (await w.next()).created
        answer = await w.next()
        assert answer.canceled
        assert answer.compact_revision == last - 1
        with pytest.raises(GRPCError) as refused:
            await w.client.call("KV/Range", pb.RangeRequest(b"/c", revision=first), pb.RangeResponse)
        assert (refused.value.status, refused.value.message) == (
            Status.OUT_OF_RANGE, "etcdserver: mvcc: required revision has been compacted")


async def test_progress_comes_when_asked_for_and_by_itself(server: Server):
    async with wire(server) as w:
        revision = (await w.put(b"/elsewhere", b"1")).header.revision
        await w.watch(b"/p/", range_end=b"/p0")
        await w.send(progress_request=pb.WatchProgressRequest())
        answer = await w.next()
        assert (answer.watch_id, answer.events, answer.header.revision) == (-1, [], revision)
        quiet = await w.watch(b"/q/", range_end=b"/q0", progress_notify=True)
        answer = await w.next()
        assert (answer.watch_id, answer.events, answer.header.revision >= revision) == (quiet, [], True)


async def test_a_note_of_progress_does_not_overtake_history(tmp_path):
    with running(tmp_path, real=False) as ours:  # etcd 3.4 gets this wrong: etcd#15220
        async with wire(ours) as w:
            await asyncio.gather(*(w.put(b"/h/%d" % number, b"x") for number in range(50)))
            revision = (await w.put(b"/h/last", b"x")).header.revision
            await w.client.call("KV/Compact", pb.CompactionRequest(20), pb.CompactionResponse)
            for start in (20, 30):
                await w.send(create_request=pb.WatchCreateRequest(b"/h/", b"/h0", start))
                await w.send(progress_request=pb.WatchProgressRequest())
                assert (await w.next()).created
                seen: list[int] = []
                while True:
                    answer = await w.next()
                    if answer.watch_id == -1:
                        break
                    seen += [event.kv.mod_revision for event in answer.events]
                assert (seen, answer.header.revision) == (list(range(start, revision + 1)), revision)


async def test_large_revisions_come_in_fragments(server: Server):
    async with wire(server) as w:
        first = (await w.put(b"/g", b"")).header.revision
        for number in range(5):
            await w.put(b"/g", bytes([65 + number]) * 900_000)
        await w.watch(b"/g", start_revision=first + 1, fragment=True)
        values = []
        while len(values) < 5:
            answer = await w.next()
            assert sum(len(event.kv.value) for event in answer.events) < 3_000_000
            values += [event.kv.value[:1] for event in answer.events]
        assert b"".join(values) == b"ABCDE"


async def test_a_slow_reader_gets_no_message_larger_than_a_client_takes(server: Server):
    async with wire(server) as w:
        first = (await w.put(b"/slow", b"")).header.revision
        await w.watch(b"/slow")
        for number in range(12):
            await w.put(b"/slow", bytes([65 + number]) * 900_000)
        values, revisions = [], []
        while len(values) < 12:
            answer = await w.next()
            assert sum(len(event.kv.value) for event in answer.events) < 4_000_000
            assert not answer.fragment
            values += [event.kv.value[:1] for event in answer.events]
            revisions += [event.kv.mod_revision - first for event in answer.events]
        assert (b"".join(values), revisions) == (b"ABCDEFGHIJKL", list(range(1, 13)))


async def test_a_watch_that_is_cancelled_while_it_is_told_much_leaves_the_stream_whole(server: Server):
    """The client's window takes no whole message of the first watch, so its end comes in the middle of one."""
    client = Client([server.url], None, window=256 * 1024)
    first = (await client.call("KV/Put", pb.PutRequest(b"/cut", b""), pb.PutResponse)).header.revision
    for number in range(4):
        await client.call("KV/Put", pb.PutRequest(b"/cut", bytes([65 + number]) * 1_400_000), pb.PutResponse)
    async with client.stream("Watch/Watch", pb.WatchRequest, pb.WatchResponse) as stream:
        w = Wire(client, stream)
        big = await w.watch(b"/cut", start_revision=first)
        await w.send(cancel_request=pb.WatchCancelRequest(big))
        await asyncio.sleep(0.2)  # so that it comes while the window is full
        await w.send(create_request=pb.WatchCreateRequest(b"/after"))
        while not (answer := await w.next()).created:
            assert answer.watch_id == big
        await w.put(b"/after", b"1")
        assert [event.kv.key for event in await w.events(1)] == [b"/after"]
        await stream.cancel()
    client.close()


async def test_a_connection_may_have_hundreds_of_streams(server: Server):
    client = Client([server.url], None)
    async with contextlib.AsyncExitStack() as stack:
        streams = []
        for _ in range(150):
            stream = await stack.enter_async_context(client.stream("Watch/Watch", pb.WatchRequest, pb.WatchResponse))
            await stream.send_message(pb.WatchRequest(create_request=pb.WatchCreateRequest(b"/many")))
            assert (await stream.recv_message()).created
            streams.append(stream)
        await client.call("KV/Put", pb.PutRequest(b"/many", b"1"), pb.PutResponse)
        for stream in streams:
            assert [event.kv.key for event in (await stream.recv_message()).events] == [b"/many"]
            await stream.cancel()
    client.close()


async def test_writes_that_are_too_large_or_too_many(server: Server):
    client = Client([server.url], None)
    for request, kind in ((pb.PutRequest(b"big", b"x" * 1_700_000), pb.PutResponse),
                          (pb.TxnRequest(success=[pb.RequestOp(request_put=pb.PutRequest(b"k%d" % n)) for n in range(129)]), pb.TxnResponse)):
        with pytest.raises(GRPCError) as refused:
            await client.call("KV/Put" if kind is pb.PutResponse else "KV/Txn", request, kind)
        assert refused.value.status is Status.INVALID_ARGUMENT
        assert refused.value.message in ("etcdserver: request is too large", "etcdserver: too many operations in txn request")
    client.close()


async def test_nested_transactions(server: Server):
    client = Client([server.url], None)
    inner = pb.TxnRequest([pb.Compare(0, 0, b"/nest/a", version=0)], [pb.RequestOp(request_put=pb.PutRequest(b"/nest/b", b"2"))],
                          [pb.RequestOp(request_range=pb.RangeRequest(b"/nest/a"))])
    outer = pb.TxnRequest(success=[pb.RequestOp(request_put=pb.PutRequest(b"/nest/a", b"1", prev_kv=True)), pb.RequestOp(request_txn=inner),
                                   pb.RequestOp(request_range=pb.RangeRequest(b"/nest/", b"/nest0"))])
    done = await client.call("KV/Txn", outer, pb.TxnResponse)
    assert [kv.key for kv in done.responses[2].response_range.kvs] == [b"/nest/a", b"/nest/b"]
    assert {kv.mod_revision for kv in done.responses[2].response_range.kvs} == {done.header.revision}
    assert done.responses[1].response_txn.succeeded
    again = await client.call("KV/Txn", outer, pb.TxnResponse)
    assert not again.responses[1].response_txn.succeeded
    assert again.responses[0].response_put.prev_kv.value == b"1"
    client.close()


async def test_a_nested_transaction_may_have_what_its_outer_one_leaves(server: Server):
    client = Client([server.url], None)

    def puts(count: int, prefix: bytes) -> list[pb.RequestOp]:
        return [pb.RequestOp(request_put=pb.PutRequest(prefix + b"%d" % n)) for n in range(count)]

    def nested(outer: int, inner: int) -> pb.TxnRequest:
        return pb.TxnRequest(success=[*puts(outer, b"/outer/"), pb.RequestOp(request_txn=pb.TxnRequest(success=puts(inner, b"/inner/")))])

    assert (await client.call("KV/Txn", nested(99, 28), pb.TxnResponse)).succeeded
    for too_many in (nested(99, 29), nested(128, 0)):
        with pytest.raises(GRPCError, match="too many operations"):
            await client.call("KV/Txn", too_many, pb.TxnResponse)
    client.close()


async def test_what_one_nested_transaction_puts_a_later_one_may_delete(server: Server):
    client = Client([server.url], None)
    first = pb.RequestOp(request_txn=pb.TxnRequest(success=[pb.RequestOp(request_put=pb.PutRequest(b"/pd", b"1"))]))
    second = pb.RequestOp(request_txn=pb.TxnRequest(success=[pb.RequestOp(request_delete_range=pb.DeleteRangeRequest(b"/pd", prev_kv=True))]))
    done = await client.call("KV/Txn", pb.TxnRequest(success=[first, second]), pb.TxnResponse)
    revision = done.header.revision
    assert done.responses[0].response_txn.header == pb.ResponseHeader()
    deleted = done.responses[1].response_txn.responses[0].response_delete_range
    assert deleted.header == pb.ResponseHeader(revision=revision)
    assert [(kv.value, kv.mod_revision) for kv in deleted.prev_kvs] == [(b"1", revision)]
    with pytest.raises(GRPCError, match="duplicate key"):
        await client.call("KV/Txn", pb.TxnRequest(success=[first, second, pb.RequestOp(request_put=pb.PutRequest(b"/pd"))]), pb.TxnResponse)
    client.close()


@pytest.mark.parametrize(("asked", "keys"), [
    ({"limit": 2, "sort_target": 1}, [b"/s/b", b"/s/c"]),  # cut first, then sorted: a target without an order
    ({"limit": 2, "sort_target": 1, "sort_order": 1}, [b"/s/d", b"/s/b"]),
    ({"limit": 2, "sort_target": 4, "sort_order": 2}, [b"/s/d", b"/s/c"]), ({"limit": 2}, [b"/s/a", b"/s/b"]),
    ({"limit": -1, "sort_order": 2}, [b"/s/d", b"/s/c", b"/s/b", b"/s/a"])])
async def test_ranges_are_sorted_and_cut_as_etcd_does(server: Server, asked: dict[str, int], keys: list[bytes]):
    client = Client([server.url], None)
    await client.call("KV/DeleteRange", pb.DeleteRangeRequest(b"/s/", b"/s0"), pb.DeleteRangeResponse)
    for name in b"abcdabca":
        await client.call("KV/Put", pb.PutRequest(b"/s/%c" % name, b"%c" % name), pb.PutResponse)
    found = await client.call("KV/Range", pb.RangeRequest(b"/s/", b"/s0", **asked), pb.RangeResponse)
    assert ([kv.key for kv in found.kvs], found.count) == (keys, 4)
    client.close()


async def test_leases(server: Server):
    client = Client([server.url], None)
    short = await client.call("Lease/LeaseGrant", pb.LeaseGrantRequest(1, 99), pb.LeaseGrantResponse)
    assert (short.ID, short.TTL) == (99, 2)
    with pytest.raises(GRPCError, match="lease already exists"):
        await client.call("Lease/LeaseGrant", pb.LeaseGrantRequest(10, 99), pb.LeaseGrantResponse)
    with pytest.raises(GRPCError, match="too large lease TTL"):
        await client.call("Lease/LeaseGrant", pb.LeaseGrantRequest(1 << 60), pb.LeaseGrantResponse)
    await client.call("KV/Put", pb.PutRequest(b"/l/a", b"1", 99), pb.PutResponse)
    async with client.stream("Watch/Watch", pb.WatchRequest, pb.WatchResponse) as stream:
        await stream.send_message(pb.WatchRequest(create_request=pb.WatchCreateRequest(b"/l/a")))
        answer = await stream.recv_message()
        while not answer.events:
            answer = await stream.recv_message()
        assert answer.events[0].type == 1  # the lease has run out
        await stream.cancel()
    gone = await client.call("Lease/LeaseTimeToLive", pb.LeaseTimeToLiveRequest(99), pb.LeaseTimeToLiveResponse)
    assert gone.TTL == -1
    client.close()


async def test_hashes_agree_about_equal_stores(server: Server):
    client = Client([server.url], None)
    one = await client.call("Maintenance/HashKV", admin.HashKVRequest(), admin.HashKVResponse)
    assert one.hash == (await client.call("Maintenance/HashKV", admin.HashKVRequest(), admin.HashKVResponse)).hash
    await client.call("KV/Put", pb.PutRequest(b"/hash", b"1"), pb.PutResponse)
    assert one.hash != (await client.call("Maintenance/HashKV", admin.HashKVRequest(), admin.HashKVResponse)).hash
    client.close()


def test_bytes_that_are_no_message_are_refused():
    whole = codec.encode(pb.PutRequest(b"key", b"value", -5, prev_kv=True))
    assert codec.decode(whole, pb.PutRequest) == pb.PutRequest(b"key", b"value", -5, prev_kv=True)
    for cut in range(1, len(whole) - 1):
        try:
            codec.decode(whole[:cut], pb.PutRequest)
        except codec.Malformed:
            continue
    for bad in (b"\x0a\xff", b"\x0b", b"\x08\x01", b"\x18" + b"\xff" * 11):
        with pytest.raises(codec.Malformed):
            codec.decode(bad, pb.PutRequest)
    assert codec.decode(b"\xf2\x07\x03abc" + whole, pb.PutRequest).key == b"key"  # an unknown field


def test_rubbish_on_the_port_hurts_nobody(tmp_path):
    """Noise, HTTP/2 with noise in it, half requests, absurd lengths: the server goes on, and says nothing about it."""
    dice = random.Random(11)
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    settings = b"\0\0\0\x04\0\0\0\0\0"
    with running(tmp_path, real=False) as server:
        port = int(server.url.rpartition(":")[2])
        for turn in range(60):
            with socket.create_connection(("127.0.0.1", port), timeout=5) as noise:
                start = (b"", preface, preface + settings, b"GET /v2/keys", b"GET / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n")[turn % 5]
                with contextlib.suppress(OSError):
                    noise.sendall(start + dice.randbytes(dice.randrange(400)))
                    noise.shutdown(socket.SHUT_WR)
                    noise.settimeout(0.05)
                    while noise.recv(65536):
                        pass
        assert server.own("put", "/after", "1") == "OK\n"
        assert server.own("get", "/after", "--print-value-only") == "1\n"
        assert "Traceback" not in (tmp_path / "log").read_text()


async def test_a_message_that_claims_to_be_huge_is_refused(tmp_path):
    with running(tmp_path, real=False) as server:
        client = Client([server.url], None)
        with pytest.raises((GRPCError, TemporaryError)):
            await client.call("KV/Put", pb.PutRequest(b"k", b"x" * 9_000_000), pb.PutResponse)
        assert (await client.call("KV/Range", pb.RangeRequest(b"k"), pb.RangeResponse)).count == 0
        client.close()


@pytest.mark.parametrize(("flags", "words"), [
    (("--auto-compaction-mode=sometimes",), "expected periodic or revision"),
    (("--auto-compaction-mode=revision", "--auto-compaction-retention=1h"), "expected a number of revisions"),
    (("--auto-compaction-retention=soon",), 'invalid duration "soon"'), (("--max-request-bytes=many",), "max-request-bytes")])
def test_flags_that_make_no_sense_are_refused(flags: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]):
    assert main.main(list(flags)) == 1
    assert words in capsys.readouterr().err


async def test_retention_and_the_size_of_requests_are_flags(tmp_path):
    flags = ("--auto-compaction-mode=revision", "--auto-compaction-retention=10", "--max-request-bytes=1000")
    with running(tmp_path, real=False, flags=flags) as ours:
        client = Client([ours.url], None)
        with pytest.raises(GRPCError, match="request is too large"):
            await client.call("KV/Put", pb.PutRequest(b"big", b"x" * 1001), pb.PutResponse)
        for _ in range(30):
            last = (await client.call("KV/Put", pb.PutRequest(b"a", b"x" * 999), pb.PutResponse)).header.revision
        while (hashed := await client.call("Maintenance/HashKV", admin.HashKVRequest(), admin.HashKVResponse)).compact_revision != last - 10:
            assert hashed.compact_revision < last - 10
            await asyncio.sleep(0.05)
        client.close()
