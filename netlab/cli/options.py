"""Options that many commands share, spelled once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def _name(ctx: click.Context, _: click.Parameter, value: str | None) -> str:
    if value:
        return value
    parent: click.Context | None = ctx.parent
    while parent is not None:
        if parent.params.get("name"):
            return str(parent.params["name"])
        parent = parent.parent
    return ""


def lab_name(function: F) -> F:
    """Add `--name LAB` (also NETLAB_NAME, also before the command's name); "" when none was given."""
    return click.option("--name", metavar="LAB", envvar="NETLAB_NAME", callback=_name, expose_value=True,
                        shell_complete=_complete_lab, help="Which lab; needed only when several run.")(function)


def attach(function: F) -> F:
    """Add `--attach`, `--kubeconfig` and `--objects`: a machine that is no lab, and who knows its names."""
    every: list[Callable[[F], F]] = [
        click.option("--objects", metavar="FILE", type=click.Path(), default="",
                     help="With --attach: the names from a file, made by kubectl get pods,nodes,services -A -o yaml."),
        click.option("--kubeconfig", metavar="FILE", type=click.Path(), default="",
                     help="With --attach: whose API server knows the names."),
        click.option("--attach", metavar="WHERE", multiple=True, help="A machine that is no lab: auto, host, pid:N, "
                     "tree:N or netns:PATH; several times if need be (see netlab/docs/capture.md)."),
    ]
    for option in every:
        function = option(function)
    return function


def output(*formats: str) -> Callable[[F], F]:
    """Add `-o FORMAT` with these choices; "" means the plain table."""
    choices = formats or ("json", "yaml")
    return click.option("-o", "--output", "output", type=click.Choice(choices), default=None,
                        callback=lambda _ctx, _param, value: value or "",
                        help=f"Output format: {', '.join(choices)}.")


def complete_scenario(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Return the names of scenarios, for shell completion."""
    from netlab.lab import scenario

    return [name for name in scenario.names() if name.startswith(incomplete)]


def _complete_lab(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    from netlab.lab import state

    return [record.name for record in state.all_labs() if record.name.startswith(incomplete)]
