"""`netlab trace`: one real packet, every hop and rule."""

from __future__ import annotations

import os
import sys

import click

from netlab.cli.options import lab_name, output


@click.command("trace", short_help="Send one connection and show every interface and rule that it crosses")
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO[:PORT]")
@click.option("-p", "--protocol", type=click.Choice(["tcp", "udp", "icmp"]), default="tcp", show_default=True,
              help="What to send.")
@click.option("--timeout", type=click.FloatRange(0.1, 60), default=3.5, show_default=True, metavar="SECONDS",
              help="How long to wait for an answer. An unanswered ARP request takes the kernel 3 seconds.")
@click.option("--data", metavar="TEXT", default="", help="What a UDP or ICMP packet carries.")
@click.option("--source-address", metavar="IP", default="", help="Send from this address of FROM.")
@click.option("--policies", is_flag=True, help="Also show the chain policies that let the packet pass.")
@click.option("--color", type=click.Choice(["auto", "always", "never"]), default="auto", show_default=True)
@output("json", "yaml")
@lab_name
def command(source: str, target: str, protocol: str, timeout: float, data: str, source_address: str, color: str,
            output: str, name: str, *, policies: bool) -> int:
    """Send one real packet, or open one connection, and show every interface and rule it crosses, both ways.

    \b
    netlab trace pod/client svc/web              a Service, from a Pod
    netlab trace outside node/worker1:30080      a node port, from beyond the cluster
    netlab trace pod/client pod/web-1 -p icmp    a ping from Pod to Pod
    netlab trace node/worker1 10.96.0.10:53 -p udp --data hello

    FROM is node/NAME, pod/NAME, pod/NAMESPACE/NAME, deploy/NAME or outside; TO is one of these, svc/NAME, a Service's
    DNS name or an address. No tool inside the Pod is needed. Exits with 0 when there was an answer, with 1 when not.
    """
    import asyncio

    from netlab.cli.output import emit
    from netlab.lab import state, tracing
    from netlab.trace.document import as_json
    from netlab.trace.render import as_text
    from netlab.trace.verdict import GOOD

    wish = tracing.Wish(source, target, protocol, timeout, data.encode(), source_address)  # type: ignore[arg-type]
    traced = asyncio.run(tracing.trace(state.find(name), wish))
    if output:
        emit(as_json(traced.trace, traced.nodes), output)
    else:
        colored = color == "always" or (color == "auto" and sys.stdout.isatty() and not os.environ.get("NO_COLOR"))
        click.echo(as_text(traced.trace, color=colored, policies=policies, links=traced.links))
    return 0 if traced.trace.outcome.status in GOOD else 1
