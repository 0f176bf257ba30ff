"""The ways in, tried in upstream's order: a proxy's headers, client certificate, bearer token, nobody (anonymous)."""

from __future__ import annotations

import base64
import json
import logging
from dataclasses import dataclass

from netlab.apiserver import status
from netlab.apiserver.auth import certificate, proxies
from netlab.apiserver.auth.bearers import Bearers
from netlab.apiserver.auth.tokens import Rejected
from netlab.apiserver.http import Request, User
from netlab.serving.dynamic import Serving
from netlab.serving.headers import RequestHeader
from netlab.serving.trust import Untrusted

log = logging.getLogger(__name__)

SUBPROTOCOL = "base64url.bearer.authorization.k8s.io."
"""A WebSocket subprotocol that begins so is no protocol, but a token: browsers can't send other headers."""
ANONYMOUS = User("system:anonymous", ("system:unauthenticated",))
NOBODY = User("", ())
"""Whoever shows something that is not good."""


def bearer(request: Request) -> str:
    """Return the bearer token of a request, "" without one; WebSocket clients may put it into the subprotocol list."""
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return token.strip()
    for protocol in request.headers.get("Sec-WebSocket-Protocol", "").split(","):
        if protocol.strip().startswith(SUBPROTOCOL):
            text = protocol.strip().removeprefix(SUBPROTOCOL)
            try:
                return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
            except ValueError:
                return text  # which nobody has signed
    return ""


@dataclass(frozen=True)
class Ways:
    """All that tells who somebody is."""

    serving: Serving
    told: RequestHeader
    tokens: Bearers


async def authenticate(request: Request, ways: Ways, *, now: float) -> User:
    """Return who asks: the first way in that is good counts. Without any credential it is nobody.

    Raises:
        ApiError: 401: there are credentials, and none of them is good.
    """
    complaints: list[str] = []
    if request.certificates:
        user = _certified(request, ways, now, complaints)
        if user is not None:
            return user
    token = bearer(request)
    if token:
        try:
            identity = await ways.tokens.check(token, now=now)
        except Rejected as error:
            complaints.append(str(error))
            request.identified = error.notes
        else:
            request.warnings.extend(identity.warnings)
            request.identified = identity.notes
            return identity.user
    if not complaints:
        return ANONYMOUS
    said = complaints[0] if len(complaints) == 1 else f"[{', '.join(dict.fromkeys(complaints))}]"
    log.error('"Unable to authenticate the request" err=%s', json.dumps(said))
    raise status.unauthorized()


def _certified(request: Request, ways: Ways, now: float, complaints: list[str]) -> User | None:
    """Return whom the certificate stands for, or whom the proxy that shows it tells; what is not good is noted."""
    user: User | None = None
    if ways.serving.proxies is not None:
        try:
            user = proxies.authenticated(request, ways.told, ways.serving.proxies, now)
        except Untrusted as error:
            complaints.append(str(error))
    if user is None and ways.serving.clients is not None:
        try:
            user = certificate.authenticated(request.certificates, ways.serving.clients, now)
        except Untrusted as error:
            complaints.append(str(error))
    return user


def attempted(request: Request) -> str:
    """Return what the audit log says of a request whose sender could not be told, in upstream's words."""
    kind, _, secret = request.headers.get("Authorization", "").strip().partition(" ")
    ways = [kind.lower()] if secret and kind.lower() in ("basic", "bearer") else []
    ways += ["x509"] if request.certificates else []
    if not ways:
        return "Authentication failed, no credentials provided"
    return f"Authentication failed, attempted: {', '.join(ways)}"
