"""Long-lived tokens: made for Secrets of type kubernetes.io/service-account-token, cleaned away when nobody uses them.

k8s:pkg/controller/serviceaccount/tokens_controller.go, legacy_serviceaccount_token_cleaner.go
"""

from __future__ import annotations

import base64
import hashlib
import logging
import time
from collections.abc import Mapping
from typing import ClassVar, Literal

import orjson

from netlab.api import meta
from netlab.api.meta import Object
from netlab.api.references import references
from netlab.controllers.base import Context, Controller
from netlab.errors import ApiError, UsageError

log = logging.getLogger(__name__)

TYPE = "kubernetes.io/service-account-token"
_NAME, _UID = "kubernetes.io/service-account.name", "kubernetes.io/service-account.uid"
LAST_USED, INVALID_SINCE = "kubernetes.io/legacy-token-last-used", "kubernetes.io/legacy-token-invalid-since"
_TRACKING = "kube-apiserver-legacy-service-account-token-tracking"
_DAY = 86400.0
_TRIES = 10


class Tokens(Controller):
    """The loop that fills Secrets of type service-account-token, and deletes those whose account is gone."""

    name: ClassVar[str] = "serviceaccount-token-controller"
    workers: ClassVar[int] = 1

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._sign = Signer(self.options.service_account_key) if self.options.service_account_key else None
        self._gone: dict[str, Mapping[str, str]] = {}
        self.secrets = self.source("secrets", self._secret_changed)
        self.accounts = self.source("serviceaccounts", self._account_changed)

    def _secret_changed(self, key: str, old: Object | None, new: Object | None) -> None:
        if new is None and old is not None and old.get("type") == TYPE:
            self._gone[key] = dict(meta.annotations(old))
            self.queue.add(key)
        elif new is not None and new.get("type") == TYPE:
            self.queue.add(key)

    def _account_changed(self, key: str, old: Object | None, new: Object | None) -> None:
        if old is not None and new is not None:
            return
        namespace, name = meta.split_key(key)
        for secret in self.secrets.all():
            if secret.get("type") == TYPE and meta.namespace(secret) == namespace \
                    and meta.annotations(secret).get(_NAME) == name:
                self.queue.add(meta.key(secret))

    async def reconcile(self, key: str) -> float | None:
        """Fill one Secret, or delete it when its account is gone; of one that is gone, no account speaks any more."""
        secret, gone = self.secrets.get(key), self._gone.pop(key, None)
        if secret is None and gone is not None:
            await self._forget(key, gone.get(_NAME, ""), gone.get(_UID, ""))
        if secret is None or meta.deleting(secret) or self._sign is None:
            return None
        account = await self._account(secret)
        if account is None:
            try:
                await self.client.delete("secrets", meta.name(secret), meta.namespace(secret), uid=meta.uid(secret))
            except ApiError as error:
                if error.code not in (404, 409):
                    raise
            return None
        data, notes = self._missing(secret, account), meta.annotations(secret)
        wanted = {_NAME: meta.name(account), _UID: meta.uid(account)}
        if not data and wanted.items() <= notes.items():
            return None
        body = {"metadata": {"uid": meta.uid(secret), "resourceVersion": secret["metadata"]["resourceVersion"],
                             "annotations": wanted}, "data": data}
        try:
            self.wrote(key, self.secrets, await self.client.patch("secrets", meta.name(secret), body,
                                                                  meta.namespace(secret)))
        except ApiError as error:
            if error.code not in (404, 409):  # somebody was faster: what they wrote will be looked at
                raise
        return None

    async def _account(self, secret: Object) -> Object | None:
        """Return the account that a Secret is for; one that is not known yet is asked for."""
        namespace, name = meta.namespace(secret), meta.annotations(secret).get(_NAME, "")
        uid = meta.annotations(secret).get(_UID, "")
        if not name:
            return None
        account = self.accounts.get(f"{namespace}/{name}")
        if account is None or (uid and meta.uid(account) != uid):
            try:
                account = await self.client.get("serviceaccounts", name, namespace)
            except ApiError as error:
                if error.code != 404:
                    raise
                return None
        return None if uid and meta.uid(account) != uid else account

    def _missing(self, secret: Object, account: Object) -> dict[str, str]:
        """Return the data that the Secret still needs."""
        assert self._sign is not None
        data, wanted = secret.get("data") or {}, {}
        authority = _base64(self.options.root_ca)
        if authority and data.get("ca.crt") != authority:
            wanted["ca.crt"] = authority
        if not data.get("namespace"):
            wanted["namespace"] = _base64(meta.namespace(secret))
        if not data.get("token"):
            wanted["token"] = _base64(self._sign.token(meta.namespace(secret), meta.name(secret), meta.name(account),
                                                       meta.uid(account)))
        return wanted

    async def _forget(self, key: str, name: str, uid: str) -> None:
        """Take a Secret that is gone from the list of its account."""
        namespace, secret = meta.split_key(key)
        known = self.accounts.get(f"{namespace}/{name}")
        if known is None or not _refers(known, secret):
            return
        for _ in range(_TRIES):
            try:
                account = await self.client.get("serviceaccounts", name, namespace)
                if (uid and meta.uid(account) != uid) or not _refers(account, secret):
                    return
                account["secrets"] = [row for row in account["secrets"] if row.get("name") != secret]
                await self.client.update("serviceaccounts", account)
                return
            except ApiError as error:
                if error.code == 404:
                    return
                if error.code != 409:
                    raise


