"""What every API object has: TypeMeta, ObjectMeta, owner references; read from and written to plain dicts."""

from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Any, TypeAlias

Object: TypeAlias = dict[str, Any]
"""An API object, or any JSON object inside one."""


def name(obj: Object) -> str:
    """Return metadata.name, or "" while only generateName is set."""
    return str(obj.get("metadata", {}).get("name", ""))


def namespace(obj: Object) -> str:
    """Return metadata.namespace; "" for cluster-scoped objects."""
    return str(obj.get("metadata", {}).get("namespace", ""))


def uid(obj: Object) -> str:
    """Return metadata.uid, or ""."""
    return str(obj.get("metadata", {}).get("uid", ""))


def key(obj: Object) -> str:
    """Return `namespace/name`, or `name` for cluster-scoped objects: client-go's MetaNamespaceKeyFunc."""
    space = namespace(obj)
    return f"{space}/{name(obj)}" if space else name(obj)


def split_key(text: str) -> tuple[str, str]:
    """Return (namespace, name) of a key; the namespace is "" for cluster-scoped objects."""
    space, slash, last = text.rpartition("/")
    return (space, last) if slash else ("", text)


def revision(obj: Object) -> int:
    """Return metadata.resourceVersion as a number, 0 when absent. Only equality and netlab's own store rely on it."""
    text = obj.get("metadata", {}).get("resourceVersion", "")
    return int(text) if str(text).isdigit() else 0


def labels(obj: Object) -> dict[str, str]:
    """Return metadata.labels, {} when absent."""
    return obj.get("metadata", {}).get("labels") or {}


def annotations(obj: Object) -> dict[str, str]:
    """Return metadata.annotations, {} when absent."""
    return obj.get("metadata", {}).get("annotations") or {}


def deleting(obj: Object) -> bool:
    """Tell whether metadata.deletionTimestamp is set."""
    return bool(obj.get("metadata", {}).get("deletionTimestamp"))


def controller_of(obj: Object) -> Object | None:
    """Return the owner reference with `controller: true`, if there is one (metav1.GetControllerOf)."""
    for reference in obj.get("metadata", {}).get("ownerReferences") or []:
        if reference.get("controller"):
            return dict(reference)
    return None


def owner_reference(owner: Object, *, controller: bool = True) -> Object:
    """Return the reference to put on a dependent; `owner` must carry apiVersion and kind."""
    reference: Object = {"apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": name(owner),
                         "uid": uid(owner)}
    if controller:
        reference |= {"controller": True, "blockOwnerDeletion": True}
    return reference


def timestamp(at: float) -> str:
    """Return Unix seconds as metav1.Time: RFC 3339, UTC, whole seconds."""
    return _second(int(at))


@lru_cache(maxsize=16)
def _second(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def micro_timestamp(at: float) -> str:
    """Return Unix seconds as metav1.MicroTime: RFC 3339, UTC, six digits."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def is_date(text: str) -> bool:
    """Tell whether a text is a day as labels have it: 2026-01-31."""
    try:
        return len(text) == len("2026-01-31") and bool(date.fromisoformat(text))
    except ValueError:
        return False


def parse_timestamp(text: str) -> float:
    """Return the Unix seconds of a metav1.Time or MicroTime.

    Raises:
        ValueError: the text is not RFC 3339.
    """
    return datetime.fromisoformat(text).timestamp()
