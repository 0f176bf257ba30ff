"""What a signer makes of a CertificateSigningRequest (pkg/controller/certificates/signer). No effects but randomness.

https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/#kubernetes-signers
"""

from __future__ import annotations

import base64
import datetime
from typing import Any

from netlab.api.meta import Object

_PREFIX = "kubernetes.io/"
API_CLIENT, NODE_CLIENT, SERVING, LEGACY = (f"{_PREFIX}{name}" for name in (
    "kube-apiserver-client", "kube-apiserver-client-kubelet", "kubelet-serving", "legacy-unknown"))
SIGNERS = (API_CLIENT, NODE_CLIENT, SERVING, LEGACY)
_BACKDATE = datetime.timedelta(minutes=5)
_NODE, _NODES = "system:node:", "system:nodes"
_CLIENT_USAGES = frozenset(("digital signature", "key encipherment", "client auth"))
_SERVING_USAGES = frozenset(("digital signature", "key encipherment", "server auth"))
_KEY_USAGES = {"digital signature": "digital_signature", "signing": "digital_signature",
               "content commitment": "content_commitment", "key encipherment": "key_encipherment",
               "data encipherment": "data_encipherment", "key agreement": "key_agreement", "cert sign": "key_cert_sign",
               "crl sign": "crl_sign"}


class Unacceptable(ValueError):
    """The signer does not sign such a request, whoever approved it."""


def request_of(csr: Object) -> Any:
    """Return the x509 request inside. Raises ValueError."""
    from cryptography import x509
    return x509.load_pem_x509_csr(base64.b64decode(csr["spec"]["request"]))


def check(csr: Object, request: Any) -> None:
    """Check what the signer demands of subject, names and usages.

    Raises:
        Unacceptable: with the reason.
    """
    signer, usages = csr["spec"]["signerName"], frozenset(csr["spec"].get("usages") or ())
    name, groups = subject(request)
    if signer == API_CLIENT:
        if "client auth" not in usages or not usages <= _CLIENT_USAGES:
            raise Unacceptable(f"usages must include \"client auth\" and be among {sorted(_CLIENT_USAGES)}")
    elif signer == NODE_CLIENT:
        _node(name, groups)
        if "client auth" not in usages or not usages <= _CLIENT_USAGES:
            raise Unacceptable(f"usages did not match {sorted(_CLIENT_USAGES)}")
        if any(alternatives(request)):
            raise Unacceptable("DNS, IP, email and URI subject alternative names are not allowed")
    elif signer == SERVING:
        _node(name, groups)
        if "server auth" not in usages or not usages <= _SERVING_USAGES:
            raise Unacceptable(f"usages did not match {sorted(_SERVING_USAGES)}")
        dns, ips, others = alternatives(request)
        if not dns and not ips:
            raise Unacceptable("DNS or IP subjectAltName is required")
        if others:
            raise Unacceptable("email and URI subject alternative names are not allowed")


def _node(name: str, groups: tuple[str, ...]) -> None:
    if groups != (_NODES,):
        raise Unacceptable(f"subject organization is not {_NODES}")
    if not name.startswith(_NODE):
        raise Unacceptable(f"subject common name does not begin with {_NODE}")


def subject(request: Any) -> tuple[str, tuple[str, ...]]:
    """Return the common name and the organizations."""
    from cryptography.x509.oid import NameOID

    def values(kind: Any) -> tuple[str, ...]:
        return tuple(str(entry.value) for entry in request.subject.get_attributes_for_oid(kind))

    return (values(NameOID.COMMON_NAME) or ("",))[0], values(NameOID.ORGANIZATION_NAME)


def alternatives(request: Any) -> tuple[list[str], list[str], list[str]]:
    """Return the DNS names, the addresses, and what else stands in the subject's alternative names."""
    from cryptography import x509
    try:
        found = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return [], [], []
    dns = [str(name) for name in found.get_values_for_type(x509.DNSName)]
    ips = [str(address) for address in found.get_values_for_type(x509.IPAddress)]
    return dns, ips, ["other"] * (len(found) - len(dns) - len(ips))


def sign(csr: Object, request: Any, ca_certificate: bytes, ca_key: bytes, *, now: float, longest: float) -> bytes:
    """Return the certificate as PEM, good for what the request asks but no longer than `longest` seconds."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    authority = x509.load_pem_x509_certificate(ca_certificate)
    key: Any = serialization.load_pem_private_key(ca_key, None)
    begin = datetime.datetime.fromtimestamp(int(now), datetime.UTC)
    seconds = min(csr["spec"].get("expirationSeconds") or longest, longest)
    end = min(begin + datetime.timedelta(seconds=seconds), authority.not_valid_after_utc)
    builder = (x509.CertificateBuilder().subject_name(request.subject).issuer_name(authority.subject)
               .public_key(request.public_key()).serial_number(x509.random_serial_number())
               .not_valid_before(begin - _BACKDATE).not_valid_after(end)
               .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True))
    usage = _usage(csr)
    if usage is not None:
        builder = builder.add_extension(usage, critical=True)
    extended = _extended(csr)
    if extended is not None:
        builder = builder.add_extension(extended, critical=False)
    try:
        names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        builder = builder.add_extension(names.value, critical=names.critical)
    except x509.ExtensionNotFound:
        pass
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _usage(csr: Object) -> Any:
    from cryptography import x509
    wanted = {_KEY_USAGES[usage] for usage in csr["spec"].get("usages") or () if usage in _KEY_USAGES}
    if not wanted:
        return None  # an extension that allows nothing makes a certificate that nobody takes (RFC 5280, 4.2.1.3)
    every = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
             "key_cert_sign", "crl_sign")
    return x509.KeyUsage(**{name: name in wanted for name in every}, encipher_only=False, decipher_only=False)


def _extended(csr: Object) -> Any:
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID
    known = {"client auth": ExtendedKeyUsageOID.CLIENT_AUTH, "server auth": ExtendedKeyUsageOID.SERVER_AUTH,
             "code signing": ExtendedKeyUsageOID.CODE_SIGNING, "email protection": ExtendedKeyUsageOID.EMAIL_PROTECTION,
             "timestamping": ExtendedKeyUsageOID.TIME_STAMPING, "ocsp signing": ExtendedKeyUsageOID.OCSP_SIGNING,
             "any": ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}
    found = [known[usage] for usage in csr["spec"].get("usages") or () if usage in known]
    return x509.ExtendedKeyUsage(found) if found else None
