"""Security contexts of Pods and containers: users, profiles, kernel settings (core/validation)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from netlab.api.meta import Object
from netlab.apiserver.validation import names, paths, windows
from netlab.apiserver.validation.errors import (
    FieldError,
    as_struct,
    duplicate,
    invalid,
    not_supported,
    required,
    too_long,
    unsupported,
    wrong,
)

_SYSCTL_FORM = r"^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$"
_SYSCTL = re.compile(_SYSCTL_FORM.removesuffix("$") + r"\Z")
_SYSCTL_LIMIT = 253
_OF_IPC = ("kernel.shm", "kernel.msg", "fs.mqueue.")
_PROFILES = ("Localhost", "RuntimeDefault", "Unconfined")
_PROFILE_LIMIT = 4095  # a path's, without the end
_CHOICES = (
    ("fsGroupChangePolicy", ("Always", "OnRootMismatch")),
    ("supplementalGroupsPolicy", ("Merge", "Strict")),
    ("seLinuxChangePolicy", ("MountOption", "Recursive")),
)
_PROC_MOUNTS = ("Default", "Unmasked")
_CONTEXT: dict[str, Any] = dict.fromkeys(
    (
        "Capabilities",
        "Privileged",
        "SELinuxOptions",
        "WindowsOptions",
        "RunAsUser",
        "RunAsGroup",
        "RunAsNonRoot",
        "ReadOnlyRootFilesystem",
        "AllowPrivilegeEscalation",
        "ProcMount",
        "SeccompProfile",
        "AppArmorProfile",
    )
)


def pod(found: Object, spec: Object, path: str) -> Iterator[FieldError]:
    """Check a Pod's security context."""
    for part in ("fsGroup", "runAsUser", "runAsGroup"):
        if found.get(part) is not None:
            yield from wrong(f"{path}.{part}", found[part], names.unix_id(found[part]))
    for at, group in enumerate(found.get("supplementalGroups") or ()):
        yield from wrong(f"{path}.supplementalGroups[{at}]", group, names.unix_id(group))
    if spec.get("shareProcessNamespace") and spec.get("hostPID"):
        yield invalid(f"{path}.shareProcessNamespace", True, "ShareProcessNamespace and HostPID cannot both be enabled")
    if found.get("sysctls"):
        yield from _sysctls(found["sysctls"], spec, f"{path}.sysctls")
    change = found.get("fsGroupChangePolicy")
    if change is not None and change not in _CHOICES[0][1]:
        yield not_supported(f"{path}.fsGroupChangePolicy", change, _CHOICES[0][1])
    yield from _profiles(found, path)
    for part, known in _CHOICES[1:]:
        if found.get(part) is not None and found[part] not in known:
            yield not_supported(f"{path}.{part}", found[part], known)


def container(found: Object, path: str, *, host_users: bool) -> Iterator[FieldError]:
    """Check a container's security context. `host_users`: the Pod shares the node's user namespace."""
    for part in ("runAsUser", "runAsGroup"):
        if found.get(part) is not None:
            yield from wrong(f"{path}.{part}", found[part], names.unix_id(found[part]))
    mount = found.get("procMount")
    if mount is not None:
        if mount not in _PROC_MOUNTS:
            yield unsupported(f"{path}.procMount", mount, _PROC_MOUNTS)
        if host_users and mount == "Unmasked":
            yield invalid(f"{path}.procMount", mount, "`hostUsers` must be false to use `Unmasked`")
    yield from _seccomp(found.get("seccompProfile"), f"{path}.seccompProfile")
    if found.get("allowPrivilegeEscalation") is False:
        if found.get("privileged"):
            yield invalid(
                path, _as_go(found), "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"
            )
        for name in (found.get("capabilities") or {}).get("add") or ():
            if name == "CAP_SYS_ADMIN":
                yield invalid(
                    path,
                    _as_go(found),
                    "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN",
                )
    yield from windows.options(found.get("windowsOptions"), f"{path}.windowsOptions")
    yield from _apparmor(found.get("appArmorProfile"), f"{path}.appArmorProfile")


def _as_go(found: Object) -> Object:
    capabilities = found.get("capabilities")
    shown = as_struct(found, _CONTEXT) | {"SELinuxOptions": found.get("seLinuxOptions")}
    if capabilities is not None:
        shown["Capabilities"] = as_struct(capabilities, {"Add": None, "Drop": None})
    return shown


def _profiles(found: Object, path: str) -> Iterator[FieldError]:
    yield from _seccomp(found.get("seccompProfile"), f"{path}.seccompProfile")
    yield from windows.options(found.get("windowsOptions"), f"{path}.windowsOptions")
    yield from _apparmor(found.get("appArmorProfile"), f"{path}.appArmorProfile")


def _seccomp(found: Object | None, path: str) -> Iterator[FieldError]:
    if found is None:
        return
    kind, profile = found.get("type", ""), found.get("localhostProfile")
    if not kind:
        yield required(f"{path}.type", "type is required when seccompProfile is set")
    elif kind not in _PROFILES:
        yield unsupported(f"{path}.type", kind, _PROFILES)
    if kind != "Localhost":
        if profile is not None:
            yield invalid(
                f"{path}.localhostProfile",
                as_struct(found, {"Type": "", "LocalhostProfile": None}),
                "can only be set when seccomp type is Localhost",
            )
    elif profile is None:
        yield required(f"{path}.localhostProfile", "must be set when seccomp type is Localhost")
    else:
        yield from paths.descending(profile, f"{path}.localhostProfile")


def _apparmor(found: Object | None, path: str) -> Iterator[FieldError]:
    if found is None:
        return
    kind, profile, field = found.get("type", ""), found.get("localhostProfile"), f"{path}.localhostProfile"
    if not kind:
        yield required(f"{path}.type", "type is required when appArmorProfile is set")
    elif kind not in _PROFILES:
        yield unsupported(f"{path}.type", kind, _PROFILES)
    elif kind != "Localhost":
        if profile is not None:
            yield invalid(field, profile, "can only be set when AppArmor type is Localhost")
    elif not profile:
        yield required(field, "must be set when AppArmor type is Localhost")
    else:
        if profile != profile.strip():
            yield invalid(field, profile, "must not be padded with whitespace")
        if len(profile.encode()) > _PROFILE_LIMIT:
            yield too_long(field, _PROFILE_LIMIT)


def _sysctls(found: list[Any], spec: Object, path: str) -> Iterator[FieldError]:
    seen: set[str] = set()
    for at, setting in enumerate(found):
        field, name = f"{path}[{at}].name", setting.get("name", "")
        if not name:
            yield required(field)
        elif len(name) > _SYSCTL_LIMIT or not _SYSCTL.match(name):
            yield invalid(field, name, f"must have at most {_SYSCTL_LIMIT} characters and match regex {_SYSCTL_FORM}")
        elif name in seen:
            yield duplicate(field, name)
        seen.add(name)
        plain = _dotted(name)
        if spec.get("hostNetwork") and plain.startswith("net."):
            yield invalid(field, name, "may not be specified when 'hostNetwork' is true")
        elif spec.get("hostIPC") and (plain == "kernel.sem" or plain.startswith(_OF_IPC)):
            yield invalid(field, name, "may not be specified when 'hostIPC' is true")


def _dotted(name: str) -> str:
    """Return a setting's name with dots between its parts: where a slash comes first, the two change places."""
    first = next((sign for sign in name if sign in "./"), ".")
    return name if first == "." else name.translate({ord("/"): ".", ord("."): "/"})
