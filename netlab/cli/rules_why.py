"""`netlab rules why`: the object, field and revision that a chain or rule comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from netlab.cli.options import lab_name, output

if TYPE_CHECKING:
    from netlab.inspect.provenance import Origin


class _TakesRules(click.Command):
    """A command whose argument may start with `-A`, which is no option of it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the command line."""
        return super().parse_args(ctx, [f" {each}" if each.startswith("-") and " " in each else each for each in args])


@click.command("why", cls=_TakesRules, short_help="Name the object and field that a chain or rule comes from")
@click.argument("asked", metavar="CHAIN|CHAIN:N|'RULE'")
@click.option("--node", metavar="NAME", default="", help="Only this node (node/NAME is understood too).")
@click.option("--ipv6", is_flag=True, help="The rules of IPv6.")
@output("json", "yaml")
@lab_name
def command(asked: str, node: str, output: str, name: str, *, ipv6: bool) -> None:
    """Say where a chain or rule comes from: the object, its fields and its resourceVersion.

    What kube-proxy would write is worked out anew from the API and matched with what the kernel holds, so the answer
    does not depend on who wrote the rule. A piece of a rule's text finds all rules that have it.

    \b
    netlab rules why KUBE-SVC-XPGD46QRK7WJZT7O
    netlab rules why KUBE-SERVICES:3 --node worker1
    netlab rules why '-A FORWARD -d 198.51.100.9/32 -j DROP'
    netlab rules why 10.244.1.5:8080
    """
    from netlab.cli import rules_lab
    from netlab.cli.output import emit
    from netlab.errors import NotFound
    from netlab.inspect import provenance

    lab, only = rules_lab.find(name, node)
    objects = rules_lab.objects(lab)
    found: dict[Origin, list[str]] = {}
    for held in rules_lab.saved(lab, only, ipv6=ipv6):
        for origin in provenance.why(asked, held.rules, rules_lab.world(held, objects, ipv6=ipv6)):
            found.setdefault(origin, []).append(held.node)
    if not found:
        raise NotFound(f'no node has a chain or rule "{asked.strip()}"', hint="netlab rules svc/NAME shows rules and "
                       "chains; chains of a Service change their names when its ports do")
    if output:
        emit({"asked": asked.strip(), "found": [_data(origin, nodes) for origin, nodes in found.items()]}, output)
    else:
        click.echo("\n\n".join(_text(origin, nodes) for origin, nodes in found.items()))


def _text(origin: Origin, nodes: list[str]) -> str:
    where = f"{origin.table} {origin.chain}{f' rule {origin.number}' if origin.number else ''}"
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
                         "note": each.note} for each in origin.sources]}
