"""`netlab rules --watch`: what the counters of rules see in a second."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from netlab.cli.rules_source import Asked, Source

if TYPE_CHECKING:
    from netlab.inspect.listing import Row
    from netlab.inspect.rates import Rate

_BUSIEST = 30


@dataclass(frozen=True)
class Wish:
    """Which rules: those of a Service (`namespace/name`), of a table and chain, with a text in them."""

    service: str = ""
    table: str = ""
    chain: str = ""
    grep: str = ""


def watch(source: Source, asked: Asked, wish: Wish, interval: float, count: int | None, output: str) -> int:
    """Print rates until `count` looks are done or Ctrl-C: a table that is drawn anew on a terminal, lines in a pipe."""
    from netlab.errors import NotFound
    from netlab.inspect import rates

    before = rates.counters(_rows(source, asked, wish))
    if not before:
        raise NotFound("no rule that was asked for has a counter",
                       hint="kube-proxy's rules of nftables mode count nothing: netlab rules svc/NAME --connections "
                            "shows what conntrack remembers")
    looked, done = time.monotonic(), 0
    if output in ("", "wide") and not sys.stdout.isatty():
        click.echo("TIME      PACKETS/S     BYTES/S     PACKETS  RULE")
    try:
        while count is None or done < count:
            time.sleep(max(looked + interval - time.monotonic(), 0))
            now = time.monotonic()
            after = rates.counters(_rows(source, asked, wish))
            _print(rates.between(before, after, now - looked), output, wish)
            before, looked, done = after, now, done + 1
    except KeyboardInterrupt:
        return 0
    return 0


def _rows(source: Source, asked: Asked, wish: Wish) -> list[tuple[list[str], Row]]:
    from netlab.cli import rules_table

    found = rules_table.rows(source, asked, wish.table, wish.chain, wish.grep)
    if wish.service:
        found = [each for each in found if (each[1].about or each[1].comment).partition(":")[0] == wish.service]
    return found


def _print(found: list[Rate], output: str, wish: Wish) -> None:
    stamp = time.strftime("%H:%M:%S")
    if output in ("json", "yaml"):
        from netlab.cli.output import emit

        emit({"time": stamp, "rules": [
            {"table": each.row.table, "chain": each.row.chain, "number": each.row.number, "text": each.row.text,
             "words": each.row.words, "packetsPerSecond": round(each.packets, 1),
             "bytesPerSecond": round(each.bytes, 1), "packets": each.total} for each in found]}, output)
        return
    moving = sorted(found, key=lambda each: (-each.packets, -each.total))
    if sys.stdout.isatty():
        click.clear()
        click.echo(f"{stamp}  {len(found)} rules that count, Ctrl-C ends")
        click.echo("PACKETS/S     BYTES/S     PACKETS  RULE")
        for each in moving[:_BUSIEST]:
            click.echo(_line(each))
        return
    shown = [each for each in moving if each.packets] or ([] if not (wish.service or wish.chain) else moving[:1])
    for each in shown:
        click.echo(f"{stamp}  {_line(each)}")


def _line(each: Rate) -> str:
    row = each.row
    about = f"  # {row.about}" if row.about else f"  # {row.comment}" if row.comment else ""
    return (f"{each.packets:9.1f} {each.bytes:11.1f} {each.total:11d}  {row.table} {row.chain} {row.number}: "
            f"{row.words}{about}")
