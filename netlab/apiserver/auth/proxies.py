"""Users whom a proxy tells in headers, such as the API server that stands before another one.

Who tells must show a certificate of --requestheader-client-ca-file.
https://kubernetes.io/docs/reference/access-authn-authz/authentication/#authenticating-proxy
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import unquote

from multidict import CIMultiDict

from netlab.apiserver.auth.certificate import common_name
from netlab.apiserver.http import Request, User
from netlab.apiserver.options import RequestHeader
from netlab.serving.trust import Authorities, Untrusted

_AUTHENTICATED = "system:authenticated"


def authenticated(request: Request, told: RequestHeader, authorities: Authorities, now: float) -> User | None:
    """Return the user whom the headers tell, None if they tell none; the headers are gone from the request then.

    Raises:
        Untrusted: who tells is no proxy that may.
    """
    leaf = request.certificates[0]
    authorities.verify(request.certificates, now)
    if told.names and (name := common_name(leaf)) not in told.names:
        raise Untrusted(f"x509: subject with cn={name} is not in the allowed list")
    user = named(request.headers, told)
    if user is not None:
        request.headers = without(request.headers, told)
    return user


def named(headers: Mapping[str, str], told: RequestHeader) -> User | None:
    """Return the user whom headers name, None if they name nobody."""
    found: dict[str, list[str]] = {}
    for header, value in headers.items():
        found.setdefault(header.lower(), []).append(value)
    name = _first(found, told.user)
    if not name:
        return None
    groups = [value for header in told.group for value in found.get(header.lower(), ()) if value]
    if _AUTHENTICATED not in groups:
        groups.append(_AUTHENTICATED)
    extra: dict[str, tuple[str, ...]] = {}
    for prefix in told.extra:
        for header, values in found.items():
            if header.startswith(prefix.lower()):
                key = unquote(header[len(prefix):])
                extra[key] = (*extra.get(key, ()), *values)
    return User(name, tuple(groups), _first(found, told.uid), extra)


def without(headers: Mapping[str, str], told: RequestHeader) -> Mapping[str, str]:
    """Return headers without those that name a user: who is asked next must not take them for ours."""
    names = {name.lower() for name in (*told.user, *told.uid, *told.group)}
    prefixes = tuple(prefix.lower() for prefix in told.extra)
    return CIMultiDict((name, value) for name, value in headers.items()
                       if name.lower() not in names and not name.lower().startswith(prefixes or ("\0",)))


def _first(found: Mapping[str, list[str]], names: tuple[str, ...]) -> str:
    return next((found[name.lower()][0] for name in names if found.get(name.lower(), [""])[0]), "")
