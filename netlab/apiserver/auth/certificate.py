"""Users from client certificates: the common name is the user, organizations are the groups.

The TLS layer has verified the chain before any of this runs, so only the subject is read here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from netlab.apiserver.http import User


def user(certificate: Mapping[str, Any]) -> User | None:
    """Return the user of a peer certificate as `ssl` describes it, or None when it names nobody."""
    name, groups = "", []
    for part in certificate.get("subject", ()):
        for attribute, value in part:
            if attribute == "commonName":
                name = value
            elif attribute == "organizationName":
                groups.append(value)
    return User(name, (*groups, "system:authenticated")) if name else None
