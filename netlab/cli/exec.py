"""`netlab exec`: one command in a place."""

from __future__ import annotations

import click

from netlab.cli import complete
from netlab.cli.options import lab_name


@click.command("exec", context_settings={"ignore_unknown_options": True})
@click.option("-T", "--no-tty", is_flag=True, help="Pipes even where there is a terminal.")
@lab_name
@click.argument("place", shell_complete=complete.places)
@click.argument("argv", nargs=-1, required=True, metavar="-- COMMAND...", type=click.UNPROCESSED)
def command(place: str, argv: tuple[str, ...], name: str, *, no_tty: bool) -> int:
    """Run one command in a node, a Pod, the outside host or the fabric; its exit code is ours.

    A node or Pod has its own files and processes; outside and fabric have only a network of their own.

    \b
    netlab exec pod/client -- wget -qO- web/hostname
    netlab exec node/worker1 -- iptables -t nat -S
    netlab exec outside -- curl 172.18.0.3:30080
    """
    from netlab.lab import state, terminal

    return terminal.run(state.find(name), place, argv, tty_wanted=not no_tty, env={})
