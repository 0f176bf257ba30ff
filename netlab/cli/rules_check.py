"""`netlab rules check`: what is wrong with the rules of a lab's nodes."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from netlab.cli.options import lab_name, output

if TYPE_CHECKING:
    from netlab.inspect.check import Finding


@click.command("check", short_help="Say what is wrong: drift, shadowed rules, stale endpoints, foreign DROPs")
@click.option("--node", metavar="NAME", default="", help="Only this node (node/NAME is understood too).")
@click.option("--ipv6", is_flag=True, help="The rules of IPv6.")
@output("json", "yaml")
@lab_name
def command(node: str, output: str, name: str, *, ipv6: bool) -> int:
    """Compare each node's rules with what kube-proxy would write, and look for what keeps packets from them.

    Found are: drift (missing, extra, changed rules, by Service), chains nobody jumps to, rules that an earlier one
    hides, DNAT to what is no ready endpoint, foreign DROP and REJECT before kube-proxy's chains, a policy DROP, and
    rules of kube-proxy in both backends. The exit code is 1 when something is found.
    """
    from netlab.cli import rules_lab
    from netlab.cli.output import emit
    from netlab.inspect.check import check

    lab, only = rules_lab.find(name, node)
    objects = rules_lab.objects(lab)
    nodes: list[str] = []
    found: dict[Finding, list[str]] = {}
    for held in rules_lab.saved(lab, only, ipv6=ipv6, both=True):
        nodes.append(held.node)
        for each in check(held.rules, rules_lab.world(held, objects, ipv6=ipv6), other=held.other):
            found.setdefault(each, []).append(held.node)
    if output:
        emit({"nodes": nodes, "findings": [{"nodes": on, **asdict(each)} for each, on in found.items()]}, output)
    elif not found:
        click.echo(f"nothing is wrong on {', '.join(f'node/{each}' for each in nodes)}")
    for each, on in found.items() if not output else ():
        click.echo(f"{each.kind}, {', '.join(f'node/{node}' for node in on)}: {each.words}")
        for line in filter(None, (each.text, each.hint and f"hint: {each.hint}")):
            click.echo(f"  {line}")
    return 1 if found else 0
