"""Kubernetes objects as someone wrote them: dicts that remember their file and the lines of their fields."""

from __future__ import annotations

import re
from typing import Any

import yaml

Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Document(dict[str, Any]):
    """An object and where it stands."""

    file = ""
    node: yaml.Node | None = None

    def line_of(self, field: str = "") -> int:
        """Return the line, from 1, of a field such as `spec.ports[0].port`, or of the nearest one around it."""
        if self.node is None:
            return 0
        at, line = self.node, self.node.start_mark.line
        for name, index in re.findall(r"([^.\[\]]+)|\[(\d+)\]", field):
            if isinstance(at, yaml.MappingNode):
                key, value = next(((key, value) for key, value in at.value if key.value == name), (None, None))
                if key is None or value is None:
                    break
                at, line = value, key.start_mark.line
            elif isinstance(at, yaml.SequenceNode) and index and int(index) < len(at.value):
                at = at.value[int(index)]
                line = at.start_mark.line
            else:
                break
        return int(line) + 1


def load(text: str, file: str) -> list[Any]:
    """Return the documents of a YAML stream; mappings are `Document`s, Lists are taken apart, empty ones dropped.

    Raises:
        yaml.YAMLError: it is no YAML.
    """
    loader, found = Loader(text), []
    try:
        while loader.check_node():
            node = loader.get_node()
            whole = loader.construct_document(node)
            if isinstance(whole, dict) and whole.get("kind") == "List":
                items = next((value for key, value in node.value if key.value == "items"), None)
                found += [_located(item, at, file) for item, at in
                          zip(whole.get("items") or [], items.value if items else [], strict=False)]
            elif whole:
                found.append(_located(whole, node, file))
    finally:
        loader.dispose()
    return found


def _located(value: Any, node: yaml.Node, file: str) -> Any:
    if not isinstance(value, dict):
        return value
    document = Document(value)
    document.file, document.node = file, node
    return document
