"""NodePorts: a host port can be had once."""

from __future__ import annotations

from typing import Any, ClassVar

from netlab.scheduler.model import Cluster, Node, Pod
from netlab.scheduler.plugins.base import Plugin, Refusal
from netlab.scheduler.queue import Event

_ANY = "0.0.0.0"


class Ports(Plugin):
    """Refuses nodes where a wished host port is taken; 0.0.0.0 clashes with every address."""

    name: ClassVar[str] = "NodePorts"
    events: ClassVar[frozenset[Event]] = frozenset((Event.NODE_ADDED, Event.POD_DELETED))

    def prepare(self, pod: Pod, cluster: Cluster) -> Any:
        """Only Pods with host ports."""
        return pod.ports or None

    def filter(self, state: Any, pod: Pod, node: Node) -> Refusal | None:
        """Compare with the ports in use."""
        for address, protocol, port in pod.ports:
            for used_address, used_protocol, used_port in node.ports:
                if (protocol, port) == (used_protocol, used_port) and (
                        address == used_address or _ANY in (address, used_address)):
                    return Refusal(("node(s) didn't have free ports for the requested pod ports",))
        return None
