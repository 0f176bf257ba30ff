"""The plugin cache: remember answers of other servers for as long as they may be remembered.

What the plugin kubernetes answers is not kept here: it costs microseconds, and a kept "no such name" would outlive the
creation of its Service.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import dnslib

from netlab.dns.chain import Next
from netlab.dns.message import NOERROR, NXDOMAIN, SERVFAIL, Reply, Request, with_ttl

_CAPACITY: Final = 10_000
_FAILURE_SECONDS: Final = 5


class Cache:
    """Answers by name, type and the DO bit. `success` and `denial` bound their time in seconds."""

    name = "cache"

    def __init__(self, *, success: int = 3600, denial: int = 1800, capacity: int = _CAPACITY,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self._success, self._denial, self._capacity, self._clock = success, denial, capacity, clock
        self._kept: OrderedDict[tuple[str, int, bool], tuple[float, float, Reply]] = OrderedDict()
        self.hits = 0
        self.misses = 0

    async def serve(self, request: Request, following: Next) -> Reply:
        """Answer from memory, with what is left of the time to live, or remember what the next plugin says."""
        key = (request.name, request.type, request.dnssec_ok)
        now = self._clock()
        kept = self._kept.get(key)
        if kept is not None and now < kept[1]:
            self.hits += 1
            self._kept.move_to_end(key)
            age = int(now - kept[0])
            reply = kept[2]
            return replace(reply, answer=_renamed(with_ttl(reply.answer, age), request, reply),
                           authority=with_ttl(reply.authority, age), extra=with_ttl(reply.extra, age))
        self.misses += 1
        reply = await following(request)
        seconds = 0 if reply.lasting or reply.truncated else self._seconds(reply)
        if seconds > 0:
            self._kept[key] = (now, now + seconds, replace(reply, authoritative=False))
            self._kept.move_to_end(key)
            while len(self._kept) > self._capacity:
                self._kept.popitem(last=False)
        return reply

    def _seconds(self, reply: Reply) -> int:
        if reply.rcode == SERVFAIL:
            return min(_FAILURE_SECONDS, self._denial)
        if reply.rcode not in (NOERROR, NXDOMAIN):
            return 0
        if reply.answer and reply.rcode == NOERROR:
            ttls = [int(record.ttl) for record in (*reply.answer, *reply.authority, *reply.extra)]
            return min(self._success, *ttls)
        limits = [int(min(record.ttl, record.rdata.times[4])) for record in reply.authority
                  if record.rtype == dnslib.QTYPE.SOA]
        return min(self._denial, *limits) if limits else 0  # without SOA nobody said how long (RFC 2308)


def _renamed(records: tuple[object, ...], request: Request, reply: Reply) -> tuple[object, ...]:
    """Give the records of the asked name the spelling of this question (some resolvers play with upper case)."""
    for record, kept in zip(records, reply.answer, strict=True):
        if str(kept.rname).rstrip(".").lower() == request.name:
            record.rname = request.written  # type: ignore[attr-defined]
    return records
