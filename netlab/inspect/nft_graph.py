"""The ways of a Service's packets through kube-proxy's table of nftables mode, as a graph. Pure."""

from __future__ import annotations

from netlab.inspect import nft_service, nft_words
from netlab.inspect.graph import Edge, Graph, Node
from netlab.inspect.names import Names
from netlab.inspect.service import belongs
from netlab.netfilter import nft
from netlab.netfilter.nft import NftTable


class _Builder:
    def __init__(self, table: NftTable, names: Names) -> None:
        self.table, self.names = table, names
        self.nodes: dict[str, Node] = {}
        self.edges: dict[tuple[str, str], dict[str, None]] = {}

    def chain(self, name: str) -> None:
        """Take in a chain of the Service's and what follows from there."""
        if name in self.nodes:
            return
        self.nodes[name] = Node(name, "chain", name)
        for rule in self.table.chain(name).rules:
            dice = nft.dice(rule.text)
            for choice, share in dice:
                if choice in self.table.chains:
                    self.chain(choice)
                    self.edge(name, choice, f"{share:.1%}")
                else:
                    self.edge(name, self.endpoint(nft.joined(choice)), f"{share:.1%}")
            if dice:
                continue
            targets = [each for each in rule.targets if each in self.table.chains]
            for target in targets:
                self.chain(target)
                self.edge(name, target, nft_words.explain(rule.text).rpartition(": ")[0])
            address = nft_service.destination(NftTable("", "", {name: self.table.chain(name)}), name)
            if not targets and address and "dnat" in rule.text:
                self.edge(name, self.endpoint(address), "")
            elif not targets and rule.text.endswith(("drop", "reject")):
                self.edge(name, self.verdict(rule.text.rpartition(" ")[2]), nft_words.explain(rule.text).rpartition(
                    ": ")[0])
            elif not targets and "mark set" in rule.text:
                self.edge(name, self.verdict("mark for masquerade"), nft_words.explain(rule.text).rpartition(": ")[0])

    def endpoint(self, address: str) -> str:
        """Take in an endpoint."""
        who = self.names.of_endpoint(address)
        self.nodes.setdefault(address, Node(address, "endpoint", f"{address}\n{who}" if who else address))
        return address

    def verdict(self, words: str) -> str:
        """Take in a verdict."""
        self.nodes.setdefault(words, Node(words, "verdict", words))
        return words

    def edge(self, source: str, target: str, label: str) -> None:
        """Take in a way; several between the same two become one edge."""
        self.edges.setdefault((source, target), {})[label] = None


def graph(table: NftTable, service: str, names: Names | None = None) -> Graph:
    """Return the ways of a Service's packets, from the hooks to endpoints; empty when the table has none.

    Args:
        table: kube-proxy's.
        service: namespace/name.
        names: what the API calls the addresses.
    """
    builder = _Builder(table, names or Names())
    used: dict[str, None] = {}
    for name in nft_service.MAPS:
        for each in table.elements(name).values():
            port = nft_service.owner_of(name, each)[0]
            if not port or not belongs(port, service):
                continue
            used[name] = None
            builder.nodes.setdefault(f"@{name}", Node(f"@{name}", "chain", f"map @{name}"))
            if nft_service.port_of(each.target)[0]:
                builder.chain(each.target)
                builder.edge(f"@{name}", each.target, nft_words.key(each.key))
            else:
                builder.edge(f"@{name}", builder.verdict("drop" if each.value == "drop" else "reject"),
                             nft_words.key(each.key))
    _entries(builder, used)
    order = dict.fromkeys(name for name, node in builder.nodes.items() if node.kind == "hook")
    waiting = list(order)
    for name in waiting:  # grows: hooks first, then what they lead to
        new = [target for source, target in builder.edges if source == name and target not in order]
        order |= dict.fromkeys(new)
        waiting += dict.fromkeys(new)
    return Graph(tuple(builder.nodes[name] for name in order),
                 tuple(Edge(source, target, "\n".join(filter(None, labels)))
                       for (source, target), labels in builder.edges.items() if source in order))


def _entries(builder: _Builder, maps: dict[str, None]) -> None:
    """Take in how packets come to the maps: from the hooks through the chains that all Services share."""
    table = builder.table
    callers: dict[str, list[tuple[str, str]]] = {}
    for chain in table.chains.values():
        for rule in chain.rules:
            for target in rule.targets:
                callers.setdefault(target, []).append((chain.name, nft_words.explain(rule.text).rpartition(": ")[0]))
            for name in maps:
                if f"vmap @{name}" in rule.text:
                    callers.setdefault(f"@{name}", []).append((chain.name, ""))
    todo = [f"@{name}" for name in maps]
    for name in todo:  # grows
        for caller, label in callers.get(name, ()):
            hook = table.chain(caller).hook
            if caller not in builder.nodes:
                builder.nodes[caller] = Node(caller, "hook" if hook else "chain", caller)
                todo.append(caller)
            builder.edge(caller, name, label)
