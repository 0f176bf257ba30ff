"""Objects inside of objects (x-kubernetes-embedded-resource): each has a type, and metadata as any object's
(apiextensions-apiserver/pkg/apiserver/schema/objectmeta).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from netlab.api.meta import Object
from netlab.apiserver.crd.structural import EMBEDDED, Schema
from netlab.apiserver.validation import meta, names
from netlab.apiserver.validation.errors import FieldError, invalid, required


def check(value: Any, schema: Schema, path: str = "") -> Iterator[FieldError]:
    """Yield what is wrong with the embedded objects of a value."""
    if isinstance(value, dict):
        if schema.get(EMBEDDED):
            yield from _one(value, f"{path}." if path else "")
        properties, extra = schema.get("properties") or {}, schema.get("additionalProperties")
        for name, inner in value.items():
            if isinstance(part := properties.get(name, extra), dict):
                place = f"{path}.{name}" if name in properties else f"{path}[{name}]"
                yield from check(inner, part, place if path else name)
    elif isinstance(value, list) and isinstance(items := schema.get("items"), dict):
        for number, item in enumerate(value):
            yield from check(item, items, f"{path}[{number}]")


def _one(value: Object, path: str) -> Iterator[FieldError]:
    for name in ("apiVersion", "kind"):
        if name not in value:
            yield required(path + name)
        elif not isinstance(value[name], str):
            yield invalid(path + name, value[name], "must be a string")
        elif not value[name]:
            yield invalid(path + name, "", "must not be empty")
    version, kind, metadata = value.get("apiVersion"), value.get("kind"), value.get("metadata")
    if isinstance(version, str) and version.count("/") > 1:
        yield invalid(path + "apiVersion", version, f"unexpected GroupVersion string: {version}")
    if isinstance(kind, str) and kind and (said := names.dns_1035_label(kind.lower())):
        yield invalid(path + "kind", kind, f"may have mixed case, but should otherwise match: {','.join(said)}")
    if isinstance(metadata, dict):
        yield from meta.object_meta({"name": "fakename"} | {key: part for key, part in metadata.items() if part != ""},
                                    namespaced=bool(metadata.get("namespace")), name_form=names.path_segment,
                                    path=path + "metadata", prefixed=False)
