"""The resolution of a name as a program in the sender's place would do it, each question traced.

resolv.conf(5): the search list, ndots, one server after the other. Answers come from the real server; a name that the
search list completes costs several questions, and all of them are parts of the trace.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass

import dnslib

from netlab.errors import NotFound
from netlab.trace.event import Part, Trace
from netlab.trace.send import Answer

Exchange = Callable[[str, bytes], tuple[Trace, Answer]]
"""Sends one question to port 53 of a server and traces it."""

NO_RECORD = "no such record"
"""What is said of a name that exists without an address of the family that was asked for."""
_NAMES = {1: "A", 28: "AAAA", 5: "CNAME"}


@dataclass(frozen=True)
class ResolvConf:
    """What a resolv.conf says."""

    servers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    ndots: int = 1

    def candidates(self, name: str) -> list[str]:
        """Return the names to ask for, in order: absolute first when the name has `ndots` dots, else the list first."""
        if name.endswith("."):
            return [name]
        longer = [f"{name}.{search.rstrip('.')}." for search in self.searches]
        return [f"{name}.", *longer] if name.count(".") >= self.ndots else [*longer, f"{name}."]


def parse(text: str) -> ResolvConf:
    """Read a resolv.conf; at most three servers count, of `search` lines the last."""
    servers: list[str] = []
    searches: list[str] = []
    ndots = 1
    for line in text.splitlines():
        words = line.split("#")[0].split()
        if len(words) < 2:
            continue
        if words[0] == "nameserver":
            servers.append(words[1])
        elif words[0] in ("search", "domain"):
            searches = words[1:]
        elif words[0] == "options":
            ndots = next((int(w[6:]) for w in words if w.startswith("ndots:") and w[6:].isdigit()), ndots)
    return ResolvConf(tuple(servers[:3]), tuple(searches), min(ndots, 15))


def resolve(name: str, conf: ResolvConf, exchange: Exchange, *, ipv6: bool = False) -> tuple[str, list[Part]]:
    """Ask until a name has an address; return it ("" when none has), and every question as a part of the trace.

    Raises:
        NotFound: there is no server to ask.
    """
    if not conf.servers:
        raise NotFound(f"cannot look {name} up: the sender's /etc/resolv.conf names no server")
    kind = "AAAA" if ipv6 else "A"
    parts: list[Part] = []
    for candidate in conf.candidates(name):
        for server in conf.servers:
            question = dnslib.DNSRecord.question(candidate, kind)
            trace, answer = exchange(server, bytes(question.pack()))
            address, said = _said(answer, question.header.id)
            parts.append(Part("resolution", f"{candidate.rstrip('.')} {kind} → {said}", trace))
            if address:
                return address, parts
            if answer.status == "replied":
                break  # it answered, only not with an address
    return "", parts


def _said(answer: Answer, ident: int) -> tuple[str, str]:
    """Return the first address of an answer ("" for none), and the answer in words."""
    if answer.status != "replied":
        return "", answer.status or "no answer"
    try:
        record = dnslib.DNSRecord.parse(answer.data)
    except (dnslib.DNSError, ValueError):
        return "", "an answer that is no DNS message"
    if record.header.id != ident:
        return "", "an answer to another question"
    code = str(dnslib.RCODE.get(record.header.rcode))
    found = [(entry.rtype, str(entry.rdata)) for entry in record.rr if entry.rtype in _NAMES]
    address = next((str(ipaddress.ip_address(text)) for kind, text in found if kind in (1, 28)), "")
    words = ", ".join(text.rstrip(".") for _, text in found) or (code if code != "NOERROR" else NO_RECORD)
    return address, words
