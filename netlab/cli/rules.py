"""`netlab rules`: what the kernels of a lab's nodes hold, in API words."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from netlab.cli.options import lab_name, output

if TYPE_CHECKING:
    from netlab.inspect.names import Names
    from netlab.lab.state import LabRecord
    from netlab.netfilter.model import Ruleset

_NODE_HEADERS = ("NODE", "BACKEND", "SERVICES", "PORTS", "ENDPOINTS", "CHAINS", "RULES", "OTHER-RULES")
_SERVICE_HEADERS = ("SERVICE", "PROTOCOL", "ADDRESSES", "ENDPOINTS", "NOTE")


VIEWS = {
    "why": "Name the object, field and resourceVersion that a chain or rule comes from",
    "check": "Say what is wrong: drift, hidden rules, stale endpoints, foreign DROPs",
    "diff": "Compare two nodes, a node and a saved file, or before and after a command",
    "graph": "Print the chains of a Service as a graph: mermaid or dot text",
}


class Views(click.Command):
    """A command that hands over to another one when its first word names a view; a Service is `svc/NAME`."""

    def make_context(self, info_name: str | None, args: list[str], parent: click.Context | None = None,
                     **extra: object) -> click.Context:
        """Return the context of the view, or of this command."""
        if args and args[0] in VIEWS:
            view: click.Command = importlib.import_module(f"netlab.cli.rules_{args[0]}").command
            return view.make_context(f"{info_name} {args[0]}", args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, and behind them the views."""
        super().format_options(ctx, formatter)
        with formatter.section("Views (netlab rules VIEW --help)"):
            formatter.write_dl(list(VIEWS.items()))


@click.command("rules", cls=Views, short_help="Show the rules of Services as the kernel holds them",
               options_metavar="[VIEW] [OPTIONS]")
@click.argument("service", metavar="[svc/NAME]", default="")
@click.option("--node", metavar="NAME", default="", help="Only this node (node/NAME is understood too).")
@click.option("--ipv6", is_flag=True, help="The rules of IPv6.")
@output("json", "yaml")
@lab_name
def command(service: str, node: str, output: str, name: str, *, ipv6: bool) -> None:
    """Show the rules of a Service as a tree: counters, the true share of each endpoint, and every rule in words.

    \b
    netlab rules                    every node and Service, and the rules that are not kube-proxy's
    netlab rules svc/web            the tree of one Service; nodes with the same rules are told once, counters added up
    netlab rules svc/kube-system/kube-dns --node worker1

    Percentages in front of rules are what the dice give to a new connection; "so far" is what the counters saw.
    """
    from netlab.cli import rules_lab
    from netlab.errors import UsageError
    from netlab.inspect import service as services

    if service in VIEWS:
        raise UsageError(f'the view comes first: netlab rules {service} …', hint=f"a Service is svc/{service}")
    lab, only = rules_lab.find(name, node)
    names = asyncio.run(_names(lab))
    saved = {held.node: held.rules for held in rules_lab.saved(lab, only, ipv6=ipv6)}
    if service:
        _show_service(services.full_name(service), saved, names, output)
    else:
        _show_overview(saved, output)


def _show_service(key: str, saved: Mapping[str, Ruleset], names: Names, output: str) -> None:
    from netlab.cli.output import emit
    from netlab.errors import NotFound
    from netlab.inspect import merge, show
    from netlab.inspect import service as services

    found = {node: services.ports(rules, key, names) for node, rules in saved.items()}
    if not any(found.values()):
        there = [each for rules in saved.values() for each in services.known(rules)]
        raise NotFound(_why_none(key, names), hint=f"rules are there for: {', '.join(dict.fromkeys(there)) or 'none'}")
    if output:
        emit({"service": key, "nodes": [{"node": node, "backend": saved[node].backend,
                                         "ports": show.ports_data(ports)} for node, ports in found.items()]}, output)
        return
    texts = [show.tree(nodes, saved[nodes[0]].backend, ports, names.services.get(key)) if ports else
             f"{key}, {show.places(nodes)}: no rules here" for nodes, ports in merge.alike(found)]
    click.echo("\n\n".join(texts))


def _why_none(key: str, names: Names) -> str:
    service = names.services.get(key)
    if service is None:
        return f"no node has rules for Service {key}" + ("" if not names.services else ", and there is no such Service")
    spec = service.get("spec") or {}
    if spec.get("clusterIP") == "None":
        return f"Service {key} is headless: DNS answers with its Pods' addresses, and no rule is needed"
    if spec.get("type") == "ExternalName":
        return f"Service {key} is an ExternalName: DNS answers with another name, and no rule is needed"
    return f"no node has rules for Service {key} yet"


def _show_overview(saved: Mapping[str, Ruleset], output: str) -> None:
    from netlab.cli.output import emit, table
    from netlab.inspect import overview, show

    found = [overview.overview(node, rules) for node, rules in saved.items()]
    rows = overview.table(saved)
    if output:
        emit(show.overview_data(found, rows), output)
        return
    click.echo(table(_NODE_HEADERS,
                     show.overview_rows(found)))
    if rows:
        click.echo()
        click.echo(table(_SERVICE_HEADERS, show.service_rows(rows, list(saved))))
    lines = show.foreign_lines(found)
    if lines:
        click.echo("\nNot kube-proxy's:")
        click.echo("\n".join(f"  {line}" for line in lines))


async def _names(lab: LabRecord) -> Names:
    """Return what the API calls addresses; nothing while its server is away."""
    from netlab.errors import NetlabError
    from netlab.inspect.names import Names
    from netlab.lab.places import Places

    try:
        async with asyncio.timeout(3), Places(lab).client() as client:
            lists = [await client.list(resource) for resource in ("services", "pods", "nodes")]
    except (NetlabError, TimeoutError):
        return Names()
    kinds = ("Service", "Pod", "Node")
    return Names.of({**item, "kind": kind} for kind, (items, _) in zip(kinds, lists, strict=True) for item in items)
