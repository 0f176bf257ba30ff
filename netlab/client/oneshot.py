"""A few GETs for a command that asks and ends: to import a whole HTTP client takes longer than to ask.

One connection, one request after the other (RFC 9112); everything else is `client.Client`'s.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from netlab.client.config import Config, TokenSource
from netlab.errors import ApiError, TemporaryError

_MOST: Final = 1 << 20
"""Bytes of a header or of a chunk's line."""


async def get(config: Config, paths: Sequence[str], *, seconds: float = 10.0) -> list[dict[str, Any]]:
    """Return the JSON objects at some paths of an API server.

    Raises:
        TemporaryError: it does not answer, or not in HTTP.
        ApiError: it refuses.
    """
    url = urlsplit(config.server)
    context = config.ssl_context()
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection(
                url.hostname, url.port or (443 if context else 80), ssl=context, limit=_MOST,
                server_hostname=(config.tls_server_name or url.hostname) if context else None)
            try:
                token = TokenSource(config).token()
                more = f"Authorization: Bearer {token}\r\n" if token else ""
                for path in paths:
                    writer.write(f"GET {path} HTTP/1.1\r\nHost: {url.netloc}\r\nAccept: application/json\r\n{more}\r\n"
                                 .encode())
                return [await _answer(reader) for _ in paths]
            finally:
                writer.transport.abort()
    except TimeoutError:
        raise TemporaryError(f"the API server {config.server} does not answer: it takes too long") from None
    except (OSError, EOFError, asyncio.LimitOverrunError, LookupError, ValueError) as error:
        why = str(error) or type(error).__name__
        raise TemporaryError(f"the API server {config.server} does not answer: {why}") from None


async def _answer(reader: asyncio.StreamReader) -> dict[str, Any]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    status = int(head[0].split(" ")[1])
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = b""
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readuntil(b"\r\n")
    else:
        body = await reader.readexactly(int(headers["content-length"]))
    found = json.loads(body)
    if status != 200:
        raise ApiError(status, str(found.get("reason", "")), str(found.get("message", "")))
    return dict(found)
