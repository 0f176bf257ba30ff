"""Impersonation: Impersonate-User and its kin, for whoever may (k8s.io/apiserver …/filters/impersonation.go)."""

from __future__ import annotations

from urllib.parse import unquote

from netlab.apiserver import status
from netlab.apiserver.auth.authorize import Attributes, Authorizer
from netlab.apiserver.auth.refuse import refused
from netlab.apiserver.http import Request, User

_PREFIX = "impersonate-"
_EXTRA = "impersonate-extra-"
_AUTHN = "authentication.k8s.io"
_ACCOUNT = "system:serviceaccount:"
_ANONYMOUS, _UNAUTHENTICATED, _AUTHENTICATED = "system:anonymous", "system:unauthenticated", "system:authenticated"


async def impersonated(request: Request, authorizer: Authorizer) -> User:
    """Return the user whom the request is to be taken for: who asks, unless headers name another.

    Raises:
        ApiError: 403 when he may not; 400 for groups or extras without a user.
    """
    headers = [(name.lower(), value) for name, value in request.headers.items() if name.lower().startswith(_PREFIX)]
    if not headers:
        return request.user
    name = next((value for header, value in headers if header == "impersonate-user"), "")
    groups = [value for header, value in headers if header == "impersonate-group"]
    uid = next((value for header, value in headers if header == "impersonate-uid"), "")
    extra: dict[str, tuple[str, ...]] = {}
    for header, value in headers:
        if header.startswith(_EXTRA):
            key = unquote(header.removeprefix(_EXTRA))
            extra[key] = (*extra.get(key, ()), value)
    if not name:
        raise status.bad_request("requested impersonation of groups, a uid or extras without impersonating a user")
    await authorizer.refresh(request.user)
    for asked in _questions(request.user, name, groups, uid, extra):
        decision = authorizer.authorize(asked)
        if not decision.allowed:
            raise refused(asked, decision.reason)
    if name.startswith(_ACCOUNT) and not groups:
        groups = ["system:serviceaccounts", f"system:serviceaccounts:{name.split(':')[2]}"]
    if name == _ANONYMOUS:
        groups += [_UNAUTHENTICATED] if _UNAUTHENTICATED not in groups else []
    elif _UNAUTHENTICATED not in groups and _AUTHENTICATED not in groups:
        groups.append(_AUTHENTICATED)
    return User(name, tuple(groups), uid, extra)


def _questions(user: User, name: str, groups: list[str], uid: str, extra: dict[str, tuple[str, ...]],
               ) -> list[Attributes]:
    parts = name.split(":")
    if name.startswith(_ACCOUNT) and len(parts) == 4:
        asked = [Attributes(user, "impersonate", "", "v1", "serviceaccounts", namespace=parts[2], name=parts[3])]
    else:
        asked = [Attributes(user, "impersonate", "", "v1", "users", name=name)]
    asked += [Attributes(user, "impersonate", "", "v1", "groups", name=group) for group in groups]
    if uid:
        asked.append(Attributes(user, "impersonate", _AUTHN, "v1", "uids", name=uid))
    asked += [Attributes(user, "impersonate", _AUTHN, "v1", "userextras", key, name=value)
              for key, values in extra.items() for value in values]
    return asked
