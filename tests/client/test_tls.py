from __future__ import annotations

import asyncio
import ssl
import time

import pytest
from aiohttp import web

from netlab.client.client import Client
from netlab.client.config import Config
from netlab.client.health import serving
from netlab.errors import TemporaryError
from netlab.lab.pki import Authority


def test_later_connections_take_up_the_session_and_keep_the_identity(tmp_path):
    authority = Authority("ca", now=time.time())
    server, user = authority.server("s", names=["127.0.0.1"]), authority.client("me", "team")
    (tmp_path / "pair").write_bytes(server.certificate + server.key)
    (tmp_path / "ca").write_bytes(authority.pair.certificate)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(tmp_path / "ca"))
    context.load_cert_chain(tmp_path / "pair")
    context.verify_mode = ssl.CERT_REQUIRED
    seen: list[tuple[str, bool]] = []

    async def handle(request: web.Request) -> web.Response:
        tls = request.transport.get_extra_info("ssl_object")
        seen.append((tls.getpeercert()["subject"][1][0][1], tls.session_reused))
        await asyncio.sleep(0.01)  # so that each request needs a connection of its own
        return web.json_response({"metadata": {}})

    async def body() -> None:
        app = web.Application()
        app.router.add_get("/{path:.*}", handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        port = site._server.sockets[0].getsockname()[1]
        where = Config(f"https://127.0.0.1:{port}", ca=authority.pair.certificate, certificate=user.certificate,
                       key=user.key)
        async with Client(where) as client:
            await client.get("nodes", "n")
            await asyncio.gather(*(client.get("nodes", "n") for _ in range(6)))
        async with Client(Config(where.server, ca=Authority("other", now=time.time()).pair.certificate,
                                 certificate=user.certificate, key=user.key)) as stranger:
            with pytest.raises(TemporaryError, match="certificate verify failed"):
                await stranger.get("nodes", "n")
        await runner.cleanup()

    asyncio.run(body())
    assert {name for name, _ in seen} == {"me"}
    assert [reused for _, reused in seen].count(True) == 5, "all but the first, whose connection the next one uses"


def test_the_health_server_makes_itself_a_certificate():
    async def body() -> None:
        wrong = ""
        async with serving("127.0.0.1", 20257, checks=lambda: wrong, metrics=lambda: "x 1\n"):
            async with Client(Config("https://127.0.0.1:20257", insecure=True)) as client:
                assert (await client.raw("GET", "/healthz"))[::2] == (200, b"ok")
                assert (await client.raw("GET", "/metrics"))[2] == b"x 1\n"
                wrong = "no leader"
                assert (await client.raw("GET", "/livez"))[::2] == (500, b"no leader")
    asyncio.run(body())
