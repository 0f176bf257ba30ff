"""Taking back everything that kube-proxy wrote, and nothing else."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal, TypeAlias

from netlab.errors import KernelError, Unsupported
from netlab.kernel import conntrack, iptables, nft_table
from netlab.netfilter import normalise, parse
from netlab.netfilter.model import Rule, Ruleset, Table
from netlab.proxy import layout, names, nft_names, user_rules
from netlab.proxy.rules import TableChain

log = logging.getLogger(__name__)


Mode: TypeAlias = Literal["iptables", "userspace"]
"""The modes that write iptables rules."""

_USER_JUMPS = {place: tuple(jumps[place] for jumps in (user_rules.FIRST_JUMPS, user_rules.LAST_JUMPS) if place in jumps)
               for place in user_rules.FIRST_JUMPS}
_JUMPS: dict[Mode, Mapping[TableChain, tuple[Rule, ...]]] = {"iptables": layout.JUMPS, "userspace": _USER_JUMPS}


def text(kernel: Ruleset, modes: Sequence[Mode] = ("iptables", "userspace")) -> str:
    """Return restore input that removes the rules and chains of some modes from what `kernel` holds; "" for nothing.

    KUBE-FIREWALL and the jumps to it stay: the kubelet relies on them. KUBE-MARK-DROP goes if it is empty and nobody
    jumps to it: an old kube-proxy made it, and no kubelet has use for it. A chain that a foreign rule jumps to is
    emptied only, since the kernel would take nothing at all otherwise.
    """
    parts = []
    for table in layout.CANARY_TABLES:
        ours, jumps, held = _ours(kernel.table(table), modes)
        gone = [name for name in ours if name not in held]
        emptied = [name for name in held if kernel.chain(table, name).rules]
        if gone or jumps or emptied:
            parts.append("\n".join((f"*{table}", *(f":{name} - [0:0]" for name in (*gone, *emptied)),
                                    *(f"-D {rule.text.removeprefix('-A ')}" for rule in jumps),
                                    *(f"-X {name}" for name in gone), "COMMIT\n")))
    return "".join(parts)


def foreign_jumps(kernel: Ruleset, modes: Sequence[Mode] = ("iptables", "userspace")) -> Iterator[str]:
    """Yield the foreign rules because of which a chain cannot be removed."""
    for table in layout.CANARY_TABLES:
        for rules in _ours(kernel.table(table), modes)[2].values():
            yield from (f"{table} {rule.text}" for rule in rules)


def _ours(table: Table, modes: Sequence[Mode]) -> tuple[list[str], list[Rule], dict[str, list[Rule]]]:
    """Return a table's chains of some modes, the jumps to them, and those of them that foreign rules jump to."""
    ours = [name for name in table.chains if any(_OURS[mode](table.name, name) for mode in modes)]
    callers = table.callers()
    if (table.name == "nat" and names.MARK_DROP in table.chains and not table.chains[names.MARK_DROP].rules
            and all(rule.chain in ours for rule in callers.get(names.MARK_DROP, ()))):
        ours.append(names.MARK_DROP)
    jumps = [rule for mode in modes for (owner, chain), wanted in _JUMPS[mode].items()
             if owner == table.name and chain in table.chains for rule in table.chains[chain].rules
             if rule.jump in ours and any(normalise.same(rule, each) for each in wanted)]
    own = {id(rule) for rule in jumps}
    foreign = {name: [rule for rule in callers.get(name, ()) if rule.chain not in ours and id(rule) not in own]
               for name in ours}
    return ours, jumps, {name: rules for name, rules in foreign.items() if rules}


def run(backend: iptables.Backend = "auto", netns: int | None = None, *,
        modes: Sequence[Mode] = ("iptables", "userspace")) -> int:
    """Clean both families of every installed backend, or of the one given; return how many chains went."""
    gone = 0
    backends: tuple[iptables.Backend, ...] = ("nft", "legacy") if backend == "auto" else (backend,)
    for each in backends:
        in_use = iptables.tables_in_use(netns)
        for family in ("IPv4", "IPv6"):
            if each == "legacy" and not in_use[family]:
                continue  # looking would create the tables
            try:
                tool = iptables.find(family, each)
            except Unsupported:
                continue
            kernel = parse.parse(iptables.save(tool, netns=netns))
            wanted = text(kernel, modes)
            for rule in foreign_jumps(kernel, modes):
                log.warning("%s, %s: a foreign rule keeps a chain, which is empty now: %s", family, tool, rule)
            if wanted:
                iptables.restore(tool, wanted, netns=netns)
                count = wanted.count("\n-X ")
                log.info("%s, %s: removed %d chains", family, tool, count)
                gone += count
    return gone


def take_over(mode: str, backend: iptables.Backend = "auto", netns: int | None = None) -> int:
    """Remove what other modes wrote, now that this one's rules stand; say what becomes of their connections.

    The order matters: a node without any rule of nat forgets how to translate what conntrack remembers.
    """
    carried = run(backend, netns, modes=("userspace",)) if mode != "userspace" else 0
    gone = carried + (run(backend, netns, modes=("iptables",)) if mode != "iptables" else 0)
    gone += run_nft(netns) if mode != "nftables" else 0
    if not gone:
        return 0
    if carried:
        log.warning("userspace mode was here before: its connections ended with its process")
    try:
        kept = sum(bool(flow.status & conntrack.DST_NAT) and flow.state == "ESTABLISHED"
                   for ipv6 in (False, True) for flow in conntrack.flows(netns, protocol="tcp", ipv6=ipv6))
    except KernelError as error:
        log.debug("cannot count connections: %s", error)
    else:
        log.info("mode %s took over; %d established connections go on as they are: conntrack remembers their way", mode,
                 kept)
    return gone


def run_nft(netns: int | None = None) -> int:
    """Delete nftables mode's tables; return how many went. A kernel without nf_tables has none."""
    gone = 0
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            found = nft_table.delete(family, nft_names.TABLE, netns)
        except (KernelError, Unsupported) as error:
            log.debug("cannot look for table %s: %s", nft_names.TABLE, error)
            continue
        if found:
            log.info("%s: removed table %s", "IPv6" if family == socket.AF_INET6 else "IPv4", nft_names.TABLE)
            gone += 1
    return gone


def _iptables(table: str, chain: str) -> bool:
    if chain == names.CANARY:
        return True
    if table == "nat" and chain.startswith(names.SERVICE_PREFIXES):
        return True
    return (table, chain) in layout.SHARED


def _userspace(table: str, chain: str) -> bool:
    return (table, chain) in user_rules.CHAINS


_OURS: dict[Mode, Callable[[str, str], bool]] = {"iptables": _iptables, "userspace": _userspace}
