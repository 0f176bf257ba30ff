"""ImageLocality: a node that has the images already is a little better."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from netlab.scheduler.model import Cluster, Node, Pod
from netlab.scheduler.plugins.base import HIGHEST, Plugin

_LEAST, _MOST = 23 << 20, 1000 << 20  # bytes a container between which the score rises


def full_name(image: str) -> str:
    """Return an image name with a tag, as nodes list it."""
    return image if ":" in image.rpartition("/")[2] or "@" in image else f"{image}:latest"


class ImageLocality(Plugin):
    """Scores the bytes of the Pod's images that a node has."""

    name: ClassVar[str] = "ImageLocality"
    weight: ClassVar[int] = 1

    def prepare(self, pod: Pod, cluster: Cluster) -> Any:
        """Return for each of the Pod's images its weight by node: rare images count less, lest one node draws all."""
        wanted = {full_name(str(row.get("image", ""))) for row in pod.spec.get("containers") or []}
        sizes: dict[str, dict[str, int]] = {}
        for node in cluster.nodes.values():
            for row in node.obj.get("status", {}).get("images") or []:
                for name in wanted.intersection(row.get("names") or []):
                    sizes.setdefault(name, {})[node.name] = int(row.get("sizeBytes") or 0)
        return {name: {node: size * len(by_node) / len(cluster.nodes) for node, size in by_node.items()}
                for name, by_node in sizes.items()} or None

    def score(self, state: Any, pod: Pod, node: Node) -> float:
        """Return 0 to 100."""
        most = _MOST * max(1, len(pod.spec.get("containers") or []))
        have = min(max(sum(by_node.get(node.name, 0) for by_node in state.values()), _LEAST), most)
        return int(HIGHEST * (have - _LEAST) / (most - _LEAST))

    def normalize(self, scores: Mapping[str, float], cluster: Cluster) -> Mapping[str, float]:
        """The scores are from 0 to 100 already."""
        return scores
