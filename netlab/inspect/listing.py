"""All rules of a node in one list, whatever wrote them: for tables by chain, for searching and for rates. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from netlab.errors import NotFound
from netlab.inspect import nft_service, nft_words, service, words
from netlab.inspect.holding import Holding
from netlab.inspect.names import Names
from netlab.netfilter.nft import NftTable
from netlab.netfilter.terms import comment

_ADDRESS = re.compile(r"\d+\.\d+\.\d+\.\d+|[0-9a-f]{1,4}:[0-9a-f:]+")


@dataclass(frozen=True)
class Row:
    """A rule, or an element of a set or map (`chain` begins with @). Counters are None where nothing counts.

    `table` is iptables' (`nat`), or nft's with its family (`ip kube-proxy`). `about` is a Service port, "" for none.
    """

    table: str
    chain: str
    number: int
    text: str
    words: str
    comment: str = ""
    packets: int | None = None
    bytes: int | None = None
    about: str = ""


def rows(held: Holding) -> Iterator[Row]:
    """Yield every rule of iptables, then those of kube-proxy's table in nft, then those of other tables."""
    for table in held.rules.tables.values():
        ports: dict[str, str] = {}
        for chain in table.chains.values():
            for number, rule in enumerate(chain.rules, 1):
                said = comment(rule.match)
                about = service.service_of(said) if rule.chain.startswith("KUBE-") else ""
                if about and rule.jump.startswith(service.CHAINS):
                    ports[rule.jump] = about
                yield Row(table.name, chain.name, number, rule.text, words.explain(rule), said, rule.packets,
                          rule.bytes, about or ports.get(chain.name, ""))
    for each in (held.nft, *held.native):
        if each is not None:
            yield from of_nft(each)


def of_nft(table: NftTable) -> Iterator[Row]:
    """Yield the rules of a table of nft's, and behind them the elements of its sets and maps."""
    where = f"{table.family} {table.name}"
    for chain in table.chains.values():
        about = nft_service.port_of(chain.name)[0]
        for number, rule in enumerate(chain.rules, 1):
            counted = rule.packets is not None
            yield Row(where, chain.name, number, rule.line, nft_words.explain(rule.text), rule.comment, rule.packets,
                      rule.bytes if counted else None, about)
    for name, found in table.sets.items():
        for number, element in enumerate(found.elements.values(), 1):
            text = f"{element.key} : {element.value}" if element.value else element.key
            yield Row(where, f"@{name}", number, text, nft_words.element(name, element), element.comment,
                      element.packets, None, nft_service.owner_of(name, element)[0])


def chosen(held: Holding, table: str, chain: str) -> list[Row]:
    """Return the rules of one table, or of one chain or set; "" for all.

    Raises:
        NotFound: the node has no such table or chain.
    """
    tables = [*held.rules.tables, *(f"{each.family} {each.name}" for each in (held.nft, *held.native) if each)]
    wanted = [each for each in tables if table in ("", each, each.partition(" ")[2])]
    if not wanted:
        raise NotFound(f'node/{held.node} has no table "{table}"', hint=f"there are: {', '.join(tables) or 'none'}")
    found = [row for row in rows(held) if row.table in wanted and chain in ("", row.chain, row.chain.removeprefix("@"))]
    if chain and not found and not _exists(held, wanted, chain.removeprefix("@")):
        raise NotFound(f'node/{held.node} has no chain "{chain}"{f" in {table}" if table else ""}',
                       hint="netlab rules --table nat shows all chains of a table")
    return found


def _exists(held: Holding, tables: Sequence[str], chain: str) -> bool:
    native = [each for each in (held.nft, *held.native) if each and f"{each.family} {each.name}" in tables]
    return any(chain in held.rules.table(each).chains for each in tables) or any(
        chain in each.chains or chain in each.sets for each in native)


def search(found: Iterator[Row] | Sequence[Row], text: str, names: Names) -> Iterator[Row]:
    """Yield the rules that have a text (upper or lower case alike) in them, in their comment or words, or in what the
    API calls an address of theirs.

    `10.96.0.10:80` finds the element `10.96.0.10 . tcp . 80` as well.
    """
    wanted = text.casefold()
    address, _, port = text.rpartition(":")
    for row in found:
        said = " ".join((row.table, row.chain, row.text, row.comment, row.words, row.about)).casefold()
        element = bool(address) and port.isdigit() and f"{address} . " in row.text and re.search(
            rf" \. {port}\b", row.text)
        if wanted in said or element or any(wanted in called(ip, names).casefold()
                                            for ip in _ADDRESS.findall(row.text)):
            yield row


def called(ip: str, names: Names) -> str:
    """Return what the API calls an address: `pod/default/web-1 on worker1`, `node/worker1`, or ""."""
    return names.of_endpoint(f"[{ip}]:0" if ":" in ip else f"{ip}:0")
