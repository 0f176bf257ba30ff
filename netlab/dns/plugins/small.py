"""The small plugins: errors, log, loadbalance, whoami, and counting for prometheus."""

from __future__ import annotations

import logging
import random
import time
from collections import Counter
from dataclasses import replace
from typing import Any

import dnslib

from netlab.dns.chain import Next
from netlab.dns.message import SERVFAIL, Reply, Request
from netlab.errors import NetlabError

log = logging.getLogger(__name__)


class Errors:
    """Says what failed, and tells the client SERVFAIL."""

    name = "errors"

    async def serve(self, request: Request, following: Next) -> Reply:
        """Answer what the next plugin answers; a failure is one line in the log."""
        try:
            return await following(request)
        except NetlabError as error:
            log.error("[ERROR] plugin/errors: 2 %s. %s: %s", request.name, request.type_name, error)
            return Reply(SERVFAIL)


class Log:
    """Writes a line for each question, as CoreDNS does."""

    name = "log"

    async def serve(self, request: Request, following: Next) -> Reply:
        """Answer what the next plugin answers, and log it."""
        began = time.perf_counter()
        reply = await following(request)
        code = dnslib.RCODE.get(reply.rcode)
        log.info('[INFO] %s - %d "%s IN %s. %s %d %s %d" %s %s %.9fs', request.client, request.id, request.type_name,
                 request.name, "tcp" if request.tcp else "udp", len(request.raw),
                 str(request.dnssec_ok).lower(), request.size, code, "aa" if reply.authoritative else "-",
                 time.perf_counter() - began)
        return reply


class LoadBalance:
    """Shuffles addresses, so that clients that take the first spread out."""

    name = "loadbalance"

    async def serve(self, request: Request, following: Next) -> Reply:
        """Answer what the next plugin answers, in another order: aliases stay in front."""
        reply = await following(request)
        addresses = [record for record in reply.answer if record.rtype in (dnslib.QTYPE.A, dnslib.QTYPE.AAAA)]
        if len(addresses) < 2:
            return reply
        random.shuffle(addresses)
        others = [record for record in reply.answer if record.rtype not in (dnslib.QTYPE.A, dnslib.QTYPE.AAAA)]
        return replace(reply, answer=(*others, *addresses), lasting=False)


class WhoAmI:
    """Tells the client's own address, whatever was asked."""

    name = "whoami"

    async def serve(self, request: Request, following: Next) -> Reply:  # noqa: ARG002 - the end of the chain
        """Answer with no record but the client's address as an extra one."""
        host, _, _ = request.client.rpartition(":")
        data: Any = dnslib.AAAA(host.strip("[]")) if ":" in host else dnslib.A(host)
        kind = dnslib.QTYPE.AAAA if ":" in host else dnslib.QTYPE.A
        return Reply(extra=(dnslib.RR(request.written or ".", kind, rdata=data, ttl=0),), authoritative=True)


class Metrics:
    """Counts questions and answers, in the names that CoreDNS exports."""

    name = "prometheus"

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str, str]] = Counter()
        self.responses: Counter[str] = Counter()

    async def serve(self, request: Request, following: Next) -> Reply:
        """Answer what the next plugin answers, and count it."""
        family = "2" if request.client.startswith("[") else "1"
        self.requests["tcp" if request.tcp else "udp", family, request.type_name] += 1
        reply = await following(request)
        self.responses[str(dnslib.RCODE.get(reply.rcode))] += 1
        return replace(reply, lasting=False)  # every question has to come by here

    def text(self) -> str:
        """Return the counters in Prometheus' text format."""
        lines = ["# HELP coredns_dns_requests_total Counter of DNS requests made per zone, protocol and family.",
                 "# TYPE coredns_dns_requests_total counter"]
        lines += [f'coredns_dns_requests_total{{family="{family}",proto="{proto}",type="{kind}"}} {count}'
                  for (proto, family, kind), count in sorted(self.requests.items())]
        lines += ["# HELP coredns_dns_responses_total Counter of response status codes.",
                  "# TYPE coredns_dns_responses_total counter"]
        lines += [f'coredns_dns_responses_total{{rcode="{rcode}"}} {count}'
                  for rcode, count in sorted(self.responses.items())]
        return "\n".join(lines) + "\n"
