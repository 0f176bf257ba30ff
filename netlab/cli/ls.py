"""`netlab ls`: the labs of this user."""

from __future__ import annotations

import time

import click

from netlab.cli.options import output as output_option


@click.command("ls")
@output_option()
def command(output: str) -> None:
    """List the labs of this user."""
    from netlab.cli.output import duration, emit, table
    from netlab.lab import state

    rows = [{"name": record.name, "state": state.phase(record), "scenario": record.scenario,
             "nodes": len(record.nodes), "rootless": record.rootless, "port": record.port,
             "context": f"netlab-{record.name}" if record.kubeconfig else "", "created": record.created}
            for record in state.all_labs()]
    if output:
        emit(rows, output)
    elif not rows:
        click.echo("no lab runs", err=True)
    else:
        click.echo(table(["NAME", "STATE", "SCENARIO", "NODES", "CONTEXT", "AGE"],
                         [[row["name"], row["state"], row["scenario"], row["nodes"], row["context"],
                           duration(time.time() - float(str(row["created"])))] for row in rows]))
