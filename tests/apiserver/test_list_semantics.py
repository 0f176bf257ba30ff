"""Every line of upstream's tables of what resourceVersion and its companions mean to get, list and watch.

https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable

import pytest

from tests.apiserver.conftest import Client, Server, config_map


@pytest.fixture
def made(client: Client, ns: str) -> tuple[str, int, int]:
    """A namespace's collection, the revision after `a` and `b` were made, and the one after `c` was and `a` changed."""
    path = f"/api/v1/namespaces/{ns}/configmaps"
    for name in ("a", "b"):
        old = client.post(path, config_map(name, x="1")).json
    client.post(path, config_map("c", x="1"))
    new = client.patch(f"{path}/a", {"data": {"x": "2"}}).json
    return path, int(old["metadata"]["resourceVersion"]), int(new["metadata"]["resourceVersion"])


NOW, THEN = "a=2 b=1 c=1", "a=1 b=1"


@pytest.mark.parametrize(("query", "expected"), [
    ("", NOW), ("resourceVersion=0", NOW), ("resourceVersion=OLD", NOW), ("resourceVersion=NEW", NOW),
    ("resourceVersion=OLD&resourceVersionMatch=NotOlderThan", NOW), ("resourceVersion=0&resourceVersionMatch=NotOlderThan", NOW),
    ("resourceVersion=OLD&resourceVersionMatch=Exact", THEN), ("resourceVersion=NEW&resourceVersionMatch=Exact", NOW),
    ("limit=1", "a=2 ..."), ("limit=3", NOW), ("limit=1&resourceVersion=0", "a=2 ..."),
    ("limit=1&resourceVersion=OLD", "a=1 ..."), ("limit=1&resourceVersion=OLD&resourceVersionMatch=Exact", "a=1 ..."),
    ("limit=2&resourceVersion=OLD&resourceVersionMatch=Exact", THEN),
    ("limit=1&resourceVersion=OLD&resourceVersionMatch=NotOlderThan", "a=2 ..."),
    ("resourceVersion=0&resourceVersionMatch=Exact", "422 resourceVersionMatch"), ("resourceVersionMatch=Exact", "422 resourceVersionMatch"),
    ("resourceVersionMatch=NotOlderThan", "422 resourceVersionMatch"), ("resourceVersion=OLD&resourceVersionMatch=Newest", "422 supported values"),
    ("continue=TOKEN&resourceVersionMatch=Exact&resourceVersion=OLD", "422 forbidden when continue is provided"),
    ("continue=TOKEN&resourceVersion=OLD", "400 not allowed when using continue"), ("continue=TOKEN&resourceVersion=0", "b=1 c=1"),
    ("resourceVersion=junk", "400 invalid"), ("limit=junk", "400 invalid"), ("continue=junk", "400 continue key"),
    ("continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MCwic3RhcnQiOiJhIn0", "400 continue key"),
])
def test_what_a_list_shows(client: Client, made: tuple[str, int, int], query: str, expected: str):
    path, old, new = made
    if "TOKEN" in query:
        query = query.replace("TOKEN", client.get(f"{path}?limit=1").json["metadata"]["continue"])
    answer = client.get(f"{path}?{query.replace('OLD', str(old)).replace('NEW', str(new))}")
    if answer.status != 200:
        assert f"{answer.status} {answer.json['message']}".replace("Forbidden", "forbidden").startswith(expected[:3])
        assert expected[4:] in answer.json["message"]
        return
    shown = " ".join(f"{item['metadata']['name']}={item['data']['x']}" for item in answer.json["items"] if "x" in item.get("data", {}))
    more = " ..." if answer.json["metadata"].get("continue") else ""
    assert shown + more == expected
    revision = int(answer.json["metadata"]["resourceVersion"])
    if "Exact" in query or ("limit" in query and "OLD" in query and "NotOlder" not in query):
        assert revision == (old if "OLD" in query else new)
    elif "continue" not in query:
        assert revision >= new


def test_a_list_waits_for_a_revision_that_is_about_to_come(client: Client, made: tuple[str, int, int]):
    path, _, new = made
    answers = []
    other = client.again()
    waiting = threading.Thread(target=lambda: answers.append(other.get(f"{path}?resourceVersion={new + 2}")))
    waiting.start()
    for number in range(3):
        client.post(path, config_map(f"late{number}"))
    waiting.join(20)
    assert answers[0].status == 200
    assert int(answers[0].json["metadata"]["resourceVersion"]) >= new + 2


def test_get_reads_what_is_not_older(client: Client, made: tuple[str, int, int]):
    path, old, new = made
    for revision in ("", "0", str(old), str(new)):
        assert client.get(f"{path}/a?resourceVersion={revision}").json["data"] == {"x": "2"}
    assert client.get(f"{path}/a?resourceVersion=junk").status == 400


def test_an_expired_continue_token_brings_one_that_goes_on_inconsistently(servers: Callable[..., Server]):
    client = servers("--store-retention-revisions=20").client()
    path = "/api/v1/namespaces/default/configmaps"
    for number in range(6):
        client.post(path, config_map(f"c{number}", x="old"))
    token = client.get(f"{path}?limit=3").json["metadata"]["continue"]
    answer = client.get(f"{path}?limit=3&continue={token}")
    turn = 0
    while answer.status == 200:  # until the history is forgotten
        turn += 1
        client.patch(f"{path}/c5", {"data": {"x": f"new{turn}"}})
        answer = client.get(f"{path}?limit=3&continue={token}")
    assert (answer.status, answer.json["reason"]) == (410, "Expired")
    assert "inconsistent list" in answer.json["message"]
    token = answer.json["metadata"]["continue"]
    assert json.loads(base64.urlsafe_b64decode(token + "=="))["rv"] == -1
    rest = client.get(f"{path}?limit=3&continue={token}").json
    assert {item["metadata"]["name"]: item["data"]["x"] for item in rest["items"]}["c5"] == f"new{turn}"


def test_a_watcher_that_reads_late_misses_nothing(servers: Callable[..., Server]):
    """The others do not wait for it, and what it gets has no gap."""
    server = servers()
    client = server.client()
    path = "/api/v1/namespaces/default/configmaps"
    first = client.post(path, config_map("c", x="y" * 100_000)).json["metadata"]["resourceVersion"]
    with client.watch(f"{path}?watch=1&resourceVersion={first}") as slow, client.watch(f"{path}?watch=1&resourceVersion={first}") as quick:
        for number in range(60):
            client.put(f"{path}/c", config_map("c", x=str(number) + "y" * 100_000))
        seen = [int(event["object"]["metadata"]["resourceVersion"]) for event in quick.take(60)]
        late = [int(event["object"]["metadata"]["resourceVersion"]) for event in slow.take(60)]
    assert seen == late == sorted(set(seen))


