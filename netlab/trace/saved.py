"""A trace read back from its JSON (`netlab trace -o json`, `--save FILE.json`), to be rendered once more. Pure."""

from __future__ import annotations

import base64
import binascii
import json
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, TypeVar

from netlab.errors import ManifestError
from netlab.trace.document import SCHEMA
from netlab.trace.event import Crossing, Entry, Hop, Outcome, Part, Passage, RouteUsed, Trace
from netlab.trace.packet import NAMES, Packet
from netlab.trace.views import Subject

_NUMBERS: Final = {name: number for number, name in NAMES.items()}
_ADDRESS: Final = re.compile(r"\[(?P<six>[^\]]+)\]:(?P<port6>\d+)|(?P<four>[^:]+):(?P<port4>\d+)|(?P<alone>.+)")
_WORDS: Final = ("interface", "way", "table", "chain", "rule", "comment", "verdict", "target", "element", "reason",
                 "function")
T = TypeVar("T")


@dataclass(frozen=True)
class SavedPacket(Packet):
    """A packet of which the words are known and not the flags that they were made of."""

    words: str = ""

    @property
    def what(self) -> str:
        """Return the words that were saved."""
        return self.words


def read(text: str | bytes, file: str) -> Subject:
    """Return the trace that a file holds.

    Raises:
        ManifestError: it is no such JSON; names the field.
    """
    try:
        value = json.loads(text)
    except (ValueError, UnicodeDecodeError) as error:
        raise ManifestError(f"not JSON: {error}", file=file, line=getattr(error, "lineno", 0),
                            hint="netlab trace … --save FILE.json writes one") from None
    found = _Reader(file)
    return Subject(found.trace(value, ""), found.nodes, found.links)


