"""Since when an object's field is as it is, as far as the object itself tells: by its managers' last writes. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from netlab.api.meta import Object

_STEP = re.compile(r"([^.\[\]]+)|\[([^\]]*)\]")


def since(obj: Object, fields: Iterable[str]) -> str:
    """Return `2026-01-02T03:04:05Z (kubectl)`: when a manager of one of these fields last wrote, and which.

    Without managedFields that is when the object was made; "" when it does not tell that either.
    """
    metadata = obj.get("metadata") or {}
    created = str(metadata.get("creationTimestamp") or "")
    owners = [(str(entry.get("time") or ""), str(entry.get("manager") or "?"))
              for entry in metadata.get("managedFields") or ()
              if any(_owns(entry.get("fieldsV1") or {}, field) for field in fields)]
    if not owners:
        return f"{created} (created)" if created else ""
    when, who = max(owners)
    return f"{when} ({who})" if when else ""


def _owns(owned: Mapping[str, Any], field: str) -> bool:
    """Tell whether a set of fields holds a path such as spec.ports[0].nodePort; places in lists are not told apart."""
    heres = [owned]
    for name, index in _STEP.findall(field):
        if index:
            inner = [value for here in heres for key, value in here.items() if key.startswith(("k:", "i:", "v:"))]
            heres = inner or heres  # a list that is owned as a whole
            continue
        found = [here[f"f:{name}"] for here in heres if f"f:{name}" in here]
        if not found:
            # {} owns all below: an atomic list or map.
            return any(not here for here in heres)
        heres = found
    return True
