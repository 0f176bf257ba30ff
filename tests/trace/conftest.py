from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from netlab.kernel import netns
from tests.trace import topology


@pytest.fixture
def network(request: pytest.FixtureRequest) -> Iterator[topology.Network]:
    """Two nodes with the rules of a Service on both; `request.param` is the iptables-restore to write them with."""
    tool = getattr(request, "param", "iptables-nft-restore")
    net = topology.build()
    try:
        for node in topology.NODES:
            with netns.inside(net.places[f"node/{node}"]):
                subprocess.run([tool], input=topology.SERVICE, text=True, check=True)
        yield net
    finally:
        net.close()
