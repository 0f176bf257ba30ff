"""A packet's way through the tables: which rules it hits, what becomes of it, and with which chance.

Where rules throw dice, the walk goes every way and says how likely each is. Where a rule asks what is not modelled
here, it goes both ways and marks what follows as uncertain. The order of tables and hooks is the kernel's
(iptables(8); "Packet flow in Netfilter"); nat is asked by the first packet of a connection only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from netlab.netfilter import normalise
from netlab.netfilter.matching import Host, Packet, chance
from netlab.netfilter.model import Rule, Ruleset
from netlab.netfilter.terms import Target, target

Verdict = Literal["DELIVER", "SEND", "DROP", "REJECT", "NO ROUTE", "PASS"]
"""What becomes of a packet: handed to a socket of this host, sent out, one of three ways to die; or past a chain."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A rule that a packet matched. `number` counts from 1 in its chain, as `iptables -L --line-numbers` does."""

    table: str
    chain: str
    number: int
    rule: Rule


@dataclass(frozen=True, slots=True)
class Outcome:
    """One way that a packet may go. `packet` is what it is in the end, `where` the table and chain that killed it.

    `probability` is that of this way among all; `certain` is False when a rule on the way could not be judged.
    """

    verdict: Verdict
    packet: Packet
    hits: tuple[Hit, ...] = ()
    probability: float = 1.0
    certain: bool = True
    where: str = ""

    @property
    def chains(self) -> tuple[str, ...]:
        """Return the chains whose rules were hit, in order, each once."""
        return tuple(dict.fromkeys(hit.chain for hit in self.hits))


@dataclass(frozen=True, slots=True)
class _Going:
    """A packet on its way."""

    packet: Packet
    hits: tuple[Hit, ...] = ()
    probability: float = 1.0
    certain: bool = True


_Step = tuple[str, _Going]
"""What a chain decided: ACCEPT, DROP, REJECT, or "" when the packet came out at the end of a user chain."""


def receive(rules: Ruleset, packet: Packet, host: Host) -> tuple[Outcome, ...]:
    """Let a packet come in by its `iif`: to a socket of this host, or through it."""
    return _finish(rules, host, _stages(rules, host, _Going(packet), (
        ("raw", "PREROUTING"), ("mangle", "PREROUTING"), ("nat", "PREROUTING"))), _routed)


def send(rules: Ruleset, packet: Packet, host: Host) -> tuple[Outcome, ...]:
    """Let this host send a packet."""
    route = host.route(packet.dst)
    if route is None:
        return (Outcome("NO ROUTE", packet),)
    packet = replace(packet, oif=route.interface, src=packet.src or route.source)
    return _finish(rules, host, _stages(rules, host, _Going(packet), (
        ("raw", "OUTPUT"), ("mangle", "OUTPUT"), ("nat", "OUTPUT"), ("filter", "OUTPUT"))), _rerouted)


def chain(rules: Ruleset, table: str, name: str, packet: Packet, host: Host) -> Iterator[Outcome]:
    """Lead a packet through one built-in chain; those that pass it have the verdict PASS."""
    for verdict, where, going in _stages(rules, host, _Going(packet), ((table, name),)):
        if verdict == "ACCEPT":
            yield Outcome("PASS", going.packet, going.hits, going.probability, going.certain)
        else:
            yield _dead(verdict, where, going)


def destinations(outcomes: tuple[Outcome, ...]) -> dict[str, float]:
    """Return where packets end alive, `10.244.1.5:8080`, with the probability of each."""
    result: dict[str, float] = {}
    for each in outcomes:
        if each.verdict in ("DELIVER", "SEND"):
            place = f"[{each.packet.dst}]" if ":" in each.packet.dst else each.packet.dst
            name = f"{place}:{each.packet.dport}"
            result[name] = result.get(name, 0.0) + each.probability
    return result


_Next = Callable[[Ruleset, Host, _Going], Iterator[Outcome]]


def _finish(rules: Ruleset, host: Host, steps: Iterator[tuple[str, str, _Going]], then: _Next) -> tuple[Outcome, ...]:
    found: list[Outcome] = []
    for verdict, where, going in steps:
        if verdict == "ACCEPT":
            found += then(rules, host, going)
        else:
            found.append(_dead(verdict, where, going))
    return tuple(found)


