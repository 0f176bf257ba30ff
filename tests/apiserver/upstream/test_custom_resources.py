"""Custom resources: the same random requests to upstream's server and to ours are answered with the same words."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.apiserver.conftest import Answer, Client, Server
from tests.apiserver.test_crd import CRDS
from tests.apiserver.upstream import peer
from tests.apiserver.upstream.requests import Request, Speaker, definitions

_OWN = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_WARNING = re.compile(r'299 - "((?:[^"\\]|\\.)*)"')
_REQUESTS, _UNTYPED = 600, "failed to create typed patch object"


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("store", ["etcd", "netlab"])
def test_the_same_is_said(servers: Callable[[], Server], tmp_path: Path, store: str, seed: int) -> None:
    server, differing = servers(), list[str]()
    client = server.client()
    with peer.running(server, tmp_path, store=store) as upstream:
        both = upstream, client
        for made in definitions():
            assert {each.post(CRDS, made).status for each in both} == {201}
        for made in definitions():
            wait(both, made)
        for request in Speaker(seed).requests(_REQUESTS):
            theirs, own = (answer(each, request) for each in both)
            if (said := shown(theirs)) != (ours := shown(own)):
                differing.append(f"{request}\n  upstream: {json.dumps(said, sort_keys=True)}\n  netlab:   {json.dumps(ours, sort_keys=True)}")
    assert not differing, f"{len(differing)} of {_REQUESTS}:\n" + "\n".join(differing[:10])


def wait(both: tuple[Client, Client], made: dict[str, Any]) -> None:
    """Wait until both serve a kind."""
    end = time.monotonic() + 30
    for each in both:
        while each.get(f"/apis/talk.example.com/v1/{made['spec']['names']['plural']}").status != 200:
            assert time.monotonic() < end
            time.sleep(0.1)


def answer(client: Client, request: Request) -> Answer:
    """Ask; what is to be changed is read first."""
    body = request.body
    if request.change is not None:
        body = client.get(request.path.partition("?")[0].removesuffix("/status")).json
        if body["kind"] == "Status":
            body = {"apiVersion": "/".join(request.path.split("/")[2:4]), "kind": "Whole", "metadata": {"name": "n1"}}
        else:
            request.change(body)
    elif request.path.partition("?")[0].endswith("/scale") and "replicas" not in str(
            client.get(request.path.partition("/scale")[0]).json.get("spec")):
        return client.get("/apis/talk.example.com/v1/clusters?limit=1&labelSelector=none")  # upstream: an internal error
    return client.request(request.method, request.path, body, kind=request.kind, Accept=request.accept)


def shown(answer: Answer) -> Any:
    """Return what an answer says: without names, times and revisions that a server makes up, lists of errors in order."""
    try:
        body = answer.json
    except ValueError:
        body = answer.body.decode()
    code = answer.status
    if isinstance(body, dict) and _UNTYPED in str(body.get("message")):  # of several reasons upstream tells any; with 500
        return _UNTYPED
    if isinstance(body, dict) and body.get("message") == "the server rejected our request due to an error in our request":
        body["details"].pop("causes", None)
    warnings = sorted(_WARNING.findall(answer.headers.get("Warning", "")))
    return code, _settled(body, ""), warnings


def _settled(value: Any, name: str) -> Any:
    if isinstance(value, dict):
        found = {key: _settled(inner, key) for key, inner in value.items() if key not in ("resourceVersion", "continue", "description")}
        if value.get("subresource") == "scale":
            found.pop("time", "")  # upstream does not say when
        causes = (value.get("details") or {}).get("causes") if value.get("kind") == "Status" else None
        if causes and len(causes) > 1:  # upstream walks maps in any order
            found["message"] = ""
        return found
    if isinstance(value, list):
        inner = [_settled(one, name) for one in value]
        return sorted(inner, key=lambda one: json.dumps(one, sort_keys=True)) if name in ("causes", "managedFields") else inner
    if isinstance(value, str):
        if name == "message" and "strict decoding error" in value:
            return value.rpartition("strict decoding error")[2]  # the object before it has its fields in another order
        return "" if re.fullmatch(r"\d+s", value) else _OWN.sub("…", value)
    return value
