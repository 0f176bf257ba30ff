"""Names in nftables mode: they say in full what they are for, behind a hash that keeps cut ones apart.

The rules are upstream's (kubernetes: pkg/proxy/nftables/proxier.go), so that either program finds the other's chains.
"""

from __future__ import annotations

from base64 import b32encode
from hashlib import sha256
from typing import Final

from netlab.proxy.services import ServicePort

TABLE: Final = "kube-proxy"

SERVICE_IPS: Final = "service-ips"
SERVICE_NODEPORTS: Final = "service-nodeports"
NO_ENDPOINT_SERVICES: Final = "no-endpoint-services"
NO_ENDPOINT_NODEPORTS: Final = "no-endpoint-nodeports"
FIREWALL_IPS: Final = "firewall-ips"
CLUSTER_IPS: Final = "cluster-ips"
NODEPORT_IPS: Final = "nodeport-ips"
HAIRPIN: Final = "hairpin-connections"

REJECT: Final = "reject-chain"

_LONGEST: Final = 240
"""Characters behind a prefix: the kernel takes 255, and upstream keeps 16 for the longest prefix."""


def hashed(text: str) -> str:
    """Return a name with eight characters of hash in front, cut to what the kernel takes.

    >>> hashed("ns1/svc1/tcp/p80")
    'ULMVA6XW-ns1/svc1/tcp/p80'
    """
    found = f"{b32encode(sha256(text.encode()).digest()[:5]).decode()}-{text}"
    return found if len(found) <= _LONGEST else found[:_LONGEST - 3] + "..."


def port_path(port: ServicePort) -> str:
    """Return `namespace/service/protocol/port name`; the last is empty for a port without a name."""
    return f"{port.service}/{port.protocol}/{port.port_name}"


def endpoint_name(port: ServicePort, ip: str, number: int) -> str:
    """Return what the chain and the affinity set of an endpoint are called behind their prefixes.

    Names may not hold colons: an IPv6 address is written with dots.
    """
    return hashed(f"{port_path(port)}__{ip.replace(':', '.')}/{number}")
