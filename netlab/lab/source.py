"""A YAML file as values that know their line and field, so that an error can say where and what was expected."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import yaml

from netlab.errors import ManifestError

T = TypeVar("T")


class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML 1.1 without the two traps of it that nobody means: dates, and 12:30:00 as a number of seconds."""


Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in rows if tag != "tag:yaml.org,2002:timestamp"]
    for first, rows in Loader.yaml_implicit_resolvers.items()}
for _rows in Loader.yaml_implicit_resolvers.values():
    for _place, (_tag, _) in enumerate(_rows):
        if _tag == "tag:yaml.org,2002:int":
            _rows[_place] = (_tag, re.compile(r"^[-+]?(?:0b[01_]+|0[0-7_]*|[1-9][0-9_]*|0x[0-9a-fA-F_]+)$"))


@dataclass(frozen=True)
class Field:
    """One value of a file: `path` is how to reach it (`checks[2].to`), `line` counts from 1."""

    value: Any
    file: str
    line: int
    path: str
    children: Any = None

    def wrong(self, expected: str) -> ManifestError:
        """Return the error that says what was expected here."""
        shown = "nothing" if self.value is None else f'"{self.value}"' if isinstance(self.value, str) else (
            "a mapping" if isinstance(self.value, dict) else "a list" if isinstance(self.value, list) else
            str(self.value).lower() if isinstance(self.value, bool) else str(self.value))
        return ManifestError(f"expected {expected}, found {shown}", file=self.file, line=self.line, field=self.path)

    def refused(self, words: str) -> ManifestError:
        """Return the error that says in these words what is wrong here."""
        return ManifestError(words, file=self.file, line=self.line, field=self.path)

    def at(self, path: str) -> Field:
        """Return the field at a path below, such as `iptables.masqueradeAll`, or the nearest that is there."""
        name, _, rest = path.partition(".")
        child = self.children.get(name) if isinstance(self.value, dict) else None
        return child.at(rest) if child is not None else self

    def fields(self, allowed: Collection[str], required: Collection[str] = ()) -> dict[str, Field]:
        """Return a mapping's fields by name.

        Raises:
            ManifestError: no mapping, an unknown field, or a required one missing.
        """
        if self.value is None and not self.path:
            return {}
        if not isinstance(self.value, dict):
            raise self.wrong(f"a mapping with {', '.join(allowed)}")
        found: dict[str, Field] = self.children
        for name, child in found.items():
            if name not in allowed:
                raise ManifestError(f'unknown field "{name}"; there are: {", ".join(allowed)}', file=self.file,
                                    line=child.line, field=self.path)
        for name in required:
            if name not in found:
                raise ManifestError(f'the field "{name}" is missing', file=self.file, line=self.line, field=self.path)
        return found

    def items(self) -> Iterator[Field]:
        """Yield a list's items; nothing for an empty value.

        Raises:
            ManifestError: no list.
        """
        if self.value is None:
            return
        if not isinstance(self.value, list):
            raise self.wrong("a list")
        yield from self.children

    def text(self, pattern: str = "", words: str = "text") -> str:
        """Return a non-empty string, a pattern (re.fullmatch) over it checked."""
        if not isinstance(self.value, str) or not self.value or (pattern and not re.fullmatch(pattern, self.value)):
            raise self.wrong(words)
        return self.value

    def integer(self, low: int, high: int) -> int:
        """Return a whole number within bounds."""
        if not isinstance(self.value, int) or isinstance(self.value, bool) or not low <= self.value <= high:
            raise self.wrong(f"a whole number from {low} to {high}")
        return self.value

    def boolean(self) -> bool:
        """Return true or false."""
        if not isinstance(self.value, bool):
            raise self.wrong("true or false")
        return self.value

    def choice(self, *choices: str) -> str:
        """Return one of some words."""
        if self.value not in choices:
            raise self.wrong(f"one of {', '.join(choices)}")
        return str(self.value)

    def parsed(self, function: Callable[[str], T], words: str) -> T:
        """Return a string through a function that raises ValueError for what it does not understand."""
        try:
            return function(self.text(words=words))
        except ValueError:
            raise self.wrong(words) from None


def parse(text: str, file: str) -> Field:
    """Return the document of a file.

    Raises:
        ManifestError: it is no YAML, or several documents, or says a field twice.
    """
    loader = Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return Field(None, file, 1, "")
        return _field(loader, node, file, "")
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise ManifestError(f"no YAML: {error.problem or error.context}", file=file,
                            line=mark.line + 1 if mark else 0) from None
    except yaml.YAMLError as error:
        raise ManifestError(f"no YAML: {error}", file=file) from None
    finally:
        loader.dispose()


def _field(loader: Any, node: yaml.Node, file: str, path: str) -> Field:
    line = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        fields: dict[str, Field] = {}
        for key, value in node.value:
            name = str(key.value)
            if name in fields:
                raise ManifestError(f'the field "{name}" is there twice', file=file, line=key.start_mark.line + 1,
                                    field=path)
            child = _field(loader, value, file, f"{path}.{name}" if path else name)
            fields[name] = Field(child.value, file, key.start_mark.line + 1, child.path, child.children)
        return Field({name: child.value for name, child in fields.items()}, file, line, path, fields)
    if isinstance(node, yaml.SequenceNode):
        items = [_field(loader, item, file, f"{path}[{number}]") for number, item in enumerate(node.value)]
        return Field([item.value for item in items], file, line, path, items)
    return Field(loader.construct_object(node, deep=True), file, line, path)
