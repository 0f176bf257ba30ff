from __future__ import annotations

import asyncio

import orjson
import pytest

from netlab.client.client import Client, user_agent
from netlab.client.config import Config
from netlab.errors import ApiError, NotFound, TemporaryError
from tests.client.standin import standin


def test_writes_say_who_writes():
    async def body():
        async with standin() as (server, client):
            await client.create("pods", {"metadata": {"name": "a"}}, "ns")
            request = server.seen[-1]
            assert request.path == "/api/v1/namespaces/ns/pods"
            assert request.headers["User-Agent"].startswith("kube-test/v1.36.0 (linux/")
            assert request.headers["User-Agent"].endswith(" kubernetes/netlab")
            assert request.query["fieldManager"] == "kube-test"
    asyncio.run(body())


@pytest.mark.parametrize(("kind", "content_type"), [
    ("merge", "application/merge-patch+json"), ("strategic", "application/strategic-merge-patch+json"),
    ("json", "application/json-patch+json"), ("apply", "application/apply-patch+yaml")])
def test_patch_types(kind, content_type):
    async def body():
        async with standin() as (server, client):
            await server.put("/api/v1/pods", "a")
            await client.patch("pods", "a", {"spec": {"x": 1}}, type=kind, manager="me", force=kind == "apply")
            request = server.seen[-1]
            assert request.headers["Content-Type"] == content_type
            assert request.query["fieldManager"] == "me"
            assert request.query.get("force") == ("true" if kind == "apply" else None)
    asyncio.run(body())


def test_delete_options():
    async def body():
        async with standin() as (server, client):
            await server.put("/api/v1/pods", "a")
            await client.delete("pods", "a", uid="u1", grace=0, propagation="Foreground")
            assert orjson.loads(server.bodies[-1]) == {
                "kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": "u1"}, "gracePeriodSeconds": 0,
                "propagationPolicy": "Foreground"}
    asyncio.run(body())


def test_a_status_becomes_an_error_with_its_reason():
    async def body():
        async with standin() as (_, client):
            with pytest.raises(ApiError) as caught:
                await client.get("pods", "nobody", "ns")
            assert (caught.value.code, caught.value.reason) == (404, "NotFound")
            assert caught.value.details == {"name": "x"}
    asyncio.run(body())


def test_who_is_asked_to_come_again_comes_again():
    async def body():
        async with standin() as (server, client):
            await server.put("/api/v1/namespaces/ns/pods", "p")
            server.busy = 3
            assert (await client.get("pods", "p", "ns"))["metadata"]["name"] == "p"
            server.busy = 99
            with pytest.raises(ApiError) as caught:
                await client.get("pods", "p", "ns")
            assert (caught.value.code, server.busy) == (429, 88)
    asyncio.run(body())


def test_apply_creates_then_merges():
    async def body():
        async with standin() as (server, client):
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "ns"}, "spec": {"n": 1}}
            await client.apply(pod)
            made = await client.apply({**pod, "spec": {"n": 2}})
            assert made["spec"] == {"n": 2}
            assert [request.method for request in server.seen] == ["POST", "POST", "PATCH"]
    asyncio.run(body())


def test_nobody_there_is_temporary():
    async def body():
        async with Client(Config("http://127.0.0.1:1")) as client:
            with pytest.raises(TemporaryError):
                await client.get("pods", "a")
            with pytest.raises(TemporaryError):
                async for _ in client.watch("pods"):
                    pass
    asyncio.run(body())


def test_unknown_resource():
    async def body():
        async with Client(Config("http://127.0.0.1:1")) as client:
            with pytest.raises(NotFound):
                await client.list("gadgets")
    asyncio.run(body())


def test_user_agent():
    assert user_agent("kube-scheduler").startswith("kube-scheduler/v1.36.0 (linux/")
