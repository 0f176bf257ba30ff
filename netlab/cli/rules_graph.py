"""`netlab rules graph`: the chains of a Service as a graph."""

from __future__ import annotations

import click

from netlab.cli.options import lab_name, output


@click.command("graph", short_help="Print the chains of a Service as a graph: mermaid or dot text")
@click.argument("service", metavar="svc/NAME")
@click.option("--node", metavar="NAME", default="", help="Of this node; otherwise of the first that has rules for it.")
@click.option("--ipv6", is_flag=True, help="The rules of IPv6.")
@output("mermaid", "dot")
@lab_name
def command(service: str, node: str, output: str, name: str, *, ipv6: bool) -> None:
    """Print the ways of a Service's packets from the built-in chains to its endpoints, as text for a drawing program.

    \b
    netlab rules graph svc/web                         mermaid, as GitHub and many editors draw it
    netlab rules graph svc/web -o dot | dot -Tsvg      with Graphviz
    """
    from netlab.cli import rules_lab
    from netlab.errors import NotFound
    from netlab.inspect import graph
    from netlab.inspect import service as services

    lab, only = rules_lab.find(name, node)
    names = rules_lab.names(lab)
    key = services.full_name(service)
    for held in rules_lab.saved(lab, only, ipv6=ipv6):
        found = graph.graph(held.rules, key, names)
        if found.nodes:
            draw = graph.dot if output == "dot" else graph.mermaid
            click.echo(draw(found, f"{key} on node/{held.node}"))
            return
    raise NotFound(f"no node has rules for Service {key}", hint="netlab rules lists the Services that have")
