"""A way to the API server over which certain requests wait: plain HTTP here, the server's HTTPS behind it.

Clients that page or watch lose the race with compaction only when something holds them up between two requests.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.client import HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.apiserver.conftest import Client


class SlowLink:
    """Passes on what comes in; calls `hold(path)` first, which may take its time. `asked` is what came in."""

    def __init__(self, client: Client, hold: Callable[[str], None]) -> None:
        self.asked: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def pass_on(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                outer.asked.append(self.path)
                hold(self.path)
                behind = client.connect(timeout=30)
                behind.request(self.command, self.path, body, dict(self.headers))
                self.answer(behind.getresponse())
                behind.close()

            def answer(self, reply: HTTPResponse) -> None:
                self.send_response(reply.status)
                for name, value in reply.getheaders():
                    if name.lower() not in ("connection", "content-length", "transfer-encoding", "server", "date"):
                        self.send_header(name, value)
                self.send_header("Connection", "close")
                self.end_headers()
                self.close_connection = True
                try:
                    while piece := reply.read1(65536):
                        self.wfile.write(piece)
                        self.wfile.flush()
                except OSError:  # either end is gone: so is this one
                    pass

            do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = pass_on  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
