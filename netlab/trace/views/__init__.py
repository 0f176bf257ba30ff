"""Pictures of one trace: each file here renders it in one format, from the event model alone.

A renderer is pure and fetches nothing: what it needs beside the trace (the node of each place, what is at the far end
of each interface) comes along in a `Subject`. `render` finds the renderer by the format's name and imports only that.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from netlab.errors import UsageError
from netlab.trace.agree import Agreement
from netlab.trace.event import Trace

TEXTS: Final = ("json", "yaml", "mermaid", "svg", "html")
"""Formats of `-o`; without it the text for people."""
SUFFIXES: Final[Mapping[str, str]] = {
    ".txt": "text", ".json": "json", ".yaml": "yaml", ".yml": "yaml", ".mmd": "mermaid", ".mermaid": "mermaid",
    ".svg": "svg", ".html": "html", ".htm": "html", ".pcapng": "pcapng"}
"""Formats of `--save FILE`, by the end of its name."""


@dataclass(frozen=True)
class Subject:
    """What is rendered. `nodes`: the node of each place; `links`: words for interfaces, by `place interface`.

    `agreement` is how the trace compares with a prediction, None when there was none.
    """

    trace: Trace
    nodes: Mapping[str, str] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    agreement: Agreement | None = None

    def node(self, place: str) -> str:
        """Return the name of the node that a place is, or is on; "" for what is on none."""
        return place.removeprefix("node/") if place.startswith("node/") else self.nodes.get(place, "")


def format_of(path: str) -> str:
    """Return the format that a file's name asks for.

    Raises:
        UsageError: its end says nothing.
    """
    found = SUFFIXES.get(os.path.splitext(path)[1].lower())
    if found is None:
        raise UsageError(f"can't tell the format of {path} by its name", hint=f"end it with {', '.join(SUFFIXES)}")
    return found


def render(subject: Subject, form: str) -> bytes:
    """Return a trace in a format: text, json, yaml, mermaid, svg, html or pcapng."""
    if form in ("json", "yaml"):
        from netlab.trace.document import as_json

        document = as_json(subject.trace, subject.nodes, subject.links)
        return _data(document | ({"prediction": subject.agreement.as_json()} if subject.agreement else {}), form)
    if form == "text":
        from netlab.trace.render import as_text

        return (as_text(subject.trace, links=subject.links) + "\n").encode()
    module = importlib.import_module(f"netlab.trace.views.{form}")
    found: bytes | str = module.render(subject)
    return found.encode() if isinstance(found, str) else found


def _data(value: object, form: str) -> bytes:
    if form == "yaml":
        import yaml

        text: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
        return text.encode()
    import json

    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()
