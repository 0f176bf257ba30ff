"""etcd's v2 keys API, to read and to watch: the keys as a tree of directories.

A directory is whatever a key has before a slash; one that also holds a value itself is shown as a directory.
Writing is refused: the v2 API could not keep what v3 promises.
"""

from __future__ import annotations

from typing import Any

import orjson
from aiohttp import web

from netlab.store.errors import Compacted, WatchCut
from netlab.store.faces.face import TERM, Face
from netlab.store.model import Event, KeyValue, prefix_end
from netlab.store.rpc import paths

_PREFIX = "/v2/keys"
_NOT_FOUND, _READ_ONLY, _BAD_FIELD, _CLEARED = 100, 107, 209, 401
_WORDS = {_NOT_FOUND: "Key not found", _READ_ONLY: "Root is read only", _BAD_FIELD: "Invalid field",
          _CLEARED: "The event in requested index is outdated and cleared"}
_STATUS = {_NOT_FOUND: 404, _READ_ONLY: 403}


async def serve(face: Face, request: web.BaseRequest) -> web.StreamResponse:
    """Answer /v2/keys…, /v2/members and /v2/machines."""
    path = request.path.rstrip("/")
    if not request.path.startswith(_PREFIX):
        return _members(face, path)
    key = paths.clean(request.path.removeprefix(_PREFIX))
    if request.method not in ("GET", "HEAD"):
        return _error(face, _READ_ONLY, f"{key}: this view is for reading; write with API version 3")
    flags = {name: request.query.get(name, "").lower() == "true" for name in ("recursive", "sorted", "wait", "quorum")}
    if flags["wait"]:
        return await _wait(face, request, key, recursive=flags["recursive"])
    node = await _node(face, key, recursive=flags["recursive"])
    if node is None:
        return _error(face, _NOT_FOUND, key)
    return _reply(face, {"action": "get", "node": node})


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _leaf(kv: KeyValue) -> dict[str, Any]:
    return {"key": _text(kv.key), "value": _text(kv.value), "modifiedIndex": kv.mod_revision,
            "createdIndex": kv.create_revision}


async def _node(face: Face, key: str, *, recursive: bool) -> dict[str, Any] | None:
    """Return the node of a path with what is below it; None if nothing is there."""
    prefix = (key.rstrip("/") + "/").encode()
    below = (await face.store.list(prefix)).kvs
    if below:
        return _directory(key, below, recursive=recursive, depth=len(prefix))
    if key == "/":
        return {"dir": True}
    kv = await face.store.get(key.encode())
    return None if kv is None else _leaf(kv)


def _directory(key: str, kvs: list[KeyValue], *, recursive: bool, depth: int, top: bool = True) -> dict[str, Any]:
    """Return a directory's node. `kvs` are the keys below it, in order; `depth` is the length of its prefix."""
    oldest = min(kv.create_revision for kv in kvs)
    node: dict[str, Any] = {"key": key, "dir": True, "modifiedIndex": oldest, "createdIndex": oldest}
    if key == "/":
        node = {"dir": True}
    if not top and not recursive:
        return node
    groups: dict[bytes, list[KeyValue]] = {}
    for kv in kvs:
        groups.setdefault(kv.key[depth:].partition(b"/")[0], []).append(kv)
    nodes = []
    for name, group in sorted(groups.items()):
        if name.startswith(b"_") or not name:  # hidden, as in etcd
            continue
        path = kvs[0].key[:depth] + name
        inner = [kv for kv in group if kv.key != path]
        nodes.append(_directory(_text(path), inner, recursive=recursive, depth=len(path) + 1, top=False) if inner
                     else _leaf(group[0]))
    node["nodes"] = nodes
    return node


async def _wait(face: Face, request: web.BaseRequest, key: str, *, recursive: bool) -> web.StreamResponse:
    """Answer with the first change after `waitIndex`, or the next one."""
    text = request.query.get("waitIndex", "")
    if text and not (text.isascii() and text.isdigit()):
        return _error(face, _BAD_FIELD, f'invalid value for "waitIndex": {text}')
    store = face.store
    after = min(max(int(text or 0) - 1, 0), store.revision) or store.revision
    name = key.rstrip("/").encode()
    end = prefix_end(name + b"/") if recursive else b""
    try:
        watch = store.watch(name or b"/", end=end, after=after)
    except Compacted as gone:
        return _error(face, _CLEARED, f"the requested history has been cleared [{gone.compacted}/{text}]")
    with watch:
        response = web.StreamResponse(headers=_headers(face) | {"Content-Type": "application/json"})
        await response.prepare(request)
        try:
            while True:
                for event in await watch.next():
                    if event.kv.key == name or event.kv.key.startswith(name + b"/"):
                        await response.write(orjson.dumps(_change(event)) + b"\n")
                        return response
        except WatchCut:
            return response


def _change(event: Event) -> dict[str, Any]:
    if event.deleted:
        node = {"key": _text(event.kv.key), "modifiedIndex": event.revision,
                "createdIndex": event.prev.create_revision if event.prev is not None else event.revision}
        found = {"action": "delete", "node": node}
    else:
        found = {"action": "create" if event.created else "set", "node": _leaf(event.kv)}
    if event.prev is not None:
        found["prevNode"] = _leaf(event.prev)
    return found


def _members(face: Face, path: str) -> web.Response:
    member = {"id": f"{face.member:x}", "name": face.name, "peerURLs": list(face.peer_urls),
              "clientURLs": list(face.client_urls)}
    if path == "/v2/machines":
        return web.Response(text=", ".join(face.client_urls))
    if path == "/v2/members":
        return _reply(face, {"members": [member]})
    if path == "/v2/members/leader":
        return _reply(face, member)
    return web.Response(status=404, text="404 page not found\n")


def _headers(face: Face) -> dict[str, str]:
    revision = str(face.store.revision)
    return {"X-Etcd-Cluster-Id": f"{face.cluster:x}", "X-Etcd-Index": revision, "X-Raft-Index": revision,
            "X-Raft-Term": str(TERM)}


def _reply(face: Face, value: dict[str, Any], status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(value) + b"\n", status=status, headers=_headers(face),
                        content_type="application/json")


def _error(face: Face, code: int, cause: str) -> web.Response:
    return _reply(face, {"errorCode": code, "message": _WORDS[code], "cause": cause, "index": face.store.revision},
                  _STATUS.get(code, 400))
