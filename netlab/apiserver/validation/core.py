"""Namespaces, Nodes, ConfigMaps, Secrets, Events, Leases."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from netlab.api.meta import Object
from netlab.apiserver.validation import meta, names
from netlab.apiserver.validation.errors import FieldError, forbidden, invalid, not_supported, required, too_long

_SIZE = 1024 * 1024
_TAINT_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_TYPE_KEYS = {
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
}


def namespace(obj: Object) -> list[FieldError]:
    """Check a Namespace's finalizers."""
    errors: list[FieldError] = []
    for at, name in enumerate((obj.get("spec") or {}).get("finalizers") or []):
        if "/" not in name and name != "kubernetes":
            errors.append(invalid(f"spec.finalizers[{at}]", name, "name is neither a standard finalizer name nor is it "
                                                                  "fully qualified"))
    return errors


def node(spec: Object, path: str) -> list[FieldError]:
    """Check taints and Pod networks."""
    errors: list[FieldError] = []
    seen: set[tuple[Any, Any]] = set()
    for at, taint in enumerate(spec.get("taints") or []):
        field = f"{path}.taints[{at}]"
        errors += [invalid(f"{field}.key", taint.get("key", ""), said)
                   for said in names.qualified_name(taint.get("key", ""))]
        errors += [invalid(f"{field}.value", taint.get("value", ""), said)
                   for said in names.label_value(taint.get("value") or "")]
        if taint.get("effect") not in _TAINT_EFFECTS:
            errors.append(not_supported(f"{field}.effect", taint.get("effect", ""), _TAINT_EFFECTS))
        pair = (taint.get("key"), taint.get("effect"))
        if pair in seen:
            errors.append(FieldError("FieldValueDuplicate", field, f"Duplicate value: {taint!r}"))
        seen.add(pair)
    networks = spec.get("podCIDRs") or []
    for at, network in enumerate(networks):
        errors += [invalid(f"{path}.podCIDRs[{at}]", network, said) for said in names.cidr(network)]
    if len(networks) > 2:
        errors.append(invalid(f"{path}.podCIDRs", networks, "may specify no more than one CIDR for each IP family"))
    if spec.get("podCIDR") and networks and spec["podCIDR"] != networks[0]:
        errors.append(invalid(f"{path}.podCIDR", spec["podCIDR"], "must be the first of podCIDRs"))
    return errors


def node_update(obj: Object, old: Object) -> list[FieldError]:
    """Check that a node's Pod networks and provider stay once they are set."""
    spec, before = obj.get("spec") or {}, old.get("spec") or {}
    errors: list[FieldError] = []
    if before.get("podCIDRs") and spec.get("podCIDRs") != before["podCIDRs"]:
        errors.append(forbidden("spec.podCIDRs", "node updates may not change podCIDR except from \"\" to valid"))
    if before.get("providerID") and spec.get("providerID") != before["providerID"]:
        errors.append(forbidden("spec.providerID", "node updates may not change providerID except from \"\" to valid"))
    return errors


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
        size += len(str(value)) * 3 // 4
    if size > _SIZE:
        errors.append(too_long("", _SIZE))
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
        size += len(value or "") * 3 // 4
    if size > _SIZE:
        errors.append(too_long("data", _SIZE))
    kind = obj.get("type", "")
    if kind == "kubernetes.io/service-account-token" \
            and not (obj["metadata"].get("annotations") or {}).get("kubernetes.io/service-account.name"):
        errors.append(required("metadata.annotations[kubernetes.io/service-account.name]"))
    errors += [required(f"data[{key}]") for key in _TYPE_KEYS.get(kind, ()) if key not in data]
    if kind == "kubernetes.io/basic-auth" and not {"username", "password"} & set(data):
        errors += [required("data[username]"), required("data[password]")]
    for key in _TYPE_KEYS.get(kind, ())[:1]:
        if "docker" in kind and key in data and not _is_json(data[key]):
            errors.append(invalid(f"data[{key}]", "<secret contents redacted>", "invalid character in JSON"))
    return errors


def secret_update(obj: Object, old: Object) -> list[FieldError]:
    """Check that a Secret's type stays, and an immutable one altogether."""
    return [*meta.immutable(obj.get("type"), old.get("type"), "type"), *immutable_data(obj, old, ("data",))]


def event(obj: Object) -> list[FieldError]:
    """Check that an event lies where its object is (cluster-scoped objects' events: default or kube-system)."""
    about = obj.get("involvedObject") or {}
    namespace = obj["metadata"].get("namespace", "")
    if about.get("namespace"):
        if about["namespace"] != namespace:
            return [invalid("involvedObject.namespace", about["namespace"], "does not match event.namespace")]
    elif namespace not in ("default", "kube-system"):
        return [invalid("involvedObject.namespace", "", "does not match event.namespace")]
    return []


def lease(spec: Object, path: str) -> list[FieldError]:
    """Check a Lease's numbers."""
    errors: list[FieldError] = []
    seconds, transitions = spec.get("leaseDurationSeconds"), spec.get("leaseTransitions")
    if seconds is not None and seconds <= 0:
        errors.append(invalid(f"{path}.leaseDurationSeconds", seconds, "must be greater than 0"))
    if transitions is not None and transitions < 0:
        errors.append(invalid(f"{path}.leaseTransitions", transitions, "must be greater than or equal to 0"))
    return errors


def _is_json(text: str) -> bool:
    import orjson

    try:
        orjson.loads(base64.b64decode(text))
    except (ValueError, binascii.Error):
        return False
    return True
