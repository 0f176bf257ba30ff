"""`netlab scenarios`: the lessons, one line each, or the story of one."""

from __future__ import annotations

import click

from netlab.cli.options import complete_scenario
from netlab.cli.options import output as output_option


@click.command("scenarios")
@click.argument("name", required=False, metavar="[NAME]", shell_complete=complete_scenario)
@output_option()
def command(name: str | None, output: str) -> None:
    """List the scenarios that come with netlab: what each shows, how many nodes and checks it has.

    With NAME, print its story: what to do, what to see, and why. netlab up NAME starts it, netlab test NAME runs its
    checks.
    """
    from netlab.cli.output import emit, table
    from netlab.lab import scenario as scenarios

    if name:
        path = scenarios.find(name)
        one = scenarios.load(name)
        story = scenarios.read(path.with_name("README.md"))
        if output:
            emit({"name": one.name, "title": one.title, "file": one.file, "story": story,
                  "checks": [check.name for check in one.checks]}, output)
        else:
            click.echo(story.rstrip())
        return
    rows = [{"name": one.name, "title": one.title, "nodes": one.nodes, "checks": len(one.checks), "file": one.file}
            for one in map(scenarios.load, scenarios.names())]
    if output:
        emit(rows, output)
    else:
        click.echo(table(["NAME", "NODES", "CHECKS", "WHAT IT SHOWS"],
                         [[row["name"], row["nodes"], row["checks"], row["title"]] for row in rows]))
