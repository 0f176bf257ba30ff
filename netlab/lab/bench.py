"""How long a cold start takes, and what the whole lab then weighs."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Any

from netlab.lab import launcher, scenario, usage
from netlab.lab.progress import Progress

COMPONENTS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")


def run(*, repeat: int = 3, name: str = "services") -> Iterator[dict[str, Any]]:
    """Bring a scenario up `repeat` times, each time from nothing, and yield what was measured.

    Yields:
        Rows of {"what", "value", "unit", "note"}; times are medians, `note` has the range.
    """
    chosen = scenario.load(name)
    marks: dict[str, list[float]] = {}
    weights: dict[str, list[int]] = {"whole lab": [], "control plane": []}
    for _ in range(repeat):
        progress = Progress()
        record = launcher.up(chosen, launcher.Options("bench-up", merge=False), progress)
        try:
            marks.setdefault("netlab up, until all Pods are ready", []).append(progress.elapsed())
            for words, at in progress.marks:
                marks.setdefault(words, []).append(at)
            used = usage.by_name(usage.processes(record))
            weights["whole lab"].append(sum(used.values()))
            weights["control plane"].append(sum(used.get(part, 0) for part in COMPONENTS))
        finally:
            launcher.down("bench-up")
    for words, times in marks.items():
        yield {"what": words, "value": round(statistics.median(times), 3), "unit": "s",
               "note": f"{min(times):.2f} to {max(times):.2f} in {len(times)}"}
    for words, sizes in weights.items():
        yield {"what": f"memory of the {words}", "value": round(statistics.median(sizes) / 2**20, 1), "unit": "MiB",
               "note": "proportional set size"}
