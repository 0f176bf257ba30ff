"""`netlab trace --follow`: the live traffic, flow by flow."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from netlab.lab.state import LabRecord
    from netlab.trace.follow import Told

F = TypeVar("F", bound=Callable[..., Any])


def options(function: F) -> F:
    """Add the options of --follow, which become one argument `following`: None without --follow."""
    every: list[Callable[[F], F]] = [
        click.option("--follow", is_flag=True, help="Send nothing: tell the live flows that FROM and TO have a "
                     "part in (svc/web, pod/x, node/x, outside, an address, :PORT; nothing for all)."),
        click.option("-l", "--selector", metavar="LABELS", default="",
                     help="With --follow: flows of the Pods with these labels."),
        click.option("--drops-only", is_flag=True, help="With --follow: only what failed."),
        click.option("--sample", metavar="1/N", default="1/1", help="With --follow: look at one flow in N."),
        click.option("--duration", type=click.FloatRange(0.1), metavar="SECONDS",
                     help="With --follow: stop after so long (--count N: after N flows)."),
        click.option("--hops", is_flag=True, help="With --follow: every hop and rule of each flow."),
    ]
    for option in reversed(every):
        function = option(function)
    return function


def run(lab: LabRecord | None, targets: tuple[str, ...], given: dict[str, Any]) -> int:
    """Follow a lab, or without one what `--attach` says, until a limit or Ctrl-C; returns the exit code.

    Raises:
        UsageError: a target or the share of a sample is none.
    """
    import asyncio

    from netlab.lab import following
    from netlab.trace import flowtext
    from netlab.trace.packet import NAMES
    from netlab.trace.render import as_text
    from netlab.trace.watch import parse_sample

    numbers = {number for number, name in NAMES.items() if name.removesuffix("v6") == given["protocol"]}
    wish = following.Wish(targets, given["selector"], frozenset(numbers), parse_sample(given["sample"]),
                          given["drops_only"], given["count"] or 0, given["duration"] or 0.0,
                          lambda: click.echo("following; Ctrl-C ends it", err=True), given["bpf"])
    color = given["color"] == "always" or (given["color"] == "auto" and sys.stdout.isatty()
                                           and not os.environ.get("NO_COLOR"))

    def tell(told: Told, nodes: dict[str, str]) -> None:
        if given["output"]:
            text = json.dumps(flowtext.as_json(told, hops=given["hops"], nodes=nodes), ensure_ascii=False)
        else:
            text = flowtext.line(told, color=color)
            if given["hops"]:
                text = f"{as_text(told.trace, color=color, policies=given['policies'])}\n{text}\n"
        click.echo(text)
        sys.stdout.flush()

    if lab is None:
        from netlab.trace import attach_follow

        closing = asyncio.run(attach_follow.run(given["attach"], wish, tell, kubeconfig=given["kubeconfig"],
                                                file=given["objects"]))
    else:
        closing = asyncio.run(following.run(lab, wish, tell))
    if given["output"]:
        click.echo(json.dumps(flowtext.closing_json(closing)))
    else:
        click.echo(flowtext.closing(closing), err=True)
    return 0
