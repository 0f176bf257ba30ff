"""NodeResourcesFit: enough CPU, memory, ... is left; the least used node is best."""

from __future__ import annotations

from typing import Any, ClassVar

from netlab.scheduler.model import CPU, MEMORY, PODS, Node, Pod
from netlab.scheduler.plugins.base import HIGHEST, Plugin, Refusal
from netlab.scheduler.queue import Event


class Fit(Plugin):
    """Refuses nodes that are full."""

    name: ClassVar[str] = "NodeResourcesFit"
    weight: ClassVar[int] = 1
    events: ClassVar[frozenset[Event]] = frozenset((Event.NODE_ADDED, Event.NODE_ALLOCATABLE, Event.POD_DELETED,
                                                    Event.POD_UPDATED))

    def filter(self, state: Any, pod: Pod, node: Node) -> Refusal | None:
        """Name every resource that is short."""
        short = ["Too many pods"] if len(node.pods) + 1 > node.allocatable[PODS] else []
        short += [f"Insufficient {name}" for name, wish in pod.requests.items()
                  if wish and wish > node.allocatable[name] - node.requested[name]]
        if not short:
            return None
        hopeless = any(wish > node.allocatable[name] for name, wish in pod.requests.items())
        return Refusal(tuple(short), final=hopeless)

    def score(self, state: Any, pod: Pod, node: Node) -> float:
        """Return the free part of CPU and memory, in percent (LeastAllocated)."""
        total, count = 0.0, 0
        for name in (CPU, MEMORY):
            room = node.allocatable[name]
            if room:
                total += max(0.0, (room - node.weights[name] - pod.weights[name]) / room)
                count += 1
        return int(HIGHEST * total / count) if count else 0.0
