"""Listings of several namespaces at once."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from netlab.kernel import netns, nft_listing

pytestmark = pytest.mark.root
TABLE = [("ip", "t")]


@pytest.fixture
def two() -> Iterator[list[int]]:
    """Two namespaces, of which one names tcp in 400 elements, the other udp."""
    made = [netns.new_netns(), netns.new_netns()]
    for fd, protocol in zip(made, ("tcp", "udp"), strict=True):
        elements = ", ".join(f"{protocol} . {port}" for port in range(1, 401))
        with netns.inside(fd):
            subprocess.run(["nft", "-f", "-"], text=True, check=True, input=(
                f"table ip t {{\nset s {{\ntype inet_proto . inet_service\nelements = {{ {elements} }}\n}}\n}}\n"))
    yield made
    for fd in made:
        os.close(fd)


def test_threads_that_list_at_the_same_time_read_no_word_of_each_other(two: list[int]) -> None:
    alone = [nft_listing.listing(TABLE, fd) for fd in two]
    with ThreadPoolExecutor(2) as pool:
        for fd, said in zip(two * 100, pool.map(lambda fd: nft_listing.listing(TABLE, fd), two * 100), strict=True):
            assert said == alone[two.index(fd)]
