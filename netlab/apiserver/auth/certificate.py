"""Users from client certificates: the common name is the user, organizations are the groups.

The TLS layer has verified the chain before any of this runs, but for the time: whoever shows a certificate that has
expired is to be told 401 Unauthorized, as upstream does, and not to have the connection broken.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any, Final

from netlab.apiserver.http import User

_NO_CHECK_TIME: Final = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME of OpenSSL's x509_vfy.h, which `ssl` has no name for."""


def leave_time_to_us(context: ssl.SSLContext) -> None:
    """Let certificates through that are not valid now; whoever does so has to ask `timely`."""
    context.verify_flags |= _NO_CHECK_TIME


def timely(certificate: Mapping[str, Any], now: float) -> bool:
    """Tell whether a peer certificate as `ssl` describes it is valid at a time (s since 1970); no if it is silent."""
    begin, end = certificate.get("notBefore", ""), certificate.get("notAfter", "")
    if not begin or not end:
        return False
    return ssl.cert_time_to_seconds(begin) <= now <= ssl.cert_time_to_seconds(end)


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
