"""`netlab down`: the end of a lab."""

from __future__ import annotations

import click

from netlab.cli.options import lab_name


@click.command("down")
@click.option("--all", "everything", is_flag=True, help="Stop every lab of this user.")
@lab_name
def command(name: str, *, everything: bool) -> None:
    """Stop a lab and remove all that it made: processes, namespaces, cgroups, files, its kubeconfig context.

    What it keeps in an external etcd stays there.
    """
    from netlab.errors import NotFound
    from netlab.lab import launcher, outer, state

    if everything:
        names = [record.name for record in state.all_labs()]
    elif name:
        names = [name]
    else:
        names = [record.name for record in state.all_labs()]
        if len(names) > 1:
            raise NotFound(f"there are several labs: {', '.join(names)}", hint="choose one by --name LAB, or use --all")
    gone = [record for lab in names if (record := launcher.down(lab)) is not None]
    for record in gone:
        click.echo(f'lab "{record.name}" is down')
        if record.external is not None:
            click.echo(outer.epilogue(record.external))
    if not gone:
        click.echo(f'no lab is called "{name}"' if name else "no lab runs")
