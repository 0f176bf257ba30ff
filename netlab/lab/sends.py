"""What the kernel can do at most where every watcher has a connection: bare sends."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from typing import Any

_EVENT = b"x" * 400
_ROUNDS = 20


def run(count: int) -> Iterator[dict[str, Any]]:
    """Send the bytes of one event to so many loopback connections in turn, with one thread and nothing else.

    Yields:
        One row of {"what", "value", "unit", "note"}.
    """
    pairs = []
    try:
        with socket.create_server(("127.0.0.1", 0), backlog=count) as listener:
            pairs += [(socket.create_connection(listener.getsockname()), listener.accept()[0]) for _ in range(count)]
        spent = 0.0
        for _ in range(_ROUNDS):
            begun = time.process_time()
            for ours, _ in pairs:
                os.write(ours.fileno(), _EVENT)
            spent += time.process_time() - begun
            for _, theirs in pairs:
                theirs.recv(len(_EVENT))
        yield {"what": f"sends to {count} sockets", "value": round(count * _ROUNDS / spent), "unit": "/s",
               "note": "the kernel's limit for one core: an event's bytes, no TLS, nobody waits for them"}
    finally:
        for pair in pairs:
            for one in pair:
                one.close()
