"""Environment variables, and the fields of a Pod that they and files of the downward API may show."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from netlab.api import quantity
from netlab.api.meta import Object
from netlab.apiserver.validation import names, paths
from netlab.apiserver.validation.errors import FieldError, invalid, not_supported, required, wrong

_FIELDS = (
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
)
_KNOWN_FIELDS = frozenset(
    {*_FIELDS, "metadata.annotations", "metadata.labels", "spec.restartPolicy", "spec.schedulerName", "status.phase"}
)
_OLD_FIELDS = {"spec.host": "spec.nodeName"}
_AMOUNTS = tuple(f"{part}.{name}" for part in ("limits", "requests") for name in ("cpu", "ephemeral-storage", "memory"))
_HUGE = ("requests.hugepages-", "limits.hugepages-")
_SIZES = ("1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei")
_KEYED = ("configMapKeyRef", "secretKeyRef")
_SOURCES = ("fieldRef", "resourceFieldRef", *_KEYED, "fileKeyRef")
_REFERENCES = ("configMapRef", "secretRef")
_SEVERAL = "may not have more than one field specified at a time"


def variables(entries: list[Any], path: str) -> Iterator[FieldError]:
    """Check a container's env."""
    for at, entry in enumerate(entries):
        name = entry.get("name", "")
        if not name:
            yield required(f"{path}[{at}].name")
        else:
            yield from wrong(f"{path}[{at}].name", name, names.env_name(name))
        source = entry.get("valueFrom")
        if source is not None:
            yield from _source(source, entry.get("value", ""), f"{path}[{at}].valueFrom")


def _source(source: Object, value: str, path: str) -> Iterator[FieldError]:
    given = [kind for kind in _SOURCES if source.get(kind) is not None]
    for kind in given:
        field, reference = f"{path}.{kind}", source[kind]
        if kind == "fieldRef":
            yield from field_of_pod(reference, field, _FIELDS)
        elif kind == "resourceFieldRef":
            yield from amount_of_container(reference, field)
        elif kind == "fileKeyRef":
            yield from _file_key(reference, field)
        else:
            yield from wrong(f"{field}.name", reference.get("name", ""), names.dns_subdomain(reference.get("name", "")))
            if not reference.get("key"):
                yield required(f"{field}.key")
            else:
                yield from wrong(f"{field}.key", reference["key"], names.config_key(reference["key"]))
    if not given:
        yield invalid(
            path,
            "",
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
        )
    elif value:
        yield invalid(path, "", "may not be specified when `value` is not empty")
    elif len(given) > 1:
        yield invalid(path, "", _SEVERAL)


def _file_key(reference: Object, path: str) -> Iterator[FieldError]:
    for part, form in (("key", names.env_name), ("volumeName", names.dns_label)):
        value = reference.get(part, "")
        if not value:
            yield required(f"{path}.{part}")
        else:
            yield from wrong(f"{path}.{part}", value, form(value))
    if not reference.get("path"):
        yield required(f"{path}.path")
    else:
        yield from paths.no_backsteps(reference["path"], f"{path}.path")


def sets(entries: list[Any], path: str) -> Iterator[FieldError]:
    """Check a container's envFrom: whole ConfigMaps and Secrets."""
    for at, entry in enumerate(entries):
        prefix = entry.get("prefix", "")
        if prefix:
            yield from wrong(f"{path}[{at}].prefix", prefix, names.env_name(prefix))
        given = [kind for kind in _REFERENCES if entry.get(kind) is not None]
        for kind in given:
            name, field = entry[kind].get("name", ""), f"{path}[{at}].{kind}.name"
            if not name:
                yield required(field)
            else:
                yield from wrong(field, name, names.dns_subdomain(name))
        if not given:
            yield invalid(path, "", "must specify one of: `configMapRef` or `secretRef`")
        elif len(given) > 1:
            yield invalid(path, "", _SEVERAL)


def field_of_pod(reference: Object, path: str, allowed: Collection[str]) -> Iterator[FieldError]:
    """Check a reference to a field of the Pod: one of `allowed`, or a single label or annotation."""
    version, wanted = reference.get("apiVersion", ""), reference.get("fieldPath", "")
    if not version:
        yield required(f"{path}.apiVersion")
        return
    if not wanted:
        yield required(f"{path}.fieldPath")
        return
    whole, subscript = _split(wanted)
    problem = ""
    if version != "v1":
        problem = f"unsupported pod version: {version}"
    elif subscript is not None and whole not in ("metadata.annotations", "metadata.labels"):
        problem = f"field label does not support subscript: {wanted}"
    elif subscript is None and whole not in _KNOWN_FIELDS and whole not in _OLD_FIELDS:
        problem = f"field label not supported: {wanted}"
    if problem:
        yield invalid(f"{path}.fieldPath", wanted, f"error converting fieldPath: {problem}")
    elif subscript is not None:
        key = subscript.lower() if whole == "metadata.annotations" else subscript
        yield from wrong(path, key, names.qualified_name(key))
    elif (now := _OLD_FIELDS.get(whole, whole)) not in allowed:
        yield not_supported(f"{path}.fieldPath", now, allowed)


def _split(text: str) -> tuple[str, str | None]:
    """Return `metadata.labels['a']` as its two parts; the second is None where there is no subscript."""
    if text.endswith("']"):
        whole, found, subscript = text.removesuffix("']").partition("['")
        if found and whole:
            return whole, subscript
    return text, None


def amount_of_container(reference: Object, path: str, *, volume: bool = False) -> Iterator[FieldError]:
    """Check a reference to a container's requests or limits; a file must also say whose."""
    wanted = reference.get("resource", "")
    if volume and not reference.get("containerName"):
        yield required(f"{path}.containerName")
    elif not wanted:
        yield required(f"{path}.resource")
    elif wanted not in _AMOUNTS and not wanted.startswith(_HUGE):
        yield not_supported(f"{path}.resource", wanted, _AMOUNTS)
    divisor = quantity.parse(reference.get("divisor") or 0)
    if not divisor:
        return
    known = wanted.partition(".")[2] if wanted in _AMOUNTS else "hugepages" if wanted.startswith(_HUGE) else ""
    if known == "cpu" and str(divisor) not in ("1m", "1"):
        yield invalid(f"{path}.divisor", wanted, "only divisor's values 1m and 1 are supported with the cpu resource")
    elif known and known != "cpu" and str(divisor) not in _SIZES:
        called = "local ephemeral storage" if known == "ephemeral-storage" else known
        yield invalid(
            f"{path}.divisor",
            wanted,
            f"only divisor's values {', '.join(_SIZES)} are supported with the {called} resource",
        )
