"""The smallest API server that kubectl talks to: discovery and OpenAPI from the tables; it keeps what it is sent."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from netlab.api.kinds import RESOURCES
from netlab.api.openapi import v2, v3


@dataclass
class Capture:
    """`requests` are (method, path with query, content type, body); `objects` are answered to a GET by path."""

    port: int = 0
    requests: list[tuple[str, str, str, bytes]] = field(default_factory=list)
    objects: dict[str, Any] = field(default_factory=dict)
    serves_v3: bool = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def _discovery(root: str) -> Any:
    groups: dict[tuple[str, str], list[Any]] = {}
    for row in RESOURCES:
        if bool(row.group) == (root == "/apis"):
            groups.setdefault((row.group, row.version), []).append({
                "resource": row.plural, "responseKind": {"group": row.group, "version": row.version, "kind": row.kind},
                "scope": "Namespaced" if row.namespaced else "Cluster", "singularResource": row.singular,
                "verbs": list(row.verbs), "shortNames": list(row.short_names)})
    return {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": [
        {"metadata": {"name": group}, "versions": [{"version": version, "freshness": "Current", "resources": rows}]}
        for (group, version), rows in groups.items()]}


def _status(code: int, reason: str) -> Any:
    return {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code, "message": "captured"}


@contextmanager
def capturing() -> Iterator[Capture]:
    """Serve until the block ends."""
    state = Capture()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *arguments: object) -> None:
            pass

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            state.requests.append(("GET", self.path, "", b""))
            if path in {"/api", "/apis"}:
                self.answer(200, _discovery(path), "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")
            elif path == "/openapi/v3" and state.serves_v3:
                self.answer(200, v3.index(RESOURCES))
            elif path.startswith("/openapi/v3/"):
                version = path.removeprefix("/openapi/v3/").removeprefix("apis/").removeprefix("api/")
                self.answer(200, v3.document(RESOURCES, version))
            elif path == "/openapi/v2":
                self.answer(200, v2.protobuf(RESOURCES), v2.CONTENT_TYPE)
            elif path in state.objects:
                self.answer(200, state.objects[path])
            else:
                self.answer(404, _status(404, "NotFound"))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            state.requests.append((self.command, self.path, self.headers.get("Content-Type", ""), body))
            known = state.objects.get(self.path.partition("?")[0])
            self.answer(200 if known else 403, known or _status(403, "Forbidden"))

        def answer(self, code: int, body: Any, kind: str = "application/json") -> None:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    for method in ("PUT", "PATCH", "DELETE"):
        setattr(Handler, f"do_{method}", Handler.do_POST)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