def _dead(verdict: str, where: str, going: _Going) -> Outcome:
    end: Verdict = "REJECT" if verdict == "REJECT" else "DROP"
    return Outcome(end, going.packet, going.hits, going.probability, going.certain, where)


def _routed(rules: Ruleset, host: Host, going: _Going) -> Iterator[Outcome]:
    packet = going.packet
    if host.local(packet.dst):
        yield from _last(rules, host, going, (("mangle", "INPUT"), ("filter", "INPUT"), ("security", "INPUT"),
                                              ("nat", "INPUT")), "DELIVER")
        return
    route = host.route(packet.dst)
    if route is None:
        yield Outcome("NO ROUTE", packet, going.hits, going.probability, going.certain)
        return
    going = replace(going, packet=replace(packet, oif=route.interface))
    yield from _last(rules, host, going, (("mangle", "FORWARD"), ("filter", "FORWARD"), ("security", "FORWARD"),
                                          ("mangle", "POSTROUTING"), ("nat", "POSTROUTING")), "SEND")


def _rerouted(rules: Ruleset, host: Host, going: _Going) -> Iterator[Outcome]:
    """Route again what nat OUTPUT gave another destination; the source address stays (ip_route_me_harder)."""
    route = host.route(going.packet.dst)
    if route is None:
        yield Outcome("NO ROUTE", going.packet, going.hits, going.probability, going.certain)
        return
    going = replace(going, packet=replace(going.packet, oif=route.interface))
    out = (("mangle", "POSTROUTING"), ("nat", "POSTROUTING"))
    if not host.local(going.packet.dst):
        yield from _last(rules, host, going, out, "SEND")
        return
    for verdict, where, each in _stages(rules, host, going, out):
        if verdict == "ACCEPT":
            yield from _looped(rules, host, each)
        else:
            yield _dead(verdict, where, each)


def _looped(rules: Ruleset, host: Host, going: _Going) -> Iterator[Outcome]:
    """Take in what this host sent to itself; nat has decided about the connection on its way out."""
    going = replace(going, packet=replace(going.packet, iif="lo", oif=""))
    yield from _last(rules, host, going, (("raw", "PREROUTING"), ("mangle", "PREROUTING"), ("mangle", "INPUT"),
                                          ("filter", "INPUT"), ("security", "INPUT")), "DELIVER")


def _last(rules: Ruleset, host: Host, going: _Going, stages: tuple[tuple[str, str], ...],
          ending: Verdict) -> Iterator[Outcome]:
    for verdict, where, each in _stages(rules, host, going, stages):
        if verdict == "ACCEPT":
            yield Outcome(ending, each.packet, each.hits, each.probability, each.certain)
        else:
            yield _dead(verdict, where, each)


def _stages(rules: Ruleset, host: Host, going: _Going,
            stages: tuple[tuple[str, str], ...]) -> Iterator[tuple[str, str, _Going]]:
    """Lead a packet through built-in chains, one after the other; yield (verdict, where it died, packet)."""
    if not stages:
        yield "ACCEPT", "", going
        return
    (table, chain), *rest = stages
    skipped = table == "nat" and going.packet.state != "NEW"
    if skipped or chain not in rules.table(table).chains:
        yield from _stages(rules, host, going, tuple(rest))
        return
    for verdict, after in _Walker(rules, table, host).built_in(chain, going):
        if verdict == "ACCEPT":
            yield from _stages(rules, host, after, tuple(rest))
        else:
            yield verdict, f"{table} {after.hits[-1].chain if after.hits else chain}", after


