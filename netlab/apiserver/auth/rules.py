"""A rule of a Role: what it allows, and what it covers of another rule (k8s.io/component-helpers/auth/rbac)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from netlab.api.meta import Object

if TYPE_CHECKING:
    from netlab.apiserver.auth.authorize import Attributes

ALL = "*"


@dataclass(frozen=True, slots=True)
class Rule:
    """rbac/v1 PolicyRule: either resources in groups (all of them, or `names` only), or `urls`."""

    verbs: tuple[str, ...]
    groups: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    urls: tuple[str, ...] = ()

    def allows(self, asked: Attributes) -> bool:
        """Tell whether the rule lets somebody do what is asked."""
        if asked.verb not in self.verbs and ALL not in self.verbs:
            return False
        if not asked.resource:
            return any(_url_covers(url, asked.path) for url in self.urls)
        if asked.group not in self.groups and ALL not in self.groups:
            return False
        if self.names and asked.name not in self.names:
            return False
        if not asked.subresource:
            return asked.resource in self.resources or ALL in self.resources
        return f"{asked.resource}/{asked.subresource}" in self.resources or ALL in self.resources \
            or f"*/{asked.subresource}" in self.resources

    def covers(self, other: Rule) -> bool:
        """Tell whether everything that `other` allows is allowed by this rule, too."""
        if not _within(other.verbs, self.verbs):
            return False
        if other.urls or self.urls:
            return not other.resources and all(any(_url_covers(own, url) for own in self.urls) for url in other.urls)
        if not _within(other.groups, self.groups):
            return False
        if self.names and not (other.names and set(other.names) <= set(self.names)):
            return False
        return ALL in self.resources or all(
            resource in self.resources or ("/" in resource and f"*/{resource.partition('/')[2]}" in self.resources)
            for resource in other.resources)

    def parts(self) -> Iterator[Rule]:
        """Split into rules that allow one verb on one thing each."""
        for verb in self.verbs:
            for url in self.urls:
                yield Rule((verb,), urls=(url,))
            for group in self.groups:
                for resource in self.resources:
                    for name in self.names or ("",):
                        yield Rule((verb,), (group,), (resource,), (name,) if name else ())

    def to_object(self) -> Object:
        """Return the rule as it stands in a Role."""
        pairs = (("verbs", self.verbs), ("apiGroups", self.groups), ("resources", self.resources),
                 ("resourceNames", self.names), ("nonResourceURLs", self.urls))
        return {name: list(values) for name, values in pairs if values}

    def __str__(self) -> str:
        pairs = (("APIGroups", self.groups), ("Resources", self.resources), ("NonResourceURLs", self.urls),
                 ("ResourceNames", self.names), ("Verbs", self.verbs))
        return "{" + ", ".join(f"{name}:{quoted(values)}" for name, values in pairs if values) + "}"


EVERYTHING = (Rule((ALL,), (ALL,), (ALL,)), Rule((ALL,), urls=(ALL,)))


def from_object(raw: Object) -> Rule:
    """Read a rule of a Role."""
    return Rule(*(tuple(raw.get(name) or ())
                  for name in ("verbs", "apiGroups", "resources", "resourceNames", "nonResourceURLs")))


def missing(wanted: Iterable[Rule], held: Sequence[Rule]) -> list[Rule]:
    """Return what of the wanted rules the held ones do not cover, one rule for each thing with all its verbs."""
    lacking: dict[Rule, list[str]] = {}
    for rule in wanted:
        if any(own.covers(rule) for own in held):
            continue
        for part in rule.parts():
            if not any(own.covers(part) for own in held):
                verbs = lacking.setdefault(Rule((), part.groups, part.resources, part.names, part.urls), [])
                if part.verbs[0] not in verbs:
                    verbs.append(part.verbs[0])
    return [Rule(tuple(verbs), what.groups, what.resources, what.names, what.urls) for what, verbs in lacking.items()]


def quoted(values: Iterable[str]) -> str:
    """Return texts as Go's %q prints a slice of them."""
    return "[" + " ".join(f'"{value}"' for value in values) + "]"


def _within(wanted: Sequence[str], held: Sequence[str]) -> bool:
    return ALL in held or set(wanted) <= set(held)


def _url_covers(held: str, wanted: str) -> bool:
    return held in (ALL, wanted) or (held.endswith(ALL) and wanted.startswith(held.rstrip(ALL)))
