"""From an accepted definition to endpoints: rows, folder, strategies, columns, shapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from netlab.api import fields
from netlab.api.kinds import Resource
from netlab.api.meta import Object
from netlab.api.patch import shape
from netlab.apiserver.catalog import version_order
from netlab.apiserver.crd import columns, shapes, structural
from netlab.apiserver.crd.conversion import Converter
from netlab.apiserver.crd.strategy import CustomStrategy
from netlab.apiserver.endpoint import Conversion, Custom, Endpoint
from netlab.apiserver.folder import Decoded, Folder
from netlab.apiserver.hooks import Hooks
from netlab.store import Store

_VERBS = ("delete", "deletecollection", "get", "list", "patch", "create", "update", "watch")
"""In upstream's order."""


@dataclass(frozen=True)
class Served:
    """What a definition adds: one row and one endpoint per served version, and each version's schema.

    `storage` is the stored version's endpoint, served or not: it reads what is stored as it is, and asks no webhook.
    """

    rows: tuple[Resource, ...]
    endpoints: tuple[Endpoint, ...]
    schemas: Mapping[str, Mapping[str, Any]]
    storage: Endpoint


def endpoints(definition: Object, store: Store, decoded: Decoded, hooks: Hooks, since: int) -> Served:
    """Return what to serve for a definition that holds since a revision; what is older is brought into its shape."""
    spec = definition["spec"]
    group = spec["group"]
    stored = next(version["name"] for version in spec["versions"] if version.get("storage"))
    wish = spec.get("conversion") or {}
    hook = wish.get("webhook") if wish.get("strategy") == "Webhook" else None
    kept = next(one for one in spec["versions"] if one["name"] == stored)
    first = CustomStrategy(_row(definition, stored), kept)
    folder = Folder(store, first.resource, decoded, settle=None if hook else first.settled, since=0 if hook else since)
    rows, found, schemas = [], [], {}
    storage = Endpoint(first.resource, folder, first, custom=Custom(first.schema, columns.columns(kept)))
    for version in spec["versions"]:
        if not version.get("served"):
            continue
        row = _row(definition, version["name"])
        strategy = CustomStrategy(row, version, _successor(spec["versions"], row.version))
        converter = None
        if hook is not None:
            converter = Converter(hooks, hook, row.kind, row.api_version, f"{group}/{stored}")
        custom = Custom(schema=strategy.schema, columns=columns.columns(version), warning=strategy.deprecation,
                        terminating="deletionTimestamp" in definition["metadata"], converter=converter,
                        embeds=any(part.get(structural.EMBEDDED) for _, part in structural.walk(strategy.schema, "")))
        conversion = None
        if version["name"] != stored and converter is None:
            conversion = Conversion(strategy.shown, first.settled)
        rows.append(row)
        found.append(Endpoint(row, folder, strategy, conversion, custom))
        schemas[version["name"]] = strategy.schema
        shape.define(row.api_version, row.kind, shapes.root(strategy.schema))
        fields.define(row.api_version, row.kind, tuple(
            entry["jsonPath"].lstrip(".") for entry in version.get("selectableFields") or []))
    return Served(tuple(rows), tuple(found), schemas, storage)


def forget(rows: tuple[Resource, ...]) -> None:
    """Drop what `endpoints` told others."""
    for row in rows:
        shape.define(row.api_version, row.kind, None)
        fields.define(row.api_version, row.kind, None)


def _successor(versions: list[Object], version: str) -> str:
    """Return the newest version that is served and not deprecated, "" where none is newer than this one."""
    order = sorted((version_order(one["name"]), one["name"]) for one in versions
                   if one.get("served") and not one.get("deprecated"))
    return order[0][1] if order and order[0][0] < version_order(version) else ""


def _row(definition: Object, version: str) -> Resource:
    spec, called = definition["spec"], definition["spec"]["names"]
    found = next(one for one in spec["versions"] if one["name"] == version)
    subresources = tuple(name for name in ("status", "scale") if name in (found.get("subresources") or {}))
    return Resource(spec["group"], version, called["kind"], called["plural"], spec["scope"] == "Namespaced",
                    tuple(called.get("shortNames") or ()), tuple(called.get("categories") or ()), subresources, _VERBS,
                    prefix=f"{spec['group']}/{called['plural']}", singular_name=called.get("singular", ""),
                    list_kind=called.get("listKind", ""), stored=next(
                        f"{spec['group']}/{one['name']}" for one in spec["versions"] if one["storage"]))
