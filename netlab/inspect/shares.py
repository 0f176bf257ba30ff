"""What part of a chain's packets each rule takes: by the dice in the rules, and by what the counters saw."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from netlab.netfilter import normalise
from netlab.netfilter.model import Chain, Rule
from netlab.netfilter.terms import target, terms

ENDPOINT_PREFIX = "KUBE-SEP-"


@dataclass(frozen=True, slots=True)
class Share:
    """One endpoint's part of a KUBE-SVC or KUBE-SVL chain.

    `nominal` is what the dice give a new client, from 0 to 1. `packets` counts first packets of connections that the
    chain sent there, remembered clients included; `observed` is their part of all, None before any came; `fresh` are
    those that the dice sent.
    """

    chain: str
    nominal: float
    packets: int
    observed: float | None
    fresh: int = 0


def dice(rule: Rule) -> float | None:
    """Return the probability in a rule, 1.0 for a rule without conditions, None for one with other conditions."""
    found = 1.0
    for term in terms(rule.match):
        if term.module == "statistic":
            if term.option == "--probability":
                found = normalise.probability(term.value) / (1 << 31)
            elif term.option not in ("", "--mode"):
                return None
        elif term.module != "comment":
            return None
    return found


def of_chain(chain: Chain) -> tuple[Share, ...]:
    """Return the parts of all endpoints that a chain jumps to, in its order."""
    left = 1.0
    nominal: dict[str, float] = {}
    packets: dict[str, int] = {}
    fresh: dict[str, int] = {}
    for rule in chain.rules:
        if not rule.jump.startswith(ENDPOINT_PREFIX):
            continue
        packets[rule.jump] = packets.get(rule.jump, 0) + rule.packets
        part = dice(rule)
        if part is None:  # session affinity: only for clients that came before
            nominal.setdefault(rule.jump, 0.0)
            continue
        fresh[rule.jump] = fresh.get(rule.jump, 0) + rule.packets
        nominal[rule.jump] = nominal.get(rule.jump, 0.0) + left * part
        left *= 1.0 - part
    total = sum(packets.values())
    return tuple(Share(name, nominal[name], packets[name], packets[name] / total if total else None,
                       fresh.get(name, 0))
                 for name in nominal)


def destination(rules: Iterable[Rule]) -> str:
    """Return where an endpoint's chain sends packets, `10.244.1.5:8080`; "" when it has no DNAT."""
    for rule in rules:
        if rule.jump == "DNAT":
            return target(rule.target).option("--to-destination") or ""
    return ""
