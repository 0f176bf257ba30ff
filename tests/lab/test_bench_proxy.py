from __future__ import annotations

import pytest

from netlab.lab import bench_proxy

pytestmark = [pytest.mark.root, pytest.mark.soak]


@pytest.mark.parametrize("mode", ["iptables-nft", "iptables-legacy", "nftables"])
def test_the_whole_way_is_measured_with_real_processes(mode: str):
    rows = {row["what"].partition("API server: ")[2]: row for row in bench_proxy.run(repeat=1, sizes=(20,), modes=(mode,))}
    assert rows["from the API write of one endpoint to its rule"]["value"] > 0
    assert 1 <= rows["20 changes at once are coalesced into"]["value"] < 20
    assert rows["memory per 1,000 Services"]["unit"] == "MiB"
