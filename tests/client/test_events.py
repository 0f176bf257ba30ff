from __future__ import annotations

import asyncio

import orjson

from netlab.client.events import Recorder
from tests.client.standin import standin

POD = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web-1", "namespace": "ns", "uid": "u1",
                                                       "resourceVersion": "7"}}


def test_repeats_are_counted_in_one_event():
    async def body():
        async with standin() as (server, client):
            recorder = Recorder(client, "default-scheduler")
            for _ in range(3):
                recorder.event(POD, "Warning", "FailedScheduling", "no node")
            recorder.event(POD, "Normal", "Scheduled", "Successfully assigned ns/web-1 to n1", action="Binding")
            await recorder.close()
            events = sorted(server.objects.values(), key=lambda event: event["reason"])
            assert [(event["reason"], event["count"]) for event in events] == [("FailedScheduling", 3),
                                                                              ("Scheduled", 1)]
            assert events[1]["involvedObject"] == {"kind": "Pod", "apiVersion": "v1", "namespace": "ns",
                                                   "name": "web-1", "uid": "u1", "resourceVersion": "7"}
            assert events[1]["source"] == {"component": "default-scheduler"}
            assert events[1]["firstTimestamp"] <= events[1]["lastTimestamp"]
            assert server.seen[0].path == "/api/v1/namespaces/ns/events"
    asyncio.run(body())


def test_an_event_that_was_swept_away_is_made_anew():
    async def body():
        async with standin() as (server, client):
            recorder = Recorder(client, "c")
            recorder.event(POD, "Normal", "A", "m")
            await recorder._queue.join()
            server.objects.clear()
            recorder.event(POD, "Normal", "A", "m")
            await recorder.close()
            assert len(server.objects) == 1
    asyncio.run(body())


def test_who_repeats_himself_too_much_is_muted():
    async def body():
        async with standin() as (server, client):
            recorder = Recorder(client, "c")
            for number in range(100):
                recorder.event(POD, "Normal", "A", f"message {number}")
            recorder.event({**POD, "metadata": {**POD["metadata"], "name": "other", "uid": "u2"}}, "Normal", "A", "m")
            await recorder.close(5)
            names = [orjson.loads(body)["involvedObject"]["name"] for body in server.bodies]
            assert names.count("web-1") == 25
            assert names.count("other") == 1
    asyncio.run(body())


def test_telling_never_fails():
    async def body():
        async with standin() as (server, client):
            server.refuse = 2
            recorder = Recorder(client, "c")
            recorder.event(POD, "Normal", "A", "m")
            await recorder.close(5)
            assert len(server.objects) == 1
            server.refuse = 10_000
            recorder.event(POD, "Normal", "B", "m")
            await recorder.close(0.05)
    asyncio.run(body())
