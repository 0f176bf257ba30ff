"""The chains that a Service's packets can take as a graph, and the graph as dot or mermaid text."""

from __future__ import annotations

from dataclasses import dataclass

from netlab.inspect import shares, words
from netlab.inspect.names import Names
from netlab.inspect.service import CHAINS, belongs, service_of
from netlab.netfilter.model import HOOKS, Chain, Rule, Ruleset
from netlab.netfilter.terms import comment
from netlab.proxy import user_rules

_SHARED = frozenset({"KUBE-SERVICES", "KUBE-EXTERNAL-SERVICES", "KUBE-NODEPORTS", "KUBE-PROXY-FIREWALL",
                     *(chain for _, chain in user_rules.CHAINS)})


@dataclass(frozen=True)
class Node:
    """A chain, an endpoint or a verdict. `kind` is hook, chain, endpoint or verdict; `label` what to write on it."""

    name: str
    kind: str
    label: str


@dataclass(frozen=True)
class Edge:
    """A rule from a chain to where it leads; `label` says when."""

    source: str
    target: str
    label: str


@dataclass(frozen=True)
class Graph:
    """Nodes by first appearance and edges in the order of the rules."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]


class _Builder:
    def __init__(self, rules: Ruleset, service: str, names: Names) -> None:
        self.rules, self.service, self.names = rules, service, names
        self.nodes: dict[str, Node] = {}
        self.edges: dict[tuple[str, str], list[str]] = {}

    def hook(self, table: str, chain: Chain) -> None:
        """Take in the ways from a built-in chain."""
        for rule in chain.rules:
            if rule.jump in _SHARED and self.shared(table, rule.jump):
                self.nodes.setdefault(f"{table} {chain.name}", Node(f"{table} {chain.name}", "hook",
                                                                    f"{table} {chain.name}"))
                self.edge(f"{table} {chain.name}", f"{table} {rule.jump}", rule)

    def shared(self, table: str, chain: str) -> bool:
        """Take in the Service's rules of a shared chain; tells whether there are any."""
        name = f"{table} {chain}"
        if name in self.nodes:
            return True
        found = False
        for rule in self.rules.chain(table, chain).rules:
            if rule.jump in _SHARED:
                mine = self.shared(table, rule.jump)
            else:
                port = service_of(comment(rule.match))
                mine = bool(port) and belongs(port, self.service)
                if mine:
                    self.target(table, rule)
            if mine:
                found = True
                self.edge(name, self.name_of(table, rule), rule)
        if found:
            self.nodes[name] = Node(name, "chain", name)
        return found

    def target(self, table: str, rule: Rule) -> None:
        """Take in where a rule leads to, and what follows from there."""
        name = self.name_of(table, rule)
        if name in self.nodes:
            return
        if not rule.jump.startswith(CHAINS):
            self.nodes[name] = Node(name, "verdict", words.action(rule))
            return
        chain = self.rules.chain(table, rule.jump)
        self.nodes[name] = Node(name, "chain", rule.jump)
        parts = {share.chain: share for share in shares.of_chain(chain)}
        for inner in chain.rules:
            share = parts.get(inner.jump) if shares.dice(inner) is not None else None
            if inner.jump == "DNAT":
                address = shares.destination([inner])
                who = self.names.of_endpoint(address)
                self.nodes[address] = Node(address, "endpoint", f"{address}\n{who}" if who else address)
                self.edge(name, address, inner)
            else:
                self.target(table, inner)
                self.edge(name, self.name_of(table, inner), inner, f"{share.nominal:.1%}" if share else "")

    def name_of(self, table: str, rule: Rule) -> str:
        """Return the name of the node that a rule leads to."""
        if rule.jump in ("REDIRECT", "DNAT"):  # userspace mode: to a port of kube-proxy's own, of each Service port
            return f"{table} {words.action(rule)}"
        return f"{table} {rule.jump}" if rule.jump else f"{table} {rule.chain} (counts)"

    def edge(self, source: str, target: str, rule: Rule, label: str = "") -> None:
        """Take in a rule; several between the same two become one edge."""
        said = label or words.condition(rule.match)
        self.edges.setdefault((source, target), []).append(said)


def graph(rules: Ruleset, service: str, names: Names | None = None) -> Graph:
    """Return the ways of a Service's packets, from the built-in chains to endpoints; empty when it has no rules.

    Args:
        rules: what a node holds.
        service: namespace/name.
        names: what the API calls the addresses.
    """
    builder = _Builder(rules, service, names or Names())
    for table in ("nat", "filter"):
        for hook in HOOKS[table]:
            builder.hook(table, rules.chain(table, hook))
    edges = [Edge(source, target, "\n".join(dict.fromkeys(filter(None, labels))))
             for (source, target), labels in builder.edges.items() if source in builder.nodes]
    leaving: dict[str, list[Edge]] = {}
    for edge in edges:
        leaving.setdefault(edge.source, []).append(edge)
    order = dict.fromkeys(node.name for node in builder.nodes.values() if node.kind == "hook")
    waiting = list(order)
    for name in waiting:  # grows: hooks first, then what they lead to
        new = [edge.target for edge in leaving.get(name, ()) if edge.target not in order]
        order |= dict.fromkeys(new)
        waiting += dict.fromkeys(new)
    return Graph(tuple(builder.nodes[name] for name in order),
                 tuple(edge for name in order for edge in leaving.get(name, ())))


_DOT_SHAPES = {"hook": "shape=invhouse", "chain": "shape=box", "endpoint": "shape=ellipse", "verdict": "shape=octagon"}
_MERMAID_SHAPES = {"hook": ("[/", "/]"), "chain": ("[", "]"), "endpoint": ("([", "])"), "verdict": ("{{", "}}")}


def dot(value: Graph, title: str) -> str:
    """Return a graph in the language of Graphviz."""
    lines = ["digraph rules {", f"  label={_dot(title)}; labelloc=t; rankdir=LR; node [fontname=monospace];"]
    lines += [f"  {_dot(node.name)} [label={_dot(node.label)}, {_DOT_SHAPES[node.kind]}];" for node in value.nodes]
    lines += [f"  {_dot(edge.source)} -> {_dot(edge.target)}{f' [label={_dot(edge.label)}]' if edge.label else ''};"
              for edge in value.edges]
    return "\n".join([*lines, "}"])


def mermaid(value: Graph, title: str) -> str:
    """Return a graph as a mermaid flowchart."""
    ids = {node.name: f"n{number}" for number, node in enumerate(value.nodes)}
    lines = [f"%% {title}", "flowchart LR", *(_mermaid_node(ids, node) for node in value.nodes)]
    lines += [f"  {ids[edge.source]} -->{f'|{_mermaid(edge.label)}|' if edge.label else ''} {ids[edge.target]}"
              for edge in value.edges]
    return "\n".join(lines)


def _mermaid_node(ids: dict[str, str], node: Node) -> str:
    left, right = _MERMAID_SHAPES[node.kind]
    return f"  {ids[node.name]}{left}{_mermaid(node.label)}{right}"


def _dot(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _mermaid(text: str) -> str:
    escaped = text.replace("#", "#35;").replace('"', "#quot;").replace("\n", "<br/>")
    return f'"{escaped}"'
