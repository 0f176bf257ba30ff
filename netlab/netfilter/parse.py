"""Text of iptables-save (with or without -c) and of iptables-restore into a Ruleset.

Matches and targets that nobody here knows are kept as words. Only what cannot be iptables text is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from netlab.errors import UsageError
from netlab.netfilter import words
from netlab.netfilter.model import HOOKS, Chain, Rule, Ruleset, Table

_COUNTERS = re.compile(r"\[(\d+):(\d+)\] ?")
_JUMPS = ("-j", "--jump", "-g", "--goto")
_ENDS_TARGET = frozenset({"-m", "--match", "-p", "--protocol", "-s", "-d", "-i", "-o", "--source", "--destination",
                          "--src", "--dst", "--in-interface", "--out-interface"})

_MATCH_BEHIND = re.compile(r" (?:!|-[a-z]|--(?:match|protocol|source|destination|src|dst|in-interface|out-interface"
                           r"|jump|goto)) ")

_BUILT_IN = ("*", "#", "COMMIT", *(f"{start}{hook} " for start in (":", "-A ")
                                   for hook in sorted({hook for hooks in HOOKS.values() for hook in hooks})))
_USER = re.compile(r"\n:(\S+) -")  # a line's start as a character: found three times as fast as by ^


class NotIptables(UsageError):
    """The text is not what iptables-save prints or iptables-restore reads. `line` counts from 1."""

    def __init__(self, line: int, text: str, why: str) -> None:
        super().__init__(f"line {line} is not iptables-save text: {why}: {text!r}",
                         hint="want what `iptables-save` prints, not `iptables -S` or -L")
        self.line = line


class _TableBuilder:
    """The chains of one table while their rules come in."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.heads: dict[str, tuple[str, int, int]] = {}
        self.rules: dict[str, list[Rule]] = {}

    def head(self, name: str, policy: str, packets: int, count: int) -> None:
        """Declare a chain; a second declaration empties it, as iptables-restore --noflush does."""
        self.heads[name] = ("" if policy == "-" else policy, packets, count)
        self.rules[name] = []

    def build(self) -> Table:
        """Return the table."""
        return Table(self.name, {name: Chain(name, tuple(self.rules[name]), *head)
                                 for name, head in self.heads.items()})


def parse(text: str) -> Ruleset:
    """Return the tables in `text`.

    A table may come twice (restore input in pieces): later lines act on what is there, as --noflush does. `-A`, `-I`,
    `-D`, `-X` and `-F` lines are obeyed, so that restore input gives the state that it makes in an empty namespace.

    Raises:
        NotIptables: at the first line that cannot be read.
    """
    tables: dict[str, _TableBuilder] = {}
    table: _TableBuilder | None = None
    generator = ""
    for number, line in enumerate(text.splitlines(), 1):
        if not line or line[0] == "#":
            if not generator and " by " in line:
                generator = line.partition(" by ")[2].partition(" on ")[0]
            continue
        if line[0] == "*":
            table = tables.setdefault(line[1:].strip(), _TableBuilder(line[1:].strip()))
        elif line == "COMMIT":
            table = None
        elif table is None:
            raise NotIptables(number, line, "a rule outside a table")
        elif line[0] == ":":
            _head(table, number, line)
        else:
            _command(table, number, line)
    return Ruleset({name: builder.build() for name, builder in tables.items()}, generator)


def _head(table: _TableBuilder, number: int, line: str) -> None:
    name, _, rest = line[1:].partition(" ")
    policy, _, counters = rest.partition(" ")
    if not name or not policy:
        raise NotIptables(number, line, "a chain line needs a name and a policy")
    found = _COUNTERS.match(counters)
    table.head(name, policy, *(int(group) for group in found.groups()) if found else (0, 0))


