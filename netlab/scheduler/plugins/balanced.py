"""NodeResourcesBalancedAllocation: CPU and memory should fill up together."""

from __future__ import annotations

from typing import Any, ClassVar

from netlab.scheduler.model import CPU, MEMORY, Cluster, Node, Pod
from netlab.scheduler.plugins.base import HIGHEST, Plugin


class Balanced(Plugin):
    """Prefers nodes where the used parts of CPU and memory would be alike."""

    name: ClassVar[str] = "NodeResourcesBalancedAllocation"
    weight: ClassVar[int] = 1

    def prepare(self, pod: Pod, cluster: Cluster) -> Any:
        """Best-effort Pods fill nothing."""
        return True if any(pod.requests.values()) else None

    def score(self, state: Any, pod: Pod, node: Node) -> float:
        """Return 100 less the spread of the two parts."""
        parts = [min(1.0, (node.requested[name] + pod.requests.get(name, 0)) / node.allocatable[name])
                 for name in (CPU, MEMORY) if node.allocatable[name]]
        return int(HIGHEST * (1 - (max(parts) - min(parts)) / 2)) if parts else 0.0
