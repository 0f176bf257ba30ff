"""`netlab completion`: the script that makes a shell complete commands, options and lab names."""

from __future__ import annotations

import click


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the completion script of a shell: source <(netlab completion bash)."""
    from click.shell_completion import get_completion_class

    from netlab.cli.main import netlab

    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"no completion for {shell}")
    if shell == "bash":  # click's own source() asks the bash on PATH for its version first, which costs 20 ms
        made = kind(netlab, {}, "netlab", "_NETLAB_COMPLETE")
        click.echo(made.source_template % made.source_vars())
    else:
        click.echo(kind(netlab, {}, "netlab", "_NETLAB_COMPLETE").source())
