"""`netlab rules graph`: the chains of a Service as a graph."""

from __future__ import annotations

import click

from netlab.cli import complete, rules_source
from netlab.cli.options import output
from netlab.cli.rules_source import Asked


@click.command("graph", short_help="Print the chains of a Service as a graph: mermaid, SVG or dot")
@click.argument("service", metavar="svc/NAME", shell_complete=complete.services)
@click.option("--file", "-f", "file", metavar="FILE", default="", help="Write to a file instead of standard output.")
@rules_source.at_option
@rules_source.options
@output("mermaid", "svg", "dot", "json", "yaml")
def command(asked: Asked, service: str, file: str, output: str) -> None:
    """Draw the ways of a Service's packets from the hooks to its endpoints, with when and how often each is taken.

    Of the node that --node names, otherwise of the first that has rules for it; in nftables mode maps are drawn too.

    \b
    netlab rules graph svc/web                         mermaid, as GitHub and many editors draw it
    netlab rules graph svc/web -o svg -f web.svg       a picture that any browser shows
    netlab rules graph svc/web -o dot | dot -Tsvg      with Graphviz
    """
    from dataclasses import asdict

    from netlab.cli.output import emit
    from netlab.cli.rules import families_of
    from netlab.errors import NotFound, UsageError
    from netlab.inspect import graph, graph_svg, nft_graph
    from netlab.inspect import service as services

    source = asked.source()
    key = services.full_name(service)
    names = source.names(key)
    for ipv6 in families_of(asked, names.services.get(key)):
        for held in rules_source.holdings(source, ipv6=ipv6):
            found = nft_graph.graph(held.nft, key, names) if held.mode == "nftables" and held.nft is not None else (
                graph.graph(held.rules, key, names))
            if not found.nodes:
                continue
            title = f"{key} on node/{held.node}"
            if output in ("json", "yaml"):
                emit({"service": key, "node": held.node, **asdict(found)}, output)
                return
            draw = {"dot": graph.dot, "svg": graph_svg.draw}.get(output, graph.mermaid)
            text = draw(found, title)
            if not file:
                click.echo(text)
                return
            try:
                with open(file, "w", encoding="utf-8") as stream:
                    stream.write(text)
            except OSError as error:
                raise UsageError(f"cannot write {file}: {error.strerror}") from None
            return
    raise NotFound(f"no node has rules for Service {key}", hint="netlab rules lists the Services that have")
