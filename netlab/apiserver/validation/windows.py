"""What a PodSpec may not say for one operating system, and Windows' own options."""

from __future__ import annotations

import re
from collections.abc import Iterator

from netlab.api.meta import Object
from netlab.apiserver.validation import names
from netlab.apiserver.validation.errors import FieldError, forbidden, invalid, not_supported, required, wrong

_SYSTEMS = ("linux", "windows")
_SPEC_LIMIT = 64
_DOMAIN_LIMIT, _USER_LIMIT = 256, 104
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NETBIOS = re.compile(r'[^\\/:*?"<>|.][^\\/:*?"<>|]{0,14}\Z')
_DNS_FORM = "[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
_DNS = re.compile(rf"{_DNS_FORM}(?:\.{_DNS_FORM})*\Z")
_USER_SIGNS = re.compile(r'["/\\:;|=,+*?<>@\[\]]')
_NO_NAME = re.compile(r"[. ]+\Z")
_NOT_WINDOWS = "cannot be set for a windows pod"
_POD_PARTS = (
    "appArmorProfile",
    "seLinuxOptions",
    "hostUsers",
    "hostPID",
    "hostIPC",
    "seccompProfile",
    "fsGroup",
    "fsGroupChangePolicy",
    "sysctls",
    "shareProcessNamespace",
    "runAsUser",
    "runAsGroup",
    "supplementalGroups",
    "supplementalGroupsPolicy",
    "seLinuxChangePolicy",
)
_OF_SPEC = ("hostUsers", "hostPID", "hostIPC", "shareProcessNamespace")  # the others are the security context's
_IF_TRUE = ("hostPID", "hostIPC", "sysctls")
_CONTAINER_PARTS = (
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "capabilities",
    "readOnlyRootFilesystem",
    "privileged",
    "allowPrivilegeEscalation",
    "procMount",
    "runAsUser",
    "runAsGroup",
)

Containers = list[tuple[str, Object]]
"""All containers of a Pod with their paths."""


def system(spec: Object, path: str, containers: Containers) -> Iterator[FieldError]:
    """Check spec.os, and that nothing is set which it does not know."""
    name = spec["os"].get("name", "")
    if not name:
        yield required(f"{path}.os.name", "cannot be empty")
    elif name not in _SYSTEMS:
        yield not_supported(f"{path}.os", name, _SYSTEMS)
    elif name == "linux":
        for field, holder in ((path, spec), *containers):
            if (holder.get("securityContext") or {}).get("windowsOptions") is not None:
                yield forbidden(
                    f"{field}.securityContext.windowsOptions", "windows options cannot be set for a linux pod"
                )
    else:
        context = spec.get("securityContext") or {}
        for part in _POD_PARTS:
            value = (spec if part in _OF_SPEC else context).get(part)
            if value if part in _IF_TRUE else value is not None:
                yield forbidden(
                    f"{path}.{part}" if part in _OF_SPEC else f"{path}.securityContext.{part}", _NOT_WINDOWS
                )
        for field, container in containers:
            for part in _CONTAINER_PARTS:
                if (container.get("securityContext") or {}).get(part) is not None:
                    yield forbidden(f"{field}.securityContext.{part}", _NOT_WINDOWS)


def host_process(spec: Object, path: str, containers: Containers) -> Iterator[FieldError]:
    """Check that host processes are all of a Pod's containers or none, and on the host's network."""
    whole = _host_process(spec)
    count = 0
    for field, container in containers:
        own = _host_process(container)
        if whole is not None and own is not None and whole != own:
            yield invalid(
                f"{field}.securityContext.windowsOptions.hostProcess",
                own,
                "pod hostProcess value must be identical if both are specified, was " + ("true" if whole else "false"),
            )
        count += bool(whole if own is None else own)
    if not count:
        return
    if count != len(containers):
        yield invalid(
            path, "", "If pod contains any hostProcess containers then all containers must be HostProcess containers"
        )
    if not spec.get("hostNetwork"):
        yield invalid(
            f"{path}.hostNetwork", False, "hostNetwork must be true if pod contains any hostProcess containers"
        )


def _host_process(holder: Object) -> bool | None:
    found: bool | None = ((holder.get("securityContext") or {}).get("windowsOptions") or {}).get("hostProcess")
    return found


def options(found: Object | None, path: str) -> Iterator[FieldError]:
    """Check windowsOptions."""
    if found is None:
        return
    name, text, user = (found.get(part) for part in ("gmsaCredentialSpecName", "gmsaCredentialSpec", "runAsUserName"))
    if name is not None:
        yield from wrong(f"{path}.gmsaCredentialSpecName", name, names.dns_subdomain(name))
    if text == "":
        yield invalid(f"{path}.gmsaCredentialSpec", text, "gmsaCredentialSpec cannot be an empty string")
    elif text is not None and len(text.encode()) > _SPEC_LIMIT * 1024:
        yield invalid(f"{path}.gmsaCredentialSpec", text, f"gmsaCredentialSpec size must be under {_SPEC_LIMIT} KiB")
    if user is not None:
        yield from wrong(f"{path}.runAsUserName", user, _user_name(user))


def _user_name(text: str) -> Iterator[str]:
    if not text:
        yield "runAsUserName cannot be an empty string"
    elif _CONTROL.search(text):
        yield "runAsUserName cannot contain control characters"
    elif text.count("\\") > 1:
        yield "runAsUserName cannot contain more than one backslash"
    else:
        domain, found, user = text.rpartition("\\")
        if len(domain) >= _DOMAIN_LIMIT:
            yield f"runAsUserName's Domain length must be under {_DOMAIN_LIMIT} characters"
        if found and not _NETBIOS.match(domain) and not _DNS.match(domain):
            yield "runAsUserName's Domain doesn't match the NetBios nor the DNS format"
        if not user:
            yield "runAsUserName's User cannot be empty"
        elif len(user) > _USER_LIMIT:
            yield f"runAsUserName's User length must not be longer than {_USER_LIMIT} characters"
        if _NO_NAME.match(user):
            yield "runAsUserName's User cannot contain only periods or spaces"
        if _USER_SIGNS.search(user):
            yield "runAsUserName's User cannot contain the following characters: \"/\\:;|=,+*?<>@[]"
