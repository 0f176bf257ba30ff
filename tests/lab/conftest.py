"""One lab for all tests that only look at it, and a few that do no lasting harm."""

from __future__ import annotations

import os
import shutil

import pytest

from tests.lab.labs import Netlab


@pytest.fixture(scope="session")
def netlab(tmp_path_factory):
    """`netlab` with folders of its own."""
    yield from new_netlab(tmp_path_factory, "labs")


def new_netlab(tmp_path_factory, name):
    """Make a `netlab` that shares nothing with others, and clear up behind it."""
    one = Netlab(tmp_path_factory.mktemp(f"{name}{os.getpid()}-"))
    yield one
    one("down", "--all", check=False)
    shutil.rmtree(one.run_dir, ignore_errors=True)


@pytest.fixture(scope="session")
def services(netlab):
    """The lab `services`, up; its name and what `netlab up` said."""
    name = f"t{os.getpid() % 100000}"
    done = netlab("up", "services", "--name", name)
    yield name, done
    netlab("down", "--name", name)
    assert netlab.leftovers(name) == []