class _Reader:
    """Reads and complains with the path of the field; gathers the nodes and far ends on its way."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.nodes: dict[str, str] = {}
        self.links: dict[str, str] = {}

    def get(self, value: Any, key: str, kind: type[T], where: str, default: T | None = None) -> T:
        if not isinstance(value, dict):
            raise ManifestError("want an object", file=self.file, field=where.rstrip("."))
        found = value.get(key, default)
        if kind is float and isinstance(found, int):
            found = float(found)
        if not isinstance(found, kind) or (isinstance(found, bool) and kind is not bool):
            names = {str: "a text", list: "a list", dict: "an object", int: "a number", float: "a number",
                     bool: "true or false"}
            raise ManifestError(f"want {names[kind]}", file=self.file, field=where + key)
        return found

    def trace(self, value: Any, where: str) -> Trace:
        schema = self.get(value, "schema", str, where)
        if schema != SCHEMA:
            raise ManifestError(f'this is "{schema}", want "{SCHEMA}"', file=self.file, field=f"{where}schema")
        start = self.get(value, "start", int, where, 0)
        self.links |= {str(key): str(words) for key, words in self.get(value, "links", dict, where, {}).items()}
        hops = [self.hop(each, f"{where}hops[{n}].", start)
                for n, each in enumerate(self.get(value, "hops", list, where))]
        passages = [self.passage(each, f"{where}packets[{n}].", start)
                    for n, each in enumerate(self.get(value, "packets", list, where))]
        parts = [Part(self.get(each, "role", str, f"{where}parts[{n}]."),  # type: ignore[arg-type]
                      self.get(each, "words", str, f"{where}parts[{n}]."),
                      self.trace(each.get("trace"), f"{where}parts[{n}].trace."))
                 for n, each in enumerate(self.get(value, "parts", list, where, []))]
        return Trace(
            self.get(value, "source", str, where), self.get(value, "target", str, where),
            self.get(value, "protocol", str, where), self.get(value, "destination", str, where),
            tuple(hop for hop in hops if hop.direction == "request"),
            tuple(hop for hop in hops if hop.direction == "reply"),
            self.outcome(self.get(value, "outcome", dict, where), f"{where}outcome."), tuple(passages), tuple(parts),
            crafted=self.get(value, "crafted", str, where, ""), bpf=self.get(value, "bpf", bool, where, False),
            lost=self.get(value, "lost", int, where, 0),
            warnings=tuple(map(str, self.get(value, "warnings", list, where, []))))

    def outcome(self, value: Mapping[str, Any], where: str) -> Outcome:
        ms = value.get("ms")
        words = {key: self.get(value, name, str, where, "") for key, name in (
            ("endpoint", "endpoint"), ("endpoint_place", "endpointPlace"), ("place", "place"), ("why", "why"),
            ("fix", "fix"), ("reason", "reason"), ("answer", "answer"))}
        return Outcome(self.get(value, "status", str, where), **words,
                       seconds=None if ms is None else self.get(value, "ms", float, where) / 1000)

    def hop(self, value: Any, where: str, start: int) -> Hop:
        place = self.get(value, "place", str, where)
        if not place.startswith("node/") and self.get(value, "node", str, where, ""):
            self.nodes[place] = value["node"]
        direction = self.one_of(value, "direction", ("request", "reply"), where)
        kind = self.one_of(value, "kind", ("iface", "rule", "policy", "nat", "route", "conntrack", "drop", "deliver"),
                           where)
        words = {key: self.get(value, key, str, where, "") for key in _WORDS}
        packet = self.packet(self.get(value, "packet", dict, where), f"{where}packet.", value.get("tunnel"))
        return Hop(self.time(value, where, start), place, direction, kind,  # type: ignore[arg-type]
                   self.get(value, "text", str, where), packet, **words,  # type: ignore[arg-type]
                   route=self.route(value.get("route"), f"{where}route."),
                   entry=self.entry(value.get("conntrack"), f"{where}conntrack."))

    def one_of(self, value: Any, key: str, choices: tuple[str, ...], where: str) -> str:
        found = self.get(value, key, str, where)
        if found not in choices:
            raise ManifestError(f'"{found}": want one of {", ".join(choices)}', file=self.file, field=where + key)
        return found

    def time(self, value: Any, where: str, start: int) -> int | None:
        if value.get("t") is None or not start:
            return None
        return start + round(self.get(value, "t", float, where) * 1e6)

    def packet(self, value: Mapping[str, Any], where: str, tunnel: Any = None) -> SavedPacket:
        source, sport = self.address(value, "source", where)
        destination, dport = self.address(value, "destination", where)
        outer = None
        if tunnel is not None:
            outer = (self.get(tunnel, "source", str, "tunnel."), self.get(tunnel, "destination", str, "tunnel."),
                     self.get(tunnel, "vni", int, "tunnel."))
        inner = value.get("inner")
        return SavedPacket(
            socket.AF_INET6 if ":" in source else socket.AF_INET,
            _NUMBERS.get(self.get(value, "protocol", str, where, ""), 0), source, destination, sport, dport,
            ttl=self.get(value, "ttl", int, where, 0), length=self.get(value, "length", int, where, 0),
            inner=None if inner is None else self.packet(inner, f"{where}inner."), tunnel=outer,
            words=self.get(value, "what", str, where))

    def address(self, value: Mapping[str, Any], key: str, where: str) -> tuple[str, int]:
        text = self.get(value, key, str, where)
        found = _ADDRESS.fullmatch(text)
        if found is None or (text.count(":") > 1 and not text.startswith("[")):
            return text, 0
        return found["six"] or found["four"] or found["alone"], int(found["port6"] or found["port4"] or 0)

    def route(self, value: Any, where: str) -> RouteUsed | None:
        if value is None:
            return None
        return RouteUsed(**{each.name: self.get(value, each.name, str, where, "") for each in fields(RouteUsed)})

    def entry(self, value: Any, where: str) -> Entry | None:
        if value is None:
            return None
        ends = [self.get(self.get(value, side, dict, where), key, str, f"{where}{side}.")
                for side in ("original", "reply") for key in ("source", "destination")]
        return Entry(self.get(value, "protocol", str, where), ends[0], ends[1], ends[2], ends[3],
                     self.get(value, "status", str, where, "NEW"))

    def passage(self, value: Any, where: str, start: int) -> Passage:
        crossed = [self.crossing(each, f"{where}crossed[{n}].", start)
                   for n, each in enumerate(self.get(value, "crossed", list, where, []))]
        return Passage(self.time(value, where, start) or 0,
                       self.one_of(value, "direction", ("request", "reply"), where),  # type: ignore[arg-type]
                       self.get(value, "what", str, where), self.get(value, "payload", int, where, 0),
                       self.get(value, "again", bool, where, False), tuple(crossed))

    def crossing(self, value: Any, where: str, start: int) -> Crossing:
        try:
            data = base64.b64decode(self.get(value, "data", str, where, ""), validate=True)
        except binascii.Error:
            raise ManifestError("want base64", file=self.file, field=f"{where}data") from None
        packet = self.packet({**value, "what": ""}, where)
        return Crossing(self.time(value, where, start) or 0, self.get(value, "place", str, where),
                        self.get(value, "interface", str, where),
                        self.one_of(value, "way", ("in", "out"), where), packet, data)  # type: ignore[arg-type]
