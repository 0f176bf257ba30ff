"""`netlab rules diff`: nodes, files, revisions, modes, or before and after a command."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from netlab.cli import rules_source
from netlab.cli.options import output
from netlab.cli.rules_source import Asked, LabSource

if TYPE_CHECKING:
    from netlab.inspect.diff import Part
    from netlab.inspect.holding import Holding
    from netlab.lab.state import LabRecord

_COMMAND = "netlab.rules.diff.command"
_EVERY = 0.3
_TOLD = ("KUBE-SVC-", "KUBE-SVL-", "KUBE-SEP-", "service-", "local-", "endpoint-", "@hairpin-connections")
"""Chains whose rules are told as shares of endpoints."""


class _WithCommand(click.Command):
    """A command that keeps what stands behind `--` apart, as another command's words."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the command line."""
        if "--" in args:
            at = args.index("--")
            ctx.meta[_COMMAND], args = tuple(args[at + 1:]), args[:at]
        return super().parse_args(ctx, args)


@click.command("diff", cls=_WithCommand, short_help="Compare nodes, modes, revisions, files, or before and after")
@click.argument("sides", metavar="[A B] [-- COMMAND...]", nargs=-1)
@click.option("--quiet-for", type=click.FloatRange(0.1, 60), default=2.0, show_default=True, metavar="SECONDS",
              help="With a command: rules count as settled when nothing changed for so long.")
@click.option("--wait", type=click.FloatRange(0.1, 3600), default=60.0, show_default=True, metavar="SECONDS",
              help="With a command: the longest to wait for that.")
@click.option("--all", "everything", is_flag=True, help="Show the rules of endpoints too, not only their shares.")
@rules_source.options
@output("json", "yaml", "wide")
@click.pass_context
def command(ctx: click.Context, asked: Asked, sides: tuple[str, ...], quiet_for: float, wait: float, output: str, *,
            everything: bool) -> int:
    """Compare rules by what they do, Service by Service.

    A and B are each one of: node/NAME; a file of iptables-save or nft text; `api`, what kube-proxy would write for the
    objects as they are; `@1234`, what it would write for those of that resourceVersion; `iptables` or `nftables`, what
    it would write in that mode. Nodes in different modes are compared by what they let through, in words.

    Counters, spelling and the order of rules are no difference. With a command, each node's rules are read before and
    after it, once they are quiet again; the command has the lab's kubeconfig, and its exit code is ours.

    \b
    netlab rules diff node/worker1 node/worker2
    netlab rules diff saved.txt node/worker1
    netlab rules diff @1200 @1234 --node worker1
    netlab rules diff node/worker1 nftables
    netlab rules diff -- kubectl scale deploy/web --replicas=5
    """
    from netlab.errors import UsageError
    from netlab.inspect.nft_diff import sides as difference

    argv: tuple[str, ...] | None = ctx.meta.get(_COMMAND)
    if argv is not None and (sides or not argv):
        raise UsageError("give either two sides, or -- and a command",
                         hint="netlab rules diff -- kubectl scale deploy/web --replicas=5")
    ipv6 = asked.families == (True,)
    if argv is not None:
        source = rules_source.LabSource.of(asked.name, asked.node)
        before = _snapshot(source, ipv6=ipv6)
        code = _run(source.lab, argv)
        after = _settled(source, ipv6=ipv6, quiet_for=quiet_for, wait=wait)
        names = source.names()
        found = {node: difference(before[node], held, names) for node, held in after.items() if node in before}
        _show(found, output, "after the command", everything=everything or output == "wide")
        return code
    if len(sides) != 2:
        raise UsageError("want two sides to compare", hint="such as node/worker1 node/worker2, a file of iptables-save "
                         "or nft text, @1234 for a revision, api, iptables, nftables; or -- and a command")
    from netlab.cli import rules_sides

    pairs = rules_sides.pairs(sides[0], sides[1], asked)
    names = rules_sides.names(sides, asked)
    _show({what: difference(one, other, names) for what, one, other in pairs}, output, "",
          everything=everything or output == "wide")
    return 0


def _snapshot(source: LabSource, *, ipv6: bool) -> dict[str, Holding]:
    """Return the rules of the nodes. A rootless lab's are read by children: entering it has no way back."""
    from netlab.cli.rules_child import save

    if not source.lab.rootless:
        return {held.node: held for held in rules_source.holdings(source, ipv6=ipv6)}
    return {node: save(source.lab, node, ipv6=ipv6) for node in source.nodes()}


def _run(lab: LabRecord, argv: Sequence[str]) -> int:
    """Run a command outside of the lab with its kubeconfig, and pass on what it says to standard error."""
    from netlab.kernel.process import run_sync
    from netlab.lab.kubectl import find

    words = [find(), *argv[1:]] if argv[0] == "kubectl" else list(argv)
    done = run_sync(words, env={**os.environ, "KUBECONFIG": str(lab.admin_conf)})
    click.echo((done.stdout + done.stderr).decode(errors="replace"), err=True, nl=False)
    return done.code


def _settled(source: LabSource, *, ipv6: bool, quiet_for: float, wait: float) -> dict[str, Holding]:
    """Return the rules once they, and the EndpointSlices that they come from, have not changed for a while."""
    from netlab.inspect import listing

    begun = since = time.monotonic()
    last: object = None
    while True:
        held = _snapshot(source, ipv6=ipv6)
        slices = [each for each in source.objects() if each["kind"] == "EndpointSlice"]
        now = time.monotonic()
        seen = ({node: [(row.table, row.chain, row.text) for row in listing.rows(each)
                        if not row.chain.startswith("@affinity-")] for node, each in held.items()},
                [(each["metadata"].get("uid"), each["metadata"].get("resourceVersion")) for each in slices])
        if seen != last or _coming_up(slices):
            last, since = seen, now
        if now - since >= quiet_for:
            return held
        if now - begun >= wait:
            click.echo(f"warning: the rules still change after {wait:g} s", err=True)
            return held
        time.sleep(_EVERY)


def _coming_up(slices: Iterable[Mapping[str, Any]]) -> bool:
    """Tell whether an endpoint is about to become ready."""
    return any((entry.get("conditions") or {}).get("ready") is False
               and not (entry.get("conditions") or {}).get("terminating")
               for each in slices for entry in each.get("endpoints") or ())


def _show(found: Mapping[str, tuple[Part, ...]], output: str, when: str, *, everything: bool) -> None:
    from netlab.cli.output import emit

    if output in ("json", "yaml"):
        key = "node" if when else "sides"
        emit({"differences": [{key: where, "services": [asdict(part) for part in parts]}
                              for where, parts in found.items()]}, output)
        return
    alike: dict[tuple[Part, ...], list[str]] = {}
    for where, parts in found.items():
        alike.setdefault(parts, []).append(f"node/{where}" if when else where)
    for parts, places in alike.items():
        click.echo(f"{', '.join(places)}{f', {when}' if when else ''}:")
        if not parts:
            click.echo("  no difference")
        for part in parts:
            click.echo("\n".join(_part(part, everything=everything)))


def _part(part: Part, *, everything: bool) -> list[str]:
    lines = [f"  Service {part.service}" if part.service else "  of no Service"]
    lines += [f"    {text}" for text in part.words]
    shown = [line for line in part.lines if everything or not line.chain.startswith(_TOLD)]
    lines += [f"    {line.sign} {line.table} {line.chain}: {line.words}" for line in shown]
    rest = len(part.lines) - len(shown)
    if rest:
        lines.append(f"    and {rest} rule{'s' if rest > 1 else ''} of its endpoints (--all shows them)")
    return lines
