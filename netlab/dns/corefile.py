"""The Corefile: which zones are served on which port, by which plugins (https://coredns.io/manual/configuration/)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_network

from netlab.errors import ManifestError

PORT = 53
_WORD = re.compile(r'"((?:[^"\\]|\\.)*)"|(\S+)')
_VARIABLE = re.compile(r"\{\$(\w+)\}|\{%(\w+)%\}")


@dataclass(frozen=True)
class Directive:
    """A plugin's line, or one inside of its braces. `line` counts from 1."""

    name: str
    args: tuple[str, ...]
    line: int
    body: tuple[Directive, ...] = ()


@dataclass(frozen=True)
class Block:
    """A server block: zones without the last dot ("" is the root), the port, the plugins as written."""

    zones: tuple[str, ...]
    port: int
    plugins: tuple[Directive, ...]
    line: int


def parse(text: str, file: str = "Corefile", environ: Mapping[str, str] = os.environ) -> tuple[Block, ...]:
    """Read a Corefile. `{$NAME}` is a variable of the environment, `(name) { ... }` and `import name` a snippet.

    Raises:
        ManifestError: with the line.
    """
    reader = _Reader(text, file, environ)
    blocks: list[Block] = []
    snippets: dict[str, tuple[Directive, ...]] = {}
    while (line := reader.next_line()) is not None:
        number, words = line
        if words[-1] != "{":
            raise ManifestError("a server block begins with its zones and `{`", file=file, line=number)
        body = _expanded(reader.body(), snippets, file)
        if len(words) == 2 and re.fullmatch(r"\(\S+\)", words[0]):
            snippets[words[0][1:-1]] = body
            continue
        zones, ports = _addresses(words[:-1], file, number)
        blocks += [Block(zones[port], port, body, number) for port in ports]
    if not blocks:
        raise ManifestError("no server block", file=file)
    seen: set[tuple[str, int]] = set()
    for block in blocks:
        for zone in block.zones:
            if (zone, block.port) in seen:
                raise ManifestError(f"zone {zone or '.'} is served twice on port {block.port}", file=file,
                                    line=block.line)
            seen.add((zone, block.port))
    return tuple(blocks)


def zones_of(word: str) -> tuple[str, ...]:
    """Return the zones a word stands for: a name, `.`, or a network (10.96.0.0/16 stands for reverse zones)."""
    try:
        network = ip_network(word, strict=False)
    except ValueError:
        return (word.rstrip(".").lower(),)
    step = 8 if network.version == 4 else 4
    wanted = min(-(-network.prefixlen // step) * step, network.max_prefixlen)
    return tuple(_reverse(str(part.network_address.reverse_pointer), wanted // step)
                 for part in network.subnets(new_prefix=wanted))


class _Reader:
    """The lines of a Corefile as words, comments and variables dealt with."""

    def __init__(self, text: str, file: str, environ: Mapping[str, str]) -> None:
        self._file = file
        self._lines = self._words(_VARIABLE.sub(lambda found: environ.get(found[1] or found[2], ""), text))

    def next_line(self) -> tuple[int, list[str]] | None:
        return next(self._lines, None)

    def body(self) -> tuple[Directive, ...]:
        """Return the directives up to the closing brace."""
        found: list[Directive] = []
        start = 0
        while (line := self.next_line()) is not None:
            number, words = line
            start = start or number
            if words == ["}"]:
                return tuple(found)
            if words[-1] == "{" and len(words) > 1:
                found.append(Directive(words[0], tuple(words[1:-1]), number, self.body()))
            elif "{" in words or "}" in words:
                raise ManifestError("a brace stands at the end of a line, or alone", file=self._file, line=number)
            else:
                found.append(Directive(words[0], tuple(words[1:]), number))
        raise ManifestError("a `{` is never closed", file=self._file, line=start)

    @staticmethod
    def _words(text: str) -> Iterator[tuple[int, list[str]]]:
        for number, line in enumerate(text.splitlines(), 1):
            words: list[str] = []
            for found in _WORD.finditer(line):
                if found[2] and found[2].startswith("#"):
                    break
                words.append(found[2] if found[2] is not None else found[1].replace('\\"', '"'))
            if words:
                yield number, words


def _expanded(body: tuple[Directive, ...], snippets: Mapping[str, tuple[Directive, ...]],
              file: str) -> tuple[Directive, ...]:
    found: list[Directive] = []
    for directive in body:
        if directive.name != "import":
            found.append(directive)
        elif len(directive.args) != 1 or directive.args[0] not in snippets:
            raise ManifestError(f"import: no snippet ({' '.join(directive.args)}) before this line", file=file,
                                line=directive.line)
        else:
            found += snippets[directive.args[0]]
    return tuple(found)


def _addresses(words: list[str], file: str, line: int) -> tuple[dict[int, tuple[str, ...]], list[int]]:
    """Return the zones by port, and the ports in order."""
    zones: dict[int, tuple[str, ...]] = {}
    for word in words:
        for one in filter(None, word.split(",")):
            scheme, found, rest = one.partition("://")
            if found and scheme != "dns":
                raise ManifestError(f"{scheme}:// is not served, only plain DNS is", file=file, line=line)
            host, colon, text = (rest if found else one).rpartition(":")
            if not colon or not text.isdigit():
                host, text = (rest if found else one), str(PORT)
            if not 0 < int(text) < 65536:
                raise ManifestError(f"{text} is no port", file=file, line=line)
            zones[int(text)] = zones.get(int(text), ()) + zones_of(host)
    return zones, list(zones)


def _reverse(pointer: str, labels: int) -> str:
    """Cut `0.0.96.10.in-addr.arpa` to its network's labels."""
    parts = pointer.split(".")
    return ".".join(parts[len(parts) - 2 - labels:])
