"""What is served at this moment: the built-in resources, and those that CustomResourceDefinitions add and take away.

Everything that depends on the set of resources (routing, discovery, OpenAPI documents) asks here, and may keep what it
made of it for as long as `generation` stays.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from netlab.api.kinds import RESOURCES, Resource

_VERSION = re.compile(r"v(\d+)(?:(alpha|beta)(\d+))?\Z")


class Catalog:
    """The resources by what their paths name them: (group, version, plural)."""

    def __init__(self, rows: Iterable[Resource] = RESOURCES) -> None:
        self._builtin = tuple(rows)
        self._custom: dict[str, tuple[Resource, ...]] = {}
        self._schemas: dict[tuple[str, str], Mapping[str, Any]] = {}
        self.generation = 0
        self._index()

    @property
    def rows(self) -> tuple[Resource, ...]:
        """Return every resource, the built-in ones first."""
        return self._rows

    @property
    def builtin(self) -> tuple[Resource, ...]:
        """Return the resources that the server brings along."""
        return self._builtin

    @property
    def custom(self) -> tuple[Resource, ...]:
        """Return the resources that definitions added."""
        return self._rows[len(self._builtin):]

    def find(self, group: str, version: str, plural: str) -> Resource | None:
        """Return the resource that a path names."""
        return self._by_path.get((group, version, plural))

    def by_kind(self, api_version: str, kind: str) -> Resource | None:
        """Return the resource of a kind."""
        return next((row for row in self._rows if row.kind == kind and row.api_version == api_version), None)

    def builtin_group(self, group: str) -> bool:
        """Tell whether a group is one that the server brings along."""
        return any(row.group == group for row in self._builtin)

    def group_versions(self) -> dict[tuple[str, str], list[Resource]]:
        """Return the served group versions, a group's preferred version first, with their resources."""
        return self._versions

    def groups(self) -> list[str]:
        """Return the served groups."""
        return list(dict.fromkeys(group for group, _ in self._versions))

    def schema(self, row: Resource) -> Mapping[str, Any] | None:
        """Return the OpenAPI v3 schema of a custom resource; None for a built-in one."""
        return self._schemas.get((row.api_version, row.kind))

    def define(self, name: str, rows: Iterable[Resource], schemas: Mapping[str, Mapping[str, Any]]) -> None:
        """Serve the versions of a definition, in place of what it had served; `schemas` are by version."""
        self._forget(name)
        self._custom[name] = tuple(rows)
        for row in self._custom[name]:
            self._schemas[row.api_version, row.kind] = schemas.get(row.version, {"type": "object"})
        self._index()

    def withdraw(self, name: str) -> None:
        """Serve a definition's resources no more."""
        self._forget(name)
        self._index()

    def _forget(self, name: str) -> None:
        for row in self._custom.pop(name, ()):
            self._schemas.pop((row.api_version, row.kind), None)

    def _index(self) -> None:
        added = [row for rows in self._custom.values() for row in rows]
        added.sort(key=lambda row: (row.group, version_order(row.version), row.plural))
        self._rows = (*self._builtin, *added)
        self._by_path = {(row.group, row.version, row.plural): row for row in self._rows}
        self._versions: dict[tuple[str, str], list[Resource]] = {}
        for row in self._rows:
            self._versions.setdefault((row.group, row.version), []).append(row)
        self.generation += 1


def version_order(version: str) -> tuple[Any, ...]:
    """Return a sort key that puts v10 before v2, v1 before v1beta2, and what is no such version last, by name.

    https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definition-versioning/
    """
    match = _VERSION.match(version)
    if match is None:
        return 1, version
    major, stage, minor = match.groups()
    return 0, {None: 0, "beta": 1, "alpha": 2}[stage], -int(major), -int(minor or 0), version