def _refers(account: Object, secret: str) -> bool:
    return any(row.get("name") == secret for row in account.get("secrets") or ())


class TokenCleaner(Controller):
    """The loop that, once a day, marks tokens that were made for an account unasked and are not used, and deletes them.

    The first look finds the unused ones and marks them as invalid; they go when they have been marked for as long.
    """

    name: ClassVar[str] = "legacy-serviceaccount-token-cleaner-controller"
    workers: ClassVar[int] = 1

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.secrets, self.accounts = self.source("secrets"), self.source("serviceaccounts")
        self.pods = self.source("pods")
        self.queue.add("all")

    async def reconcile(self, key: str) -> float | None:  # noqa: ARG002 - there is one key
        """Look at all tokens."""
        now, period = time.time(), self.options.legacy_token_seconds
        if not await self._tracked(now - period):
            return _DAY
        for secret in self.secrets.all():
            account = self.accounts.get(f"{meta.namespace(secret)}/{meta.annotations(secret).get(_NAME, '')}")
            verdict = judge(secret, account, now=now, period=period)
            if verdict == "keep" or self._mounted(secret):
                continue
            try:
                if verdict == "mark":
                    body = {"metadata": {"uid": meta.uid(secret), "labels": {INVALID_SINCE: _day(now)}}}
                    await self.client.patch("secrets", meta.name(secret), body, meta.namespace(secret))
                else:
                    await self.client.delete("secrets", meta.name(secret), meta.namespace(secret),
                                             revision=secret["metadata"]["resourceVersion"])
                log.info("token in secret %s: nobody uses it: %s", meta.key(secret),
                         "marked as invalid" if verdict == "mark" else "deleted")
            except ApiError as error:
                if error.code not in (404, 409):
                    log.error("cannot %s the unused token in secret %s: %s", verdict, meta.key(secret), error)
        return _DAY

    async def _tracked(self, since: float) -> bool:
        """Tell whether the API server has noted uses from `since` on, and before."""
        try:
            found = await self.client.get("configmaps", _TRACKING, "kube-system")
        except ApiError as error:
            log.error("cannot tell since when the use of tokens is noted: %s", error)
            return False
        day = (found.get("data") or {}).get("since", "")
        return meta.is_date(day) and since >= meta.parse_timestamp(f"{day}T00:00:00Z") + _DAY

    def _mounted(self, secret: Object) -> bool:
        wanted = ("secrets", meta.namespace(secret), meta.name(secret))
        return any(wanted in references(pod) for pod in self.pods.all() if meta.namespace(pod) == wanted[1])


def judge(secret: Object, account: Object | None, *, now: float, period: float) -> Literal["keep", "mark", "delete"]:
    """Return what is to be done with a Secret that no Pod mounts. `period` is in seconds."""
    if secret.get("type") != TYPE or meta.deleting(secret):
        return "keep"
    if meta.parse_timestamp(secret["metadata"]["creationTimestamp"]) >= now - period:
        return "keep"
    limit, labels = _day(now - period), meta.labels(secret)
    used = labels.get(LAST_USED)
    if used is not None and (not meta.is_date(used) or used >= limit):
        return "keep"
    uid = meta.annotations(secret).get(_UID, "")
    if account is None or (uid and meta.uid(account) != uid) or not _refers(account, meta.name(secret)):
        return "keep"  # somebody has made it by hand
    since = labels.get(INVALID_SINCE, "")
    if not meta.is_date(since):
        return "mark"
    return "delete" if since < limit else "keep"


def _day(at: float) -> str:
    return meta.timestamp(at)[:10]


class Signer:
    """Signs tokens as JWT (RFC 7519) with an RSA or EC P-256 key in PEM."""

    def __init__(self, pem: bytes) -> None:
        """Load the key.

        Raises:
            UsageError: this is no such key.
        """
        from cryptography.hazmat.primitives.asymmetric import ec, rsa
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

        try:
            key = load_pem_private_key(pem, None)
        except (ValueError, TypeError) as error:
            raise UsageError(f"--service-account-private-key-file holds no private key: {error}") from error
        if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
            raise UsageError("--service-account-private-key-file must hold an RSA or EC key")
        self._key = key
        public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self._id = _url(hashlib.sha256(public).digest())  # by which the verifier finds the key

    def token(self, namespace: str, secret: str, account: str, uid: str) -> str:
        """Return a token without an end, with the claims of upstream's legacy tokens."""
        prefix = "kubernetes.io/serviceaccount"
        claims = {"iss": "kubernetes/serviceaccount", f"{prefix}/namespace": namespace, f"{prefix}/secret.name": secret,
                  f"{prefix}/service-account.name": account, f"{prefix}/service-account.uid": uid,
                  "sub": f"system:serviceaccount:{namespace}:{account}"}
        return self.sign(claims)

    def sign(self, claims: Object) -> str:
        """Return the claims as a signed JWT."""
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
        from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

        rsa_key = isinstance(self._key, rsa.RSAPrivateKey)
        head = {"alg": "RS256" if rsa_key else "ES256", "kid": self._id}
        text = f"{_url(orjson.dumps(head))}.{_url(orjson.dumps(claims))}"
        if isinstance(self._key, rsa.RSAPrivateKey):
            signature = self._key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
        else:
            r, s = decode_dss_signature(self._key.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
            signature = r.to_bytes(32, "big") + s.to_bytes(32, "big")
        return f"{text}.{_url(signature)}"


def _url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
