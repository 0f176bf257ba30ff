"""What is sent to subresources: of which kind, by which verbs. No effects."""

from __future__ import annotations

from netlab.api.kinds import Resource

_UPDATE = ("get", "patch", "update")
SUBRESOURCES: dict[str, tuple[str, tuple[str, ...]]] = {
    "status": ("", _UPDATE),
    "scale": ("autoscaling/v1 Scale", _UPDATE),
    "finalize": ("", ("update",)),
    "approval": ("", _UPDATE),
    "binding": ("v1 Binding", ("create",)),
    "eviction": ("policy/v1 Eviction", ("create",)),
    "ephemeralcontainers": ("", _UPDATE),
    "resize": ("", _UPDATE),
    "log": ("", ("get",)),
    "exec": ("v1 PodExecOptions", ("create", "get")),
    "attach": ("v1 PodAttachOptions", ("create", "get")),
    "portforward": ("v1 PodPortForwardOptions", ("create", "get")),
    "token": ("authentication.k8s.io/v1 TokenRequest", ("create",)),
}
"""Subresource → (kind of its body as "group/version Kind", "" for the resource's own; verbs)."""
_PROXIES = {"nodes": "NodeProxyOptions", "pods": "PodProxyOptions", "services": "ServiceProxyOptions"}


def kind_of(row: Resource, subresource: str) -> tuple[str, str, str]:
    """Return (group, version, kind) of what is sent to a subresource; "" is the resource itself."""
    if subresource == "proxy":
        return "", "v1", _PROXIES[row.plural]
    text = SUBRESOURCES[subresource][0] if subresource else ""
    if not text:
        return row.group, row.version, row.kind
    api, _, kind = text.partition(" ")
    group, _, version = api.rpartition("/")
    return group, version, kind
