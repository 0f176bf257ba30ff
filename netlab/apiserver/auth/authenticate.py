"""The ways in, tried in upstream's order: client certificate, bearer token, nobody (anonymous)."""

from __future__ import annotations

import base64
import logging

from netlab.apiserver import status
from netlab.apiserver.auth import certificate
from netlab.apiserver.auth.bearers import Bearers
from netlab.apiserver.auth.tokens import Rejected
from netlab.apiserver.http import Request, User

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


async def authenticate(request: Request, tokens: Bearers, *, now: float) -> User:
    """Return who asks.

    Raises:
        ApiError: 401 for a token that is not good, or a certificate that is not valid now and no token beside it.
    """
    shown = request.certificate
    late = bool(shown) and not certificate.timely(shown or {}, now)
    if shown and not late:
        user = certificate.user(shown)
        if user is not None:
            return user
    token = bearer(request)
    if not token:
        if late:
            log.warning("Unable to authenticate the request: x509: certificate has expired or is not yet valid")
            raise status.unauthorized()
        return ANONYMOUS
    try:
        return (await tokens.check(token, now=now)).user
    except Rejected as error:
        log.warning("Unable to authenticate the request: %s", error)
        raise status.unauthorized() from None


def attempted(request: Request) -> str:
    """Return what the audit log says of a request whose sender could not be told, in upstream's words."""
    kind, _, secret = request.headers.get("Authorization", "").strip().partition(" ")
    ways = [kind.lower()] if secret and kind.lower() in ("basic", "bearer") else []
    ways += ["x509"] if request.certificate else []
    if not ways:
        return "Authentication failed, no credentials provided"
    return f"Authentication failed, attempted: {', '.join(ways)}"
