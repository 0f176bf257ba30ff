"""`python -m netlab.trace.scapy_child`: build packets with scapy, which is GPL and therefore has a process of its own.

Reads one JSON object on standard input (the fields of `craft.Craft` and where to send), writes a JSON list of packets,
each a list of its pieces in hexadecimal, from the IP header on. Nothing is sent here.
"""

from __future__ import annotations

import json
import random
import sys
from typing import Any


def packets(wish: dict[str, Any]) -> list[list[str]]:
    """Return the packets that are wished for."""
    from scapy.layers.inet import IP, fragment
    from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment, fragment6

    dice = random.Random(wish["seed"])
    six = ":" in wish["destination"]
    source_port = wish["source_port"] or dice.randrange(32768, 61000)
    seq, ident = dice.randrange(1, 1 << 31), dice.randrange(1, 1 << 16)
    payload = bytes.fromhex(wish["payload"])
    made = []
    for number in range(wish["count"]):
        body = payload if wish["protocol"] != "udp" or wish["count"] == 1 else payload + f"#{number}".encode()
        upper = _upper(wish, dice, source_port, seq + number * max(len(payload), 1), ident, number + 1, body)
        ttl = wish["ttl"] or 64
        if not six:
            packet = IP(src=wish["source"], dst=wish["destination"], ttl=ttl, id=dice.randrange(1, 1 << 16),
                        flags="DF" if wish["df"] else 0) / upper
            pieces = fragment(packet, wish["fragment"] // 8 * 8) if wish["fragment"] else [packet]
        elif wish["fragment"]:
            head = IPv6(src=wish["source"], dst=wish["destination"], hlim=ttl)
            whole = head / IPv6ExtHdrFragment(id=dice.randrange(1, 1 << 32)) / upper
            pieces = fragment6(whole, 48 + wish["fragment"] // 8 * 8)
        else:
            pieces = [IPv6(src=wish["source"], dst=wish["destination"], hlim=ttl) / upper]
        made.append([bytes(piece).hex() for piece in pieces])
    return made


def _upper(wish: dict[str, Any], dice: random.Random, source_port: int, seq: int, ident: int, number: int,
           body: bytes) -> Any:
    """Return the transport header with its payload."""
    from scapy.layers.inet import ICMP, TCP, UDP
    from scapy.layers.inet6 import ICMPv6EchoRequest
    from scapy.packet import Raw

    if wish["protocol"] == "tcp":
        ack = dice.randrange(1, 1 << 31) if "A" in wish["flags"] else 0
        upper: Any = TCP(sport=source_port, dport=wish["port"], flags=wish["flags"], seq=seq, ack=ack)
    elif wish["protocol"] == "udp":
        upper = UDP(sport=source_port, dport=wish["port"])
    elif wish["protocol"] == "sctp":
        from scapy.layers.sctp import SCTP, SCTPChunkInit

        return SCTP(sport=source_port, dport=wish["port"], tag=0) / SCTPChunkInit(init_tag=dice.randrange(1, 1 << 32))
    elif ":" in wish["destination"]:
        return ICMPv6EchoRequest(id=ident, seq=number, data=body)
    else:
        upper = ICMP(type=8, id=ident, seq=number)
    return upper / Raw(body) if body else upper


if __name__ == "__main__":
    json.dump(packets(json.load(sys.stdin)), sys.stdout)
