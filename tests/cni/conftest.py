from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cni.nodes import REFERENCE, Node, a_node


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with a_node(tmp_path) as made:
        yield made


@pytest.fixture
def reference() -> None:
    if not (REFERENCE / "bridge").exists():
        pytest.skip("the reference plugins (containernetworking-plugins) are not installed")
