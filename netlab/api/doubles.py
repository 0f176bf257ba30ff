"""Keys that a YAML text gives more than once in one mapping, in the words of Go's YAML library."""

from __future__ import annotations

import json
from dataclasses import dataclass, field


@dataclass(slots=True)
class _Mapping:
    """A mapping whose end has not come yet: the key that waits for its value, and where that begins."""

    keys: set[str] = field(default_factory=set)
    key: str | None = None
    line: int = 0
    doubled: bool = False


def doubles(text: bytes) -> tuple[str, ...]:
    """Return what is wrong, such as `line 3: key "a" already set in map`; the text can be read as YAML."""
    import yaml

    found: list[str] = []
    open_nodes: list[_Mapping | None] = []

    def ended() -> None:
        """Be told that a node has come to its end: a value, or a key that is no scalar."""
        mapping = open_nodes[-1] if open_nodes else None
        if mapping is None:
            return
        if mapping.key is None:
            mapping.key, mapping.doubled = "", False
            return
        if mapping.doubled:
            found.append(f"line {mapping.line}: key {json.dumps(mapping.key)} already set in map")
        mapping.key = None

    for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        mapping = open_nodes[-1] if open_nodes else None
        if isinstance(event, yaml.NodeEvent) and mapping is not None and mapping.key is not None and event.start_mark:
            mapping.line = event.start_mark.line + 1
        if isinstance(event, yaml.ScalarEvent) and mapping is not None and mapping.key is None:
            mapping.key, mapping.doubled = event.value, event.value in mapping.keys
            mapping.keys.add(event.value)
        elif isinstance(event, yaml.MappingStartEvent):
            open_nodes.append(_Mapping())
        elif isinstance(event, yaml.SequenceStartEvent):
            open_nodes.append(None)
        elif isinstance(event, yaml.CollectionEndEvent):
            open_nodes.pop()
            ended()
        elif isinstance(event, (yaml.ScalarEvent, yaml.AliasEvent)):
            ended()
    return tuple(found)


def sentence(found: tuple[str, ...]) -> str:
    """Return all that is wrong as the library says it."""
    return "yaml: unmarshal errors:\n" + "\n".join(f"  {one}" for one in found)
