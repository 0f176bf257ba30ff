from __future__ import annotations

import pytest

from netlab.trace import bench


@pytest.mark.root
def test_the_bench_traces_a_service_and_times_echoes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "_ECHOES", 20)
    monkeypatch.setattr(bench, "_RATES", (200,))
    rows = list(bench.run(repeat=1))
    assert [row["unit"] for row in rows if row["unit"] != "ms"] == ["1/s", "us", "us", "us"]
    assert rows[0]["what"].startswith("one TCP trace through a Service")
    assert all(row["value"] > 0 for row in rows)
