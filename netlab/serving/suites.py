"""The names that --tls-min-version and --tls-cipher-suites take (Go's), and OpenSSL's for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from OpenSSL import SSL

from netlab.errors import UsageError

VERSIONS: Final = {"VersionTLS10": SSL.TLS1_VERSION, "VersionTLS11": SSL.TLS1_1_VERSION,
                   "VersionTLS12": SSL.TLS1_2_VERSION, "VersionTLS13": SSL.TLS1_3_VERSION}
DEFAULT_VERSION: Final = "VersionTLS12"
PREFERRED: Final = {
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
}
"""What is offered when nothing is chosen, the best first."""
INSECURE: Final = {
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256": "ECDHE-ECDSA-AES128-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256": "ECDHE-RSA-AES128-SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256": "AES128-GCM-SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384": "AES256-GCM-SHA384",
    "TLS_RSA_WITH_AES_128_CBC_SHA256": "AES128-SHA256",
    "TLS_RSA_WITH_AES_128_CBC_SHA": "AES128-SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA": "AES256-SHA",
}
"""Go's insecure suites, but for those with RC4 and 3DES: today's OpenSSL is built without these."""
TLS13: Final = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")
"""May be named, but TLS 1.3 has all of them whatever is chosen, as in Go."""


def version(name: str) -> int:
    """Return OpenSSL's number of a version; "" is the default.

    Raises:
        UsageError: there is none of that name.
    """
    try:
        return VERSIONS[name or DEFAULT_VERSION]
    except KeyError:
        raise UsageError(f'--tls-min-version: unknown tls version "{name}"',
                         hint=f"want {', '.join(VERSIONS)}") from None


def ciphers(names: Sequence[str]) -> str:
    """Return OpenSSL's list of the suites up to TLS 1.2 that are chosen; without `names` the preferred ones.

    Raises:
        UsageError: there is no suite of that name.
    """
    known = PREFERRED | INSECURE | dict.fromkeys(TLS13, "")
    for name in names:
        if name not in known:
            raise UsageError(f"--tls-cipher-suites: Cipher suite {name} not supported or doesn't exist",
                             hint=f"want {', '.join(known)}")
    return ":".join(dict.fromkeys(filter(None, (known[name] for name in names or PREFERRED))))
