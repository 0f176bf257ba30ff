"""Namespaces, ConfigMaps, Secrets, Leases."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator

import orjson

from netlab.api import scalars
from netlab.api.meta import Object
from netlab.apiserver.validation import meta, names
from netlab.apiserver.validation.errors import FieldError, forbidden, invalid, required, too_long, wrong

_SIZE = 1024 * 1024
_SSH = "kubernetes.io/ssh-auth"
_TYPE_KEYS = {
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
    _SSH: ("ssh-privatekey",),
}


def namespace(obj: Object) -> list[FieldError]:
    """Check a Namespace's finalizers."""
    return [
        error
        for name in (obj.get("spec") or {}).get("finalizers") or ()
        for error in _finalizer(name, "spec.finalizers")
    ]


def namespace_finalizers(obj: Object) -> list[FieldError]:
    """Check a write of …/finalize."""
    return [
        error
        for at, name in enumerate((obj.get("spec") or {}).get("finalizers") or ())
        for error in _finalizer(name, f"spec.finalizers[{at}]")
    ]


def _finalizer(name: str, field: str) -> Iterator[FieldError]:
    yield from wrong(field, name, names.qualified_name(name))
    if "/" not in name and name not in meta.FINALIZERS:
        yield invalid(field, name, "name is neither a standard finalizer name nor is it fully qualified")


def namespace_status(obj: Object) -> list[FieldError]:
    """Check that a Namespace's phase says whether it is on its way out."""
    phase = (obj.get("status") or {}).get("phase", "")
    wanted, when = ("Terminating", "not empty") if obj["metadata"].get("deletionTimestamp") else ("Active", "empty")
    return (
        []
        if phase == wanted
        else [invalid("status.Phase", phase, f"may only be '{wanted}' if `deletionTimestamp` is {when}")]
    )


def config_map(obj: Object) -> list[FieldError]:
    """Check a ConfigMap's keys and size."""
    errors: list[FieldError] = []
    size = 0
    data, binary = obj.get("data") or {}, obj.get("binaryData") or {}
    for key, value in data.items():
        errors += [invalid(f"data[{key}]", key, said) for said in names.config_key(key)]
        if key in binary:
            errors.append(invalid(f"data[{key}]", key, "duplicate of key present in binaryData"))
        size += len(str(value).encode())
    for key, value in binary.items():
        errors += [invalid(f"binaryData[{key}]", key, said) for said in names.config_key(key)]
        size += _decoded(value)
    if size > _SIZE:
        errors.append(too_long("[]", _SIZE))
    return errors


def immutable_data(obj: Object, old: Object, parts: tuple[str, ...]) -> list[FieldError]:
    """Check that an immutable ConfigMap or Secret stays."""
    if not old.get("immutable"):
        return []
    errors: list[FieldError] = []
    if not obj.get("immutable"):
        errors.append(forbidden("immutable", "field is immutable when `immutable` is set"))
    errors += [forbidden(part, "field is immutable when `immutable` is set") for part in parts
               if (obj.get(part) or {}) != (old.get(part) or {})]
    return errors


def secret(obj: Object) -> list[FieldError]:
    """Check a Secret's keys, encoding and size, and the keys that its type demands."""
    errors: list[FieldError] = []
    size = 0
    data = obj.get("data") or {}
    for key, value in data.items():
        errors += [invalid(f"data[{key}]", key, said) for said in names.config_key(key)]
        size += _decoded(value)
    if size > _SIZE:
        errors.append(too_long("data", _SIZE))
    kind = obj.get("type", "")
    if kind == "kubernetes.io/service-account-token" \
            and not (obj["metadata"].get("annotations") or {}).get("kubernetes.io/service-account.name"):
        errors.append(required("metadata.annotations[kubernetes.io/service-account.name]"))
    errors += [
        required(f"data[{key}]")
        for key in _TYPE_KEYS.get(kind, ())
        if key not in data or (not data[key] and kind == _SSH)
    ]
    if kind == "kubernetes.io/basic-auth" and not {"username", "password"} & set(data):
        errors += [required("data[username]"), required("data[password]")]
    for key in _TYPE_KEYS.get(kind, ())[:1]:
        problem = _json_problem(data[key]) if "docker" in kind and key in data else ""
        if problem:
            errors.append(invalid(f"data[{key}]", "<secret contents redacted>", problem))
    return errors


def secret_update(obj: Object, old: Object) -> list[FieldError]:
    """Check that a Secret's type stays, and an immutable one altogether."""
    return [*meta.immutable(obj.get("type"), old.get("type"), "type"), *immutable_data(obj, old, ("data",))]


def lease(spec: Object, path: str) -> list[FieldError]:
    """Check a Lease's numbers."""
    errors: list[FieldError] = []
    seconds, transitions = spec.get("leaseDurationSeconds"), spec.get("leaseTransitions")
    if seconds is not None and seconds <= 0:
        errors.append(invalid(f"{path}.leaseDurationSeconds", seconds, "must be greater than 0"))
    if transitions is not None and transitions < 0:
        errors.append(invalid(f"{path}.leaseTransitions", transitions, "must be greater than or equal to 0"))
    return errors


def _decoded(text: str) -> int:
    """Return how many bytes a base64 text stands for."""
    return len(text) * 3 // 4 - text[-2:].count("=") if text else 0


def _json_problem(text: str) -> str:
    """Return why base64 text holds no JSON object, in the words of Go's decoder where they are known; "" if it does."""
    try:
        content = base64.b64decode(text)
        found = orjson.loads(content)
    except binascii.Error:
        return ""  # said when it was decoded
    except ValueError as error:
        plain = content.strip()
        if not plain:
            return "unexpected end of JSON input"
        if plain[:1] not in b'{["-0123456789tfn':
            return f"invalid character {chr(plain[0])!r} looking for beginning of value"
        return str(error)
    if found is None or isinstance(found, dict):
        return ""
    return f"json: cannot unmarshal {scalars.json_kind(found)} into Go value of type map[string]interface {{}}"
