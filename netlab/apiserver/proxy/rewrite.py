"""Links of what a proxied Pod, Service or node answers, made to lead through the proxy again.

As upstream does it (k8s:staging/src/k8s.io/apimachinery/pkg/util/proxy/transport.go): the header Location, and those
attributes of HTML that hold an address. Links to other hosts, relative ones, and such as lead through the proxy already
stay as they are.
"""

from __future__ import annotations

import html
import posixpath
import re
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

_ATTRIBUTES = {tag: frozenset(names.split()) for tag, names in {
    "a": "href", "applet": "codebase", "area": "href", "audio": "src", "base": "href", "blockquote": "cite",
    "body": "background", "button": "formaction", "command": "icon", "del": "cite", "embed": "src", "form": "action",
    "frame": "longdesc src", "head": "profile", "html": "manifest", "iframe": "longdesc src",
    "img": "longdesc src usemap", "input": "formaction src usemap", "ins": "cite", "link": "href",
    "object": "classid codebase data usemap", "q": "cite", "script": "src", "source": "src", "video": "poster src",
}.items()}
_TAG = re.compile(rb"""<([a-zA-Z][a-zA-Z0-9]*)((?:"[^"]*"|'[^']*'|[^<>"'])*)>""")
_OPEN = re.compile(rb"""<(?:[a-zA-Z][a-zA-Z0-9]*(?:"[^"]*"|'[^']*'|[^<>"'])*(?:"[^"]*|'[^']*)?)?\Z""")
# Not possessive: Python before 3.11.5 loses its place where such a group fails half-way. Each form begins with a byte
# of its own, and a tag ends at the next "<": there is little to go back over.
_PAIR = re.compile(rb"""(\s)([a-zA-Z]+)(\s*=\s*)("[^"]*"|'[^']*'|[^\s"'>]+)""")
_LONGEST = 64 * 1024
"""Bytes of one tag; a longer one passes as it is."""


@dataclass(frozen=True)
class Links:
    """Where links lead.

    `prefix` is the proxy's path in front of the other server's, `here` the host that the client asked, `there` the
    host and port of the other server.
    """

    prefix: str
    here: str
    there: str

    def lead(self, link: str) -> str:
        """Return where a link of the answer leads through the proxy."""
        try:
            parts = urlsplit(link)
        except ValueError:
            return link
        if (parts.netloc and parts.netloc not in (self.there, self.here)) or not parts.path.startswith("/"):
            return link
        scheme, netloc = (parts.scheme, parts.netloc) if parts.netloc == self.here else ("", "")
        path = parts.path
        if not path.startswith(self.prefix):
            path = posixpath.normpath(f"{self.prefix}/{path.lstrip('/')}")
            path += "/" if parts.path.endswith("/") and not path.endswith("/") else ""
        return urlunsplit((scheme, netloc, path, parts.query, parts.fragment))


class Page:
    """An HTML answer on its way: what `feed` and `end` return goes on to the client."""

    def __init__(self, links: Links) -> None:
        self._links, self._held = links, b""

    def feed(self, data: bytes) -> bytes:
        """Take bytes; a tag that has not ended yet is held back."""
        data = self._held + data
        last = 0
        for found in _TAG.finditer(data):
            last = found.end()
        begun = _OPEN.search(data, last)
        whole = begun.start() if begun and len(data) - begun.start() <= _LONGEST else len(data)
        self._held = data[whole:]
        return _TAG.sub(self._tag, data[:whole])

    def end(self) -> bytes:
        """Return what is left."""
        left, self._held = self._held, b""
        return left

    def _tag(self, found: re.Match[bytes]) -> bytes:
        names = _ATTRIBUTES.get(found[1].decode().lower())
        if names is None or b"=" not in found[2]:
            return found[0]

        def attribute(pair: re.Match[bytes]) -> bytes:
            if pair[2].decode().lower() not in names:
                return pair[0]
            quote = pair[4][:1] if pair[4][:1] in (b'"', b"'") else b'"'
            try:
                link = html.unescape(pair[4].strip(b"\"'").decode())
            except UnicodeDecodeError:
                return pair[0]
            led = self._links.lead(link)
            if led == link:
                return pair[0]
            return pair[1] + pair[2] + pair[3] + quote + html.escape(led).encode() + quote

        return b"<" + found[1] + _PAIR.sub(attribute, found[2]) + b">"
