"""`netlab rules check`: what is wrong with the rules of a lab's nodes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import click

from netlab.cli import rules_source
from netlab.cli.options import output
from netlab.cli.rules_source import Asked, Source

if TYPE_CHECKING:
    from netlab.inspect.check import Finding
    from netlab.inspect.opinion import Written

_DELETES = ("iptables -t ", "ip6tables -t ")
_FEW = 2000
"""Rules up to which libiptc is asked as well: it takes 1 ms for each."""


class _TakesRules(click.Command):
    """A command whose --rule may be followed by a text that begins with a dash."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the command line."""
        joined: list[str] = []
        for each in args:
            if joined and joined[-1] == "--rule":
                joined[-1] = f"--rule={each}"
            else:
                joined.append(each)
        return super().parse_args(ctx, joined)


@click.command("check", cls=_TakesRules,
               short_help="Say what is wrong: drift, shadowed rules, stale endpoints, foreign DROPs")
@click.option("--rule", "rules", metavar="'RULE'", multiple=True,
              help="Judge a rule before it is written, such as '-I FORWARD -d 198.51.100.9 -j DROP'.")
@click.option("-f", "--file", "files", metavar="FILE", multiple=True, type=click.Path(allow_dash=True),
              help="Judge the rules of a file, as iptables-restore reads them or line by line; - is standard input.")
@rules_source.options
@output("json", "yaml", "wide")
def command(asked: Asked, rules: tuple[str, ...], files: tuple[str, ...], output: str) -> int:
    """Compare each node's rules with what kube-proxy would write, and look for what keeps packets from them.

    Found are: drift (missing, extra, changed rules and elements, by Service), chains nobody leads to, rules that an
    earlier one hides, DNAT to what is no ready endpoint, foreign DROP and REJECT before kube-proxy's chains or in
    tables of nft's, a policy DROP, rules of kube-proxy in both backends or modes, canaries that are gone, nobody who
    masquerades, forwarding or bridge-nf-call-iptables switched off. Each with what to do. The exit code is 1 when
    something is found. With -f or --rule: what libxtables refuses in them, and what would be wrong once they are in.

    \b
    netlab rules check
    netlab rules check --rule '-I FORWARD -s 10.244.0.0/16 -j DROP' --node worker1
    netlab rules check -f firewall.rules
    netlab rules check --attach auto --kubeconfig /etc/kubernetes/admin.conf
    """
    from netlab.cli.output import emit

    mine = list(_written(rules, files))
    found: dict[Finding, list[str]] = {}
    for each in _judged(mine, ipv6=asked.families == (True,)) if mine else ():
        found.setdefault(each, [])
    nodes: list[str] = []
    source = _source(asked, needed=not mine)
    if source is not None and not found:
        for node, each in _findings(source, asked, mine, nodes):
            listed = found.setdefault(each, [])
            if node not in listed:
                listed.append(node)
    if output in ("json", "yaml"):
        emit({"nodes": nodes, "findings": [{"nodes": on, **asdict(each)} for each, on in found.items()]}, output)
        return 1 if found else 0
    if not found:
        where = f" on {', '.join(f'node/{each}' for each in nodes)}" if nodes else ""
        click.echo(f"nothing {'would be' if mine else 'is'} wrong{where}")
        if mine:
            from netlab.inspect.opinion import says

            click.echo("\n".join(f"  {says(each)}" for each in mine))
    for each, on in found.items():
        click.echo(f"{each.kind}{''.join(f', node/{node}' for node in on)}: {each.words}")
        for line in filter(None, (each.text, each.hint and f"hint: {each.hint}")):
            click.echo(f"  {line}")
    return 1 if found else 0


def _source(asked: Asked, *, needed: bool) -> Source | None:
    from netlab.errors import NetlabError

    try:
        return asked.source()
    except NetlabError:
        if needed or asked.attach or asked.name or asked.node:
            raise
        return None  # rules can be judged without a lab


def _written(rules: Sequence[str], files: Sequence[str]) -> Iterator[Written]:
    from netlab.errors import NotFound
    from netlab.inspect import opinion

    for text in rules:
        yield from opinion.written(text, "--rule")
    for name in files:
        try:
            with click.open_file(name, encoding="utf-8", errors="replace") as file:
                text = file.read()
        except OSError as error:
            raise NotFound(f"cannot read {name}: {error.strerror}") from None
        for each in opinion.written(f"{text}\n\n", name):
            yield each if name in each.where else replace(each, where=name)


def _judged(mine: Sequence[Written], *, ipv6: bool) -> Iterator[Finding]:
    from netlab.inspect import opinion
    from netlab.kernel import xtables

    chains = sorted({each.rule.jump for each in mine if not each.rule.jump.isupper()} | {
        each.rule.chain for each in mine} | {each.rule.jump for each in mine if each.rule.jump.startswith("KUBE-")})
    yield from opinion.refused(mine, xtables.complaints([opinion.question(each, chains) for each in mine], ipv6=ipv6))


def _findings(source: Source, asked: Asked, mine: Sequence[Written], nodes: list[str],
              ) -> Iterator[tuple[str, Finding]]:
    """Yield each finding with its node, and note the nodes that were looked at."""
    from netlab.errors import TemporaryError
    from netlab.inspect import node_check, opinion

    objects = source.objects()
    if not objects and not asked.attach:
        raise TemporaryError("the API server has no objects: there is nothing to compare the rules with")
    families = asked.families if asked.chosen else (False, True)
    for ipv6 in families:
        for held in rules_source.holdings(source, ipv6=ipv6, both=True):
            if ipv6 and not asked.chosen and not held.mode:
                continue  # one family is enough for a cluster
            if held.node not in nodes:
                nodes.append(held.node)
            worlds = (rules_source.world(held, objects), rules_source.nft_world(held, objects)) if objects else (
                None, None)
            now = node_check.findings(held, *worlds)
            if mine:
                changed = replace(held, rules=opinion.with_rules(held.rules, mine))
                before = {(each.kind, each.words) for each in now}
                # They are not there yet: nothing is to be deleted.
                now = tuple(replace(each, hint="" if each.hint.startswith(_DELETES) else each.hint)
                            for each in node_check.findings(changed, *worlds)
                            if (each.kind, each.words) not in before)
            for each in now:
                yield held.node, each
    if not mine:
        yield from _second_opinions(source, asked)


def _second_opinions(source: Source, asked: Asked) -> Iterator[tuple[str, Finding]]:
    """Ask libiptc about the nodes whose rules are in the legacy backend, where they are few enough."""
    from netlab.errors import NetlabError
    from netlab.inspect import opinion, reading
    from netlab.kernel import xtables

    for node, netns in source.namespaces():
        held = reading.read(node, netns, ipv6=asked.families == (True,))
        tables = [name for name, table in held.rules.tables.items() if table.chains]
        count = sum(1 for table in held.rules.tables.values() for _ in table.rules())
        if held.rules.backend != "legacy" or not held.mode or count > _FEW:
            continue
        try:
            counts = xtables.legacy_counts(tables, netns, ipv6=held.ipv6)
        except NetlabError as error:
            click.echo(f"node/{node}: no second opinion: {error}", err=True)
            continue
        for each in opinion.second(held.rules, counts):
            yield node, each
