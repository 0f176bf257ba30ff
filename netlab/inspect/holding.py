"""What one node holds in one address family, in whatever mode its kube-proxy runs. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from netlab.inspect import nft_service, overview, service
from netlab.inspect.names import Names
from netlab.inspect.overview import Foreign
from netlab.netfilter import nft, parse
from netlab.netfilter.model import HOOKS, Ruleset
from netlab.netfilter.nft import NftTable
from netlab.proxy import names as chain_names
from netlab.proxy import nft_names

IPTABLES, NFTABLES, USERSPACE = "iptables", "nftables", "userspace"
_PRIVATE = "netlab-trace"
"""The tracer's own table: its rules belong to nobody's cluster."""


@dataclass(frozen=True)
class Holding:
    """The rules of one node and family.

    `rules` are those of iptables by the backend that kube-proxy's are in (or the machine's own), `other` those of the
    second backend, None where it has none. `nft` is kube-proxy's table of nftables mode, `native` all other tables
    that nft wrote and iptables cannot say. `sysctls` are those that rules rely on, by name, as far as they were read.
    """

    node: str = ""
    rules: Ruleset = field(default_factory=Ruleset)
    other: Ruleset | None = None
    nft: NftTable | None = None
    native: tuple[NftTable, ...] = ()
    sysctls: dict[str, str] = field(default_factory=dict, hash=False)
    ipv6: bool = False
    bridge: bool = True
    """Whether the node has a bridge, over which Pods may talk to each other."""

    @property
    def mode(self) -> str:
        """Return the mode that kube-proxy's rules are in: iptables, nftables, userspace, or "" when there are none."""
        if self.nft is not None and nft_names.SERVICE_IPS in self.nft.sets:
            return NFTABLES
        if "KUBE-PORTALS-CONTAINER" in self.rules.table("nat").chains:
            return USERSPACE
        return IPTABLES if self.in_iptables else ""

    @property
    def in_iptables(self) -> bool:
        """Tell whether iptables' tables hold chains of kube-proxy's."""
        return chain_names.SERVICES in self.rules.table("nat").chains

    @property
    def backend(self) -> str:
        """Return nftables, or the backend of iptables: nf_tables or legacy."""
        return NFTABLES if self.mode == NFTABLES else self.rules.backend

    @property
    def liberal(self) -> bool:
        """Tell whether TCP packets outside the window pass (nf_conntrack_tcp_be_liberal)."""
        return self.sysctls.get("net.netfilter.nf_conntrack_tcp_be_liberal", "0") != "0"

    def ports(self, key: str, names: Names) -> tuple[service.PortRules, ...]:
        """Return the rules of a Service by port."""
        if self.mode == NFTABLES and self.nft is not None:
            return nft_service.ports(self.nft, key, names)
        return service.ports(self.rules, key, names)

    def services(self) -> Iterable[str]:
        """Return the Services that have rules here."""
        if self.mode == NFTABLES and self.nft is not None:
            return nft_service.known(self.nft)
        return service.known(self.rules)


def of_text(text: str, *, ipv6: bool = False) -> Holding:
    """Return what a saved file holds: text of iptables-save, of `nft list ruleset`, or one behind the other.

    Raises:
        NotIptables, NotNft: it is neither.
    """
    if not nft.looks_like(text):
        return Holding(rules=parse.parse(text), ipv6=ipv6)
    first = next(at for at, line in enumerate(text.splitlines()) if line.startswith("table "))
    saved = "\n".join(text.splitlines()[:first])
    tables = nft.parse("\n".join(text.splitlines()[first:]))
    rules = parse.parse(saved) if "\n*" in f"\n{saved}" else Ruleset()
    return with_tables(rules, tables, ipv6=ipv6)


def with_tables(rules: Ruleset, tables: Iterable[NftTable], *, ipv6: bool = False, node: str = "",
                other: Ruleset | None = None, sysctls: dict[str, str] | None = None, bridge: bool = True) -> Holding:
    """Put together what a node holds: of nft's tables those that its family's packets meet."""
    family = "ip6" if ipv6 else "ip"
    mine = [each for each in tables if each.family in (family, "inet", "netdev", "bridge")]
    proxys = next((each for each in mine if each.family == family and each.name == nft_names.TABLE), None)
    native = tuple(each for each in mine if each is not proxys and not each.name.startswith(_PRIVATE)
                   and not (each.family == family and is_iptables(each)))
    return Holding(node, rules, other, proxys, native, sysctls or {}, ipv6, bridge)


def is_iptables(table: NftTable) -> bool:
    """Tell whether a table is one that iptables-nft keeps its rules in."""
    return table.name in HOOKS and all(not chain.hook or chain.name in HOOKS[table.name]
                                       for chain in table.chains.values())


def overview_of(holding: Holding) -> overview.Overview:
    """Count and sort what a node holds."""
    native = native_rules(holding)
    plain = overview.overview(holding.node, holding.rules)
    if holding.mode == NFTABLES and holding.nft is not None:
        return overview.of_nft(holding.node, holding.nft, (*plain.foreign, *native))
    return replace(plain, foreign=(*plain.foreign, *native)) if native else plain


def native_rules(holding: Holding) -> tuple[Foreign, ...]:
    """Return every rule of the tables that are neither kube-proxy's nor iptables'."""
    return tuple(overview.of_native(table, chain, number, rule) for table in holding.native
                 for chain in table.chains.values() for number, rule in enumerate(chain.rules, 1))
