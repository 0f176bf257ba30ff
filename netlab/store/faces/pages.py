"""The HTTP side of the port: /health, /version, /metrics, and the v2 keys API."""

from __future__ import annotations

import logging
import os
from typing import Any

import orjson
from aiohttp import web

from netlab.store.errors import StoreError
from netlab.store.faces import v2
from netlab.store.faces.face import CLUSTER_VERSION, VERSION, Face

log = logging.getLogger(__name__)
_QUIET = logging.getLogger(f"{__name__}.protocol")
_QUIET.setLevel(logging.CRITICAL)  # what clients get wrong they are told; it is no news for the log

_GAUGES = (
    ("etcd_server_has_leader", "Whether there is a leader.", lambda _: 1),
    ("etcd_server_is_leader", "Whether this member is it.", lambda _: 1),
    ("etcd_debugging_mvcc_keys_total", "Keys that hold something.", lambda face: len(face.store)),
    ("etcd_debugging_store_watchers", "Watches that run.", lambda face: face.store.watchers),
    ("etcd_debugging_mvcc_current_revision", "The newest revision.", lambda face: face.store.revision),
    ("etcd_debugging_mvcc_compact_revision", "The revision that history begins at.", lambda face: face.store.compacted),
    ("etcd_server_proposals_pending", "Writes that wait to be committed.", lambda face: face.store.waiting),
    ("etcd_mvcc_db_total_size_in_bytes", "Bytes of the files.", lambda face: face.store.size()),
    ("etcd_server_quota_backend_bytes", "Bytes that the file may take; 0: no limit.", lambda _: 0),
    ("process_resident_memory_bytes", "Bytes of memory, which etcdctl's check datascale reads.", lambda _: _resident()),
)


def server(face: Face) -> web.Server:
    """Return what makes the protocol of each HTTP/1.1 connection."""
    async def serve(request: web.BaseRequest) -> web.StreamResponse:
        if request.path.startswith(("/v2/keys", "/v2/members", "/v2/machines")):
            try:
                return await v2.serve(face, request)
            except StoreError as error:
                return web.Response(status=503, text=f"{error}\n")
            except ConnectionError:
                raise
            except Exception:
                log.exception("%s %s", request.method, request.path)
                return web.Response(status=500, text="Internal Server Error\n")
        if request.method not in ("GET", "HEAD"):
            return web.Response(status=405, headers={"Allow": "GET"}, text="Method Not Allowed\n")
        return _page(face, request.path)

    return web.Server(serve, access_log=None, handler_cancellation=True, logger=_QUIET)


def _page(face: Face, path: str) -> web.Response:
    if path in ("/health", "/livez", "/readyz"):
        return health(face)
    if path == "/version":
        return _json({"etcdserver": VERSION, "etcdcluster": CLUSTER_VERSION})
    if path == "/metrics":
        return web.Response(text=metrics(face), content_type="text/plain")
    return web.Response(status=404, text="404 page not found\n")


def health(face: Face) -> web.Response:
    """Answer /health: 503 when the store is closed or its disk is full."""
    reason = "SERVER STOPPED" if face.store.closed else "ALARM NOSPACE" if face.store.full else ""
    return _json({"health": "false" if reason else "true", "reason": reason}, 503 if reason else 200)


def metrics(face: Face) -> str:
    """Return the store's figures in Prometheus' text form, by etcd's names where it has such."""
    return "".join(f"# HELP {name} {words}\n# TYPE {name} gauge\n{name} {value(face)}\n"
                   for name, words, value in _GAUGES)


def _resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _json(value: Any, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(value), status=status, content_type="application/json")
