"""Capability sets by name."""

from __future__ import annotations

import pytest

from netlab.errors import UsageError
from netlab.kernel import capabilities


def test_names_and_numbers():
    assert capabilities.number("CAP_NET_ADMIN") == capabilities.number("net_admin") == 12
    with pytest.raises(UsageError, match='unknown capability "FLY"'):
        capabilities.number("FLY")


def test_ids_of_this_namespace():
    assert capabilities.exists(0)
    capabilities.check_ids(0, 0, ())
