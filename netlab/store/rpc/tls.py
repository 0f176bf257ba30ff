"""A client's TLS settings."""

from __future__ import annotations

import ssl

from netlab.errors import UsageError


def tls(*, ca: str, certificate: str = "", key: str = "", insecure: bool = False) -> ssl.SSLContext:
    """Return a client's TLS settings; the arguments are files.

    Raises:
        UsageError: one of them is missing or no PEM.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["h2"])
    try:
        if insecure:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        elif ca:
            context.load_verify_locations(ca)
        else:
            context.load_default_certs()
        if certificate:
            context.load_cert_chain(certificate, key or None)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(f"TLS files {', '.join(filter(None, (ca, certificate, key)))}: {error}") from error
    return context
