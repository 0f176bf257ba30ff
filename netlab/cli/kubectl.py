"""`netlab kubectl`: kubectl, pointed at a lab."""

from __future__ import annotations

import os

import click

from netlab.cli.options import lab_name


@click.command("kubectl", add_help_option=False,
               context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@lab_name
@click.argument("argv", nargs=-1, type=click.UNPROCESSED)
def command(argv: tuple[str, ...], name: str) -> None:
    """Run kubectl against a lab: the one on PATH, or the one that was installed with netlab."""
    from netlab.lab import kubectl, state

    record = state.find(name)
    program, *direct = kubectl.argv(record)
    os.execve(program, ["kubectl", *direct, *argv], kubectl.environment(record))
