"""What a rule means, whatever its spelling, so that rules can be compared.

The kernel answers in other words than it was told in: `-p tcp` moves to the front, `--or-mark` comes back as
`--set-xmark`, a probability in steps of 2^-31, an address with its /32. Both spellings have one canonical form here.
Counters and the order of matches are no part of it; the order of rules in a chain is.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import TypeAlias

from netlab.netfilter.model import Rule, Ruleset, Table
from netlab.netfilter.terms import Term, protocol, target, terms

Canonical: TypeAlias = tuple[object, ...]
"""An opaque value: equal for two rules of one chain exactly when the rules do the same."""

_MASK = 0xFFFFFFFF
_DEFAULTS: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("recent", "--name"): ("DEFAULT",), ("recent", "--mask"): ("255.255.255.255",), ("recent", "--rsource"): (),
    ("limit", "--limit-burst"): ("5",), ("limit", "--limit"): ("3/hour",), ("statistic", "--packet"): ("0",),
}
_REJECT_DEFAULTS = ("icmp-port-unreachable", "icmp6-port-unreachable", "port-unreach")
_SYN = ("FIN,SYN,RST,ACK", "SYN")


@lru_cache(maxsize=262144)
def _body(match: str, jump: str, goto: bool) -> Canonical:
    parts = {part for term in terms(match) for part in _match_part(term)}
    modules = {module for module, *_ in parts}
    # `-p tcp -m tcp` and `-p tcp` say the same; `-m tcp` stays only where no -p names it.
    for module in modules - {""}:
        if ("", "-p", False, (module,)) in parts or any(owner == module and option for owner, option, *_ in parts):
            parts.discard((module, "", False, ()))
    return tuple(sorted(parts, key=repr)), _target(jump), goto


def canonical(rule: Rule) -> Canonical:
    """Return the canonical form of a rule, its chain's name included."""
    return rule.chain, *_body(rule.match, rule.target, rule.goto)


def same(one: Rule, other: Rule) -> bool:
    """Tell whether two rules do the same in the same chain."""
    return canonical(one) == canonical(other)


def network(text: str) -> str:
    """Return an address or network as iptables means it: host bits off, and no /32 or /128.

    A name, or what else is no address, comes back unchanged. `10.0.0.0/255.0.0.0` is understood.
    """
    try:
        found = ipaddress.ip_network(text, strict=False)
    except ValueError:
        return text
    return str(found.network_address) if found.prefixlen == found.max_prefixlen else str(found)


def mark(text: str) -> tuple[int, int]:
    """Return value and mask of `0x4000/0x4000` or of `16384`, whose mask is all ones."""
    value, _, mask = text.partition("/")
    return int(value, 0) & _MASK, int(mask, 0) & _MASK if mask else _MASK


def probability(text: str) -> int:
    """Return a probability in the steps in which the kernel keeps it, 2^-31."""
    return round(float(text) * (1 << 31))


def _ports(values: tuple[str, ...]) -> tuple[str, ...]:
    low, _, high = (values[0] if values else "").partition(":")
    return (low,) if not high or low == high else (f"{low}:{high}",)


def _set_of(values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(",".join(values).split(",")))


_VALUES: Mapping[tuple[str, str], Callable[[tuple[str, ...]], tuple[object, ...]]] = {
    ("", "-s"): lambda v: (network(v[0]),), ("", "-d"): lambda v: (network(v[0]),),
    ("", "-p"): lambda v: (protocol(v[0]),),
    ("mark", "--mark"): lambda v: mark(v[0]), ("connmark", "--mark"): lambda v: mark(v[0]),
    ("statistic", "--probability"): lambda v: (probability(v[0]),),
    ("conntrack", "--ctstate"): _set_of, ("conntrack", "--ctstatus"): _set_of,
    ("tcp", "--dport"): _ports, ("tcp", "--sport"): _ports, ("udp", "--dport"): _ports, ("udp", "--sport"): _ports,
    ("sctp", "--dport"): _ports, ("sctp", "--sport"): _ports,
}


