"""Watches and logs as browsers ask for them: over WebSocket, with the token among the subprotocols."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from tests.apiserver.conftest import Client, Server, config_map, pod
from tests.apiserver.fake_kubelet import FakeKubelet


def connected(client: Client, path: str, use: Callable[[aiohttp.ClientWebSocketResponse], Awaitable[Any]], *protocols: str,
              **options: Any) -> Any:
    async def run() -> Any:
        async with asyncio.timeout(20), aiohttp.ClientSession() as session:
            url = f"https://localhost:{client.port}{path}"
            async with session.ws_connect(url, ssl=client.context, protocols=protocols, **options) as socket:
                return await use(socket)

    return asyncio.run(run())


def test_a_watch_is_a_message_for_each_event(client: Client, ns: str) -> None:
    maps = f"/api/v1/namespaces/{ns}/configmaps"
    for name in ("a", "b"):
        client.post(maps, config_map(name))

    async def use(socket: aiohttp.ClientWebSocketResponse) -> list[dict]:
        seen = [json.loads(await socket.receive_str()) for _ in range(2)]
        await asyncio.to_thread(client.delete, f"{maps}/a")
        await socket.ping()
        return [*seen, json.loads(await socket.receive_str())]

    seen = connected(client, f"{maps}?watch=true", use)
    assert [(event["type"], event["object"]["metadata"]["name"]) for event in seen] == [
        ("ADDED", "a"), ("ADDED", "b"), ("DELETED", "a")]


def test_a_watch_ends_with_a_close(client: Client, ns: str) -> None:
    async def use(socket: aiohttp.ClientWebSocketResponse) -> int | None:
        assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE
        return socket.close_code

    assert connected(client, f"/api/v1/namespaces/{ns}/configmaps?watch=1&timeoutSeconds=1", use, "whatever") == 1000


@pytest.mark.parametrize("path", ["/api/v1/namespaces/{}/configmaps?watch=1&resourceVersion=x", "/api/v1/namespaces/{}/absent?watch=1"])
def test_what_is_refused_is_no_socket(client: Client, ns: str, path: str) -> None:
    async def use(_: aiohttp.ClientWebSocketResponse) -> None:
        raise AssertionError

    with pytest.raises(aiohttp.WSServerHandshakeError) as raised:
        connected(client, path.format(ns), use)
    assert raised.value.status in (400, 404)


def test_a_token_among_the_protocols(server: Server, client: Client, ns: str) -> None:
    client.post("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", {
        "metadata": {"name": ns}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": ns}]})
    token = client.post(f"/api/v1/namespaces/{ns}/serviceaccounts/default/token", {"spec": {}}).json["status"]["token"]
    packed = base64.urlsafe_b64encode(token.encode()).decode().rstrip("=")

    async def use(socket: aiohttp.ClientWebSocketResponse) -> tuple[str | None, str]:
        return socket.protocol, json.loads(await socket.receive_str())["object"]["metadata"]["name"]

    path = f"/api/v1/namespaces/{ns}/serviceaccounts?watch=true"
    assert connected(server.client(user=None), path, use, f"base64url.bearer.authorization.k8s.io.{packed}",
                     "v1.example") == ("v1.example", "default")


@pytest.fixture
def log(client: Client, ns: str, kubelet: FakeKubelet) -> str:
    assert client.post("/api/v1/nodes", {"metadata": {"name": ns}}).status == 201
    client.patch(f"/api/v1/nodes/{ns}/status", {"status": {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}], "daemonEndpoints": {"kubeletEndpoint": {"Port": kubelet.port}}}})
    assert client.post(f"/api/v1/namespaces/{ns}/pods", pod("p", nodeName=ns)).status == 201
    return f"/api/v1/namespaces/{ns}/pods/p/log"


@pytest.mark.parametrize(("protocols", "wanted"), [
    ([], b"one\ntwo\n"), (["binary.k8s.io"], b"one\ntwo\n"), (["base64.binary.k8s.io"], "b25lCnR3bwo="),
    (["other", "binary.k8s.io"], b"one\ntwo\n")])
def test_logs(client: Client, log: str, protocols: list[str], wanted: bytes | str) -> None:
    async def use(socket: aiohttp.ClientWebSocketResponse) -> list[Any]:
        return [message.data async for message in socket]

    assert connected(client, log, use, *protocols) == [wanted]


def test_logs_are_followed(client: Client, log: str, kubelet: FakeKubelet) -> None:
    async def use(socket: aiohttp.ClientWebSocketResponse) -> list[bytes]:
        seen = [await socket.receive_bytes()]
        kubelet.follow.set()
        return [*seen, *[message.data async for message in socket]]

    assert connected(client, f"{log}?follow=true", use) == [b"first\n", b"second\n"]


def test_unknown_protocols_of_logs_are_refused(client: Client, log: str) -> None:
    async def use(_: aiohttp.ClientWebSocketResponse) -> None:
        raise AssertionError

    with pytest.raises(aiohttp.WSServerHandshakeError) as raised:
        connected(client, log, use, "v9.binary.k8s.io")
    assert raised.value.status == 400


def test_a_client_that_says_too_much_is_closed(client: Client, ns: str) -> None:
    async def use(socket: aiohttp.ClientWebSocketResponse) -> int | None:
        await socket.send_bytes(b"x" * 100_000)
        async for _ in socket:
            pass
        return socket.close_code

    assert connected(client, f"/api/v1/namespaces/{ns}/configmaps?watch=1", use) in (1006, 1009)  # or cut off while it still sends


@pytest.mark.parametrize("wrong", [{"Sec_WebSocket_Key": "short"}, {"Sec_WebSocket_Version": "1"}])
def test_a_handshake_that_is_none_is_the_clients_fault(client: Client, ns: str, wrong: dict[str, str]) -> None:
    right = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec_WebSocket_Version": "13",
             "Sec_WebSocket_Key": base64.b64encode(bytes(16)).decode()}
    assert client.get(f"/api/v1/namespaces/{ns}/configmaps?watch=1", **(right | wrong)).status == 400
