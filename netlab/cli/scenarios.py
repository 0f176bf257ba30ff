"""`netlab scenarios`: the lessons, one line each."""

from __future__ import annotations

import click

from netlab.cli.options import output as output_option


@click.command("scenarios")
@output_option()
def command(output: str) -> None:
    """List the scenarios that come with netlab: what each shows, how many nodes and checks it has.

    The README.md in a scenario's folder tells its story; netlab up NAME starts it, netlab test NAME runs its checks.
    """
    from netlab.cli.output import emit, table
    from netlab.lab import scenario as scenarios

    rows = [{"name": one.name, "title": one.title, "nodes": one.nodes, "checks": len(one.checks), "file": one.file}
            for one in map(scenarios.load, scenarios.names())]
    if output:
        emit(rows, output)
    else:
        click.echo(table(["NAME", "NODES", "CHECKS", "WHAT IT SHOWS"],
                         [[row["name"], row["nodes"], row["checks"], row["title"]] for row in rows]))
