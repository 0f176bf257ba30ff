"""`netlab rules --table`, `--grep` and `--connections`: rules by chain, rules that are looked for, connections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import click

from netlab.cli import rules_source
from netlab.cli.rules_source import Asked, Source

if TYPE_CHECKING:
    from netlab.inspect.connections import Connection
    from netlab.inspect.listing import Row


def listing(source: Source, asked: Asked, table: str, chain: str, grep: str, output: str) -> int:
    """Print rules by chain, of every node that was asked for; what several hold is told once, counters added up."""
    from netlab.cli.output import emit
    from netlab.errors import NotFound

    found = rows(source, asked, table, chain, grep)
    if output in ("json", "yaml"):
        emit({"rules": [{"nodes": nodes, **asdict(row)} for nodes, row in found]}, output)
    elif found:
        _print(found, wide=output == "wide", everywhere=len(source.nodes()))
    if grep and not found:
        raise NotFound(f'no rule has "{grep}" in it', hint="text, comments, words and names of addresses were searched")
    return 0


def rows(source: Source, asked: Asked, table: str, chain: str, grep: str) -> list[tuple[list[str], Row]]:
    """Return the chosen rules with the nodes that have each; counters are added up."""
    from netlab.errors import NotFound
    from netlab.inspect import listing as rules
    from netlab.inspect.names import Names

    names = source.names() if grep else Names()
    result: dict[tuple[object, ...], tuple[list[str], Row]] = {}
    missing: NotFound | None = None
    some = False
    for ipv6 in asked.families:
        for held in rules_source.holdings(source, ipv6=ipv6):
            try:
                chosen = rules.chosen(held, table, chain)
            except NotFound as error:
                missing = error
                continue
            some = True
            for row in rules.search(chosen, grep, names) if grep else chosen:
                # A changing number says nothing: nodes write the same rules in different order.
                key = (row.table, row.chain, row.text, row.number if not row.about else 0)
                nodes, old = result.get(key, ([], replace(row, packets=None, bytes=None)))
                result[key] = ([*nodes, held.node], replace(old, packets=_sum(old.packets, row.packets),
                                                            bytes=_sum(old.bytes, row.bytes)))
    if missing is not None and not some:
        raise missing
    return list(result.values())


def _sum(one: int | None, other: int | None) -> int | None:
    return other if one is None else one if other is None else one + other


def _print(found: Sequence[tuple[list[str], Row]], *, wide: bool, everywhere: int) -> None:
    from netlab.cli.output import table

    headers = ["TABLE", "CHAIN", "NUM", "PACKETS", "BYTES", "WORDS"]
    places = any(len(nodes) != everywhere for nodes, _ in found)
    lines = []
    for nodes, row in found:
        cells: list[object] = [row.table, row.chain, row.number, _counter(row.packets), _counter(row.bytes), row.words]
        if places:
            cells.insert(0, "all" if len(nodes) == everywhere and everywhere > 1 else ",".join(nodes))
        if row.comment and not wide:
            cells[-1] = f"{row.words}  # {row.comment}"
        lines.append([*cells, row.text] if wide else cells)
    click.echo(table([*(["NODE"] if places else []), *headers, *(["RULE"] if wide else [])], lines))


def _counter(count: int | None) -> object:
    return "-" if count is None else count


def connections(source: Source, asked: Asked, key: str, output: str) -> int:
    """Print the connections to a Service that the nodes' conntrack remembers."""
    from netlab.cli.output import emit, table
    from netlab.cli.rules import families_of
    from netlab.errors import NotFound
    from netlab.inspect import connections as talks
    from netlab.inspect import state

    names = source.names(key)
    full = source.names()  # clients are Pods of others
    found: list[tuple[str, Connection]] = []
    known = False
    for ipv6 in families_of(asked, names.services.get(key)):
        flows = rules_source.flows(source, ipv6=ipv6)
        for held in rules_source.holdings(source, ipv6=ipv6, only=key):
            states = state.of_nft(held.nft, key) if held.mode == "nftables" and held.nft is not None else (
                state.of_iptables(held.rules, key))
            known = known or bool(states)
            found += [(held.node, each) for each in talks.of_service(flows.get(held.node, ()), states, full)]
    if not known:
        raise NotFound(f"no node has rules for Service {key}", hint="netlab rules lists the Services that have")
    if output in ("json", "yaml"):
        emit({"service": key, "connections": [{"node": node, **asdict(each)} for node, each in found]}, output)
        return 0
    if not found:
        click.echo(f"no node remembers a connection to {key}")
        return 0
    headers = ["NODE", "PORT", "PROTO", "CLIENT", "TO", "ENDPOINT", "STATE", "TIMEOUT", "NOTE"]
    lines = []
    for node, each in found:
        notes = [text for yes, text in ((each.masqueraded, f"masqueraded, answers go to {each.reply_to}"),
                                        (each.gone, "the rules have this endpoint no more"),
                                        (not each.assured, "not assured")) if yes]
        cells: list[object] = [node, each.port, each.protocol, _named(each.client, each.client_name), each.service,
                               _named(each.endpoint, each.who), each.state, f"{each.timeout}s", "; ".join(notes) or "-"]
        if output == "wide":
            cells += [f"{each.client}→{each.service}", f"{each.reply_from}→{each.reply_to}", each.packets, each.bytes]
        lines.append(cells)
    click.echo(table([*headers, *(["ORIGINAL", "REPLY", "PACKETS", "BYTES"] if output == "wide" else [])], lines))
    return 0


def _named(address: str, name: str) -> str:
    return f"{address} {name}" if name else address
