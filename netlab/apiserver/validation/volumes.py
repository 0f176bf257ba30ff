"""Volumes of a PodSpec."""

from __future__ import annotations

from typing import Any

from netlab.api.meta import Object
from netlab.apiserver.validation import names
from netlab.apiserver.validation.errors import FieldError, duplicate, forbidden, invalid, not_supported, required

_HOST_PATHS = ("", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket")


def volumes(found: list[Any], path: str) -> tuple[set[str], list[FieldError]]:
    """Return the volumes' names and what is wrong with them."""
    seen: set[str] = set()
    errors: list[FieldError] = []
    for at, volume in enumerate(found):
        field, name = f"{path}[{at}]", volume.get("name", "")
        if not name:
            errors.append(required(f"{field}.name"))
        else:
            errors += [invalid(f"{field}.name", name, said) for said in names.dns_label(name)]
        if name in seen:
            errors.append(duplicate(f"{field}.name", name))
        seen.add(name)
        sources = [part for part, value in volume.items() if part != "name" and value is not None]
        if not sources:
            errors.append(required(field, "must specify a volume type"))
        errors += [forbidden(f"{field}.{part}", "may not specify more than 1 volume type") for part in sources[1:]]
        for part in sources[:1]:
            errors += _source(part, volume[part], f"{field}.{part}")
    return seen, errors


def _source(kind: str, source: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if kind == "hostPath":
        where = source.get("path", "")
        if not where:
            errors.append(required(f"{path}.path"))
        elif ".." in where.split("/"):
            errors.append(invalid(f"{path}.path", where, "must not contain '..'"))
        if source.get("type", "") not in _HOST_PATHS:
            errors.append(not_supported(f"{path}.type", source["type"], _HOST_PATHS[1:]))
    elif kind == "secret" and not source.get("secretName"):
        errors.append(required(f"{path}.secretName"))
    elif kind == "configMap" and not source.get("name"):
        errors.append(required(f"{path}.name"))
    elif kind == "persistentVolumeClaim" and not source.get("claimName"):
        errors.append(required(f"{path}.claimName"))
    elif kind == "projected":
        errors += _projected(source, path)
    mode = source.get("defaultMode")
    if isinstance(mode, int) and not 0 <= mode <= 0o777:
        errors.append(invalid(f"{path}.defaultMode", mode,
                              "must be a number between 0 and 0777 (octal), both inclusive"))
    for at, item in enumerate(source.get("items") or []):
        errors += _item(item, f"{path}.items[{at}]", keyed=kind in ("secret", "configMap"))
    return errors


def _projected(source: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for at, part in enumerate(source.get("sources") or []):
        field = f"{path}.sources[{at}]"
        token = part.get("serviceAccountToken")
        if isinstance(token, dict):
            if not token.get("path"):
                errors.append(required(f"{field}.serviceAccountToken.path"))
            seconds = token.get("expirationSeconds", 3600)
            if seconds < 600:
                errors.append(invalid(f"{field}.serviceAccountToken.expirationSeconds", seconds,
                                      "may not specify a duration less than 10 minutes"))
            elif seconds > 1 << 32:
                errors.append(invalid(f"{field}.serviceAccountToken.expirationSeconds", seconds,
                                      "may not specify a duration larger than 2^32 seconds"))
        for kind in ("configMap", "secret"):
            inner = part.get(kind)
            if isinstance(inner, dict):
                if not inner.get("name"):
                    errors.append(required(f"{field}.{kind}.name"))
                for number, item in enumerate(inner.get("items") or []):
                    errors += _item(item, f"{field}.{kind}.items[{number}]", keyed=True)
    return errors


def _item(item: Object, path: str, *, keyed: bool) -> list[FieldError]:
    errors: list[FieldError] = []
    if keyed and not item.get("key"):
        errors.append(required(f"{path}.key"))
    where = item.get("path", "")
    if not where:
        errors.append(required(f"{path}.path"))
    elif where.startswith("/"):
        errors.append(invalid(f"{path}.path", where, "must be a relative path"))
    elif ".." in where.split("/"):
        errors.append(invalid(f"{path}.path", where, "must not contain '..'"))
    return errors
