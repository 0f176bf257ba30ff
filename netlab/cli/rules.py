"""`netlab rules`: what the kernels of a lab's nodes hold, in API words."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from netlab.cli import complete, rules_source
from netlab.cli.options import output
from netlab.cli.rules_source import Asked, Source

if TYPE_CHECKING:
    from netlab.api.meta import Object
    from netlab.inspect.holding import Holding
    from netlab.inspect.names import Names

_NODE_HEADERS = ("NODE", "BACKEND", "SERVICES", "PORTS", "ENDPOINTS", "CHAINS", "RULES", "OTHER-RULES")
_SERVICE_HEADERS = ("SERVICE", "PROTOCOL", "ADDRESSES", "ENDPOINTS", "NOTE")


VIEWS = {
    "why": "Name the object, field and resourceVersion that a chain or rule comes from",
    "check": "Say what is wrong: drift, hidden rules, stale endpoints, foreign DROPs",
    "diff": "Compare two nodes, modes, revisions or files, or before and after a command",
    "graph": "Print the chains of a Service as a graph: SVG, mermaid or dot",
}


class Views(click.Command):
    """A command that hands over to another one when its first argument names a view; a Service is `svc/NAME`."""

    def make_context(self, info_name: str | None, args: list[str], parent: click.Context | None = None,
                     **extra: object) -> click.Context:
        """Return the context of the view, or of this command."""
        at = self._argument(args)
        if at is not None and args[at] in VIEWS:
            view: click.Command = importlib.import_module(f"netlab.cli.rules_{args[at]}").command
            return view.make_context(f"{info_name} {args[at]}", [*args[:at], *args[at + 1:]], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)

    def _argument(self, args: Sequence[str]) -> int | None:
        """Return where the first argument is that is neither an option nor an option's value."""
        valued = {name for param in self.params if isinstance(param, click.Option) and not param.is_flag
                  for name in param.opts}
        skip = False
        for at, word in enumerate(args):
            if not skip and not word.startswith("-"):
                return at
            skip = not skip and word in valued
        return None

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, and behind them the views."""
        super().format_options(ctx, formatter)
        with formatter.section("Views (netlab rules VIEW --help)"):
            formatter.write_dl(list(VIEWS.items()))


@click.command("rules", cls=Views, short_help="Show the rules of Services as the kernel holds them",
               options_metavar="[VIEW] [OPTIONS]")
@click.argument("service", metavar="[svc/NAME]", default="", shell_complete=complete.services)
@click.option("--table", metavar="TABLE", default="", help="Rules of this table (nat, filter, kube-proxy) by chain.")
@click.option("--chain", metavar="CHAIN", default="", help="Rules of this chain, or elements of this set or map.")
@click.option("--grep", "--search", "grep", metavar="TEXT", default="",
              help="Rules with TEXT in them, in a comment, in words, or in the API's name of an address.")
@click.option("--connections", is_flag=True, help="The connections to svc/NAME that conntrack remembers.")
@click.option("--watch", "-w", is_flag=True, help="Show packets/s and bytes/s, again and again.")
@click.option("--interval", type=click.FloatRange(0.1, 3600), default=1.0, show_default=True, metavar="SECONDS",
              help="With --watch: the time between two looks.")
@click.option("--count", type=click.IntRange(1), default=None, metavar="N", help="With --watch: end after N looks.")
@rules_source.at_option
@rules_source.options
@output("json", "yaml", "wide")
def command(asked: Asked, service: str, table: str, chain: str, grep: str, output: str, interval: float,
            count: int | None, *, connections: bool, watch: bool) -> int:
    """Show the rules of a Service as a tree: counters, the true share of each endpoint, and every rule in words.

    \b
    netlab rules                    every node and Service, and the rules that are not kube-proxy's
    netlab rules svc/web            the tree of one Service; nodes with the same rules are told once, counters added up
    netlab rules svc/web --watch    packets and bytes per second of each of its rules
    netlab rules svc/web --connections
    netlab rules --table nat --chain KUBE-SERVICES --node worker1
    netlab rules --grep pod/default/web-1
    netlab rules svc/web --at 1234                          as the rules were for that resourceVersion
    netlab rules svc/web --attach auto --kubeconfig FILE    on a real node, or beside kind's node containers

    Percentages in front of rules are what the dice give to a new connection; "so far" is what the counters saw.
    Exits with 1 when nothing is found.
    """
    from netlab.cli import rules_table
    from netlab.errors import UsageError
    from netlab.inspect import service as services

    if connections and not service:
        raise UsageError("--connections wants a Service", hint="netlab rules svc/NAME --connections")
    if (service and (table or chain or grep)) or (connections and watch):
        raise UsageError("these options do not go together", hint="svc/NAME goes alone, with --watch or --connections; "
                         "--table, --chain and --grep go with each other and --watch")
    if asked.at and (watch or connections):
        raise UsageError("the past has no counters and no connections", hint="--at shows rules alone")
    key = services.full_name(service) if service else ""
    source = asked.source()
    if isinstance(source, rules_source.Past) and output not in ("json", "yaml"):
        click.echo("\n".join((*source.words(), "")))
    if watch:
        from netlab.cli import rules_watch

        return rules_watch.watch(source, asked, rules_watch.Wish(key, table, chain, grep), interval, count, output)
    if connections:
        return rules_table.connections(source, asked, key, output)
    if table or chain or grep:
        return rules_table.listing(source, asked, table, chain, grep, output)
    if service:
        _show_service(source, asked, key, output)
    else:
        found = {ipv6: list(rules_source.holdings(source, ipv6=ipv6)) for ipv6 in asked.families}
        if output in ("json", "yaml") or len(found) == 1:
            _show_overview([held for each in found.values() for held in each], output)
            return 0
        for ipv6, held in found.items():
            click.echo(f"{chr(10) if ipv6 else ''}IPv{6 if ipv6 else 4}")
            _show_overview(held, output)
    return 0


def families_of(asked: Asked, service: Object | None) -> Sequence[bool]:
    """Return the families to look at: those that were asked for, else those of the Service (False is IPv4)."""
    if asked.chosen or service is None:
        return asked.families
    told = (service.get("spec") or {}).get("ipFamilies") or ["IPv4"]
    return [each == "IPv6" for each in told]


def _show_service(source: Source, asked: Asked, key: str, output: str) -> None:
    from netlab.cli.output import emit
    from netlab.errors import NotFound
    from netlab.inspect import merge, show

    names = source.names(key)
    service = names.services.get(key)
    data, texts, there = [], [], dict[str, None]()
    for ipv6 in families_of(asked, service):
        held = {each.node: each for each in rules_source.holdings(source, ipv6=ipv6, only=key)}
        found = {node: each.ports(key, names) for node, each in held.items()}
        if not any(found.values()):
            there |= dict.fromkeys(name for each in held.values() for name in each.services())
            continue
        found = found if asked.at else _with_connections(source, held, found, key, names)
        data += [{"node": node, "family": "IPv6" if ipv6 else "IPv4", "backend": held[node].backend,
                  **rules_source.observed(source, node), "ports": show.ports_data(ports)}
                 for node, ports in found.items()]
        texts += [show.tree(nodes, held[nodes[0]].backend, ports, service, wide=output == "wide") if ports else
                  f"{key}, {show.places(nodes)}: no rules here" for nodes, ports in merge.alike(found)]
    if not data:
        if not there:
            there = dict.fromkeys(name for each in rules_source.holdings(source) for name in each.services())
        raise NotFound(_why_none(key, names), hint=f"rules are there for: {', '.join(there) or 'none'}")
    if output in ("json", "yaml"):
        emit({"service": key, **({"at": asked.at} if asked.at else {}), "nodes": data}, output)
    else:
        click.echo("\n\n".join(texts))


def _with_connections(source: Source, held: Mapping[str, Holding], found: Mapping[str, Sequence[Any]], key: str,
                      names: Names) -> dict[str, tuple[Any, ...]]:
    """Count remembered connections where the rules count nothing: in nftables mode."""
    from netlab.errors import KernelError
    from netlab.inspect import connections, state
    from netlab.inspect.holding import NFTABLES

    result = {node: tuple(ports) for node, ports in found.items()}
    if all(each.mode != NFTABLES for each in held.values()):
        return result
    try:
        flows = rules_source.flows(source, ipv6=next(iter(held.values())).ipv6)
    except KernelError:
        return result
    for node, each in held.items():
        if each.mode == NFTABLES and each.nft is not None:
            listed = connections.of_service(flows.get(node, ()), state.of_nft(each.nft, key), names)
            result[node] = connections.counted(found[node], listed)
    return result


def _why_none(key: str, names: Names) -> str:
    service = names.services.get(key)
    if service is None:
        return f"no node has rules for Service {key}" + (
            "" if not (names.services or names.nodes) else ", and there is no such Service")
    spec = service.get("spec") or {}
    if spec.get("clusterIP") == "None":
        return f"Service {key} is headless: DNS answers with its Pods' addresses, and no rule is needed"
    if spec.get("type") == "ExternalName":
        return f"Service {key} is an ExternalName: DNS answers with another name, and no rule is needed"
    return f"no node has rules for Service {key} yet"


def _show_overview(held: Sequence[Holding], output: str) -> None:
    from netlab.cli.output import emit, table
    from netlab.inspect import holding, overview, show

    held = list(_told_apart(held))
    found = [holding.overview_of(each) for each in held]
    tables = {each.node: each.nft if each.backend == holding.NFTABLES and each.nft is not None else each.rules
              for each in held}
    rows = overview.table(tables)
    if output in ("json", "yaml"):
        emit(show.overview_data(found, rows), output)
        return
    blind = {each.node for each in held if each.mode == holding.USERSPACE}
    click.echo(table(_NODE_HEADERS, show.overview_rows(found, blind)))
    if rows:
        click.echo()
        click.echo(table(_SERVICE_HEADERS, show.service_rows(rows, list(tables), blind)))
    lines = show.foreign_lines(found, wide=output == "wide")
    if lines:
        click.echo("\nNot kube-proxy's:")
        click.echo("\n".join(f"  {line}" for line in lines))


def _told_apart(held: Sequence[Holding]) -> Iterator[Holding]:
    """Yield nodes by distinct names where both families of each are shown."""
    from dataclasses import replace

    twice = len({each.ipv6 for each in held}) > 1
    for each in held:
        yield replace(each, node=f"{each.node} (IPv{6 if each.ipv6 else 4})") if twice else each
