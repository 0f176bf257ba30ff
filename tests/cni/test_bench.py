from __future__ import annotations

import pytest

from netlab.cni import bench

pytestmark = pytest.mark.root


def test_every_way_is_measured_and_compared() -> None:
    rows = {row["what"]: row for row in bench.run(repeat=1, count=3)}
    assert {"raw netlink: add", "raw netlink: delete", "plugin, in process: add", "plugin, executable: delete"} <= set(rows)
    assert all(row["value"] > 0 for row in rows.values())
    assert "plugin, in process / ip -batch" in rows
