"""410 Gone as the kubectl of every release meets it (`-m soak`): pages and watches whose history was compacted."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.apiserver.conftest import Client, Kubectl, Pki, Server, config_map
from tests.apiserver.slow_link import SlowLink

KEPT = 30
_names = itertools.count()


@pytest.fixture(scope="module")
def server(pki: Pki, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(pki, tmp_path_factory.mktemp("apiserver"), f"--store-retention-revisions={KEPT}")
    yield running
    assert running.stop() == 0
    assert "Traceback" not in running.log.read_text()


def compact(client: Client, path: str, revision: str) -> None:
    """Write until the history at a revision is gone."""
    deadline = time.monotonic() + 20
    while client.get(f"{path}?resourceVersion={revision}&resourceVersionMatch=Exact").status == 200:
        assert time.monotonic() < deadline
        for number in range(KEPT):
            client.patch("/api/v1/namespaces/default", {"metadata": {"annotations": {"n": f"{next(_names)}-{number}"}}})
        time.sleep(0.1)  # the store compacts once a second


@pytest.fixture
def slow(client: Client, kubectl: Kubectl, ns: str) -> Iterator[Callable[..., SlowLink]]:
    """Lead kubectl over a link on which requests with a word in their path wait, once, until history is gone."""
    links: list[SlowLink] = []

    def lead(word: str) -> SlowLink:
        revision, held = client.get("/api/v1/namespaces?limit=1").json["metadata"]["resourceVersion"], []

        def hold(path: str) -> None:
            if word in path and not held:
                held.append(path)
                compact(client.again(), "/api/v1/namespaces", revision)

        links.append(SlowLink(client, hold))
        kubectl.argv.append(f"--server={links[-1].url}")
        return links[-1]

    yield lead
    for link in links:
        link.close()


def test_a_raw_watch_from_a_revision_that_is_gone(kubectl: Kubectl, client: Client, ns: str) -> None:
    path = f"/api/v1/namespaces/{ns}/configmaps"
    first = client.post(path, config_map("a")).json["metadata"]["resourceVersion"]
    compact(client, path, first)
    event = json.loads(kubectl("get", "--raw", f"{path}?watch=1&resourceVersion={first}"))
    assert (event["type"], event["object"]["kind"], event["object"]["code"]) == ("ERROR", "Status", 410)
    assert event["object"]["message"].startswith(f"too old resource version: {first} (")
    said = kubectl.fails("get", "--raw", f"{path}?resourceVersion={first}&resourceVersionMatch=Exact")
    assert "The resourceVersion for the provided list is too old" in said


def test_pages_whose_snapshot_is_gone(kubectl: Kubectl, client: Client, ns: str, slow: Callable[..., SlowLink]) -> None:
    for number in range(5):
        client.post(f"/api/v1/namespaces/{ns}/configmaps", config_map(f"c{number}"))
    link = slow("continue=")
    done = kubectl.run("get", "configmaps", "--chunk-size=2", "-o", "name")
    assert sum("continue=" in path for path in link.asked) >= 1
    assert "The provided continue parameter is too old to display a consistent list result" in done.stderr
    assert done.returncode == 1


def test_a_watch_that_begins_too_late(kubectl: Kubectl, client: Client, ns: str, slow: Callable[..., SlowLink]) -> None:
    client.post(f"/api/v1/namespaces/{ns}/configmaps", config_map("a"))
    slow("watch=")
    done = kubectl.run("get", "configmaps", "-w", "--request-timeout=30s")
    assert "too old resource version" in done.stdout + done.stderr, done


def test_an_informer_lists_anew(kubectl: Kubectl, client: Client, ns: str, slow: Callable[..., SlowLink], tmp_path: Path) -> None:
    """`rollout status` and `wait` look again, and see what happened meanwhile."""
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "x"}]}}
    path = f"/apis/apps/v1/namespaces/{ns}/deployments"
    assert client.post(path, {"metadata": {"name": "d"}, "spec": {
        "selector": {"matchLabels": {"a": "b"}}, "template": template}}).status == 201
    link = slow("watch=")
    rolling = kubectl.popen("rollout", "status", "deploy/d", "--timeout=50s")
    deadline = time.monotonic() + 40
    while not any("watch=" in path for path in link.asked):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    client.patch(f"{path}/d/status", {"status": {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1,
                                                  "readyReplicas": 1, "availableReplicas": 1}})
    out, err = rolling.communicate(timeout=60)
    assert "successfully rolled out" in out, err
