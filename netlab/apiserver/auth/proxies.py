"""Users whom a proxy tells in headers: who tells must show a certificate of --requestheader-client-ca-file."""

from __future__ import annotations

from collections.abc import Mapping

from multidict import CIMultiDict

from netlab.apiserver.auth.certificate import common_name
from netlab.apiserver.http import Request, User
from netlab.serving.headers import RequestHeader, named
from netlab.serving.trust import Authorities, Untrusted


def authenticated(request: Request, told: RequestHeader, authorities: Authorities, now: float) -> User | None:
    """Return the user whom the headers tell, None if they tell none; the headers are gone from the request then.

    Raises:
        Untrusted: who tells is no proxy that may.
    """
    leaf = request.certificates[0]
    authorities.verify(request.certificates, now)
    if told.names and (name := common_name(leaf)) not in told.names:
        raise Untrusted(f"x509: subject with cn={name} is not in the allowed list")
    found = named(request.headers, told)
    if found is None:
        return None
    request.headers = without(request.headers, told)
    return User(*found)


def without(headers: Mapping[str, str], told: RequestHeader) -> Mapping[str, str]:
    """Return headers without those that name a user: who is asked next must not take them for ours."""
    names = {name.lower() for name in (*told.user, *told.uid, *told.group)}
    prefixes = tuple(prefix.lower() for prefix in told.extra)
    return CIMultiDict((name, value) for name, value in headers.items()
                       if name.lower() not in names and not name.lower().startswith(prefixes or ("\0",)))
