"""The nat table as the plugins see it: chains of their own per container, named as the reference plugins name them.

What belongs to a container is found by its chain's name, what belongs to a network by the comment that the rules bear,
so that DEL and GC need nothing but the kernel's own table.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, Literal

from netlab.kernel import iptables

Family = Literal["IPv4", "IPv6"]

_CHAIN_LENGTH: Final = 28
_OWNER = re.compile(r'name: \\"(?P<network>[^"\\]*)\\" id: \\"(?P<id>[^"\\]*)\\"')


def chain_name(prefix: str, network: str, container_id: str) -> str:
    """Return the chain of a container: `CNI-`, the prefix and as much of a SHA-512 as fits (pkg/utils/utils.go)."""
    from hashlib import sha512  # 10 ms: only where rules are written
    name = f"CNI-{prefix}"
    return name + sha512((network + container_id).encode()).hexdigest()[:_CHAIN_LENGTH - len(name)]


def comment(network: str, container_id: str, before: str = "") -> str:
    """Return the match that tells whose rule it is."""
    return f'-m comment --comment "{before}name: \\"{network}\\" id: \\"{container_id}\\""'


def families(addresses: Iterable[str]) -> dict[Family, list[str]]:
    """Return the addresses by family, only the families that occur."""
    found: dict[Family, list[str]] = {}
    for address in addresses:
        found.setdefault("IPv6" if ":" in address else "IPv4", []).append(address)
    return found


def rules(family: Family) -> list[str]:
    """Return the rules of the nat table, each as an iptables-save line (`-A CHAIN ...`), chains as `:CHAIN ...`."""
    text = iptables.save(iptables.find(family), tables=["nat"])
    return [line for line in text.splitlines() if line[:1] in "-:" and line]


def write(family: Family, lines: Iterable[str]) -> None:
    """Hand lines to iptables-restore in one transaction; a `:CHAIN - [0:0]` line makes or empties a chain."""
    text = "\n".join(["*nat", *sorted(lines, key=lambda line: line[0] != ":"), "COMMIT", ""])
    iptables.restore(iptables.find(family), text, wait=10)


def removal(there: Iterable[str], chains: Iterable[str]) -> list[str]:
    """Return the lines that remove chains and all jumps to them from the rules that are there; [] when none are."""
    gone = set(chains)
    lines: list[str] = []
    found: list[str] = []
    for line in there:
        words = line.split()
        if line[0] == ":":
            if words[0][1:] in gone:
                found.append(words[0][1:])
        elif words[1] not in gone and words[-1] in gone and words[-2] == "-j":
            lines.append("-D" + line[2:])
    return [*(f":{name} - [0:0]" for name in found), *lines, *(f"-X {name}" for name in found)]


def emptied(there: Iterable[str], chain: str) -> list[str]:
    """Return the lines that make a chain, or empty it and remove the jumps to it when it is there."""
    return [f":{chain} - [0:0]", *(line for line in removal(there, [chain]) if line.startswith("-D"))]


def stale_chains(there: Iterable[str], prefix: str, network: str, valid: Iterable[str]) -> set[str]:
    """Return the chains of a network's containers that are not among the valid ids."""
    keep = set(valid)
    return {words[-1] for line in there if line[0] == "-" and (owner := _OWNER.search(line))
            and (words := line.split())[-2] == "-j" and words[-1].startswith(f"CNI-{prefix}")
            and owner["network"] == network and owner["id"] not in keep
            and words[-1] == chain_name(prefix, network, owner["id"])}
