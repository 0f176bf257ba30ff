"""ServiceAccount: a `default` account in every namespace, and tokens for Secrets that ask for one."""

from __future__ import annotations

import base64
import logging
from typing import ClassVar

import orjson

from netlab.api import meta
from netlab.api.meta import Object
from netlab.controllers.base import Context, Controller
from netlab.errors import ApiError, UsageError

log = logging.getLogger(__name__)

_TYPE = "kubernetes.io/service-account-token"
_NAME, _UID = "kubernetes.io/service-account.name", "kubernetes.io/service-account.uid"


class ServiceAccounts(Controller):
    """The loop that makes the `default` accounts; its keys are Namespaces."""

    name: ClassVar[str] = "serviceaccount-controller"
    workers: ClassVar[int] = 2

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.namespaces = self.source("namespaces", self.enqueue)
        self.accounts = self.source("serviceaccounts", self._account_changed)

    def _account_changed(self, key: str, _old: Object | None, new: Object | None) -> None:
        namespace, name = meta.split_key(key)
        if new is None and name == "default":
            self.queue.add(namespace)

    async def reconcile(self, key: str) -> float | None:
        """Make the account of one namespace."""
        namespace = self.namespaces.get(key)
        if namespace is None or meta.deleting(namespace) or self.accounts.get(f"{key}/default") is not None:
            return None
        body = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": key}}
        try:
            await self.client.create("serviceaccounts", body)
        except ApiError as error:
            if error.code == 403 or error.reason in ("AlreadyExists", "NotFound"):  # there, or the namespace is going
                return None
            raise
        return None


class Tokens(Controller):
    """The loop that fills Secrets of type service-account-token, which still exist for long-lived tokens."""

    name: ClassVar[str] = "serviceaccount-token-controller"
    workers: ClassVar[int] = 1

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._sign = Signer(self.options.service_account_key) if self.options.service_account_key else None
        self.secrets = self.source("secrets", self._secret_changed)
        self.accounts = self.source("serviceaccounts", self._account_changed)

    def _secret_changed(self, key: str, _old: Object | None, new: Object | None) -> None:
        if new is not None and new.get("type") == _TYPE:
            self.queue.add(key)

    def _account_changed(self, key: str, old: Object | None, new: Object | None) -> None:
        if old is not None and new is not None:
            return
        namespace, name = meta.split_key(key)
        for secret in self.secrets.all():
            if secret.get("type") == _TYPE and meta.namespace(secret) == namespace \
                    and meta.annotations(secret).get(_NAME) == name:
                self.queue.add(meta.key(secret))

    async def reconcile(self, key: str) -> float | None:
        """Fill one Secret, or delete it when its account is gone."""
        secret = self.secrets.get(key)
        if secret is None or meta.deleting(secret) or self._sign is None:
            return None
        name, space = meta.annotations(secret).get(_NAME, ""), meta.namespace(secret)
        account = self.accounts.get(f"{space}/{name}")
        if account is None or meta.annotations(secret).get(_UID, meta.uid(account)) != meta.uid(account):
            try:
                await self.client.delete("secrets", meta.name(secret), space, uid=meta.uid(secret))
            except ApiError as error:
                if error.code not in (404, 409):
                    raise
            return None
        data = dict(secret.get("data") or {})
        wanted = {"namespace": _base64(space)} | ({"ca.crt": _base64(self.options.root_ca)} if self.options.root_ca
                                                  else {})
        if not data.get("token"):
            wanted["token"] = _base64(self._sign.token(space, meta.name(secret), name, meta.uid(account)))
        if wanted.items() <= data.items() and meta.annotations(secret).get(_UID):
            return None
        body = {"metadata": {"uid": meta.uid(secret), "resourceVersion": secret["metadata"]["resourceVersion"],
                             "annotations": {_UID: meta.uid(account)}}, "data": wanted}
        self.wrote(key, self.secrets, await self.client.patch("secrets", meta.name(secret), body, space))
        return None


class Signer:
    """Signs tokens as JWT (RFC 7519) with an RSA or EC P-256 key in PEM."""

    def __init__(self, pem: bytes) -> None:
        """Load the key.

        Raises:
            UsageError: this is no such key.
        """
        from cryptography.hazmat.primitives.asymmetric import ec, rsa
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        try:
            key = load_pem_private_key(pem, None)
        except (ValueError, TypeError) as error:
            raise UsageError(f"--service-account-private-key-file holds no private key: {error}") from error
        if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
            raise UsageError("--service-account-private-key-file must hold an RSA or EC key")
        self._key = key

    def token(self, namespace: str, secret: str, account: str, uid: str) -> str:
        """Return a token without an end, with the claims of upstream's legacy tokens."""
        prefix = "kubernetes.io/serviceaccount"
        claims = {"iss": prefix, f"{prefix}/namespace": namespace, f"{prefix}/secret.name": secret,
                  f"{prefix}/service-account.name": account, f"{prefix}/service-account.uid": uid,
                  "sub": f"system:serviceaccount:{namespace}:{account}"}
        return self.sign(claims)

    def sign(self, claims: Object) -> str:
        """Return the claims as a signed JWT."""
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
        from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

        rsa_key = isinstance(self._key, rsa.RSAPrivateKey)
        head = {"alg": "RS256" if rsa_key else "ES256", "typ": "JWT"}
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
