"""`netlab shell`: a shell in a place."""

from __future__ import annotations

import click

from netlab.cli import complete
from netlab.cli.options import lab_name


@click.command("shell")
@click.argument("place", shell_complete=complete.places)
@lab_name
def command(place: str, name: str) -> int:
    """Open a shell in a node, a Pod, the outside host or the fabric.

    \b
    netlab shell node/worker1     # iptables -t nat -L, ip route, /etc/kubernetes, /var/log/pods
    netlab shell pod/client
    netlab shell outside
    """
    from netlab.lab import state, terminal

    return terminal.run(state.find(name), place, terminal.shell_argv(place), tty_wanted=True,
                        env={"PS1": f"{place}:\\w\\$ ", "NETLAB_PLACE": place})
