"""`netlab doctor`: what this machine can do."""

from __future__ import annotations

from dataclasses import asdict

import click

from netlab.cli.options import output as output_option


@click.command("doctor")
@output_option()
def command(output: str) -> int:
    """Say what this kernel and machine can do for a lab, what is missing, what that costs, and how to get it.

    Everything is found out by doing it, in namespaces that vanish again. The exit code is 1 when no lab can come up.
    """
    from netlab.cli.output import emit, table
    from netlab.lab import doctor

    findings = doctor.examine()
    blocked = [finding for finding in findings if finding.state == "missing" and finding.needed]
    if output:
        emit([asdict(finding) for finding in findings], output)
        return 1 if blocked else 0
    click.echo(table(["AREA", "WHAT", "STATE", "DETAIL"],
                     [[finding.area, finding.name, finding.state, finding.detail] for finding in findings]))
    for finding in findings:
        if finding.state != "ok" and (finding.costs or finding.cure):
            click.echo(f"\n{finding.name}: {finding.state}\n  costs: {finding.costs}\n  cure:  {finding.cure}")
    click.echo("\nno lab can come up here" if blocked else "\na lab can come up here: netlab up services")
    return 1 if blocked else 0
