from __future__ import annotations

import pytest

from netlab.errors import UsageError
from netlab.proxy import bench


@pytest.mark.root
@pytest.mark.parametrize("mode", bench.MODES)
def test_every_mode_is_measured_beside_its_raw_writes(mode: str):
    rows = list(bench.run(repeat=1, sizes=(3,), modes=(mode,)))
    names = {row["what"].removeprefix(f"{mode}, 3 Services x 3: ") for row in rows}
    assert {"full sync, from objects to kernel", "resync of everything", bench.ONE_ENDPOINT, bench.RAW, bench.RAW_AGAIN,
            bench.ONE_CHAIN, bench.CONNECTIONS} <= names
    assert all(row["value"] > 0 and row["unit"] in ("ms", "1/s") for row in rows)
    (again,) = (row for row in rows if row["what"].endswith("resync of everything"))
    assert f" of: {bench.RAW_AGAIN}" in again["note"]


def test_a_mode_that_is_none():
    with pytest.raises(UsageError, match="ipvs"):
        list(bench.run(modes=("ipvs",)))
