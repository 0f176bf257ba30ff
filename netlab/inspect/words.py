"""A rule in plain words: when it applies and what it does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from netlab.netfilter import normalise
from netlab.netfilter.model import Rule
from netlab.netfilter.terms import Target, Term, target, terms
from netlab.netfilter.terms import protocol as protocol_name

MASQUERADE_CHAINS = frozenset({"KUBE-MARK-MASQ"})


def explain(rule: Rule) -> str:
    """Return what a rule does, such as `to 10.96.0.10, tcp port 80: go to KUBE-SVC-X`."""
    when, what = condition(rule.match), action(rule)
    return f"{when}: {what}" if when else what


def condition(match: str) -> str:
    """Return when a rule applies; "" for always. Comments are no conditions."""
    groups: dict[str, list[Term]] = {}
    for term in terms(match):
        groups.setdefault(term.module, []).append(term)
    own = {term.option: term for term in groups.pop("", [])}
    said = [_own(option, own[option]) for option in ("-i", "-o", "-s", "-d") if option in own]
    protocol = protocol_name(own["-p"].value) if "-p" in own else ""
    negated = "not " if "-p" in own and own["-p"].negated else ""
    ports = [part for module in ("tcp", "udp", "sctp", "multiport") for part in _ports(groups.pop(module, []))]
    if protocol:
        said.append(f"{negated}{protocol}{' ' if ports else ''}{', '.join(ports)}")
    else:
        said += ports
    for module, group in groups.items():
        words = _MODULES.get(module, _unknown)(group)
        if words:
            said.append(words)
    return ", ".join(said)


def action(rule: Rule) -> str:
    """Return what a rule does with a packet."""
    if not rule.target:
        return "count only"
    wanted = target(rule.target)
    if wanted.name in MASQUERADE_CHAINS:
        return "mark for masquerade"
    words = _TARGETS.get(wanted.name)
    if words:
        return words(wanted)
    return f"{'continue in' if rule.goto else 'go to'} {wanted.name}"


def _own(option: str, term: Term) -> str:
    words = {"-i": "in by", "-o": "out by", "-s": "from", "-d": "to"}[option]
    value = normalise.network(term.value) if option in ("-s", "-d") else term.value
    if option in ("-i", "-o") and value.endswith("+"):
        value = f"{value[:-1]}*"
    return f"{'not ' if term.negated else ''}{words} {value}"


def _ports(group: Sequence[Term]) -> list[str]:
    words = {"--dport": "port", "--sport": "source port", "--dports": "ports", "--sports": "source ports"}
    return [f"{'not ' if term.negated else ''}{words.get(term.option, term.option)} {' '.join(term.values)}"
            for term in group if term.option]


def _comment(_: Sequence[Term]) -> str:
    return ""


def _mark(group: Sequence[Term]) -> str:
    return " and ".join(f"{'not ' if term.negated else ''}marked {term.value.partition('/')[0]}" for term in group
                        if term.option)


def _conntrack(group: Sequence[Term]) -> str:
    words = {"NEW": "new", "ESTABLISHED": "established", "RELATED": "related", "INVALID": "invalid",
             "DNAT": "rewritten", "SNAT": "masqueraded", "UNTRACKED": "untracked"}
    said = [("not " if term.negated else "") + " or ".join(words.get(each, each) for each in term.value.split(","))
            for term in group if term.option]
    return "connection " + " and ".join(said)


def _addrtype(group: Sequence[Term]) -> str:
    said = []
    for term in group:
        if term.option in ("--src-type", "--dst-type"):
            side = "from" if term.option == "--src-type" else "to"
            whose = "the node itself" if term.value == "LOCAL" and side == "from" else (
                "an address of the node" if term.value == "LOCAL" else f"a {term.value} address")
            said.append(f"{'not ' if term.negated else ''}{side} {whose}")
    return ", ".join(said)


def _statistic(group: Sequence[Term]) -> str:
    options = {term.option: term.value for term in group}
    if "--probability" in options:
        return f"one in {1 / max(float(options['--probability']), 1e-12):.4g} by the dice"
    return f"every {options.get('--every', '?')}th packet"


def _recent(group: Sequence[Term]) -> str:
    options = {term.option: term for term in group}
    seconds = f" in the last {options['--seconds'].value} s" if "--seconds" in options else ""
    if "--rcheck" in options or "--update" in options:
        return f"client seen here{seconds}"
    return ""  # --set always matches: what it does is said of the chain


def _nfacct(group: Sequence[Term]) -> str:
    return f"counted as {next((term.value for term in group if term.option), '?')}"


def _unknown(group: Sequence[Term]) -> str:
    said = " ".join(f"{'! ' if term.negated else ''}{term.option} {' '.join(term.values)}".strip() for term in group
                    if term.option)
    return f"{group[0].module} {said}".strip()


_MODULES: Mapping[str, Callable[[Sequence[Term]], str]] = {
    "comment": _comment, "mark": _mark, "conntrack": _conntrack, "state": _conntrack, "addrtype": _addrtype,
    "statistic": _statistic, "recent": _recent, "nfacct": _nfacct,
}


def _reject(wanted: Target) -> str:
    return f"reject with {wanted.option('--reject-with') or 'icmp-port-unreachable'}"


def _set_mark(wanted: Target) -> str:
    value, mask = normalise.xmark(wanted.options)
    if mask == 0:
        return f"flip mark {value:#x}"
    return f"set mark {value:#x}" if value else f"clear mark {mask:#x}"


def _always(text: str) -> Callable[[Target], str]:
    return lambda _: text


_TARGETS: Mapping[str, Callable[[Target], str]] = {
    "ACCEPT": _always("accept"), "DROP": _always("drop"), "RETURN": _always("leave this chain"), "REJECT": _reject,
    "MARK": _set_mark, "LOG": _always("write to the kernel log"), "NFLOG": _always("send a copy to a listener"),
    "TRACE": _always("trace"),
    "DNAT": lambda wanted: f"rewrite the destination to {wanted.option('--to-destination')}",
    "SNAT": lambda wanted: f"rewrite the source to {wanted.option('--to-source')}",
    "MASQUERADE": _always("masquerade: send from the node's own address"),
    "REDIRECT": lambda wanted: f"redirect to the node's own port {wanted.option('--to-ports') or ''}".rstrip(),
}
