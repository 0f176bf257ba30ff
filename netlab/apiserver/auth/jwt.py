"""JSON Web Tokens as service accounts use them (RFC 7515, 7518): signed with ES256 or RS256, nothing else accepted."""

from __future__ import annotations

import base64
import binascii
import hashlib
from pathlib import Path
from typing import Any

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

from netlab.errors import UsageError

_PEM_END = b"-----END "


class Invalid(ValueError):
    """The token is no token of ours: malformed, another algorithm, a wrong signature."""


class PublicKey:
    """A key that verifies. `id` is what upstream puts in `kid`: base64url(sha256(DER))."""

    def __init__(self, key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey) -> None:
        self.key = key
        self.der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        self.id = _encode(hashlib.sha256(self.der).digest())
        self.algorithm = "RS256" if isinstance(key, rsa.RSAPublicKey) else "ES256"

    def verify(self, signature: bytes, signed: bytes) -> bool:
        """Tell whether the signature is this key's."""
        try:
            if isinstance(self.key, rsa.RSAPublicKey):
                self.key.verify(signature, signed, padding.PKCS1v15(), hashes.SHA256())
            else:
                if len(signature) != 64:
                    return False
                r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
                self.key.verify(utils.encode_dss_signature(r, s), signed, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            return False
        return True

    def jwk(self) -> dict[str, str]:
        """Return the key as a member of a JWK set (RFC 7517)."""
        common = {"use": "sig", "kid": self.id, "alg": self.algorithm}
        numbers: Any = self.key.public_numbers()
        if self.algorithm == "RS256":
            return common | {"kty": "RSA", "n": _number(numbers.n), "e": _number(numbers.e)}
        return common | {"kty": "EC", "crv": "P-256", "x": _encode(numbers.x.to_bytes(32, "big")),
                         "y": _encode(numbers.y.to_bytes(32, "big"))}


class PrivateKey:
    """A key that signs."""

    def __init__(self, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> None:
        self._key = key
        self.public = PublicKey(key.public_key())

    def sign(self, claims: dict[str, Any]) -> str:
        """Return the compact form of a token with these claims."""
        header = {"alg": self.public.algorithm, "kid": self.public.id}
        signed = f"{_encode(orjson.dumps(header))}.{_encode(orjson.dumps(claims))}".encode()
        if isinstance(self._key, rsa.RSAPrivateKey):
            signature = self._key.sign(signed, padding.PKCS1v15(), hashes.SHA256())
        else:
            r, s = utils.decode_dss_signature(self._key.sign(signed, ec.ECDSA(hashes.SHA256())))
            signature = r.to_bytes(32, "big") + s.to_bytes(32, "big")
        return f"{signed.decode()}.{_encode(signature)}"


def verify(token: str, keys: list[PublicKey]) -> dict[str, Any]:
    """Return the claims of a token that one of the keys signed. Times and audiences are the caller's to check.

    Raises:
        Invalid: it is none.
    """
    try:
        head, body, tail = token.split(".")
        header, signature = orjson.loads(_decode(head)), _decode(tail)
        kid, algorithm = header.get("kid"), header.get("alg")
    except (ValueError, AttributeError) as error:
        raise Invalid("malformed token") from error
    candidates = [key for key in keys if key.algorithm == algorithm and kid in (None, "", key.id)]
    signed = f"{head}.{body}".encode()
    if not any(key.verify(signature, signed) for key in candidates):
        raise Invalid("no known key signed this token")
    try:
        claims = orjson.loads(_decode(body))
    except ValueError as error:
        raise Invalid("malformed token") from error
    if not isinstance(claims, dict):
        raise Invalid("malformed token")
    return claims


def claims_of(token: str) -> dict[str, Any]:
    """Return a token's claims unverified ({} when malformed): only to choose who may verify it."""
    try:
        claims = orjson.loads(_decode(token.split(".")[1]))
    except (ValueError, IndexError):
        return {}
    return claims if isinstance(claims, dict) else {}


def load_public(path: str) -> list[PublicKey]:
    """Return the keys of a PEM file: public keys, certificates' keys left out, or private keys (their public half).

    Raises:
        UsageError: no readable key in it.
    """
    found = []
    for block in _blocks(path):
        try:
            key: Any = serialization.load_pem_public_key(block) if b"PUBLIC KEY" in block else \
                serialization.load_pem_private_key(block, None).public_key()
        except (ValueError, TypeError):
            continue
        if isinstance(key, (ec.EllipticCurvePublicKey, rsa.RSAPublicKey)):
            found.append(PublicKey(key))
    if not found:
        raise UsageError(f"{path}: no service account key (a PEM with an EC P-256 or RSA key)")
    return found


def load_private(path: str) -> PrivateKey:
    """Return the private key of a PEM file.

    Raises:
        UsageError: no readable key in it.
    """
    for block in _blocks(path):
        if b"PRIVATE KEY" in block:
            try:
                key = serialization.load_pem_private_key(block, None)
            except (ValueError, TypeError):
                continue
            if isinstance(key, (ec.EllipticCurvePrivateKey, rsa.RSAPrivateKey)):
                return PrivateKey(key)
    raise UsageError(f"{path}: no private key to sign service account tokens with (EC P-256 or RSA, unencrypted PEM)")


def _blocks(path: str) -> list[bytes]:
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    blocks, current = [], b""
    for line in data.splitlines(keepends=True):
        current += line
        if line.startswith(_PEM_END):
            if b"EC PARAMETERS" not in line:
                blocks.append(current)
            current = b""
    return blocks


def _number(value: int) -> str:
    return _encode(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from error
