"""The lab's certificates: names, subjects and uses as kubeadm makes them, on EC P-256 instead of RSA (1 ms, not 95).

https://kubernetes.io/docs/setup/best-practices/certificates/. A client's user is its CN, its groups are its O fields.
Keys stay in memory here; `nodefiles` puts each where its node expects it, and nothing else sees them.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_CA_DAYS = 3650
_LEAF_DAYS = 365


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, PEM."""

    certificate: bytes
    key: bytes = field(repr=False)


@dataclass(frozen=True)
class KeyPair:
    """A bare key and its public half, PEM: what signs service account tokens."""

    private: bytes = field(repr=False)
    public: bytes


class Authority:
    """A certificate authority that lives as long as this object."""

    def __init__(self, name: str, *, now: float) -> None:
        """Make the key and its self-signed certificate; `now` is Unix seconds."""
        self._now = datetime.datetime.fromtimestamp(now, datetime.UTC).replace(microsecond=0)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        usage = x509.KeyUsage(digital_signature=True, key_encipherment=True, key_cert_sign=True, crl_sign=False,
                              content_commitment=False, data_encipherment=False, key_agreement=False,
                              encipher_only=False, decipher_only=False)
        builder = (self._builder(self._name, self._key.public_key(), _CA_DAYS)
                   .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
                   .add_extension(usage, critical=True)
                   .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False))
        self._certificate = builder.sign(self._key, hashes.SHA256())
        self.pair = Pair(self._certificate.public_bytes(serialization.Encoding.PEM), _pem(self._key))

    def client(self, user: str, *groups: str) -> Pair:
        """Issue a client certificate: CN `user`, O `groups`."""
        return self._issue(user, groups, (ExtendedKeyUsageOID.CLIENT_AUTH,), ())

    def server(self, name: str, *, names: Sequence[str]) -> Pair:
        """Issue a server certificate with these DNS names and addresses."""
        return self._issue(name, (), (ExtendedKeyUsageOID.SERVER_AUTH,), names)

    def peer(self, name: str, *, names: Sequence[str] = (), groups: Sequence[str] = ()) -> Pair:
        """Issue a certificate for both ends of a connection, as an etcd member needs it."""
        return self._issue(name, groups, (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH), names)

    def _builder(self, subject: x509.Name, public: ec.EllipticCurvePublicKey, days: int) -> x509.CertificateBuilder:
        # an hour back: a lab on a machine whose clock is being set must not wait for its certificates
        start = self._now - datetime.timedelta(hours=1)
        return (x509.CertificateBuilder().subject_name(subject).issuer_name(self._name).public_key(public)
                .serial_number(x509.random_serial_number()).not_valid_before(start)
                .not_valid_after(self._now + datetime.timedelta(days=days))
                .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False))

    def _issue(self, user: str, groups: Sequence[str], uses: Sequence[x509.ObjectIdentifier],
               names: Sequence[str]) -> Pair:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([*(x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups),
                             x509.NameAttribute(NameOID.COMMON_NAME, user)])
        usage = x509.KeyUsage(digital_signature=True, key_encipherment=True, key_cert_sign=False, crl_sign=False,
                              content_commitment=False, data_encipherment=False, key_agreement=False,
                              encipher_only=False, decipher_only=False)
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = (self._builder(subject, key.public_key(), _LEAF_DAYS)
                   .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
                   .add_extension(usage, critical=True)
                   .add_extension(identifier, critical=False)
                   .add_extension(x509.ExtendedKeyUsage(uses), critical=False))
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName([_general(n) for n in names]), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        return Pair(certificate.public_bytes(serialization.Encoding.PEM), _pem(key))


def new_key_pair() -> KeyPair:
    """Make the key that signs service account tokens (sa.key, sa.pub)."""
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return KeyPair(_pem(key), public)


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL,
                             serialization.NoEncryption())
