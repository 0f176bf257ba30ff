"""A packet's way through the tables: which rules it hits, what becomes of it, and with which chance.

Where rules throw dice, the walk goes every way and says how likely each is. Where a rule asks what is not modelled
here, it goes both ways and marks what follows as uncertain. The order of tables and hooks is the kernel's
(iptables(8); "Packet flow in Netfilter"); nat is asked by the first packet of a connection only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from netlab.netfilter import normalise
from netlab.netfilter.going import Hit, Outcome, Verdict, Walking
from netlab.netfilter.matches import chance
from netlab.netfilter.matching import Host, Packet
from netlab.netfilter.model import Rule, Ruleset
from netlab.netfilter.targets import ACTIONS, ASKS_A_PROGRAM, HARMLESS, Step, netmap
from netlab.netfilter.terms import target


def receive(rules: Ruleset, packet: Packet, host: Host) -> tuple[Outcome, ...]:
    """Let a packet come in by its `iif`: to a socket of this host, or through it."""
    return _finish(rules, host, _stages(rules, host, Walking(packet), (
        ("raw", "PREROUTING"), ("mangle", "PREROUTING"), ("nat", "PREROUTING"))), _routed)


def send(rules: Ruleset, packet: Packet, host: Host) -> tuple[Outcome, ...]:
    """Let this host send a packet."""
    route = host.route(packet.dst)
    if route is None:
        return (Outcome("NO ROUTE", packet),)
    packet = replace(packet, oif=route.interface, src=packet.src or route.source)
    return _finish(rules, host, _stages(rules, host, Walking(packet), (
        ("raw", "OUTPUT"), ("mangle", "OUTPUT"), ("nat", "OUTPUT"), ("filter", "OUTPUT"))), _rerouted)


def chain(rules: Ruleset, table: str, name: str, packet: Packet, host: Host) -> Iterator[Outcome]:
    """Lead a packet through one built-in chain; those that pass it have the verdict PASS."""
    yield from through(rules, table, name, Walking(packet), host)


def through(rules: Ruleset, table: str, name: str, going: Walking, host: Host) -> Iterator[Outcome]:
    """`chain`, for a packet that has met others before."""
    for verdict, where, after in _stages(rules, host, going, ((table, name),)):
        if verdict == "ACCEPT":
            yield Outcome.of("PASS", after)
        else:
            yield _dead(verdict, where, after)


def destinations(outcomes: tuple[Outcome, ...]) -> dict[str, float]:
    """Return where packets end alive, `10.244.1.5:8080`, with the probability of each."""
    result: dict[str, float] = {}
    for each in outcomes:
        if each.verdict in ("DELIVER", "SEND"):
            place = f"[{each.packet.dst}]" if ":" in each.packet.dst else each.packet.dst
            name = f"{place}:{each.packet.dport}"
            result[name] = result.get(name, 0.0) + each.probability
    return result


_Next = Callable[[Ruleset, Host, Walking], Iterator[Outcome]]


def _finish(rules: Ruleset, host: Host, steps: Iterator[tuple[str, str, Walking]], then: _Next) -> tuple[Outcome, ...]:
    found: list[Outcome] = []
    for verdict, where, going in steps:
        if verdict == "ACCEPT":
            found += then(rules, host, going)
        else:
            found.append(_dead(verdict, where, going))
    return tuple(found)


def _dead(verdict: str, where: str, going: Walking) -> Outcome:
    end: Verdict = "REJECT" if verdict == "REJECT" else "DROP"
    return Outcome.of(end, going, where)


def _routed(rules: Ruleset, host: Host, going: Walking) -> Iterator[Outcome]:
    packet = going.packet
    if host.local(packet.dst):
        yield from _last(rules, host, going, (("mangle", "INPUT"), ("filter", "INPUT"), ("security", "INPUT"),
                                              ("nat", "INPUT")), "DELIVER")
        return
    route = host.route(packet.dst)
    if route is None:
        yield Outcome.of("NO ROUTE", going)
        return
    going = replace(going, packet=replace(packet, oif=route.interface))
    yield from _last(rules, host, going, (("mangle", "FORWARD"), ("filter", "FORWARD"), ("security", "FORWARD"),
                                          ("mangle", "POSTROUTING"), ("nat", "POSTROUTING")), "SEND")


def _rerouted(rules: Ruleset, host: Host, going: Walking) -> Iterator[Outcome]:
    """Route again what nat OUTPUT gave another destination; the source address stays (ip_route_me_harder)."""
    route = host.route(going.packet.dst)
    if route is None:
        yield Outcome.of("NO ROUTE", going)
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


def _looped(rules: Ruleset, host: Host, going: Walking) -> Iterator[Outcome]:
    """Take in what this host sent to itself; nat has decided about the connection on its way out."""
    going = replace(going, packet=replace(going.packet, iif="lo", oif=""))
    yield from _last(rules, host, going, (("raw", "PREROUTING"), ("mangle", "PREROUTING"), ("mangle", "INPUT"),
                                          ("filter", "INPUT"), ("security", "INPUT")), "DELIVER")


def _last(rules: Ruleset, host: Host, going: Walking, stages: tuple[tuple[str, str], ...],
          ending: Verdict) -> Iterator[Outcome]:
    for verdict, where, each in _stages(rules, host, going, stages):
        if verdict == "ACCEPT":
            yield Outcome.of(ending, each)
        else:
            yield _dead(verdict, where, each)


def _stages(rules: Ruleset, host: Host, going: Walking,
            stages: tuple[tuple[str, str], ...]) -> Iterator[tuple[str, str, Walking]]:
    """Lead a packet through built-in chains, one after the other; yield (verdict, where it died, packet)."""
    if not stages:
        yield "ACCEPT", "", going
        return
    (table, chain), *rest = stages
    skipped = table == "nat" and going.packet.state != "NEW"
    if skipped or chain not in rules.table(table).chains:
        yield from _stages(rules, host, going, tuple(rest))
        return
    for verdict, after in _Walker(rules, table, host, chain).built_in(chain, going):
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
    hook: str

    def built_in(self, name: str, going: Walking) -> Iterator[Step]:
        policy = self.rules.chain(self.table, name).policy or "ACCEPT"
        for verdict, after in self.chain(name, going):
            yield verdict or policy, after

    def chain(self, name: str, going: Walking, start: int = 0) -> Iterator[Step]:
        """Walk a chain from its rule number `start` (from 0)."""
        listed = self.rules.chain(self.table, name).rules
        for at in range(start, len(listed)):
            rule = listed[at]
            likely = chance(rule, going.packet, self.host)
            if likely == 0.0:
                continue
            sure = likely is not None
            share = 1.0 if likely is None else likely
            idle = self._idle(rule)
            if not sure and not idle:
                going = going.doubtful(rule.text, self.table, name)
            hit = replace(going, hits=(*going.hits, Hit(self.table, name, at + 1, rule, sure or not idle)),
                          probability=going.probability * share)
            if idle and likely in (1.0, None):
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
            going = replace(going, probability=going.probability * (1.0 - share) if sure else going.probability)
        yield "", going

    def _idle(self, rule: Rule) -> bool:
        """Tell whether a packet goes on as it was, whether or not it matches a rule."""
        return not rule.target or (rule.jump in HARMLESS and rule.jump not in self.rules.table(self.table).chains)

    def act(self, rule: Rule, going: Walking) -> Iterator[Step]:
        """Do what a rule says; "" when the packet goes on to the next rule."""
        if not rule.target:
            yield "", going
            return
        wanted = target(rule.target)
        if wanted.name in self.rules.table(self.table).chains:
            yield from self.chain(wanted.name, going)
        elif wanted.name in ACTIONS:
            yield ACTIONS[wanted.name](wanted, going, self.host)
        elif wanted.name == "NETMAP":
            yield "ACCEPT", netmap(wanted, going, source=self.hook in ("POSTROUTING", "INPUT"))
        elif wanted.name in ASKS_A_PROGRAM:
            doubtful = going.doubtful(rule.text, self.table, rule.chain)
            yield "ACCEPT", doubtful
            yield "DROP", doubtful
        elif wanted.name == "TPROXY":  # drops where no program listens that may have it
            doubtful = going.doubtful(rule.text, self.table, rule.chain)
            value, mask = normalise.mark(wanted.option("--tproxy-mark") or "0x0/0x0")
            marked = (doubtful.packet.mark & ~mask) ^ value
            yield "ACCEPT", replace(doubtful, packet=replace(doubtful.packet, mark=marked))
            yield "DROP", doubtful
        else:
            known = wanted.name in HARMLESS
            yield "", going if known else going.doubtful(rule.text, self.table, rule.chain)
