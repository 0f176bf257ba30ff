"""`netlab rules`: what the kernels of a lab's nodes hold, in API words."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from netlab.cli.options import lab_name, output

if TYPE_CHECKING:
    from netlab.inspect.names import Names
    from netlab.lab.state import LabRecord
    from netlab.netfilter.model import Ruleset

_NODE_HEADERS = ("NODE", "BACKEND", "SERVICES", "PORTS", "ENDPOINTS", "CHAINS", "RULES", "OTHER-RULES")
_SERVICE_HEADERS = ("SERVICE", "PROTOCOL", "ADDRESSES", "ENDPOINTS", "NOTE")


@click.command("rules", short_help="Show the rules of Services as the kernel holds them")
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
    from netlab.inspect import service as services
    from netlab.lab import state

    lab = state.find(name)
    names = asyncio.run(_names(lab))
    saved = dict(_saved(lab, node.removeprefix("node/"), ipv6=ipv6))
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


def _saved(lab: LabRecord, only: str, *, ipv6: bool) -> Iterator[tuple[str, Ruleset]]:
    """Yield each node's rules with their counters, by the backend that kube-proxy's are in."""
    from netlab.errors import NotFound
    from netlab.lab.places import Places, closing, enter_lab

    known = [node.name for node in lab.nodes]
    if only and only not in known:
        raise NotFound(f'lab "{lab.name}" has no node "{only}"', hint=f"there are: {', '.join(known)}")
    enter_lab(lab)
    family: Any = "IPv6" if ipv6 else "IPv4"
    with closing(Places(lab).own()) as namespaces:
        for each in namespaces:
            kind, _, node = each.place.partition("/")
            if kind == "node" and (not only or node == only):
                yield node, _read(each.fd, family)


def _read(netns: int, family: Any) -> Ruleset:
    from netlab.kernel import iptables
    from netlab.netfilter.parse import parse

    main = iptables.find(family)
    text = iptables.save(main, netns=netns, counters=True)
    if "KUBE-SERVICES" not in text and main.backend == "nft" and "nat" in iptables.tables_in_use(netns)[family]:
        text = iptables.save(iptables.find(family, "legacy"), netns=netns, counters=True)
    return parse(text)
