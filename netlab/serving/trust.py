"""Whether a client's certificate leads to an authority that we trust, by the rules and in the words of Go's x509.

OpenSSL builds and checks the chain (signatures, names, times, path lengths, critical extensions); what Go asks for
besides is asked for here: https://pkg.go.dev/crypto/x509#Certificate.Verify
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from OpenSSL import crypto

Chain = tuple[x509.Certificate, ...]
"""What a client has shown: its own certificate first, then those between it and an authority, in any order."""

_UNKNOWN: Final = "certificate signed by unknown authority"
_NO_ISSUER: Final = (f'{_UNKNOWN} (possibly because of "x509: invalid signature: parent certificate cannot sign this '
                     'kind of certificate")')
SENTENCES: Final = {
    2: _UNKNOWN,
    7: _UNKNOWN,
    9: "certificate has expired or is not yet valid",
    10: "certificate has expired or is not yet valid",
    18: _UNKNOWN,
    19: _UNKNOWN,
    20: _UNKNOWN,
    21: _UNKNOWN,
    24: _NO_ISSUER,
    25: "too many intermediates for path length constraint",
    26: "certificate specifies an incompatible key usage",
    34: "unhandled critical extension",
    79: _NO_ISSUER,
}
"""OpenSSL's X509_V_ERR_… → x509's sentence."""
_TIMES: Final = (9, 10)
_NO_WAY: Final = (2, 18, 19, 20, 21)
_USAGES: Final = (ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE)
_REMEMBERED: Final = 1024
_SMALL: Final = 8192


class Untrusted(Exception):
    """A certificate is not good. The text is for the log, never for who showed it."""


class _Strange(Untrusted):
    """No way leads to an authority, whatever the time."""


class Authorities:
    """The certificates of a CA file: those that chains may lead to."""

    def __init__(self, pem: bytes) -> None:
        """Read them.

        Raises:
            ValueError: there is no certificate in `pem`, or one that can't be read.
        """
        self.pem = pem
        self.certificates = tuple(x509.load_pem_x509_certificates(pem))
        self._good: dict[x509.Certificate, tuple[float, float]] = {}
        self._between: dict[x509.Certificate, Chain] = {}
        self._strange: dict[Chain, str] = {}

    def verify(self, chain: Chain, now: float) -> None:
        """Return if a chain is good for a client at a time (s since 1970).

        Raises:
            Untrusted: why it is not.
        """
        leaf = chain[0]
        begin, end = self._good.get(leaf, (0.0, 0.0))
        if begin <= now <= end:
            return
        if len(chain) == 1:  # a connection that takes up an earlier one's session shows no more than that
            chain += self._between.get(leaf, ())
        if complaint := _time(leaf, now):
            raise Untrusted(complaint)
        if said := self._strange.get(chain):
            raise Untrusted(said)
        try:
            found = self._verify(chain, now)
        except _Strange as error:  # each request of a client is asked whether it is a proxy's: almost none is
            if len(self._strange) >= _REMEMBERED:
                self._strange.clear()
            if sum(len(one.public_bytes(Encoding.DER)) for one in chain) <= _SMALL:  # anybody can come with large ones
                self._strange[chain] = str(error)
            raise
        _check(found)
        if len(self._good) >= _REMEMBERED:
            self._good.clear()
            self._between.clear()
        self._good[leaf] = (max(one.not_valid_before_utc.timestamp() for one in found),
                            min(one.not_valid_after_utc.timestamp() for one in found))
        if len(chain) > 1:
            self._between[leaf] = chain[1:]

    def vouch(self, chain: Chain, now: float) -> None:
        """Verify the certificate of who would be known by it: what is wrong is told with the certificate's identifier.

        Raises:
            Untrusted: it is not good.
        """
        try:
            self.verify(chain, now)
        except Untrusted as error:
            raise Untrusted(f"verifying certificate {identifier(chain[0])} failed: {error}") from None

    def _verify(self, chain: Chain, now: float) -> list[x509.Certificate]:
        store = crypto.X509Store()  # a new one each time: OpenSSL lets a store's time be set only once
        store.set_time(datetime.datetime.fromtimestamp(now, datetime.UTC))
        store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)  # what the file names is trusted, be it no root
        for one in self.certificates:
            store.add_cert(crypto.X509.from_cryptography(one))
        leaf, *between = (crypto.X509.from_cryptography(one) for one in chain)
        try:
            found = crypto.X509StoreContext(store, leaf, between).get_verified_chain()
        except crypto.X509StoreContextError as error:
            code, _, said = error.errors
            if code in _TIMES and (complaint := _time(error.certificate.to_cryptography(), now)):
                raise Untrusted(complaint) from None
            raise (_Strange if code in _NO_WAY else Untrusted)(f"x509: {SENTENCES.get(code, said)}") from None
        return [one.to_cryptography() for one in found]


def _time(certificate: x509.Certificate, now: float) -> str:
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if begin.timestamp() <= now <= end.timestamp():
        return ""
    side, limit = ("before", begin) if now < begin.timestamp() else ("after", end)
    return (f"x509: certificate has expired or is not yet valid: current time {_rfc3339(now)} is {side} "
            f"{_rfc3339(limit.timestamp())}")


def _rfc3339(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(int(seconds), datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _check(found: Sequence[x509.Certificate]) -> None:
    """Ask what Go asks for and OpenSSL does not. `found` is a whole chain, an authority last.

    Raises:
        Untrusted: a signature is by a broken hash, an issuer is no authority, a certificate is not for clients.
    """
    for one in found[:-1]:
        if isinstance(one.signature_hash_algorithm, (hashes.MD5, hashes.SHA1)):
            raise Untrusted(f'x509: {_UNKNOWN} (possibly because of "x509: cannot verify signature: insecure algorithm '
                            f'{one.signature_hash_algorithm.name.upper()}")')
    try:
        if not all(_signs(one) for one in found[1:]):
            raise Untrusted(f"x509: {_NO_ISSUER}")
        if not all(_for_clients(one) for one in found):
            raise Untrusted("x509: certificate specifies an incompatible key usage")
    except (ValueError, x509.DuplicateExtension) as error:
        raise Untrusted(f"x509: {error}") from None


def _signs(certificate: x509.Certificate) -> bool:
    if certificate.version is x509.Version.v1:
        return True
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _for_clients(certificate: x509.Certificate) -> bool:
    try:
        usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return True
    return any(usage in _USAGES for usage in usages)


def identifier(certificate: x509.Certificate) -> str:
    """Return what upstream's log calls a certificate: serial number, its key's and its issuer's key's identifiers."""
    subject = issuer = b""
    try:
        for extension in certificate.extensions:
            if isinstance(extension.value, x509.SubjectKeyIdentifier):
                subject = extension.value.digest
            elif isinstance(extension.value, x509.AuthorityKeyIdentifier):
                issuer = extension.value.key_identifier or b""
    except ValueError:
        pass
    return f"SN={certificate.serial_number}, SKID={subject.hex(':').upper()}, AKID={issuer.hex(':').upper()}"
