"""netlab bench api, small: it yields every figure, and no request of it fails."""

from __future__ import annotations

from netlab.lab import bench_api
from netlab.lab.bench_api import Sizes


def test_every_figure_is_there():
    rows = list(bench_api.run(repeat=1, stores=("normal",), sizes=Sizes(8, 20, 2, 5, (20, 40), 5)))
    what = [row["what"] for row in rows]
    for name in ("time to ready", "create, 1 client", "get, 8 clients", "update, 64 clients", "merge patch, 1 client", "list of 40 Pods",
                 "POST to watch event", "memory"):
        assert name in what
    assert all(row["value"] > 0 for row in rows)
    assert not [row for row in rows if "FAILED" in row["note"]]
