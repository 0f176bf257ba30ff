from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.proxy import network


@pytest.fixture(scope="session")
def net() -> Iterator[network.Network]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    built = network.build()
    yield built
    built.close()
