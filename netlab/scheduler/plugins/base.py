"""The shape of a plugin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from netlab.scheduler.model import Cluster, Node, Pod
from netlab.scheduler.queue import Event

HIGHEST = 100.0


@dataclass(frozen=True)
class Refusal:
    """Why a node is ruled out. `final`: not even with fewer Pods on it would the node do."""

    reasons: tuple[str, ...]
    final: bool = False


class Plugin:
    """One rule. `events` are those after which a Pod that it refused may fit."""

    name: ClassVar[str]
    weight: ClassVar[int] = 0
    """How much its score counts; 0 for a plugin that only filters."""
    events: ClassVar[frozenset[Event]] = frozenset()

    def prepare(self, pod: Pod, cluster: Cluster) -> Any:
        """Work out once a cycle what `filter` and `score` need; None when the Pod does not use this plugin."""
        return True

    def filter(self, state: Any, pod: Pod, node: Node) -> Refusal | None:
        """Return why `pod` can't be on `node`, None if it can."""
        return None

    def score(self, state: Any, pod: Pod, node: Node) -> float:
        """Return how good `node` is, in this plugin's own measure."""
        return 0.0

    def normalize(self, scores: Mapping[str, float], cluster: Cluster) -> Mapping[str, float]:
        """Return the scores by node as numbers from 0 to 100."""
        return scores


def stretched(scores: Mapping[str, float], *, reverse: bool = False) -> Mapping[str, float]:
    """Scale scores so that the highest becomes 100 (DefaultNormalizeScore); `reverse` makes a small one good."""
    top = max(scores.values(), default=0.0)
    if top <= 0:
        return dict.fromkeys(scores, HIGHEST if reverse else 0.0)
    return {name: HIGHEST - int(HIGHEST * value / top) if reverse else int(HIGHEST * value / top)
            for name, value in scores.items()}
