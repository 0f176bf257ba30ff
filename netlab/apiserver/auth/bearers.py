"""All kinds of bearer tokens, tried in upstream's order: a file of fixed ones, service accounts', bootstrap tokens."""

from __future__ import annotations

import base64
import csv
import hmac
import re
from collections.abc import Sequence
from pathlib import Path

from netlab.api import meta
from netlab.api.meta import Object
from netlab.apiserver.auth.tokens import Identity, Lookup, Rejected, ServiceAccountTokens
from netlab.apiserver.http import User
from netlab.errors import UsageError

_AUTHENTICATED = "system:authenticated"
_BOOTSTRAP = re.compile(r"([a-z0-9]{6})\.([a-z0-9]{16})\Z")
_BOOTSTRAPPERS = "system:bootstrappers"
_EXTRA_GROUP = re.compile(r"system:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]\Z")
_KIND = "bootstrap.kubernetes.io/token"


def read(path: str) -> dict[str, User]:
    """Return the users of a --token-auth-file by token: lines of `token,user,uid,"group1,group2"`.

    Raises:
        UsageError: the file can't be read, or a line is too short.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--token-auth-file: can't read {path}: {error}") from None
    found: dict[str, User] = {}
    for number, row in enumerate(csv.reader(text.splitlines(), skipinitialspace=True), 1):
        if not row:
            continue
        if len(row) < 3:
            raise UsageError(f"--token-auth-file: {path}:{number}: expected at least 3 columns (token, user name, user "
                             f"uid), found {len(row)}")
        if not row[0]:
            raise UsageError(f"--token-auth-file: {path}:{number}: empty token")
        groups = tuple(group.strip() for group in row[3].split(",") if group.strip()) if len(row) > 3 else ()
        found[row[0]] = User(row[1], (*groups, _AUTHENTICATED), row[2])
    return found


class Bearers:
    """Tells whom a bearer token stands for."""

    def __init__(self, accounts: ServiceAccountTokens, lookup: Lookup, *, fixed: dict[str, User],
                 bootstrap: bool) -> None:
        self.accounts, self._lookup, self._fixed, self._bootstrap = accounts, lookup, fixed, bootstrap

    async def check(self, token: str, *, now: float, audiences: Sequence[str] = ()) -> Identity:
        """Return whom the token stands for; see ServiceAccountTokens.check.

        Raises:
            Rejected: nobody knows it.
        """
        for known, user in self._fixed.items():
            if hmac.compare_digest(known.encode(), token.encode()):
                return self._for(user, audiences)
        match = _BOOTSTRAP.match(token) if self._bootstrap else None
        if match is not None:
            return self._for(await self._bootstrapper(*match.groups(), now=now), audiences)
        return await self.accounts.check(token, now=now, audiences=audiences)

    def _for(self, user: User, audiences: Sequence[str]) -> Identity:
        """Such tokens are for the API server alone."""
        own = self.accounts.audiences
        shared = tuple(one for one in audiences if one in own) if audiences else own
        if not shared:
            raise Rejected(f"token audiences {list(own)} is invalid for the target audiences {list(audiences)}")
        return Identity(user, shared)

    async def _bootstrapper(self, identity: str, secret: str, *, now: float) -> User:
        """Return the user of a bootstrap token; its Secret is in kube-system.

        https://kubernetes.io/docs/reference/access-authn-authz/bootstrap-tokens/
        """
        found = await self._lookup("secrets", "kube-system", f"bootstrap-token-{identity}")
        if found is None or found.get("type") != _KIND or "deletionTimestamp" in found["metadata"]:
            raise Rejected(f"there is no bootstrap token {identity}")
        data = _decoded(found)
        if data.get("token-id") != identity or not hmac.compare_digest(data.get("token-secret", ""), secret):
            raise Rejected(f"bootstrap token {identity}: the secret does not match")
        if data.get("usage-bootstrap-authentication") != "true":
            raise Rejected(f"bootstrap token {identity} is not for authentication")
        expires = data.get("expiration", "")
        if expires:
            try:
                over = meta.parse_timestamp(expires) <= now
            except ValueError:
                over = True
            if over:
                raise Rejected(f"bootstrap token {identity} has expired")
        groups = [group.strip() for group in data.get("auth-extra-groups", "").split(",") if group.strip()]
        for group in groups:
            if not _EXTRA_GROUP.match(group):
                raise Rejected(f"bootstrap token {identity}: bootstrap group {group!r} is invalid")
        return User(f"system:bootstrap:{identity}", (*sorted(set(groups)), _BOOTSTRAPPERS, _AUTHENTICATED))


def _decoded(secret: Object) -> dict[str, str]:
    found = {}
    for key, value in (secret.get("data") or {}).items():
        try:
            found[key] = base64.b64decode(value).decode()
        except ValueError:
            continue
    return found