def _command(table: _TableBuilder, number: int, line: str) -> None:
    packets = count = 0
    if line[0] == "[" and (found := _COUNTERS.match(line)):
        packets, count = int(found[1]), int(found[2])
        line = line[found.end():]
    verb, _, rest = line.partition(" ")
    chain, _, spec = rest.partition(" ")
    if verb in ("-N", "--new-chain"):
        table.head(chain, "-", 0, 0)
    elif chain not in table.rules:
        raise NotIptables(number, line, f"no chain {chain!r} in table {table.name}")
    elif verb in ("-A", "--append"):
        table.rules[chain].append(rule(chain, spec, packets=packets, count=count))
    elif verb in ("-I", "--insert"):
        place, _, after = spec.partition(" ")
        at = int(place) - 1 if place.isdigit() else 0
        table.rules[chain].insert(at, rule(chain, after if place.isdigit() else spec, packets=packets, count=count))
    elif verb in ("-D", "--delete"):
        _delete(table, number, line, chain, spec)
    elif verb in ("-X", "--delete-chain"):
        del table.heads[chain], table.rules[chain]
    elif verb in ("-F", "--flush"):
        table.rules[chain] = []
    else:
        raise NotIptables(number, line, "unknown command")


def _delete(table: _TableBuilder, number: int, line: str, chain: str, spec: str) -> None:
    listed = table.rules[chain]
    gone = rule(chain, spec)
    at = int(spec) - 1 if spec.isdigit() else next(
        (at for at, each in enumerate(listed) if (each.match, each.target) == (gone.match, gone.target)), len(listed))
    if not 0 <= at < len(listed):
        raise NotIptables(number, line, "no such rule")
    del listed[at]


def rule(chain: str, spec: str, *, packets: int = 0, count: int = 0) -> Rule:
    """Return the rule that `-A chain spec` makes; `spec` may have its jump anywhere."""
    at = spec.find("-j ")
    # The plain case, which is every rule that iptables-save prints and hardly costs anything: one jump, at the end.
    if at == 0 or (at > 0 and spec[at - 1] == " "):
        tail = spec[at + 3:]
        if '"' not in tail and tail[:1] != "-" and (" -" not in tail or not _MATCH_BEHIND.search(tail)):
            return Rule(chain, spec[:at].rstrip(), tail, False, packets, count)
    elif at < 0 and "-g " not in spec and "--jump" not in spec and "--goto" not in spec:
        return Rule(chain, spec, "", False, packets, count)
    match, target, goto = _cut(words.split(spec))
    return Rule(chain, words.join(match), words.join(target), goto, packets, count)


def _cut(spec: list[str]) -> tuple[list[str], list[str], bool]:
    """Part the words of a rule into the match, the target with its options, and whether it is a goto."""
    for at, word in enumerate(spec):
        if word in _JUMPS and (at == 0 or spec[at - 1] not in ("--comment", "--log-prefix", "--nflog-prefix")):
            end = at + 1
            while end < len(spec) and spec[end] not in _ENDS_TARGET and not _negates_match(spec, end):
                end += 1
            return spec[:at] + spec[end:], spec[at + 1:end], word in ("-g", "--goto")
    return spec, [], False


def _negates_match(spec: list[str], at: int) -> bool:
    return spec[at] == "!" and at + 1 < len(spec) and spec[at + 1] in _ENDS_TARGET


def rules(lines: Iterable[str]) -> tuple[Rule, ...]:
    """Return the rules of bare `-A CHAIN ...` lines, outside any table."""
    found = []
    for line in lines:
        verb, _, rest = line.strip().partition(" ")
        if verb == "-A":
            chain, _, spec = rest.partition(" ")
            found.append(rule(chain, spec))
    return tuple(found)


def outline(text: str) -> Ruleset:
    """Return the chains of saved text with the rules of built-in chains only: quick on a node of many Services."""
    built_in = parse("\n".join(line for line in text.splitlines() if line.startswith(_BUILT_IN)))
    tables: dict[str, Table] = {}
    for section in f"\n{text}".split("\n*")[1:]:
        name = section.partition("\n")[0].strip()
        known = tables.get(name, built_in.table(name)).chains
        users = {user: Chain(user) for user in _USER.findall(section) if user not in known}
        tables[name] = Table(name, {**known, **users})
    return Ruleset(tables, built_in.generator)
