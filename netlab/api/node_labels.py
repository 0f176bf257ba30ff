"""Which labels a kubelet may give its own Node; the others are an administrator's. Pure.

https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#noderestriction
"""

from __future__ import annotations

from typing import Final

_OWN: Final = frozenset((
    "kubernetes.io/hostname", "kubernetes.io/arch", "kubernetes.io/os", "beta.kubernetes.io/arch",
    "beta.kubernetes.io/os", "node.kubernetes.io/instance-type", "beta.kubernetes.io/instance-type",
    "topology.kubernetes.io/zone", "topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region"))
_OWN_DOMAINS: Final = ("kubelet.kubernetes.io", "node.kubernetes.io")
_OURS: Final = ("kubernetes.io", "k8s.io")
_NEVER: Final = "node-restriction.kubernetes.io"


def may_label(key: str) -> bool:
    """Tell whether a kubelet may set this label on its Node."""
    domain = key.partition("/")[0] if "/" in key else ""
    if _within(domain, _NEVER):
        return False
    return key in _OWN or any(_within(domain, own) for own in _OWN_DOMAINS) or not any(
        _within(domain, top) for top in _OURS)


def _within(domain: str, top: str) -> bool:
    return domain == top or domain.endswith(f".{top}")
