"""`netlab bench`: what netlab does here, in figures."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import signal
import sys

import click

from netlab.cli.options import output as output_option

BENCHES = {
    "up": ("netlab.lab.bench", "a cold start of a lab, and its memory"),
    "api": ("netlab.lab.bench_api", "the API server: requests, latency, watches, memory; beside upstream's if on PATH"),
    "proxy": ("netlab.lab.bench_proxy", "kube-proxy in each mode against raw writes, and from the API to the kernel"),
    "pods": ("netlab.cni.bench", "the network of a Pod, made and removed"),
    "trace": ("netlab.trace.bench", "one trace through a Service"),
    "rules": ("netlab.inspect.bench", "rules svc/x on a node of 10,000 Services"),
}
"""Name → (module with `run(*, repeat)`, what it measures). A module yields {"what", "value", "unit", "note"}.

One that measures several sizes or modes has `run(*, repeat, sizes, modes)`.
"""


def present() -> list[str]:
    """Return the names of the measurements whose module is there."""
    return [name for name, (module, _) in BENCHES.items() if importlib.util.find_spec(module) is not None]


@click.command("bench")
@click.argument("what", required=False)
@click.option("--repeat", type=click.IntRange(1, 100), default=3, show_default=True, metavar="N", help="How often.")
@click.option("--size", "sizes", type=click.IntRange(1), multiple=True, metavar="N",
              help="proxy: how many Services (1000, unless given; may be given several times).")
@click.option("--mode", "modes", multiple=True, metavar="MODE",
              help="proxy: iptables-nft, iptables-legacy or nftables; api: full, normal, etcd or upstream (all, unless "
                   "given).")
@output_option()
def command(what: str | None, repeat: int, sizes: tuple[int, ...], modes: tuple[str, ...], output: str) -> None:
    """Measure netlab on this machine. Without WHAT: list what can be measured."""
    from netlab.cli.output import emit, table

    names = present()
    if what is None:
        click.echo(table(["BENCH", "MEASURES"], [[name, BENCHES[name][1]] for name in names]))
        return
    if what not in names:
        raise click.UsageError(f'there is no bench "{what}": choose {", ".join(names)}')
    run = importlib.import_module(BENCHES[what][0]).run
    wished = {name: values for name, values in (("sizes", sizes), ("modes", modes)) if values}
    unknown = set(wished) - set(inspect.signature(run).parameters)
    if unknown:
        raise click.UsageError(f"bench {what} knows no {' and no '.join(f'--{name[:-1]}' for name in sorted(unknown))}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that what was started is ended
    rows = list(run(repeat=repeat, **wished))
    if output:
        emit(rows, output)
    else:
        click.echo(table(["WHAT", "VALUE", "UNIT", "NOTE"],
                         [[row["what"], row["value"], row["unit"], row.get("note", "")] for row in rows]))
