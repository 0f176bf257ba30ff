"""Taking back everything that kube-proxy wrote, and nothing else."""

from __future__ import annotations

import logging
import socket

from netlab.errors import KernelError, Unsupported
from netlab.kernel import iptables, nft_table
from netlab.netfilter import normalise, parse
from netlab.netfilter.model import Ruleset
from netlab.proxy import layout, names, nft_names

log = logging.getLogger(__name__)


def text(kernel: Ruleset) -> str:
    """Return restore input that removes the rules and chains of kube-proxy from what `kernel` holds; "" for nothing.

    KUBE-FIREWALL and the jumps to it stay: the kubelet relies on them.
    """
    parts = []
    for table in layout.CANARY_TABLES:
        chains = kernel.table(table).chains
        ours = [name for name in chains if _ours(table, name)]
        jumps = [f"-D {rule.text.removeprefix('-A ')}"
                 for (owner, chain), wanted in layout.JUMPS.items() if owner == table
                 for rule in kernel.chain(table, chain).rules
                 if rule.jump in ours and any(normalise.same(rule, each) for each in wanted)]
        if ours or jumps:
            parts.append("\n".join((f"*{table}", *(f":{name} - [0:0]" for name in ours), *jumps,
                                    *(f"-X {name}" for name in ours), "COMMIT\n")))
    return "".join(parts)


def run(backend: iptables.Backend = "auto", netns: int | None = None) -> int:
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
            wanted = text(parse.parse(iptables.save(tool, netns=netns)))
            if wanted:
                iptables.restore(tool, wanted, netns=netns)
                count = wanted.count("\n-X ")
                log.info("%s, %s: removed %d chains", family, tool, count)
                gone += count
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


def _ours(table: str, chain: str) -> bool:
    if chain == names.CANARY:
        return True
    if table == "nat" and chain.startswith(names.SERVICE_PREFIXES):
        return True
    return (table, chain) in layout.SHARED
