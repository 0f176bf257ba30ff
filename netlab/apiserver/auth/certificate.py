"""Users from client certificates: the common name is the user, organizations are the groups.

k8s.io/apiserver/pkg/authentication/request/x509
"""

from __future__ import annotations

import functools
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID

from netlab.apiserver.http import User
from netlab.serving.trust import Authorities, Chain, Untrusted

_UID: Final = x509.ObjectIdentifier("1.3.6.1.4.1.57683.2")
_CREDENTIAL: Final = "authentication.kubernetes.io/credential-id"


def authenticated(shown: Chain, authorities: Authorities, now: float) -> User | None:
    """Return whom a client's certificate stands for, None when it names nobody.

    Raises:
        Untrusted: it is not good.
    """
    authorities.vouch(shown, now)
    return user(shown[0])


@functools.lru_cache(maxsize=1024)
def user(certificate: x509.Certificate) -> User | None:
    """Return the user of a certificate, None when it names nobody.

    Raises:
        Untrusted: it names the user's uid in a way that is not allowed.
    """
    name = common_name(certificate)
    if not name:
        return None
    groups = (str(one.value) for one in certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME))
    uids = [one.value for one in certificate.subject.get_attributes_for_oid(_UID)]
    if len(uids) > 1:
        raise Untrusted(f"expected 1 UID, but found multiple: {uids}")
    if uids and not uids[0]:
        raise Untrusted("UID cannot be an empty string")
    return User(name, (*groups, "system:authenticated"), str(uids[0]) if uids else "",
                {_CREDENTIAL: (f"X509SHA256={certificate.fingerprint(hashes.SHA256()).hex()}",)})


def common_name(certificate: x509.Certificate) -> str:
    """Return the last common name of a certificate's subject, "" without one."""
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[-1].value) if names else ""
