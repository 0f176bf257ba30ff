"""A lab on paper, pure: which nodes, with which names, addresses and roles; all later steps read it from here."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from netlab.errors import UsageError

UNDERLAY = "172.18.0.0/16"
ROUTER = "172.18.0.1"
OUTSIDE = "192.0.2.10"
OUTSIDE_ROUTER = "192.0.2.1"
POD_CIDR = "10.244.0.0/16"
SERVICE_CIDR = "10.96.0.0/16"
API_SERVICE = "10.96.0.1"
DNS_SERVICE = "10.96.0.10"
DOMAIN = "cluster.local"
API_PORT = 6443

Role = Literal["control-plane", "worker"]


@dataclass(frozen=True)
class Node:
    """A node that is to be: `ip` is its address on the fabric."""

    name: str
    role: Role
    ip: str

    @property
    def control(self) -> bool:
        """Tell whether the control plane runs here."""
        return self.role == "control-plane"

    @property
    def mac(self) -> str:
        """Return a MAC address that shows the IP address, as Docker's bridge network has them."""
        return mac_of(self.ip)


@dataclass(frozen=True)
class Lab:
    """What is to be built. `backend` is netd's: host-gw or vxlan."""

    name: str
    nodes: tuple[Node, ...]
    backend: str = "host-gw"

    @property
    def control_planes(self) -> tuple[Node, ...]:
        """Return the nodes that run the control plane; the first one is where everybody connects."""
        return tuple(node for node in self.nodes if node.control)

    @property
    def api_url(self) -> str:
        """Return the API server's address inside the lab."""
        return f"https://{self.control_planes[0].ip}:{API_PORT}"


def mac_of(ip: str) -> str:
    """Return 02:42: and the four bytes of an IPv4 address."""
    return ":".join(["02", "42", *(f"{byte:02x}" for byte in ipaddress.IPv4Address(ip).packed)])


def make(name: str, *, workers: int, control_planes: int = 1, names: Sequence[str] = (),
         backend: str = "host-gw") -> Lab:
    """Return the plan of a lab; node n (from 0) gets the address 172.18.0.(n+2), control planes first.

    Args:
        names: names of the workers, where `worker1`, `worker2`… are not wanted.

    Raises:
        UsageError: numbers that no lab can have.
    """
    if control_planes != 1:
        raise UsageError("a lab has exactly one control-plane node")
    if not 0 <= workers <= 200:
        raise UsageError(f"{workers} workers: choose 0 to 200")
    first = ipaddress.IPv4Network(UNDERLAY)[2]
    chosen = ["control-plane", *(names or [f"worker{number}" for number in range(1, workers + 1)])]
    nodes = tuple(Node(node, "worker" if number else "control-plane", str(first + number))
                  for number, node in enumerate(chosen))
    return Lab(name, nodes, backend)
