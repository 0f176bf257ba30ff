"""`netlab kubeconfig`: a lab's kubeconfig on standard output."""

from __future__ import annotations

import click

from netlab.cli.options import lab_name


@click.command("kubeconfig")
@lab_name
def command(name: str) -> None:
    """Print a lab's kubeconfig: netlab kubeconfig > lab.conf; KUBECONFIG=lab.conf kubectl get nodes."""
    from netlab.errors import NotFound
    from netlab.lab import state

    record = state.find(name)
    try:
        click.echo(record.admin_conf.read_text(), nl=False)
    except OSError as error:
        raise NotFound(f"cannot read {record.admin_conf}: {error.strerror}") from None
