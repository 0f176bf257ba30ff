"""nft listings as data, so that two of them can be compared whatever order they are in."""

from __future__ import annotations

import re

Table = dict[str, dict[str, object]]


def tables(listing: str) -> dict[str, Table]:
    """Return by table, by `chain NAME`, `set NAME` or `map NAME`: the lines, elements as a set, rules in order."""
    found: dict[str, Table] = {}
    table: Table = {}
    section: dict[str, object] = {}
    for line in re.sub(r",\s*\n\s*", ", ", listing).splitlines():
        text = line.strip()
        if text.startswith("table "):
            table = found.setdefault(text.removesuffix(" {"), {})
            section = table.setdefault("", {"lines": []})
        elif re.match(r"(chain|set|map) \S+ \{$", text):
            section = table.setdefault(text.removesuffix(" {"), {"lines": []})
        elif text.startswith("elements = {"):
            section["elements"] = frozenset(text[len("elements = {"):-1].strip().split(", "))
        elif text and text != "}":
            section["lines"].append(text)  # type: ignore[attr-defined]
    return found


def without_memory(listing: dict[str, Table]) -> dict[str, Table]:
    """Return the tables without what affinity sets remember of clients."""
    for table in listing.values():
        for name, section in table.items():
            if name.startswith("set affinity-"):
                section.pop("elements", None)
    return listing