@dataclass(frozen=True)
class _Walker:
    """One table, walked by one packet."""

    rules: Ruleset
    table: str
    host: Host

    def built_in(self, name: str, going: _Going) -> Iterator[_Step]:
        policy = self.rules.chain(self.table, name).policy or "ACCEPT"
        for verdict, after in self.chain(name, going):
            yield verdict or policy, after

    def chain(self, name: str, going: _Going, start: int = 0) -> Iterator[_Step]:
        """Walk a chain from its rule number `start` (from 0)."""
        listed = self.rules.chain(self.table, name).rules
        for at in range(start, len(listed)):
            rule = listed[at]
            likely = chance(rule, going.packet, self.host)
            if likely == 0.0:
                continue
            sure = likely is not None
            share = 1.0 if likely is None else likely
            hit = replace(going, hits=(*going.hits, Hit(self.table, name, at + 1, rule)),
                          probability=going.probability * share, certain=going.certain and sure)
            if likely == 1.0 and not rule.target:
                going = hit
                continue
            for verdict, after in self.act(rule, hit):
                if verdict == "RETURN":
                    yield "", after
                elif verdict:
                    yield verdict, after
                elif rule.goto:
                    yield "", after
                else:
                    yield from self.chain(name, after, at + 1)
            if likely == 1.0:
                return
            going = replace(going, probability=going.probability * (1.0 - share) if sure else going.probability,
                            certain=going.certain and sure)
        yield "", going

    def act(self, rule: Rule, going: _Going) -> Iterator[_Step]:
        """Do what a rule says; "" when the packet goes on to the next rule."""
        if not rule.target:
            yield "", going
            return
        wanted = target(rule.target)
        if wanted.name in self.rules.table(self.table).chains:
            yield from self.chain(wanted.name, going)
        elif wanted.name in _ACTIONS:
            yield _ACTIONS[wanted.name](wanted, going, self.host)
        else:
            known = wanted.name in _HARMLESS
            yield "", going if known else replace(going, certain=False)


_HARMLESS = frozenset({"LOG", "NFLOG", "TRACE", "CHECKSUM", "CLASSIFY", "AUDIT", "TCPMSS"})


def _mark(wanted: Target, going: _Going, _: Host) -> _Step:
    value, mask = normalise.xmark(wanted.options)
    return "", replace(going, packet=replace(going.packet, mark=(going.packet.mark & ~mask) ^ value))


def _dnat(wanted: Target, going: _Going, _: Host) -> _Step:
    text = wanted.option("--to-destination") or ""
    address, port = _address_and_port(text)
    certain = going.certain and "-" not in text
    packet = replace(going.packet, dst=address or going.packet.dst, dport=port or going.packet.dport, dnat=True)
    return "ACCEPT", replace(going, packet=packet, certain=certain)


def _snat(wanted: Target, going: _Going, _: Host) -> _Step:
    text = wanted.option("--to-source") or ""
    address, port = _address_and_port(text)
    certain = going.certain and "-" not in text
    packet = replace(going.packet, src=address or going.packet.src, sport=port or going.packet.sport, snat=True)
    return "ACCEPT", replace(going, packet=packet, certain=certain)


def _masquerade(_: Target, going: _Going, host: Host) -> _Step:
    route = host.route(going.packet.dst)
    source = route.source if route else going.packet.src
    return "ACCEPT", replace(going, packet=replace(going.packet, src=source, snat=True))


def _redirect(wanted: Target, going: _Going, host: Host) -> _Step:
    port = (wanted.option("--to-ports") or "").partition("-")[0]
    loopback = "::1" if ":" in going.packet.dst else "127.0.0.1"
    here = (host.primary(going.packet.iif, going.packet.dst) if going.packet.iif else "") or loopback
    packet = replace(going.packet, dst=here, dport=int(port) if port.isdigit() else going.packet.dport, dnat=True)
    return "ACCEPT", replace(going, packet=packet)


def _address_and_port(text: str) -> tuple[str, int]:
    """Part `10.0.0.1:80`, `[2001:db8::1]:80`, `10.0.0.1-10.0.0.9:80`, `:80`; of a range the first counts."""
    if text.startswith("["):
        address, _, port = text[1:].partition("]")
        port = port.lstrip(":")
    elif text.count(":") > 1:
        address, port = text, ""
    else:
        address, _, port = text.partition(":")
    port = port.partition("-")[0]
    return address.partition("-")[0], int(port) if port.isdigit() else 0


def _verdict(name: str) -> Callable[[Target, _Going, Host], _Step]:
    return lambda _wanted, going, _host: (name, going)


_ACTIONS: Mapping[str, Callable[[Target, _Going, Host], _Step]] = {
    **{name: _verdict(name) for name in ("ACCEPT", "DROP", "REJECT", "RETURN")},
    "MARK": _mark, "DNAT": _dnat, "SNAT": _snat, "MASQUERADE": _masquerade, "REDIRECT": _redirect,
}