_WHOLE_IPV6 = (":".join(["ffff"] * 8),)


def _match_part(term: Term) -> Iterator[tuple[str, str, bool, tuple[object, ...]]]:
    module, option, negated, values = term
    if module == "state":
        module, option = "conntrack", option.replace("--state", "--ctstate")
    if option == "--syn":
        option, values = "--tcp-flags", _SYN
    if _DEFAULTS.get((module, option)) == values and not negated:
        return
    if (module, option, values) == ("recent", "--mask", _WHOLE_IPV6):  # what IPv6 has for 255.255.255.255
        return
    if option in ("-s", "-d") and not negated and values and network(values[0]) in ("0.0.0.0/0", "::/0"):
        return
    if option == "-p" and not negated and protocol(values[0]) == "all":
        return
    shape = _VALUES.get((module, option))
    try:
        yield module, option, negated, shape(values) if shape and values else values
    except ValueError:
        yield module, option, negated, values


@lru_cache(maxsize=65536)
def _target(text: str) -> Canonical:
    found = target(text)
    if found.name == "MARK":
        return ("MARK", *xmark(found.options))
    if found.name == "REJECT":
        kind = found.option("--reject-with") or _REJECT_DEFAULTS[0]
        return "REJECT", "port-unreachable" if kind in _REJECT_DEFAULTS else kind
    return found.name, *sorted((term.option, term.negated, term.values) for term in found.options)


def xmark(options: tuple[Term, ...]) -> tuple[int, int]:
    """Return the (value, mask) of --set-xmark, (mark & ~mask) ^ value, that the target's option comes down to."""
    for term in options:
        value, mask = mark(term.value)
        if term.option == "--set-xmark":
            return value, mask
        if term.option == "--set-mark":
            return value, value | mask
        if term.option == "--or-mark":
            return value, value
        if term.option == "--xor-mark":
            return value, 0
        if term.option == "--and-mark":
            return 0, ~value & _MASK
    return 0, 0


def differences(wanted: Ruleset, found: Ruleset, *, unordered: Iterable[str] = ()) -> list[str]:
    """Return what must change in `found` to do what `wanted` does, one line each; [] when they agree.

    Rules of the chains in `unordered` are compared as a set. Tables that `wanted` does not name are not looked at.
    """
    free = frozenset(unordered)
    return [line for name, table in wanted.tables.items()
            for line in _table_differences(table, found.table(name), free)]


def _table_differences(wanted: Table, found: Table, unordered: frozenset[str]) -> Iterator[str]:
    for name in wanted.chains.keys() - found.chains.keys():
        yield f"{wanted.name}: chain {name} is missing"
    for name in found.chains.keys() - wanted.chains.keys():
        yield f"{wanted.name}: chain {name} is too many"
    for name in wanted.chains.keys() & found.chains.keys():
        ours, theirs = wanted.chains[name].rules, found.chains[name].rules
        if wanted.chains[name].policy != found.chains[name].policy:
            yield f"{wanted.name}: {name} has policy {found.chains[name].policy or '-'}"
        if name in unordered:
            ours, theirs = (tuple(sorted(each, key=lambda r: repr(canonical(r)))) for each in (ours, theirs))
        ours_said, theirs_said = [canonical(r) for r in ours], [canonical(r) for r in theirs]
        if ours_said == theirs_said:
            continue
        missing = [r for r in ours if canonical(r) not in theirs_said]
        extra = [r for r in theirs if canonical(r) not in ours_said]
        yield from (f"{wanted.name}: missing {r.text}" for r in missing)
        yield from (f"{wanted.name}: too many {r.text}" for r in extra)
        if not missing and not extra:
            yield f"{wanted.name}: the rules of {name} come in another order or number"
