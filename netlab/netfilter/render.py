"""Tables into the text that iptables-restore reads."""

from __future__ import annotations

from collections.abc import Iterable

from netlab.netfilter.model import HOOKS, Chain, Ruleset, Table


def head(chain: Chain, *, counters: bool = False) -> str:
    """Return a chain's own line, `:KUBE-SVC-X - [0:0]`; a restore with --noflush empties the chain that it names."""
    counted = f"[{chain.packets}:{chain.bytes}]" if counters else "[0:0]"
    return f":{chain.name} {chain.policy or '-'} {counted}"


def table(value: Table, *, counters: bool = False) -> str:
    """Return one table from `*name` to COMMIT."""
    lines = [f"*{value.name}"]
    lines += [head(chain, counters=counters) for chain in value.chains.values()]
    if counters:
        lines += [f"[{rule.packets}:{rule.bytes}] {rule.text}" for rule in value.rules()]
    else:
        lines += [rule.text for rule in value.rules()]
    lines.append("COMMIT\n")
    return "\n".join(lines)


def ruleset(value: Ruleset, *, counters: bool = False) -> str:
    """Return every table, as restore input for an empty namespace."""
    return "".join(table(one, counters=counters) for one in value.tables.values())


def built_in(name: str, chains: Iterable[Chain] = ()) -> Table:
    """Return a table with its built-in chains at policy ACCEPT, and `chains` in place of or behind them."""
    result = {hook: Chain(hook, policy="ACCEPT") for hook in HOOKS[name]}
    for chain in chains:
        result[chain.name] = chain
    return Table(name, result)
