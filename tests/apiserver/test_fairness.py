"""Priority and fairness at work: seats, queues, who is refused, and that nobody is kept out by somebody else's flood."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import ExitStack
from typing import Any

import pytest

from netlab.apiserver.auth.authorize import Attributes
from netlab.apiserver.flow import shares
from netlab.apiserver.flow.gate import Gate, Plain, Refused
from netlab.apiserver.flow.level import Demand, Flow, Level, Retry, deal
from netlab.apiserver.flow.objects import LEVELS
from netlab.apiserver.http import User
from tests.apiserver.conftest import Client, Pki, Server
from tests.apiserver.test_flow import ROOT, until

MAPS = "/api/v1/namespaces/default/configmaps"
DUMP = "/debug/api_priority_and_fairness"


def limited(nominal: int, queues: int = 0, hand: int = 0, length: int = 0, **more: Any) -> dict[str, Any]:
    response: dict[str, Any] = {"type": "Reject"}
    if queues:
        response = {"type": "Queue", "queuing": {"queues": queues, "handSize": hand, "queueLengthLimit": length}}
    return {"type": "Limited", "limited": {"nominalConcurrencyShares": nominal, "limitResponse": response, **more}}


def test_the_levels_of_a_new_server_have_their_seats() -> None:
    found = shares.limits({obj["metadata"]["name"]: obj["spec"] for obj in LEVELS}, 600)
    assert {name: (row.nominal, row.lower) for name, row in found.items()} == {
        "exempt": (0, 0), "catch-all": (13, 13), "system": (74, 50), "node-high": (98, 74), "leader-election": (25, 25),
        "workload-high": (98, 49), "workload-low": (245, 25), "global-default": (49, 25)}
    assert found["system"].upper == 674
    bounded = shares.limits({"a": limited(1, borrowingLimitPercent=50, lendablePercent=25), "b": limited(3)}, 40)
    assert bounded["a"] == (10, 8, 15)


def test_seats_are_lent_by_what_is_wanted_and_within_bounds() -> None:
    items = [shares.Item(10, 100, 10), shares.Item(5, 100, 60), shares.Item(5, 30, 200)]
    found = shares.lend(100, items)
    assert sum(found) == pytest.approx(100)
    assert found[0] == 10
    assert found[2] == 30
    assert shares.lend(10, items) == [5, 2.5, 2.5]
    assert shares.lend(500, items) == [100, 100, 30]
    assert shares.smoothed(100, 10, 5) > 90
    assert shares.smoothed(0, 10, 5) == 15


def test_a_flow_has_its_hand_of_queues() -> None:
    hand = list(deal("s", "jane", 64, 6))
    assert len(set(hand)) == 6
    assert hand == list(deal("s", "jane", 64, 6))
    assert hand != list(deal("s", "bob", 64, 6))


def test_demand_and_the_time_to_come_again() -> None:
    demand = Demand()
    demand.at(10.0, 4)
    demand.reset(10.0)
    demand.at(15.0, 0)
    assert demand.reset(20.0) == (2.0, 2.0, 4)
    retry = Retry()
    assert [retry.refused(second) for second in (1, 1, 1, 1, 2)] == [1, 1, 1, 1, 2]
    assert [retry.refused(second) for second in (40, 80)] == [1, 1]


class Scene:
    """A gate with one level, and time that stands still unless it is moved."""

    def __init__(self, spec: dict[str, Any], seats: int) -> None:
        self.now = 1.0
        self.gate, self.level = Gate(lambda: self.now), Level("l")
        self.level.configure(spec, shares.Limits(seats, seats, seats))
        self.flow = Flow("f", ("", ""), self.level, "ByUser")

    def enter(self, who: str, width: int = 1) -> Any:
        return self.gate.enter(self.flow, width, 1.0, Attributes(User(who), "get"), who)

    def wait(self, who: str, width: int = 1) -> asyncio.Task[Any]:
        return asyncio.ensure_future(self.gate.wait(self.flow, width, Attributes(User(who), "get"), who))


def test_who_waits_goes_on_in_fair_order() -> None:
    async def body() -> list[str]:
        scene, order = Scene(limited(1, 64, 4, 50), 2), []
        first = [scene.enter("flood"), scene.enter("flood")]
        assert all(first)
        assert scene.enter("other") is None

        async def one(who: str) -> None:
            seat = await scene.gate.wait(scene.flow, 1, Attributes(User(who), "get"), who)
            order.append(who)
            seat.leave()

        tasks = [asyncio.ensure_future(one("flood")) for _ in range(20)]
        await asyncio.sleep(0)
        tasks.append(asyncio.ensure_future(one("other")))
        await asyncio.sleep(0)
        assert scene.level.waiting == 21
        for seat in first:
            seat.leave()
            seat.leave()
        await asyncio.gather(*tasks)
        await asyncio.sleep(0)
        assert (scene.level.executing, scene.level.waiting, scene.flow.executing) == (0, 0, 0)
        return order

    order = asyncio.run(body())
    assert order.index("other") < 6, "one of its own queues is not behind all of the flood's"


def test_who_can_not_wait_is_refused() -> None:
    async def body() -> None:
        scene = Scene(limited(1), 1)
        assert scene.enter("a")
        assert scene.enter("b") is None
        with pytest.raises(Refused, match="concurrency-limit"):
            await scene.wait("b")
        queued = Scene(limited(1, 1, 1, 2), 1)
        held = queued.enter("a")
        waiting = [queued.wait("a") for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Refused, match="queue-full"):
            await queued.wait("b")
        waiting[0].cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert queued.level.waiting == 1
        held.leave()
        (await waiting[1]).leave()
        assert queued.flow.rejected == {"queue-full": 1, "cancelled": 1}
        late = Scene(limited(1, 1, 1, 2), 1)
        assert late.enter("a")
        waiting = [late.wait("a") for _ in range(2)]
        await asyncio.sleep(0)
        late.now += 14.0
        late.gate.expire([late.level])
        late.now += 2.0
        late.gate.expire([late.level])
        for task in waiting:
            with pytest.raises(Refused, match="time-out"):
                await task
        assert (late.level.waiting, late.level.timed_out) == (0, 2)
        late.now += 50.0
        late.gate.expire([late.level])
        await asyncio.sleep(0)
        assert late.level.executing == 0, "who still has not done is served without a seat"
        wide = Scene(limited(1, 1, 1, 2), 1)
        assert wide.enter("a", width=5), "alone it fits always"

    asyncio.run(body())


def test_without_fairness_there_are_two_numbers() -> None:
    plain = Plain(1, 0)
    first = plain.enter(reads=True, privileged=False)
    assert plain.enter(reads=True, privileged=False) is None
    assert plain.enter(reads=True, privileged=True)
    assert plain.enter(reads=False, privileged=False)
    first.leave()
    assert plain.enter(reads=True, privileged=False) is None, "who came by privilege is there, too"


@pytest.fixture(scope="module")
def server(pki: Pki, tmp_path_factory: pytest.TempPathFactory):
    for who in ("jane", "bob"):
        pki.issue(who, who)
    pki.issue("node", "system:node:n1", ("system:nodes",))
    running = Server(pki, tmp_path_factory.mktemp("fair"), "--max-requests-inflight=40", "--max-mutating-requests-inflight=20")
    yield running
    assert running.stop() == 0
    assert "Traceback" not in running.log.read_text()


def hold(stack: ExitStack, client: Client, path: str, count: int) -> list[ssl.SSLSocket]:
    """Begin so many writes whose bodies do not come: each holds a seat."""
    held = []
    for _ in range(count):
        connection = client.connect()
        stack.callback(connection.close)
        connection.putrequest("POST", path)
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", "100")
        connection.endheaders()
        held.append(connection.sock)
    return held


def rows(client: Client, what: str, **details: str) -> list[dict[str, str]]:
    head, *body = client.get(f"{DUMP}/dump_{what}{'?includeRequestDetails=1' if details else ''}").body.decode().splitlines()
    return [dict(zip(head.replace(" ", "").split(","), (cell.strip() for cell in line.split(",")), strict=True)) for line in body]


def level(client: Client, name: str) -> dict[str, str]:
    return next(row for row in rows(client, "priority_levels") if row["PriorityLevelName"] == name)


def test_who_fills_a_level_waits_alone(server: Server) -> None:
    admin, jane = server.client(), server.client(user="jane")
    seats = int(next(line.rpartition(" ")[2] for line in admin.get("/metrics").body.decode().splitlines()
                     if line.startswith('apiserver_flowcontrol_current_limit_seats{priority_level="global-default"}')))
    with ExitStack() as stack:
        held = hold(stack, jane, MAPS, seats)
        until(lambda: level(admin, "global-default")["ExecutingRequests"] == str(seats))
        waiting = jane.again().connect()
        stack.callback(waiting.close)
        waiting.request("GET", "/api/v1/namespaces/default")
        until(lambda: level(admin, "global-default")["WaitingRequests"] == "1")
        found = rows(admin, "requests", details="yes")
        queued = [row for row in found if row["RequestIndexInQueue"] == "0"]
        assert [(row["FlowDistingsher"], row["UserName"], row["Verb"], row["Resource"]) for row in queued] == [
            ("jane", "jane", "get", "namespaces")]
        assert sum(row["FlowSchemaName"] == "global-default" for row in found) == seats + 1
        queue = next(row for row in rows(admin, "queues") if row["PendingRequests"] == "1")
        assert (queue["PriorityLevelName"], queue["Index"]) == ("global-default", queued[0]["QueueIndex"])
        text = admin.get("/metrics").body.decode()
        labels = 'flow_schema="global-default",priority_level="global-default"'
        assert f"apiserver_flowcontrol_current_inqueue_requests{{{labels}}} 1" in text
        assert f"apiserver_flowcontrol_current_executing_requests{{{labels}}} {seats}" in text
        late = jane.again().get("/api/v1/namespaces/default?timeout=100ms")
        assert (late.status, late.json["reason"], late.json["message"]) == (
            504, "Timeout", "Timeout: request did not complete within requested timeout - context deadline exceeded")
        until(lambda: level(admin, "global-default")["CancelledRequests"] == "1")
        node = server.client(user="node")
        assert node.get("/api/v1/nodes/n1").status == 404
        assert node.get("/api/v1/pods").status == 200
        assert server.client(user=None).get("/healthz").status == 200
        held[0].close()
        answer = waiting.getresponse()
        assert answer.status == 200
        assert answer.getheader("X-Kubernetes-PF-FlowSchema-UID")
    until(lambda: level(admin, "global-default")["IsIdle"] == "true")


def test_a_level_that_rejects_says_when_to_come_again(server: Server) -> None:
    admin, bob = server.client(), server.client(user="bob")
    admin.post(f"{ROOT}/prioritylevelconfigurations", {"metadata": {"name": "small"}, "spec": limited(1, borrowingLimitPercent=0)})
    admin.post(f"{ROOT}/flowschemas", {"metadata": {"name": "small"}, "spec": {
        "priorityLevelConfiguration": {"name": "small"}, "matchingPrecedence": 5, "rules": [{
            "subjects": [{"kind": "User", "user": {"name": "bob"}}],
            "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"], "clusterScope": True}]}]}})
    until(lambda: bob.get(MAPS).status == 200 and level(admin, "small")["DispatchedRequests"] != "0")
    with ExitStack() as stack:
        hold(stack, bob, MAPS, 1)
        until(lambda: level(admin, "small")["ExecutingRequests"] == "1")
        refused = bob.get(MAPS)
        assert (refused.status, refused.body, refused.headers["Retry-After"]) == (
            429, b"Too many requests, please try again later.\n", "1")
        assert refused.headers["X-Kubernetes-Pf-Flowschema-Uid"]
    until(lambda: bob.get(MAPS).status == 200)
    text = admin.get("/metrics").body.decode()
    assert 'apiserver_flowcontrol_rejected_requests_total{flow_schema="small",priority_level="small",reason="concurrency-limit"}' in text


def test_a_watch_holds_its_seat_only_until_it_has_begun(server: Server) -> None:
    admin, jane = server.client(), server.client(user="jane")
    with jane.watch(f"{MAPS}?watch=1"):
        until(lambda: level(admin, "global-default")["ExecutingRequests"] == "0")


def test_a_flood_does_not_keep_others_out(server: Server) -> None:
    admin = server.client()
    for number in range(300):
        admin.post(MAPS, {"metadata": {"name": f"m-{number}"}, "data": {"text": "x" * 200}})
    done: list[str] = []

    async def answer(who: str, reader: asyncio.StreamReader) -> int:
        code = int((await reader.readline()).split()[1])
        length = chunked = 0
        while line := (await reader.readline()).strip().lower():
            length = int(line.split(b":")[1]) if line.startswith(b"content-length") else length
            chunked = chunked or line == b"transfer-encoding: chunked"
        if chunked:
            while size := int((await reader.readline()), 16):
                await reader.readexactly(size + 2)
        else:
            await reader.readexactly(length)
        done.append(who)
        return code

    async def body() -> None:
        asked = [(who, path, await asyncio.open_connection("127.0.0.1", server.port, ssl=client.context, server_hostname="localhost"))
                 for who, client, path, count in (("flood", server.client(user="jane"), MAPS, 150),
                                                  ("node", server.client(user="node"), "/api/v1/nodes?limit=1", 3),
                                                  ("admin", admin, "/api/v1/namespaces/default", 3)) for _ in range(count)]
        for _, path, (_, writer) in asked:
            accept = "application/json;as=Table;v=v1;g=meta.k8s.io" if path == MAPS else "application/json"
            writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\n\r\n".encode())
        tasks = [(who, asyncio.ensure_future(answer(who, reader))) for who, _, (reader, _) in asked]
        assert {await task for who, task in tasks if who != "flood"} == {200}
        assert done.count("flood") < 75, "they were asked before, and are not answered before"
        assert {await task for who, task in tasks if who == "flood"} <= {200, 429}
        for _, _, (_, writer) in asked:
            writer.close()

    asyncio.run(body())
    until(lambda: level(admin, "global-default")["IsIdle"] == "true")


def test_switched_off_it_counts_only(pki: Pki, tmp_path) -> None:
    running = Server(pki, tmp_path, "--enable-priority-and-fairness=false", "--max-mutating-requests-inflight=2")
    try:
        admin, jane = running.client(), running.client(user="jane")
        with ExitStack() as stack:
            hold(stack, jane, MAPS, 2)
            answer = until(lambda: (answer := jane.post(MAPS, {})).status == 429 and answer)
            assert answer.headers["Retry-After"] == "1"
            assert "X-Kubernetes-Pf-Flowschema-Uid" not in answer.headers
            assert jane.get(MAPS).status == 200
            assert admin.post(MAPS, {"metadata": {"name": "a"}}).status == 201
            assert admin.get(f"{DUMP}/dump_queues").status == 404
    finally:
        assert running.stop() == 0
