"""The words of a rule as terms: module, option, negation, values.

The option `--dport` of `-m tcp` is one term, so is `-s`. Modules that are not known here give terms as well: an option
takes every word up to the next that starts with a dash, which holds for all matches of iptables-extensions(8).
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from netlab.netfilter import words

_LONG = {"--source": "-s", "--src": "-s", "--destination": "-d", "--dst": "-d", "--protocol": "-p", "--proto": "-p",
         "--in-interface": "-i", "--out-interface": "-o", "--fragment": "-f", "--match": "-m",
         "--destination-port": "--dport", "--source-port": "--sport", "--destination-ports": "--dports",
         "--source-ports": "--sports", "--ports": "--ports"}
_TAKES_ONE = frozenset({"--comment", "--log-prefix", "--nflog-prefix", "--string", "--hex-string", "--name",
                        "--to-destination", "--to-source", "-s", "-d", "-p", "-i", "-o"})
_OWN = frozenset({"-s", "-d", "-p", "-i", "-o", "-f"})
_PROTOCOL_OPTIONS = frozenset({"--dport", "--sport", "--tcp-flags", "--syn", "--tcp-option", "--icmp-type",
                               "--icmpv6-type", "--chunk-types"})


_PROTOCOLS = {"6": "tcp", "17": "udp", "132": "sctp", "1": "icmp", "58": "icmpv6", "ipv6-icmp": "icmpv6",
              "icmp6": "icmpv6", "0": "all", "136": "udplite", "47": "gre", "4": "ipencap"}


class Term(NamedTuple):
    """One condition. `module` is "" for iptables' own -s -d -p -i -o; `option` is "" for a module named without one."""

    module: str
    option: str
    negated: bool = False
    values: tuple[str, ...] = ()

    @property
    def value(self) -> str:
        """Return the first value, or ""."""
        return self.values[0] if self.values else ""


class Target(NamedTuple):
    """What a rule does: a target's or a chain's name, and the target's options."""

    name: str
    options: tuple[Term, ...] = ()

    def option(self, name: str) -> str | None:
        """Return the first value of an option, "" for a bare one, None when it is not given."""
        return next((term.value for term in self.options if term.option == name), None)


def protocol(text: str) -> str:
    """Return a protocol's usual name: `6` and `TCP` are `tcp`."""
    return _PROTOCOLS.get(text.lower(), text.lower())


@lru_cache(maxsize=65536)
def terms(match: str) -> tuple[Term, ...]:
    """Return the terms of a rule's match, in order. Long option names become short ones."""
    return _terms(words.split(match), "")


@lru_cache(maxsize=65536)
def target(text: str) -> Target:
    """Return a rule's target."""
    name, *options = words.split(text) or [""]
    return Target(name, _terms(options, name))


def comment(match: str) -> str:
    """Return the text of the first comment, or "". Much faster than `terms` on a long list."""
    at = match.find("--comment ")
    if at < 0:
        return ""
    rest = match[at + 10:].lstrip()
    if rest.startswith('"'):
        return words.split(rest)[0]
    return rest.partition(" ")[0]


def _terms(given: list[str], module: str) -> tuple[Term, ...]:
    result: list[Term] = []
    current = ""
    negated = False
    at = 0
    while at < len(given):
        word = given[at] if module == "policy" and given[at] == "--proto" else _LONG.get(given[at], given[at])
        at += 1
        if word == "!":
            negated = True
            continue
        if word == "-m" and at < len(given):
            module = given[at]
            at += 1
            result.append(Term(module, ""))
            continue
        values: list[str] = []
        if word in _TAKES_ONE:
            # Old spelling: `-s ! 10.0.0.0/8`.
            if at < len(given) and given[at] == "!" and word in _OWN:
                negated, at = True, at + 1
            values, at = given[at:at + 1], at + 1
        else:
            while at < len(given) and given[at] != "!" and (not given[at].startswith("-") or given[at] == "-"):
                values.append(given[at])
                at += 1
        if word == "-p":
            current = protocol(values[0]) if values else ""
        owner = "" if word in _OWN else module
        if word in _PROTOCOL_OPTIONS and module not in ("tcp", "udp", "sctp", "udplite", "dccp", "icmp", "icmp6"):
            owner = current  # `-p tcp --dport 80` loads the module by itself
        result.append(Term(owner, word, negated, tuple(values)))
        negated = False
    return tuple(result)
