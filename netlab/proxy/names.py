"""Names of chains: a prefix and a hash, because the kernel takes 28 characters (kubernetes: pkg/proxy/iptables)."""

from __future__ import annotations

from hashlib import sha256
from typing import Final

SERVICES: Final = "KUBE-SERVICES"
EXTERNAL_SERVICES: Final = "KUBE-EXTERNAL-SERVICES"
NODE_PORTS: Final = "KUBE-NODEPORTS"
POSTROUTING: Final = "KUBE-POSTROUTING"
MARK_MASQ: Final = "KUBE-MARK-MASQ"
FORWARD: Final = "KUBE-FORWARD"
PROXY_FIREWALL: Final = "KUBE-PROXY-FIREWALL"
KUBELET_FIREWALL: Final = "KUBE-FIREWALL"
CANARY: Final = "KUBE-PROXY-CANARY"

FORMER_EXTERNAL: Final = "KUBE-XLB-"
"""What stood for KUBE-EXT- before v1.24."""

MARK_DROP: Final = "KUBE-MARK-DROP"
"""The kubelet's before v1.28; kube-proxy made it where there was none."""

SERVICE_PREFIXES: Final = ("KUBE-SVC-", "KUBE-SVL-", "KUBE-FW-", "KUBE-EXT-", "KUBE-SEP-", FORMER_EXTERNAL)
"""What the chains of Services start with: cluster policy, local policy, firewall, external, endpoint; and once."""

_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_PAIRS = tuple(first + second for first in _ALPHABET for second in _ALPHABET)


def digest(text: str) -> str:
    """Return 16 characters for a text.

    >>> digest("ns1/svc1:p80" + "tcp")
    'XPGD46QRK7WJZT7O'
    """
    bits = int.from_bytes(sha256(text.encode()).digest()[:10], "big")
    pairs = _PAIRS  # base32, ten bits at a time: a full sync makes tens of thousands of names
    return (pairs[bits >> 70] + pairs[bits >> 60 & 1023] + pairs[bits >> 50 & 1023] + pairs[bits >> 40 & 1023]
            + pairs[bits >> 30 & 1023] + pairs[bits >> 20 & 1023] + pairs[bits >> 10 & 1023] + pairs[bits & 1023])


def endpoint_chain(port_name: str, protocol: str, endpoint: str) -> str:
    """Return the chain of one endpoint of a Service port.

    >>> endpoint_chain("ns1/svc1:p80", "tcp", "10.180.0.1:80")
    'KUBE-SEP-SXIVWICOYRO3J4NJ'
    """
    return "KUBE-SEP-" + digest(port_name + protocol + endpoint)
