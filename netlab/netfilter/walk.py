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
from netlab.netfilter.nft import NftElement, NftRule
from netlab.netfilter.nft_eval import Learnt
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
class NftHit:
    """A rule of nftables that a packet matched. `verdict` as a kernel's trace has it, `element` what its map said.

    `target` is the chain that it led to, or what nat or reject did.
    """

    table: str
    chain: str
    rule: NftRule
    verdict: str
    target: str = ""
    element: NftElement | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """One way that a packet may go. `packet` is what it is in the end, `where` the table and chain that killed it.

    `probability` is that of this way among all; `certain` is False when a rule on the way could not be judged, and
    `doubts` say which. `bound` tells that a rule decided about the connection's addresses, `reject` how REJECT
    answers, in iptables' words. `learnt` are the elements that rules added to nftables' sets.
    """

    verdict: Verdict
    packet: Packet
    hits: tuple[Hit | NftHit, ...] = ()
    probability: float = 1.0
    certain: bool = True
    where: str = ""
    doubts: tuple[str, ...] = ()
    bound: bool = False
    reject: str = ""
    learnt: frozenset[Learnt] = frozenset()

    @classmethod
    def of(cls, verdict: Verdict, going: Walking, where: str = "") -> Outcome:
        """Return how a packet on its way ended."""
        return cls(verdict, going.packet, going.hits, going.probability, going.certain, where, going.doubts,
                   going.bound, going.reject, going.learnt)

    @property
    def chains(self) -> tuple[str, ...]:
        """Return the chains whose rules were hit, in order, each once."""
        return tuple(dict.fromkeys(hit.chain for hit in self.hits))


@dataclass(frozen=True, slots=True)
class Walking:
    """A packet on its way through a table."""

    packet: Packet
    hits: tuple[Hit | NftHit, ...] = ()
    probability: float = 1.0
    certain: bool = True
    doubts: tuple[str, ...] = ()
    bound: bool = False
    reject: str = ""
    learnt: frozenset[Learnt] = frozenset()

    def doubtful(self, words: str, table: str, chain: str) -> Walking:
        """Return this with a doubt: words of a rule that could not be judged."""
        said = f"{words} ({table} {chain})"
        return replace(self, certain=False, doubts=self.doubts if said in self.doubts else (*self.doubts, said))


_Step = tuple[str, Walking]
"""What a chain decided: ACCEPT, DROP, REJECT, or "" when the packet came out at the end of a user chain."""


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

    def built_in(self, name: str, going: Walking) -> Iterator[_Step]:
        policy = self.rules.chain(self.table, name).policy or "ACCEPT"
        for verdict, after in self.chain(name, going):
            yield verdict or policy, after

    def chain(self, name: str, going: Walking, start: int = 0) -> Iterator[_Step]:
        """Walk a chain from its rule number `start` (from 0)."""
        listed = self.rules.chain(self.table, name).rules
        for at in range(start, len(listed)):
            rule = listed[at]
            likely = chance(rule, going.packet, self.host)
            if likely == 0.0:
                continue
            sure = likely is not None
            share = 1.0 if likely is None else likely
            if not sure:
                going = going.doubtful(rule.text, self.table, name)
            hit = replace(going, hits=(*going.hits, Hit(self.table, name, at + 1, rule)),
                          probability=going.probability * share)
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
            going = replace(going, probability=going.probability * (1.0 - share) if sure else going.probability)
        yield "", going

    def act(self, rule: Rule, going: Walking) -> Iterator[_Step]:
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
            yield "", going if known else going.doubtful(rule.text, self.table, rule.chain)


_HARMLESS = frozenset({"LOG", "NFLOG", "TRACE", "CHECKSUM", "CLASSIFY", "AUDIT", "TCPMSS"})


def _mark(wanted: Target, going: Walking, _: Host) -> _Step:
    value, mask = normalise.xmark(wanted.options)
    return "", replace(going, packet=replace(going.packet, mark=(going.packet.mark & ~mask) ^ value))


def _dnat(wanted: Target, going: Walking, _: Host) -> _Step:
    text = wanted.option("--to-destination") or ""
    address, port = _address_and_port(text)
    return "ACCEPT", destined(_ranged(going, wanted, text), address, port)


