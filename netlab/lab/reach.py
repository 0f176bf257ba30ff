"""Asking for something from a place: a real socket in its network namespace, so nothing has to be in the Pod."""

from __future__ import annotations

import asyncio
import os
import socket
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from dnslib import QTYPE, DNSError, DNSRecord

from netlab.kernel.netns import socket_in
from netlab.lab import plan

Outcome = Literal["reachable", "refused", "unreachable"]

_ATTEMPT_SECONDS = 1.5
_DNS_SECONDS = 2.0
_TYPES = {4: "A", 6: "AAAA"}


@dataclass(frozen=True)
class Target:
    """Where to: protocol http, tcp or udp, an address, a port, and the path (http) or word (udp) to ask for."""

    protocol: str
    address: str
    port: int
    path: str = "/"


@dataclass(frozen=True)
class Answer:
    """What came of one attempt. `said` is the answer (http: its body), `why` the kernel's words."""

    outcome: Outcome
    said: str = ""
    why: str = ""


def split(url: str) -> tuple[str, str, int, str]:
    """Return (protocol, host, port, path) of a target; the host may be an API word such as svc/web."""
    protocol, _, rest = url.partition("://")
    if rest.startswith(("svc/", "node/", "pod/", "deploy/")):
        kind, _, rest = rest.partition("/")
        parts = urlsplit(f"//{rest}")
        host = f"{kind}/{parts.hostname}"
    else:
        parts = urlsplit(f"//{rest}")
        host = parts.hostname or ""
    return protocol, host, parts.port or 80, (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


async def ask(netns: int, target: Target) -> Answer:
    """Try once from a namespace: connect, and for http and udp ask who answers."""
    kind = socket.SOCK_DGRAM if target.protocol == "udp" else socket.SOCK_STREAM
    family = socket.AF_INET6 if ":" in target.address else socket.AF_INET
    sock = socket_in(netns, family, kind | socket.SOCK_NONBLOCK)
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(_ATTEMPT_SECONDS):
            await loop.sock_connect(sock, (target.address, target.port))
            if target.protocol == "tcp":
                return Answer("reachable")
            if target.protocol == "udp":
                await loop.sock_sendall(sock, target.path.strip("/").encode() or b"hostname")
                return Answer("reachable", _text(await loop.sock_recv(sock, 4096)))
            host = plan.bracketed(target.address)
            request = f"GET {target.path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
            await loop.sock_sendall(sock, request.encode())
            reply = b""
            while chunk := await loop.sock_recv(sock, 1 << 16):
                reply += chunk
            return Answer("reachable", _text(reply.partition(b"\r\n\r\n")[2]), _text(reply.partition(b"\r\n")[0]))
    except ConnectionRefusedError as error:
        return Answer("refused", why=str(error.strerror))
    except TimeoutError:
        return Answer("unreachable", why="no answer")
    except OSError as error:
        return Answer("unreachable", why=error.strerror or str(error))
    finally:
        sock.close()


async def lookup(netns: int, name: str, namespace: str, *, server: str, family: int = 0) -> str:
    """Ask the cluster's DNS for a name, with a Pod's search path; "" when it has no address.

    Args:
        netns: from where.
        name: as one would write it in a Pod of `namespace`.
        server: the address of the cluster's DNS.
        family: 4 or 6; 0 takes the server's own first, then the other.
    """
    searches = [f"{namespace}.svc.{plan.DOMAIN}", f"svc.{plan.DOMAIN}", plan.DOMAIN]
    tried = [f"{name}.{domain}" for domain in searches]
    wanted = (family,) if family else (6, 4) if ":" in server else (4, 6)
    for full in ([name, *tried] if name.count(".") >= 5 else [*tried, name]):  # ndots:5
        for one in wanted:
            found = await _query(netns, full, server, _TYPES[one])
            if found:
                return found
    return ""


async def _query(netns: int, name: str, server: str, kind: str) -> str:
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    sock = socket_in(netns, family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    loop = asyncio.get_running_loop()
    try:
        query = DNSRecord.question(name, kind)
        query.header.id = int.from_bytes(os.urandom(2), "big")
        async with asyncio.timeout(_DNS_SECONDS):
            await loop.sock_connect(sock, (server, 53))
            await loop.sock_sendall(sock, query.pack())
            reply = DNSRecord.parse(await loop.sock_recv(sock, 4096))
        return next((str(row.rdata) for row in reply.rr if row.rtype == getattr(QTYPE, kind)), "")
    except (OSError, DNSError, TimeoutError):
        return ""
    finally:
        sock.close()


def _text(raw: bytes) -> str:
    return raw.decode(errors="replace").strip()
