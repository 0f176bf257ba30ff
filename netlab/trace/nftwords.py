"""nftables rules in words: the map element that a packet met, and what kube-proxy's chain names say. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from netlab.trace.packet import NAMES, Packet

if TYPE_CHECKING:
    from netlab.netfilter.nft import NftElement

_LOOKUP: Final = re.compile(r"((?:[\w]+ [\w]+(?: \. )?)+) (?P<map>vmap |map )?@([\w./-]+)")
_ANONYMOUS: Final = re.compile(r"map \{ (.*?) \}")
_CHAIN: Final = re.compile(r"(service|external|firewall|endpoint|snat)-[A-Z2-7]{8}-"
                           r"(?P<service>[^/]+/[^/]+)/(?P<protocol>[^/]+)/(?P<port>.*?)(?:__(?P<ip>[^/]+)/(?P<number>\d+))?$")
_COMMENT: Final = re.compile(r'comment "((?:[^"\\]|\\.)*)"')


def looked_up(rule: str, packet: Packet) -> tuple[str, str] | None:
    """Return the named set or map that a rule asks, and the packet's key in it; None for rules without one.

    `ip daddr . meta l4proto . th dport vmap @service-ips` gives ("service-ips", "10.96.0.10 . tcp . 80"). Of several
    the map counts, for that is where the verdict came from.
    """
    every = list(_LOOKUP.finditer(rule))
    found = next((one for one in every if one["map"]), every[0] if every else None)
    if found is None:
        return None
    values = [_value(field, packet) for field in found[1].split(" . ")]
    return (found[3], " . ".join(values)) if all(values) else None


def chosen(rule: str, packet: Packet) -> str:
    """Return the element of a rule's own map that leads to the packet's new destination; "" when there is none."""
    found = _ANONYMOUS.search(rule)
    wanted = {packet.destination, f"{packet.destination} . {packet.dport}"}
    for element in found[1].split(", ") if found else ():
        if element.partition(" : ")[2] in wanted:
            return element
    return ""


def comment(text: str) -> str:
    """Return the comment of a rule or an element as nft prints it, "" for none."""
    found = _COMMENT.search(text)
    return found[1] if found else ""


def element(value: NftElement) -> str:
    """Return an element as nft prints it, comment included."""
    said = f'{value.key} comment "{value.comment}"' if value.comment else value.key
    return f"{said} : {value.value}" if value.value else said


def said(element: str, line: str, target: str, chain: str) -> str:
    """Return what is to be told of a rule: its element's comment or its own, or what chain names say."""
    return comment(element) or comment(line) or words(target) or words(chain)


def without_endpoints(text: str, before: str, chain: str, verdict: str, line: str) -> str:
    """Return the words of a rule by which kube-proxy refuses: the element that led there names the Service."""
    if chain == "reject-chain" and before:
        return f"{before} has no endpoints"
    return f"{text} has no local endpoints" if verdict == "DROP" and "no-endpoint" in line else text


def words(chain: str) -> str:
    """Return what the name of one of kube-proxy's chains says: `default/web:http`, with an endpoint's address."""
    found = _CHAIN.match(chain)
    if found is None:
        return {"reject-chain": "rejects what has no endpoints"}.get(chain, "")
    service = found["service"] + (f":{found['port']}" if found["port"] else "")
    if found["ip"]:
        address = found["ip"] if found["ip"].count(".") == 3 else f"[{found['ip'].replace('.', ':')}]"
        return f"{service} -> {address}:{found['number']}"
    return service + {"external": " from outside the cluster", "firewall": " source ranges"}.get(found[1], "")


def _value(field: str, packet: Packet) -> str:
    name = " ".join(field.split()[-2:])
    values = {"ip saddr": packet.source, "ip daddr": packet.destination, "ip6 saddr": packet.source,
              "ip6 daddr": packet.destination, "meta l4proto": NAMES.get(packet.protocol, ""),
              "th sport": str(packet.sport), "th dport": str(packet.dport)}
    for protocol in ("tcp", "udp", "sctp"):
        values |= {f"{protocol} sport": str(packet.sport), f"{protocol} dport": str(packet.dport)}
    return values.get(name, "")
