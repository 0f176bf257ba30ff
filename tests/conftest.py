"""What holds for all tests: who may run them, and that nobody's own settings leak into them."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

# A test says what is true, not how fast this machine happens to be today.
settings.register_profile("netlab", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("netlab")

for _name in ("NETLAB_NAME", "NETLAB_RUN_DIR", "NETLAB_STATE_DIR", "NETLAB_DEBUG", "KUBECONFIG", "SUDO_UID", "SUDO_GID"):
    os.environ.pop(_name, None)


def pytest_collection_modifyitems(items):
    if os.geteuid() == 0:
        return
    needs_root = pytest.mark.skip(reason="needs root: sudo vagrant/provision.sh pytest")
    for item in items:
        if item.get_closest_marker("root") or item.get_closest_marker("lab"):
            item.add_marker(needs_root)
