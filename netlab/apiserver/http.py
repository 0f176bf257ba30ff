"""What handlers see of HTTP: a request in, one of three replies out; no web framework below this border.

`server.py` (and what it uses) knows aiohttp alone, so the transport can be changed without touching a handler.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol
from urllib.parse import parse_qsl, unquote

if TYPE_CHECKING:
    from netlab.serving.trust import Chain

JSON = "application/json"


@dataclass(frozen=True)
class User:
    """Who asks: the subject of a client certificate, of a token, or `system:anonymous`."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


class Duplex(Protocol):
    """The client's raw connection after an upgrade: bytes both ways, no HTTP any more."""

    def on_data(self, sink: Callable[[bytes], None], closed: Callable[[], None]) -> None:
        """Deliver everything the client sends to `sink`, first what came right behind the request's head."""

    async def write(self, data: bytes) -> None:
        """Send to the client; waits while its receive window is full."""

    def pause(self, paused: bool) -> None:
        """Stop or resume reading from the client."""


class Held(Protocol):
    """Something to give back, once or more often."""

    def leave(self) -> None:
        """Give it back."""


@dataclass(slots=True)
class Request:
    """One request. `body` reads it on demand (at most the server's limit); `path` is percent-decoded."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: Mapping[str, str]
    body: Callable[[], Awaitable[bytes]]
    raw_query: str = ""
    peer: str = ""
    certificates: Chain = ()
    """What the client has shown, its own certificate first; nobody has judged them yet."""
    user: User = User("system:anonymous", ("system:unauthenticated",))
    warnings: list[str] = field(default_factory=list)
    notes: dict[str, str] | None = None
    """What the audit log is to tell of the request's way; None when it is not logged."""
    identified: Mapping[str, str] = field(default_factory=dict)
    """What the audit log is to tell of the credentials: they are looked at before the log knows of the request."""
    flow: tuple[str, str] | None = None
    """The uids of the FlowSchema that the request belongs to and of its priority level."""
    seat: Held | None = None
    """What the request holds of the server's seats until it is answered."""
    gone: bool = False
    """The client has gone away; what is begun is brought to its end."""
    object_name: str = ""
    """The name of the object that the request makes, where the path does not have it."""

    def note(self, key: str, text: str, *, keep: bool = False) -> None:
        """Note something for the audit log, if the request is in it; `keep` what is noted under the key already."""
        if self.notes is not None and not (keep and key in self.notes):
            self.notes[key] = text

    def arg(self, name: str) -> str:
        """Return the first value of a query parameter, "" when absent."""
        values = self.query.get(name)
        return values[0] if values else ""

    def flag(self, name: str) -> bool:
        """Return a query parameter as the API machinery reads booleans: present and neither "0" nor "false"."""
        values = self.query.get(name)
        return values is not None and values[0].lower() not in ("0", "false")


@dataclass(slots=True)
class Reply:
    """A whole answer."""

    body: bytes = b""
    status: int = 200
    content_type: str = JSON
    headers: dict[str, str] = field(default_factory=dict)

    def whole(self) -> bytes:
        """Return all bytes of the body."""
        return self.body


@dataclass(slots=True)
class Large(Reply):
    """A whole answer whose body is made while it is sent, so that megabytes never exist at once.

    `pieces` gives the body anew each time, and does not fail.
    """

    pieces: Callable[[], Iterator[bytes]] = lambda: iter(())

    def whole(self) -> bytes:
        """Return all bytes of the body."""
        return b"".join(self.pieces())


class Sink(Protocol):
    """Where a stream writes its chunks."""

    async def write(self, data: bytes) -> None:
        """Send one chunk; waits while the client does not take it, raises ConnectionError when it is gone."""

    def free(self) -> bool:
        """Tell whether nothing that was written waits for the client."""

    def post(self, data: bytes) -> None:
        """Send one chunk without waiting; only when `free`."""


@dataclass(slots=True)
class Stream:
    """An answer that is written piece by piece (a watch, a log). `run` ends when the stream ends.

    `messages` says what a WebSocket's messages are: a line each, a piece of bytes each, or "" where there is none.
    """

    run: Callable[[Sink], Awaitable[None]]
    content_type: str = JSON
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    messages: Literal["lines", "bytes", ""] = ""


@dataclass(slots=True)
class Upgrade:
    """Answer 101 with these headers, then hand the connection to `run`."""

    run: Callable[[Duplex], Awaitable[None]]
    headers: dict[str, str] = field(default_factory=dict)


Response = Reply | Stream | Upgrade
Handler = Callable[[Request], Awaitable[Response]]


def split_target(target: str) -> tuple[str, dict[str, list[str]], str]:
    """Split a request target into the decoded path, the query parameters and the raw query."""
    raw_path, _, raw_query = target.partition("?")
    query: dict[str, list[str]] = {}
    if raw_query:
        for name, value in parse_qsl(raw_query, keep_blank_values=True, max_num_fields=1000):
            query.setdefault(name, []).append(value)
    return (unquote(raw_path) if "%" in raw_path else raw_path), query, raw_query
