"""`netlab bench`: what netlab does here, in figures."""

from __future__ import annotations

import importlib
import importlib.util

import click

from netlab.cli.options import output as output_option

BENCHES = {
    "up": ("netlab.lab.bench", "a cold start of a lab, and its memory"),
    "api": ("netlab.apiserver.bench", "the API server: requests per second, latency, memory"),
    "proxy": ("netlab.proxy.bench", "kube-proxy: full syncs and single changes against a raw restore"),
    "pods": ("netlab.cni.bench", "the network of a Pod, made and removed"),
    "trace": ("netlab.trace.bench", "one trace through a Service"),
}
"""Name → (module with `run(*, repeat)`, what it measures). A module yields {"what", "value", "unit", "note"}."""


def present() -> list[str]:
    """Return the names of the measurements whose module is there."""
    return [name for name, (module, _) in BENCHES.items() if importlib.util.find_spec(module) is not None]


@click.command("bench")
@click.argument("what", required=False)
@click.option("--repeat", type=click.IntRange(1, 100), default=3, show_default=True, metavar="N", help="How often.")
@output_option()
def command(what: str | None, repeat: int, output: str) -> None:
    """Measure netlab on this machine. Without WHAT: list what can be measured."""
    from netlab.cli.output import emit, table

    names = present()
    if what is None:
        click.echo(table(["BENCH", "MEASURES"], [[name, BENCHES[name][1]] for name in names]))
        return
    if what not in names:
        raise click.UsageError(f'there is no bench "{what}": choose {", ".join(names)}')
    rows = list(importlib.import_module(BENCHES[what][0]).run(repeat=repeat))
    if output:
        emit(rows, output)
    else:
        click.echo(table(["WHAT", "VALUE", "UNIT", "NOTE"],
                         [[row["what"], row["value"], row["unit"], row.get("note", "")] for row in rows]))
