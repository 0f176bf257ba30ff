"""Field selectors: `metadata.name=web,status.phase!=Failed`, and what each kind lets itself be selected by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from netlab.api.meta import Object

COMMON = ("metadata.name", "metadata.namespace")
_POD = ("spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName", "spec.hostNetwork",
        "status.phase", "status.podIP", "status.podIPs", "status.nominatedNodeName")
_INVOLVED = ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")
FIELDS: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("v1", "Pod"): _POD,
    ("v1", "Event"): (*(f"involvedObject.{part}" for part in _INVOLVED),
                      "reason", "reportingComponent", "source", "type"),
    ("events.k8s.io/v1", "Event"): (*(f"regarding.{part}" for part in _INVOLVED),
                                    "reason", "reportingController", "type"),
    ("v1", "Node"): ("spec.unschedulable",),
    ("v1", "Namespace"): ("status.phase", "name"),
    ("v1", "Secret"): ("type",),
    ("v1", "Service"): ("spec.clusterIP", "spec.type"),
    ("v1", "ReplicationController"): ("status.replicas",),
    ("apps/v1", "ReplicaSet"): ("status.replicas",),
    ("batch/v1", "Job"): ("status.successful",),
    ("certificates.k8s.io/v1", "CertificateSigningRequest"): ("spec.signerName",),
}
"""The selectable fields of each kind besides the common ones (the field label conversions in pkg/apis/*/v1)."""

_DEFAULTS = {"spec.unschedulable": "false", "spec.hostNetwork": "false",
             "status.replicas": "0", "status.successful": "0"}


@dataclass(frozen=True)
class FieldSelector:
    """`requirements` are (field, "=" or "!=", value); all must hold."""

    requirements: tuple[tuple[str, str, str], ...] = ()

    def matches(self, obj: Object) -> bool:
        """Tell whether an object is selected, of a kind that has these fields (`check`). Every watcher asks at every
        change, so only the fields in question are looked at.
        """
        return all((value(obj, field) == wanted) == (op == "=") for field, op, wanted in self.requirements)

    @property
    def empty(self) -> bool:
        """Tell whether everything is selected."""
        return not self.requirements

    def exact(self, field: str) -> str | None:
        """Return the value that a field must have, None if it may have several."""
        return next((value for name, op, value in self.requirements if name == field and op == "="), None)

    def __str__(self) -> str:
        return ",".join(f"{field}{op}{_escape(value)}" for field, op, value in self.requirements)


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace(",", "\\,").replace("=", "\\=")


@lru_cache(maxsize=512)
def parse(text: str) -> FieldSelector:
    r"""Return the selector of a text; `\\`, `\,` and `\=` stand for themselves in a value; "" selects everything.

    Raises:
        ValueError: it can't be read; the message is Kubernetes' own.
    """
    found = []
    for term in _split(text):
        if not term:
            continue
        for op in ("!=", "==", "="):
            at = term.find(op)
            if at >= 0 and "=" not in term[:at]:
                found.append((term[:at], "!=" if op == "!=" else "=", _unescape(term[at + len(op):])))
                break
        else:
            raise ValueError(f"invalid selector: '{text}'; can't understand '{term}'")
    return FieldSelector(tuple(found))


def _split(text: str) -> list[str]:
    terms, start, at = [], 0, 0
    while at < len(text):
        if text[at] == "\\":
            at += 2
            continue
        if text[at] == ",":
            terms.append(text[start:at])
            start = at + 1
        at += 1
    terms.append(text[start:])
    return terms


def _unescape(text: str) -> str:
    out, at = [], 0
    while at < len(text):
        if text[at] == "\\":
            if text[at + 1:at + 2] not in {"\\", ",", "="}:
                raise ValueError(f"invalid field selector: invalid escape sequence: {text[at:at + 2]}")
            at += 1
        elif text[at] in ",=":
            raise ValueError(f"invalid field selector: unescaped character in value: {text[at]}")
        out.append(text[at])
        at += 1
    return "".join(out)


_DEFINED: dict[tuple[str, str], tuple[str, ...]] = {}


def define(api_version: str, kind: str, names: tuple[str, ...] | None) -> None:
    """Tell by which fields of its own a kind can be selected that is not built in (None: forget it)."""
    if names is None:
        _DEFINED.pop((api_version, kind), None)
    else:
        _DEFINED[api_version, kind] = names


def supported(api_version: str, kind: str) -> frozenset[str]:
    """Return the fields by which a kind can be selected."""
    own = FIELDS.get((api_version, kind)) or _DEFINED.get((api_version, kind)) or ()
    return frozenset((*COMMON, *own))


def check(selector: FieldSelector, api_version: str, kind: str) -> None:
    """Refuse fields that a kind can't be selected by.

    Raises:
        ValueError: with Kubernetes' text.
    """
    known = supported(api_version, kind)
    for field, _, _ in selector.requirements:
        if field not in known:
            text = f'"{field}" is not a known field selector: only "metadata.name", "metadata.namespace"'
            told = (api_version, kind) in FIELDS or (api_version, kind) in _DEFINED
            raise ValueError(f"field label not supported: {field}" if told else text)


def value(obj: Object, field: str) -> str:
    """Return the value of one of the selectable fields of an object."""
    special = _SPECIAL.get(field)
    found = special(obj) if special else _at(obj, field)
    return _DEFAULTS.get(field, "") if found in (None, "") else _text(found)


def _at(obj: Any, path: str) -> Any:
    for part in path.split("."):
        obj = obj.get(part) if isinstance(obj, dict) else None
    return obj


def _text(value: Any) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def _source(obj: Object) -> Any:
    return _at(obj, "source.component") or obj.get("reportingComponent")


_SPECIAL: Mapping[str, Callable[[Object], Any]] = {
    "source": _source,
    "status.podIPs": lambda obj: ",".join(each.get("ip", "") for each in _at(obj, "status.podIPs") or ()),
    "status.successful": lambda obj: _at(obj, "status.succeeded"),
    "name": lambda obj: _at(obj, "metadata.name"),
}