def destined(going: Walking, address: str, port: int) -> Walking:
    """Give a connection its destination; what stays as it was does not count as rewritten."""
    old = going.packet
    packet = replace(old, dst=address or old.dst, dport=port or old.dport)
    return replace(going, packet=replace(packet, dnat=old.dnat or packet != old), bound=True)


def sourced(going: Walking, address: str, port: int) -> Walking:
    """Give a connection its source."""
    old = going.packet
    packet = replace(old, src=address or old.src, sport=port or old.sport)
    return replace(going, packet=replace(packet, snat=old.snat or packet != old), bound=True)


def _ranged(going: Walking, wanted: Target, text: str) -> Walking:
    """Doubt a range: of its addresses or ports the first is taken here."""
    return going.doubtful(f"{wanted.name} to {text}", "nat", "") if "-" in text else going


def _snat(wanted: Target, going: Walking, _: Host) -> _Step:
    text = wanted.option("--to-source") or ""
    address, port = _address_and_port(text)
    return "ACCEPT", sourced(_ranged(going, wanted, text), address, port)


def _masquerade(wanted: Target, going: Walking, host: Host) -> _Step:
    done = sourced(going, host.masquerade(going.packet.oif, going.packet.dst), 0)
    if any(wanted.option(each) is not None for each in ("--random", "--random-fully")):
        done = replace(done, packet=replace(done.packet, snat=True))  # the port is another, whatever the address
    return "ACCEPT", done


def _redirect(wanted: Target, going: Walking, host: Host) -> _Step:
    port = (wanted.option("--to-ports") or "").partition("-")[0]
    return "ACCEPT", destined(going, redirected(going.packet, host), int(port) if port.isdigit() else 0)


def redirected(packet: Packet, host: Host) -> str:
    """Return the address that REDIRECT leads to: that of the interface by which the packet came in."""
    loopback = "::1" if ":" in packet.dst else "127.0.0.1"
    return (host.primary(packet.iif, packet.dst) if packet.iif else "") or loopback


def _reject(wanted: Target, going: Walking, _: Host) -> _Step:
    return "REJECT", replace(going, reject=wanted.option("--reject-with") or "")


def _notrack(_: Target, going: Walking, _host: Host) -> _Step:
    fresh = going.packet.state == "INVALID"
    return "", replace(going, packet=replace(going.packet, state="UNTRACKED")) if fresh else going


def _ct(wanted: Target, going: Walking, host: Host) -> _Step:
    if wanted.option("--notrack") is not None:
        return _notrack(wanted, going, host)
    zone = any((term.option or "").startswith("--zone") for term in wanted.options)
    return "", going.doubtful("CT --zone", "raw", "") if zone else going


def _connmark(wanted: Target, going: Walking, _: Host) -> _Step:
    packet, options = going.packet, {term.option: term.value for term in wanted.options}
    masks = [normalise.mark(options.get(name, "0xffffffff"))[0] for name in ("--ctmask", "--nfmask")]
    if "--mask" in options:
        masks = [normalise.mark(options["--mask"])[0]] * 2
    if "--restore-mark" in options:
        return "", replace(going, packet=replace(packet, mark=(packet.mark & ~masks[1]) ^ (packet.ctmark & masks[0])))
    if "--save-mark" in options:
        return "", replace(going, packet=replace(packet, ctmark=(packet.ctmark & ~masks[0]) ^ (packet.mark & masks[1])))
    value, mask = normalise.xmark(wanted.options)
    return "", replace(going, packet=replace(packet, ctmark=(packet.ctmark & ~mask) ^ value))


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


def _verdict(name: str) -> Callable[[Target, Walking, Host], _Step]:
    return lambda _wanted, going, _host: (name, going)


_ACTIONS: Mapping[str, Callable[[Target, Walking, Host], _Step]] = {
    **{name: _verdict(name) for name in ("ACCEPT", "DROP", "RETURN")}, "REJECT": _reject, "NOTRACK": _notrack,
    "CT": _ct, "CONNMARK": _connmark, "MARK": _mark, "DNAT": _dnat, "SNAT": _snat, "MASQUERADE": _masquerade,
    "REDIRECT": _redirect,
}
