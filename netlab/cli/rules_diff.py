"""`netlab rules diff`: two nodes, a node and a file, or before and after a command."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from netlab.cli.options import lab_name, output

if TYPE_CHECKING:
    from netlab.inspect.diff import Part
    from netlab.lab.state import LabRecord
    from netlab.netfilter.model import Ruleset

_COMMAND = "netlab.rules.diff.command"
_EVERY = 0.3
_TOLD = ("KUBE-SVC-", "KUBE-SVL-", "KUBE-SEP-")
"""Chains whose rules are told as shares of endpoints."""


class _WithCommand(click.Command):
    """A command that keeps what stands behind `--` apart, as another command's words."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the command line."""
        if "--" in args:
            at = args.index("--")
            ctx.meta[_COMMAND], args = tuple(args[at + 1:]), args[:at]
        return super().parse_args(ctx, args)


@click.command("diff", cls=_WithCommand, short_help="Compare two nodes, a node and a file, or before and after")
@click.argument("sides", metavar="[A B] [-- COMMAND...]", nargs=-1)
@click.option("--node", metavar="NAME", default="", help="With a command: only this node.")
@click.option("--ipv6", is_flag=True, help="The rules of IPv6.")
@click.option("--quiet-for", type=click.FloatRange(0.1, 60), default=2.0, show_default=True, metavar="SECONDS",
              help="With a command: rules count as settled when nothing changed for so long.")
@click.option("--wait", type=click.FloatRange(0.1, 3600), default=60.0, show_default=True, metavar="SECONDS",
              help="With a command: the longest to wait for that.")
@click.option("--all", "everything", is_flag=True, help="Show the rules of endpoints too, not only their shares.")
@output("json", "yaml")
@lab_name
@click.pass_context
def command(ctx: click.Context, sides: tuple[str, ...], node: str, quiet_for: float, wait: float, output: str,
            name: str, *, ipv6: bool, everything: bool) -> int:
    """Compare rules by what they do, Service by Service: A and B are node/NAME or files of iptables-save text.

    Counters, spelling and the order of rules are no difference. With a command, each node's rules are read before and
    after it, once they are quiet again; the command has the lab's kubeconfig, and its exit code is ours.

    \b
    netlab rules diff node/worker1 node/worker2
    netlab rules diff saved.txt node/worker1
    netlab rules diff -- kubectl scale deploy/web --replicas=5
    """
    from netlab.cli import rules_lab
    from netlab.errors import UsageError
    from netlab.inspect.diff import diff
    from netlab.inspect.names import Names

    argv: tuple[str, ...] | None = ctx.meta.get(_COMMAND)
    if argv is not None and (sides or not argv):
        raise UsageError("give either two sides, or -- and a command",
                         hint="netlab rules diff -- kubectl scale deploy/web --replicas=5")
    if argv is not None:
        lab, only = rules_lab.find(name, node)
        before = _snapshot(lab, only, ipv6=ipv6)
        code = _run(lab, argv)
        after = _settled(lab, only, ipv6=ipv6, quiet_for=quiet_for, wait=wait)
        names = rules_lab.names(lab)
        found = {each: diff(before[each], rules, names) for each, rules in after.items() if each in before}
        _show(found, output, "after the command", everything=everything)
        return code
    if len(sides) != 2:
        raise UsageError("want two sides to compare", hint="such as node/worker1 node/worker2, or a file of "
                         "iptables-save text and node/worker1; or -- and a command")
    named = any(each.startswith("node/") for each in sides)
    names = rules_lab.names(rules_lab.find(name, "")[0]) if named else Names()
    one, other = (_side(each, name, ipv6=ipv6) for each in sides)
    _show({f"{sides[0]} → {sides[1]}": diff(one, other, names)}, output, "", everything=everything)
    return 0


def _side(text: str, name: str, *, ipv6: bool) -> Ruleset:
    from netlab.cli import rules_lab
    from netlab.errors import NotFound
    from netlab.netfilter.parse import parse

    if text.startswith("node/"):
        lab, only = rules_lab.find(name, text)
        return next(rules_lab.saved(lab, only, ipv6=ipv6)).rules
    try:
        with click.open_file(text, encoding="utf-8", errors="replace") as file:
            return parse(file.read())
    except OSError as error:
        raise NotFound(f"cannot read {text}: {error.strerror}", hint="a side is node/NAME or a file") from None


def _snapshot(lab: LabRecord, only: str, *, ipv6: bool) -> dict[str, Ruleset]:
    """Return the rules of the nodes. A rootless lab's are read by children: entering it has no way back."""
    from netlab.cli import rules_lab
    from netlab.cli.rules_child import save

    if not lab.rootless:
        return {held.node: held.rules for held in rules_lab.saved(lab, only, ipv6=ipv6)}
    return {node.name: save(lab, node.name, ipv6=ipv6) for node in lab.nodes if not only or node.name == only}


def _run(lab: LabRecord, argv: Sequence[str]) -> int:
    """Run a command outside of the lab with its kubeconfig, and pass on what it says to standard error."""
    from netlab.kernel.process import run_sync
    from netlab.lab.kubectl import find

    words = [find(), *argv[1:]] if argv[0] == "kubectl" else list(argv)
    done = run_sync(words, env={**os.environ, "KUBECONFIG": str(lab.admin_conf)})
    click.echo((done.stdout + done.stderr).decode(errors="replace"), err=True, nl=False)
    return done.code


def _settled(lab: LabRecord, only: str, *, ipv6: bool, quiet_for: float, wait: float) -> dict[str, Ruleset]:
    """Return the rules once they, and the EndpointSlices that they come from, have not changed for a while."""
    from netlab.cli import rules_lab

    begun = since = time.monotonic()
    last: object = None
    while True:
        rules = _snapshot(lab, only, ipv6=ipv6)
        slices = [each for each in rules_lab.objects(lab) if each["kind"] == "EndpointSlice"]
        now = time.monotonic()
        seen = ({node: [rule.text for table in each.tables.values() for rule in table.rules()]
                 for node, each in rules.items()},
                [(each["metadata"].get("uid"), each["metadata"].get("resourceVersion")) for each in slices])
        if seen != last or _coming_up(slices):
            last, since = seen, now
        if now - since >= quiet_for:
            return rules
        if now - begun >= wait:
            click.echo(f"warning: the rules still change after {wait:g} s", err=True)
            return rules
        time.sleep(_EVERY)


def _coming_up(slices: Iterable[Mapping[str, Any]]) -> bool:
    """Tell whether an endpoint is about to become ready."""
    return any((entry.get("conditions") or {}).get("ready") is False
               and not (entry.get("conditions") or {}).get("terminating")
               for each in slices for entry in each.get("endpoints") or ())


def _show(found: Mapping[str, tuple[Part, ...]], output: str, when: str, *, everything: bool) -> None:
    from netlab.cli.output import emit

    if output:
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
