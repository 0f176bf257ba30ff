"""The descriptions of definitions and fields, from the optional package kubernetes-validate if it is installed.

Without it there are words of our own for what all kinds have in common.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from netlab.api.openapi.words import ENVELOPE, METADATA
from netlab.api.schema import table

_OBJECT_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"


def source() -> Path | None:
    """Return the file that has them; None without the package."""
    spec = find_spec("kubernetes_validate")
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(spec.submodule_search_locations[0], "kubernetes-json-schema", f"v{table().kubernetes}.0-local")
    file = folder / "_definitions.json"
    return file if file.is_file() else None


@lru_cache(maxsize=1)
def load() -> Mapping[str, Any]:
    """Return the definitions with their descriptions, by name; {} without the package. Takes 50 ms the first time."""
    file = source()
    definitions: Mapping[str, Any] = json.loads(file.read_bytes())["$defs"] if file is not None else {}
    return definitions


def of_struct(name: str) -> str:
    """Return the description of a definition, or ""."""
    return str(load().get(name, {}).get("description", ""))


def of_field(name: str, field: str) -> str:
    """Return the description of a field of a definition, or ""."""
    found = load().get(name, {}).get("properties", {}).get(field, {}).get("description", "")
    if isinstance(found, str) and found:
        return found
    if name == _OBJECT_META:
        return METADATA.get(field, "")
    return ENVELOPE.get(field, "") if table().struct(name).kinds else ""
