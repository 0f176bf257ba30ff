"""A webhook for tests: HTTPS on loopback, answers what it is told to, remembers what it was asked."""

from __future__ import annotations

import base64
import json
import ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.apiserver.conftest import Pki

Answers = Callable[[dict[str, Any]], dict[str, Any]]
"""The request of an AdmissionReview → its response, without the uid."""


class _Server(ThreadingHTTPServer):
    request_queue_size = 256  # many at once


class HookServer:
    """`answers[path]` decides; `asked` are the reviews' requests in order."""

    def __init__(self, pki: Pki, certificate: str = "kubelet-server") -> None:
        self.answers: dict[str, Answers] = {}
        self.raw: dict[str, Callable[[dict[str, Any]], Any]] = {}
        self.asked: list[dict[str, Any]] = []
        self.bundle = base64.b64encode((pki.dir / "ca.crt").read_bytes()).decode()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.asked.append(review["request"])
                path = self.path.partition("?")[0]
                if path in outer.raw:
                    body = outer.raw[path](review)
                elif path in outer.answers:
                    body = {"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": {
                        "uid": review["request"]["uid"], **outer.answers[path](review["request"])}}
                else:
                    self.send_error(404)
                    return
                data = json.dumps(body).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        self.server = _Server(("127.0.0.1", 0), Handler)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(pki.path(f"{certificate}.crt"), pki.path(f"{certificate}.key"))
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def config(self, path: str) -> dict[str, Any]:
        """Return a clientConfig."""
        return {"url": f"https://127.0.0.1:{self.port}{path}", "caBundle": self.bundle}

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def patch(*operations: dict[str, Any]) -> dict[str, Any]:
    """Return a response that changes the object."""
    return {"allowed": True, "patchType": "JSONPatch", "patch": base64.b64encode(json.dumps(operations).encode()).decode()}
