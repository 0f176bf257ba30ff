"""LIST and WATCH: consistent snapshots, every change once and in order, and the ways a watch begins and ends."""

from __future__ import annotations

import base64
import json
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import yaml

from tests.apiserver.conftest import Client, Server, config_map, pod


def maps(ns: str, name: str = "") -> str:
    return f"/api/v1/namespaces/{ns}/configmaps" + (f"/{name}" if name else "")


def labelled(name: str, **labels: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": labels}}


def revision(client: Client, ns: str) -> str:
    return client.get(maps(ns)).json["metadata"]["resourceVersion"]


def kinds(events: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(event["type"], event["object"]["metadata"]["name"]) for event in events]


def test_a_watch_tells_what_came_after_the_list(client: Client, ns: str) -> None:
    client.post(maps(ns), config_map("before"))
    start = revision(client, ns)
    client.post(maps(ns), config_map("a", n="1"))
    with client.watch(f"{maps(ns)}?watch=true&resourceVersion={start}") as watching:
        client.patch(maps(ns, "a"), {"data": {"n": "2"}})
        client.delete(maps(ns, "a"))
        events = watching.take(3)
    assert kinds(events) == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a")]
    revisions = [int(event["object"]["metadata"]["resourceVersion"]) for event in events]
    assert revisions == sorted(set(revisions))
    assert events[2]["object"]["data"] == {"n": "2"}
    assert events[0]["object"]["kind"] == "ConfigMap"


def test_a_watch_from_nowhere_starts_with_what_is_there(client: Client, ns: str) -> None:
    client.post(maps(ns), config_map("a"))
    for query in ("", "&resourceVersion=0"):
        with client.watch(f"{maps(ns)}?watch=1{query}") as watching:
            assert kinds(watching.take(1)) == [("ADDED", "a")]


def test_a_selector_turns_changes_into_comings_and_goings(client: Client, ns: str) -> None:
    start = revision(client, ns)
    with client.watch(f"{maps(ns)}?watch=1&resourceVersion={start}&labelSelector=on%3Dyes") as watching:
        client.post(maps(ns), labelled("a", on="no"))
        client.patch(maps(ns, "a"), {"metadata": {"labels": {"on": "yes"}}})
        client.patch(maps(ns, "a"), {"data": {"x": "y"}})
        last = client.patch(maps(ns, "a"), {"metadata": {"labels": {"on": "no"}}}).json
        client.delete(maps(ns, "a"))
        client.post(maps(ns), labelled("b", on="yes"))
        events = watching.take(4)
    assert kinds(events) == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a"), ("ADDED", "b")]
    gone = events[2]["object"]["metadata"]
    assert gone["labels"] == {"on": "yes"}
    assert gone["resourceVersion"] == last["metadata"]["resourceVersion"]


def test_a_field_selector_follows_pods_to_their_node(client: Client, ns: str) -> None:
    path = f"/api/v1/namespaces/{ns}/pods"
    start = client.get(path).json["metadata"]["resourceVersion"]
    with client.watch(f"/api/v1/pods?watch=1&resourceVersion={start}&fieldSelector=spec.nodeName%3Dn7") as watching:
        client.post(path, pod("p"))
        client.post(path, pod("q", nodeName="n7"))
        client.post(f"{path}/p/binding", {"target": {"name": "n7"}})
        assert kinds(watching.take(2)) == [("ADDED", "q"), ("ADDED", "p")]
    answer = client.get("/api/v1/pods?fieldSelector=spec.nodeName%3Dn7,status.phase!%3DSucceeded").json
    assert {item["metadata"]["name"] for item in answer["items"]} == {"p", "q"}
    assert client.get("/api/v1/pods?fieldSelector=spec.hostname%3Dx").json["message"] == \
        'field label not supported: spec.hostname'


def test_the_replay_of_a_watch_is_the_list(client: Client, ns: str) -> None:
    """Under many writers, whoever replays the events has, byte for byte, what a LIST at the last revision gives."""
    start = revision(client, ns)

    def write(worker: int) -> None:
        mine = client.again()
        for step in range(30):
            name = f"c{worker}-{step % 3}"
            if step % 7 == 6:
                mine.delete(maps(ns, name))
            elif mine.patch(maps(ns, name), {"data": {"n": str(step)}}).status == 404:
                mine.post(maps(ns), config_map(name, n=str(step)))

    with client.watch(f"{maps(ns)}?watch=1&resourceVersion={start}") as watching, ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
        client.post(maps(ns), config_map("end"))
        events = watching.until(lambda event: event["object"]["metadata"]["name"] == "end")
    state: dict[str, dict[str, Any]] = {}
    last = 0
    for event in events:
        obj = event["object"]
        assert int(obj["metadata"]["resourceVersion"]) > last
        last = int(obj["metadata"]["resourceVersion"])
        name = obj["metadata"]["name"]
        assert (event["type"] == "ADDED") == (name not in state)
        if event["type"] == "DELETED":
            del state[name]
        else:
            state[name] = obj
    listed = client.get(f"{maps(ns)}?resourceVersion={last}&resourceVersionMatch=Exact").json["items"]
    assert [{"kind": "ConfigMap", "apiVersion": "v1"} | item for item in listed] == [state[name] for name in sorted(state)]


def test_a_watcher_that_pauses_misses_nothing_and_holds_up_nobody(client: Client, ns: str) -> None:
    """More than its connection takes waits for it; the others are told at once."""
    start = revision(client, ns)
    client.post(maps(ns), config_map("a"))
    query = f"{maps(ns)}?watch=1&resourceVersion={start}"
    with client.watch(query) as pausing, client.watch(query) as brisk:
        for number in range(60):
            client.put(maps(ns, "a"), config_map("a", n=str(number), filler="x" * 200_000))
        last = client.put(maps(ns, "a"), config_map("a", n="end")).json["metadata"]["resourceVersion"]
        told = [brisk.until(lambda event: event["object"]["metadata"]["resourceVersion"] == last),
                pausing.until(lambda event: event["object"]["metadata"]["resourceVersion"] == last)]
    wanted = [None, *map(str, range(60)), "end"]
    for events in told:
        assert [(event["object"].get("data") or {}).get("n") for event in events] == wanted


def test_initial_events_end_with_a_marked_bookmark(client: Client, ns: str) -> None:
    client.post(maps(ns), config_map("a"))
    query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    with client.watch(f"{maps(ns)}?{query}") as watching:
        first, mark = watching.take(2)
        client.post(maps(ns), config_map("b"))
        assert kinds(watching.take(1)) == [("ADDED", "b")]
    assert kinds([first]) == [("ADDED", "a")]
    assert mark["type"] == "BOOKMARK"
    assert mark["object"]["kind"] == "ConfigMap"
    assert mark["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    assert int(mark["object"]["metadata"]["resourceVersion"]) >= int(first["object"]["metadata"]["resourceVersion"])


@pytest.mark.parametrize("query", ["sendInitialEvents=true", "resourceVersionMatch=NotOlderThan&resourceVersion=1"])
def test_initial_events_need_their_match(client: Client, ns: str, query: str) -> None:
    answer = client.get(f"{maps(ns)}?watch=1&{query}")
    assert answer.status == 422
    assert answer.json["details"]["causes"][0]["field"] == "resourceVersionMatch"


def test_a_watch_ends_in_time_with_a_bookmark(client: Client, ns: str) -> None:
    start = revision(client, ns)
    query = f"watch=1&resourceVersion={start}&timeoutSeconds=1&allowWatchBookmarks=true"
    with client.watch(f"{maps(ns)}?{query}") as watching:
        events = list(watching)
    assert {event["type"] for event in events} <= {"BOOKMARK"}


def test_compacted_history_is_gone(servers: Callable[..., Server]) -> None:
    server = servers("--store-retention-revisions=20")
    client = server.client()
    path = "/api/v1/namespaces/default/configmaps"
    first = client.post(path, config_map("a")).json["metadata"]["resourceVersion"]
    page = client.get("/api/v1/namespaces?limit=1").json["metadata"]["continue"]
    for number in range(60):
        client.patch(f"{path}/a", {"data": {"n": str(number)}})
    deadline = time.monotonic() + 20
    while client.get(f"{path}?resourceVersion={first}&resourceVersionMatch=Exact").status == 200:
        assert time.monotonic() < deadline  # the store compacts once a second
    with client.watch(f"{path}?watch=1&resourceVersion={first}") as watching:
        error = watching.take(1)[0]
        assert error["type"] == "ERROR"
        assert (error["object"]["code"], error["object"]["reason"]) == (410, "Expired")
        assert list(watching) == []
    exact = client.get(f"{path}?resourceVersion={first}&resourceVersionMatch=Exact")
    assert (exact.status, exact.json["reason"]) == (410, "Expired")
    old_page = client.get(f"/api/v1/namespaces?limit=1&continue={page}")
    assert (old_page.status, old_page.json["reason"]) == (410, "Expired")
    token = old_page.json["metadata"]["continue"]
    assert client.get(f"/api/v1/namespaces?continue={token}").status == 200


def test_pages_are_one_snapshot(client: Client, ns: str) -> None:
    for number in range(7):
        client.post(maps(ns), config_map(f"c{number}"))
    first = client.get(f"{maps(ns)}?limit=3").json
    assert first["metadata"]["remainingItemCount"] == 4
    client.post(maps(ns), config_map("c9"))
    client.delete(maps(ns, "c5"))
    seen, page = first["items"], first
    while page["metadata"].get("continue"):
        page = client.get(f"{maps(ns)}?limit=3&continue={page['metadata']['continue']}").json
        assert page["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
        seen += page["items"]
    assert [item["metadata"]["name"] for item in seen] == [f"c{number}" for number in range(7)]


def test_a_long_list_is_what_its_pages_say(client: Client, ns: str) -> None:
    """Long ones are made while they are sent."""
    for number in range(9):
        client.post(maps(ns), config_map(f"c{number}", filler="é" * 30_000))
    whole = client.get(maps(ns))
    assert "content-length" not in {name.lower() for name in whole.headers}
    items, page = [], {"metadata": {"continue": ""}}
    while "continue" in page["metadata"]:
        page = client.get(f"{maps(ns)}?limit=1&continue={page['metadata']['continue']}").json
        items += page["items"]
    assert whole.json["items"] == items
    assert len(items) == 9
    assert whole.json["kind"] == "ConfigMapList"
    as_yaml = client.get(maps(ns), Accept="application/yaml").body
    assert yaml.safe_load(as_yaml) == whole.json
    assert client.get("/api/v1/namespaces/none/configmaps").json["items"] == []


def test_pages_of_a_selection_are_full(client: Client, ns: str) -> None:
    for number in range(9):
        client.post(maps(ns), labelled(f"c{number}", odd=str(number % 2)))
    names: list[str] = []
    token = ""
    while True:
        page = client.get(f"{maps(ns)}?limit=2&labelSelector=odd%3D0&continue={token}").json
        names += [item["metadata"]["name"] for item in page["items"]]
        assert "remainingItemCount" not in page["metadata"]
        token = page["metadata"].get("continue", "")
        if not token:
            break
        assert len(page["items"]) == 2
    assert names == ["c0", "c2", "c4", "c6", "c8"]


@pytest.mark.parametrize(("query", "status"), [
    ("labelSelector=a%3D%3D%3Db", 400), ("fieldSelector=nope%3D1", 400), ("resourceVersionMatch=Exact", 422),
    ("resourceVersion=0&resourceVersionMatch=Exact", 422), ("resourceVersion=1&resourceVersionMatch=Nearly", 422),
    ("resourceVersion=99999999999", 504), ("includeObject=All", 200), ("watch=1&timeoutSeconds=x", 400),
])
def test_bad_options(client: Client, ns: str, query: str, status: int) -> None:
    answer = client.get(f"{maps(ns)}?{query}")
    assert answer.status == status, answer.body
    if status != 200:
        assert answer.json["kind"] == "Status"


def test_list_items_look_like_upstreams(client: Client, ns: str) -> None:
    client.post(maps(ns), config_map("a"))
    body = client.get(maps(ns)).json
    assert (body["kind"], body["apiVersion"]) == ("ConfigMapList", "v1")
    assert "kind" not in body["items"][0]
    assert client.get(f"{maps(ns)}?fieldSelector=metadata.name%3Da").json["items"] == body["items"]


def test_tables(client: Client, ns: str) -> None:
    client.post(maps(ns), config_map("a", x="1", y="2"))
    accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
    table = client.get(maps(ns), Accept=accept).json
    assert table["kind"] == "Table"
    assert [column["name"] for column in table["columnDefinitions"]] == ["Name", "Data", "Age"]
    row = table["rows"][0]
    assert row["cells"][:2] == ["a", 2]
    assert row["object"]["kind"] == "PartialObjectMetadata"
    whole = client.get(f"{maps(ns)}?includeObject=Object", Accept=accept).json["rows"][0]["object"]
    assert whole["data"] == {"x": "1", "y": "2"}
    assert "object" not in client.get(f"{maps(ns)}?includeObject=None", Accept=accept).json["rows"][0]
    one = client.get(maps(ns, "a"), Accept=accept).json
    assert one["metadata"]["resourceVersion"] == row["object"]["metadata"]["resourceVersion"]
    with client.watch(f"{maps(ns)}?watch=1", Accept=accept) as watching:
        client.post(maps(ns), config_map("b"))
        first, second = watching.take(2)
    assert first["object"]["columnDefinitions"]
    assert not second["object"]["columnDefinitions"]
    assert second["object"]["rows"][0]["cells"][0] == "b"


def test_partial_metadata(client: Client, ns: str) -> None:
    client.post(maps(ns), config_map("a", x="1"))
    one = client.get(maps(ns, "a"), Accept="application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1").json
    assert (one["kind"], one["metadata"]["name"]) == ("PartialObjectMetadata", "a")
    assert "data" not in one
    many = client.get(maps(ns), Accept="application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1").json
    assert many["kind"] == "PartialObjectMetadataList"
    assert "data" not in many["items"][0]
    assert client.get(maps(ns), Accept="text/html").status == 406


def test_a_restart_keeps_everything(servers: Callable[..., Server]) -> None:
    server = servers()
    client = server.client()
    path = "/api/v1/namespaces/default/configmaps"
    client.post(path, config_map("a", k="v"))
    before = client.get(path).json
    watching = client.watch(f"{path}?watch=1&resourceVersion={before['metadata']['resourceVersion']}")
    assert server.stop(signal.SIGTERM) == 0
    assert list(watching) == []
    assert "Traceback" not in server.log.read_text()
    server.start()
    after = server.client().get(path).json
    assert after["items"] == before["items"]
    client = server.client()
    with client.watch(f"{path}?watch=1&resourceVersion={before['metadata']['resourceVersion']}") as resumed:
        client.patch(f"{path}/a", {"data": {"k": "w"}})
        assert kinds(resumed.take(1)) == [("MODIFIED", "a")]


def test_an_acknowledged_write_survives_a_kill(servers: Callable[..., Server]) -> None:
    server = servers()
    client = server.client()
    path = "/api/v1/namespaces/default/configmaps"
    made = client.post(path, config_map("a", k="v")).json
    server.stop(signal.SIGKILL)
    server.start()
    assert server.client().get(f"{path}/a").json == made


def test_a_foreign_continue_token_is_refused(client: Client, ns: str) -> None:
    token = base64.urlsafe_b64encode(json.dumps({"v": "meta.k8s.io/v2", "rv": 1, "start": "x"}).encode()).decode()
    assert client.get(f"{maps(ns)}?limit=1&continue={token}").status == 400
    answer = client.get(f"{maps(ns)}?limit=1&continue={token}&resourceVersion=5")
    assert answer.json["message"] == "specifying resource version is not allowed when using continue"
