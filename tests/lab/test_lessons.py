"""Every scenario's checks. Those that ask for one kind of cluster share a lab; each alone, from up to down, is a soak."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from netlab.lab import scenario

pytestmark = [pytest.mark.lab, pytest.mark.root]

# In this order: the later ones do more to the cluster.
SHARED = ("topology-hints", "nodeport-source-address", "external-traffic-policy", "session-affinity", "hairpin",
          "read-the-rules", "terminating-endpoints")
ALONE = ("dual-stack",)
ELSEWHERE = ("services",)  # in test_up.py
LONG = ("iptables-vs-userspace-vs-nftables", "where-did-it-die")


@pytest.fixture(scope="module")
def shared(netlab):
    """A lab with the objects of all these scenarios; the first one says what cluster it is."""
    name = f"l{os.getpid() % 100000}"
    first, *others = (Path(scenario.find(one)).parent for one in SHARED)
    files = {file.name: file for folder in others for file in (folder / "manifests").iterdir()}  # one client for all
    more = [word for file in files.values() for word in ("-f", str(file))]
    netlab("up", str(first), "--name", name, "--no-kubeconfig", "-q", *more)
    yield name
    netlab("down", "--name", name)
    assert netlab.leftovers(name) == []


def failed(text: str) -> list[str]:
    return [f"{row['check']}: {row['seen']}" for row in json.loads(text) if not row["passed"]]


@pytest.mark.parametrize("lesson", SHARED)
def test_what_a_lesson_says_is_so(netlab, shared, lesson):
    done = netlab("test", lesson, "--name", shared, "-o", "json", check=False)
    assert failed(done.stdout) == []


@pytest.mark.parametrize("lesson", ALONE)
def test_what_a_lesson_says_is_so_in_a_lab_of_its_own(netlab, lesson):
    done = netlab("test", lesson, "-o", "json", check=False)
    assert failed(done.stdout) == []


@pytest.mark.soak
@pytest.mark.parametrize("lesson", scenario.names())
def test_a_lesson_from_up_to_down(netlab, lesson):
    done = netlab("test", lesson, "-o", "json", check=False)
    assert failed(done.stdout) == []


def test_no_lesson_is_forgotten():
    assert {*SHARED, *ALONE, *ELSEWHERE, *LONG} == set(scenario.names())
