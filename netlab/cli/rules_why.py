"""`netlab rules why`: the object, field and revision that a chain, rule or element comes from, and since when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from netlab.cli import rules_source
from netlab.cli.options import output
from netlab.cli.rules_source import Asked

if TYPE_CHECKING:
    from netlab.inspect.provenance import Origin


class _TakesRules(click.Command):
    """A command whose argument may start with `-A`, which is no option of it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the command line."""
        return super().parse_args(ctx, [f" {each}" if each.startswith("-") and " " in each else each for each in args])


@click.command("why", cls=_TakesRules, short_help="Name the object and field that a chain or rule comes from")
@click.argument("asked_for", metavar="CHAIN|CHAIN:N|'RULE'|@MAP:N")
@rules_source.at_option
@rules_source.options
@output("json", "yaml", "wide")
def command(asked: Asked, asked_for: str, output: str) -> None:
    """Say where a chain or rule comes from: the object, its fields and its resourceVersion, and since when.

    What kube-proxy would write is worked out anew from the API and matched with what the kernel holds, so the answer
    does not depend on who wrote the rule. A piece of a rule's text finds all rules that have it. In nftables mode sets,
    maps and their elements are explained as well.

    \b
    netlab rules why KUBE-SVC-XPGD46QRK7WJZT7O
    netlab rules why KUBE-SERVICES:3 --node worker1
    netlab rules why '-A FORWARD -d 198.51.100.9/32 -j DROP'
    netlab rules why 10.244.1.5:8080
    netlab rules why @service-ips:2                the second element of a map of nftables mode
    """
    from netlab.cli.output import emit
    from netlab.errors import NotFound
    from netlab.inspect import whence

    source = asked.source()
    objects = source.objects()
    found: dict[Origin, list[str]] = {}
    for ipv6 in asked.families:
        for held in rules_source.holdings(source, ipv6=ipv6):
            for origin in whence.why(asked_for, held, rules_source.world(held, objects),
                                     rules_source.nft_world(held, objects)):
                found.setdefault(origin, []).append(held.node)
    if not found:
        raise NotFound(f'no node has a chain or rule "{asked_for.strip()}"',
                       hint="netlab rules svc/NAME shows rules and chains; chains of a "
                            "Service change their names when its ports do")
    if output in ("json", "yaml"):
        emit({"asked": asked_for.strip(), "found": [_data(origin, nodes) for origin, nodes in found.items()]}, output)
    else:
        click.echo("\n\n".join(_text(origin, nodes) for origin, nodes in found.items()))


def _text(origin: Origin, nodes: list[str]) -> str:
    what = "element" if origin.chain.startswith("@") else "rule"
    where = f"{origin.table} {origin.chain}{f' {what} {origin.number}' if origin.number else ''}"
    lines = [f"{where}, {', '.join(f'node/{node}' for node in nodes)}: {origin.words}"]
    if origin.text:
        lines.append(f"  {origin.text}")
    lines.append(f"  {origin.said}")
    lines += [f"  ← {source}" for source in origin.sources]
    return "\n".join(lines)


def _data(origin: Origin, nodes: list[str]) -> dict[str, Any]:
    return {"nodes": nodes, "table": origin.table, "chain": origin.chain, "number": origin.number or None,
            "maker": origin.maker, "text": origin.text, "words": origin.words, "said": origin.said,
            "sources": [{"object": each.object, "resourceVersion": each.revision, "fields": list(each.fields),
                         "note": each.note, "since": each.since} for each in origin.sources]}
