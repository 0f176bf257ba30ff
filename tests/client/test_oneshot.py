"""GETs without an HTTP client: what servers may answer, and what they should not."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys

import pytest

from netlab.client import oneshot
from netlab.client.config import Config
from netlab.errors import ApiError, TemporaryError


def asked(answers: bytes, *paths: str, seconds: float = 5.0) -> tuple[list, list[str]]:
    """Ask a server that says this; return what was understood and the lines that it was asked."""
    heard: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in paths:
            heard.extend((await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n"))
        writer.write(answers)
        if seconds > 1:
            writer.write_eof()

    async def run() -> list:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            return await oneshot.get(Config(f"http://127.0.0.1:{port}", token="secret"), paths, seconds=seconds)

    return asyncio.run(run()), heard


def plain(body: object, status: str = "200 OK") -> bytes:
    text = json.dumps(body).encode()
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(text)}\r\n\r\n".encode() + text


def test_answers_come_in_order_whole_or_in_chunks() -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\n{\"a\":\r\n3\r\n 2}\r\n0\r\n\r\n"
    found, heard = asked(plain({"a": 1}) + chunked + plain({"a": 3}), "/one", "/two", "/three")
    assert found == [{"a": 1}, {"a": 2}, {"a": 3}]
    assert [line for line in heard if line.startswith("GET")] == [
        "GET /one HTTP/1.1", "GET /two HTTP/1.1", "GET /three HTTP/1.1"]
    assert heard.count("Authorization: Bearer secret") == 3


def test_a_refusal_is_the_servers_own() -> None:
    with pytest.raises(ApiError, match="no such user") as raised:
        asked(plain({"reason": "Unauthorized", "message": "no such user"}, "401 Unauthorized"), "/one")
    assert (raised.value.code, raised.value.reason) == (401, "Unauthorized")


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\n", b"what?\r\n\r\n", plain({})[:-1], plain(1)[:-1] + b"{",
                                    b"HTTP/1.1 200 OK\r\n\r\n{}"])
def test_what_is_no_answer_is_said(answer: bytes) -> None:
    with pytest.raises(TemporaryError, match="does not answer"):
        asked(answer, "/one")


def test_a_server_that_takes_too_long_is_given_up() -> None:
    with pytest.raises(TemporaryError, match="too long"):
        asked(b"", "/one", seconds=0.1)


def test_a_trace_imports_no_http_client_and_no_dns_library() -> None:
    code = "import sys, netlab.lab.tracing; print(sorted({'aiohttp', 'dnslib', 'scapy', 'pyroute2'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]", "their imports take a third of a trace's time"
