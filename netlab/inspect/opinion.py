"""Users' rules judged before they are in any kernel, and a second opinion on what the legacy backend holds. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from netlab.errors import UsageError
from netlab.inspect import words
from netlab.inspect.check import Finding
from netlab.netfilter import parse, render
from netlab.netfilter.model import HOOKS, Rule, Ruleset
from netlab.netfilter.terms import target, terms


@dataclass(frozen=True)
class Written:
    """A rule that somebody wrote: its table, its line as written, and where (`line` counts from 1; 0 for an option)."""

    table: str
    line: str
    rule: Rule
    where: str


def written(text: str, where: str) -> list[Written]:
    """Return the rules of a text: whole tables as iptables-restore reads them, or bare lines such as `-A FORWARD …`.

    A bare line is of the table that it names by -t, else of filter; the word iptables in front is passed over.

    Raises:
        UsageError: a line is neither.
    """
    found: list[Written] = []
    table = ""
    for number, line in enumerate(text.splitlines(), 1):
        said = line.strip()
        if not said or said.startswith(("#", ":")) or said == "COMMIT":
            continue
        if said.startswith("*"):
            table = said[1:]
            continue
        place = f"{where} line {number}" if "\n" in text.strip() or where.startswith("/") else where
        found.append(_rule(said, table, place))
    return found


def _rule(text: str, table: str, where: str) -> Written:
    listed = text.split(" ")
    while listed and listed[0].rpartition("/")[2] in ("iptables", "ip6tables", "sudo", "-w"):
        listed = listed[1:]
    for at, word in enumerate(listed):
        if word in ("-t", "--table") and at + 1 < len(listed):
            table = listed[at + 1]
            listed = listed[:at] + listed[at + 2:]
            break
    if len(listed) < 2 or listed[0] not in ("-A", "-I", "--append", "--insert"):
        raise UsageError(f"{where}: {text!r} is no rule",
                         hint="such as: -A FORWARD -d 198.51.100.9 -j DROP, with -t nat for another table than filter")
    verb, chain, *rest = listed
    front = rest[0] if rest and rest[0].isdigit() else "1"
    spec = " ".join(rest[1:] if rest and rest[0].isdigit() else rest)
    inserted = verb in ("-I", "--insert")
    line = f"-I {chain} {front} {spec}" if inserted else f"-A {chain} {spec}"
    return Written(table or "filter", line, parse.rule(chain, spec), where)


def question(each: Written, chains: Sequence[str]) -> dict[str, Any]:
    """Return a rule in the shape in which netlab.kernel.iptc_child takes it."""
    goal = target(each.rule.target)
    return {"terms": [[term.module, term.option, term.negated, list(term.values)] for term in terms(each.rule.match)],
            "target": [goal.name, [[term.option, term.negated, list(term.values)] for term in goal.options]],
            "chains": list(chains)}


def refused(listed: Sequence[Written], complaints: Sequence[str]) -> Iterator[Finding]:
    """Yield the rules that libxtables does not take."""
    for each, said in zip(listed, complaints, strict=True):
        if each.table not in HOOKS:
            yield Finding("refused-rule", each.table, each.rule.chain, 0, "",
                          f"{each.where}: iptables has no table {each.table}", each.line,
                          f"there are: {', '.join(HOOKS)}")
        elif said:
            yield Finding("refused-rule", each.table, each.rule.chain, 0, "",
                          f"{each.where}: iptables would refuse it: {said}", each.line,
                          "iptables -m MODULE --help, or man iptables-extensions")


def with_rules(rules: Ruleset, listed: Sequence[Written]) -> Ruleset:
    """Return a node's rules as they would be with these written."""
    text = render.ruleset(rules)
    made: dict[str, list[str]] = {}
    for each in listed:
        there = rules.table(each.table).chains
        lines = made.setdefault(each.table, [])
        if each.rule.chain not in there and f":{each.rule.chain} - [0:0]" not in lines:
            policy = "ACCEPT" if each.rule.chain in HOOKS[each.table] else "-"
            lines.append(f":{each.rule.chain} {policy} [0:0]")
        lines.append(each.line)
    return parse.parse(text + "\n".join(line for table, lines in made.items()
                                        for line in (f"*{table}", *lines, "COMMIT")))


def says(each: Written) -> str:
    """Return in words what a rule would do."""
    return f"{each.table} {each.rule.chain}: {words.explain(each.rule)}"


def second(rules: Ruleset, counts: Mapping[str, Mapping[str, int]]) -> Iterator[Finding]:
    """Yield where libiptc finds another number of rules in a legacy chain than iptables-legacy-save printed."""
    for name, chains in counts.items():
        table = rules.table(name)
        for chain in {*chains, *table.chains}:
            ours, theirs = len(table.chains[chain].rules) if chain in table.chains else None, chains.get(chain)
            if ours != theirs:
                yield Finding("second-opinion", name, chain, 0, "",
                              f"libiptc finds {_count(theirs)} in {name} {chain}, iptables-save {_count(ours)}: "
                              "somebody changed it in between, or one of both does not understand a rule",
                              hint="ask again; if it stays, compare iptables-legacy -S with iptables-legacy-save")


def _count(count: int | None) -> str:
    return "no such chain" if count is None else f"{count} rule{'s' if count != 1 else ''}"
