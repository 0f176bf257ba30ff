"""Annotations of a Pod that mean something: mirror Pods, deletion cost, old forms of security profiles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import orjson

from netlab.api.meta import Object
from netlab.apiserver.validation import containers, paths, scheduling
from netlab.apiserver.validation.errors import FieldError, forbidden, invalid, quoted

MIRROR = "kubernetes.io/config.mirror"
_TOLERATIONS = "scheduler.alpha.kubernetes.io/tolerations"
_COST = "controller.kubernetes.io/pod-deletion-cost"
_SECCOMP = "seccomp.security.alpha.kubernetes.io/pod"
_SECCOMP_OF = "container.seccomp.security.alpha.kubernetes.io/"
_APPARMOR_OF = "container.apparmor.security.beta.kubernetes.io/"
_DEFAULT, _UNCONFINED, _LOCAL = "runtime/default", "unconfined", "localhost/"
_SECCOMP_DEFAULTS = (_DEFAULT, "docker/default")

Notes = Mapping[str, str]


def of_pod(notes: Notes | None, spec: Object, path: str) -> Iterator[FieldError]:
    """Check the annotations of a Pod or a template that upstream reads."""
    if not notes:
        return
    if MIRROR in notes and not spec.get("nodeName"):
        yield invalid(f"{path}[{MIRROR}]", notes[MIRROR], "must set spec.nodeName if mirror pod annotation is set")
    if notes.get(_TOLERATIONS):
        yield from _tolerations(notes[_TOLERATIONS], path)
    if _COST in notes and not _is_number(notes[_COST]):
        yield invalid(f"{path}[{_COST}]", notes[_COST], "must be a 32bit integer")
    if _SECCOMP in notes:
        yield from _seccomp(notes[_SECCOMP], f"{path}.{_SECCOMP}")
    for key, value in notes.items():
        if key.startswith(_SECCOMP_OF):
            yield from _seccomp(value, f"{path}.{key}")
    for key, value in notes.items():
        if key.startswith(_APPARMOR_OF):
            name = key.removeprefix(_APPARMOR_OF)
            if all(container.get("name") != name for _, container in containers.every(spec, "")):
                yield invalid(f"{path}[{key}]", name, "container not found")
            if value not in ("", _DEFAULT, _UNCONFINED) and not value.startswith(_LOCAL):
                yield invalid(f"{path}[{key}]", value, f"invalid AppArmor profile name: {quoted(value)}")


def _tolerations(text: str, path: str) -> Iterator[FieldError]:
    try:
        found = orjson.loads(text)
    except ValueError as error:
        yield invalid(path, _TOLERATIONS, str(error))
        return
    if isinstance(found, list) and all(isinstance(one, dict) for one in found):
        yield from scheduling.tolerations(found, f"{path}.{_TOLERATIONS}")
    elif found is not None:
        yield invalid(path, _TOLERATIONS, "json: cannot unmarshal into Go value of type []core.Toleration")


def _is_number(text: str) -> bool:
    digits = text.removeprefix("-")
    return digits.isascii() and digits.isdigit() and -(2**31) <= int(text) < 2**31 and (text == "0" or text[0] != "0")


def _seccomp(value: str, field: str) -> Iterator[FieldError]:
    if value.startswith(_LOCAL):
        yield from paths.descending(value.removeprefix(_LOCAL), field)
    elif value not in (*_SECCOMP_DEFAULTS, _UNCONFINED):
        yield invalid(field, value, "must be a valid seccomp profile")


def same_profiles(notes: Notes | None, spec: Object, path: str) -> Iterator[FieldError]:
    """Check that a profile is the same in its field and in its old annotation, where there are both."""
    if not notes:
        return
    whole = spec.get("securityContext") or {}
    every = [(field, container.get("name", ""), container.get("securityContext") or {})
             for field, container in containers.every(spec, path)]
    seccomp = [(_SECCOMP, whole, path), *((f"{_SECCOMP_OF}{name}", own, field) for field, name, own in every)]
    for key, own, field in seccomp:
        if key in notes:
            profile = own.get("seccompProfile")
            yield from _same(notes[key], profile, f"{field}.securityContext.seccompProfile", "seccomp",
                             _SECCOMP_DEFAULTS)
    if (spec.get("os") or {}).get("name") == "windows":
        return
    for field, name, own in every:
        if (key := f"{_APPARMOR_OF}{name}") in notes:
            profile = own.get("appArmorProfile") or whole.get("appArmorProfile")
            yield from _same(notes[key], profile, f"{field}.securityContext.appArmorProfile", "apparmor", (_DEFAULT,))


def _same(value: str, profile: Object | None, field: str, kind: str, defaults: tuple[str, ...]) -> Iterator[FieldError]:
    if profile is None:
        return
    named = profile.get("type")
    good = {
        "Unconfined": value == _UNCONFINED,
        "RuntimeDefault": value in defaults,
        "Localhost": value.startswith(_LOCAL),
    }.get(named or "", True)
    if not good:
        yield forbidden(f"{field}.type", f"{kind} type in annotation and field must match")
    elif named == "Localhost" and value.removeprefix(_LOCAL) != profile.get("localhostProfile"):
        yield forbidden(f"{field}.localhostProfile", f"{kind} profile in annotation and field must match")


def update(notes: Notes | None, old: Notes | None, path: str) -> Iterator[FieldError]:
    """Check that what the annotations fix stays."""
    if notes == old:
        return
    notes, old = notes or {}, old or {}
    for key, value in old.items():
        if notes.get(key) != value:
            if key.startswith(_APPARMOR_OF):
                yield forbidden(f"{path}[{key}]", "may not remove or update AppArmor annotations")
            if key == MIRROR:
                yield forbidden(f"{path}[{key}]", "may not remove or update mirror pod annotation")
    for key in notes:
        if key not in old:
            if key.startswith(_APPARMOR_OF):
                yield forbidden(f"{path}[{key}]", "may not add AppArmor annotations")
            if key == MIRROR:
                yield forbidden(f"{path}[{key}]", "may not add mirror pod annotation")
