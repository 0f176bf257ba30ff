"""Why a connection failed, in the words of Go's net, tls and x509 packages: they are what people search for."""

from __future__ import annotations

import asyncio
import socket
import ssl
from urllib.parse import urlsplit

import aiohttp

from netlab.serving.trust import SENTENCES

_NAME, _ADDRESS = 62, 64
"""X509_V_ERR_HOSTNAME_MISMATCH and …_IP_ADDRESS_MISMATCH, whose sentences name the host, too."""
_LOOK_SECONDS = 1.0
_TLS = {
    "WRONG_VERSION_NUMBER": "http: server gave HTTP response to HTTPS client",
    "RECORD_LAYER_FAILURE": "http: server gave HTTP response to HTTPS client",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "remote error: tls: certificate required",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "remote error: tls: handshake failure",
    "TLSV1_ALERT_PROTOCOL_VERSION": "remote error: tls: protocol version not supported",
    "TLSV1_UNRECOGNIZED_NAME": "remote error: tls: unrecognized name",
    "UNEXPECTED_EOF_WHILE_READING": "EOF",
}


def connection(error: BaseException, host: str) -> str:
    """Say why a request failed. `host` is the name that the certificate must have."""
    if isinstance(error, TimeoutError):
        return "context deadline exceeded"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return _tls(error.certificate_error, host)
    if isinstance(error, aiohttp.ClientConnectorError):
        return _dial(error.os_error, error.host, error.port or 0, host)
    if isinstance(error, ssl.SSLError):
        return _tls(error, host)
    if isinstance(error, (aiohttp.ServerDisconnectedError, ConnectionResetError, BrokenPipeError)):
        return "read: connection reset by peer" if getattr(error, "errno", None) else "EOF"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "unexpected EOF"
    if isinstance(error, aiohttp.ClientResponseError):
        return "net/http: HTTP/1.x transport connection broken: malformed HTTP response"
    return str(error) or type(error).__name__


async def explained(error: BaseException, url: str, name: str = "") -> str:
    """Say why a request failed; when the certificate is another's, look whose. `name`: it is not the URL's host's."""
    place = urlsplit(url)
    host = name or place.hostname or ""
    if isinstance(error, aiohttp.ClientConnectorCertificateError) and getattr(
        error.certificate_error, "verify_code", 0
    ) in (_NAME, _ADDRESS):
        names = await _names(place.hostname or "", place.port or 443, host)
        if names is not None:
            return f"tls: failed to verify certificate: x509: {_other(names, host)}"
    return connection(error, host)


async def _names(host: str, port: int, name: str) -> tuple[list[str], list[str]] | None:
    """Return the names and addresses that a server's certificate is for, None if it is not there any more."""
    from cryptography import x509  # 2 MB, which an API server without trouble can do without

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # only looked at
    try:
        async with asyncio.timeout(_LOOK_SECONDS):
            _, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=name)
            raw = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            writer.close()
        found = x509.load_der_x509_certificate(raw).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return [], []
    except (OSError, ValueError):
        return None
    return (
        found.value.get_values_for_type(x509.DNSName),
        [str(one) for one in found.value.get_values_for_type(x509.IPAddress)],
    )


def _other(names: tuple[list[str], list[str]], host: str) -> str:
    address = host.replace(":", "").replace(".", "").isdigit() or ":" in host
    valid = names[address]
    if address and not valid:
        return f"cannot validate certificate for {host} because it doesn't contain any IP SANs"
    if not valid:
        return f"certificate is not valid for any names, but wanted to match {host}"
    return f"certificate is valid for {', '.join(valid)}, not {host}"


def _dial(error: BaseException | None, host: str, port: int, name: str) -> str:
    if isinstance(error, ssl.SSLError):
        return _tls(error, name)
    if isinstance(error, socket.gaierror):
        return f"dial tcp: lookup {host}: no such host"
    if isinstance(error, ConnectionResetError):
        return connection(error, name)
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if isinstance(error, ConnectionRefusedError):
        return f"dial tcp {place}: connect: connection refused"
    said = error.strerror if isinstance(error, OSError) and error.strerror and "[" not in error.strerror else "failed"
    return f"dial tcp {place}: connect: {said.lower()}"


def _tls(error: BaseException, host: str) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        said = SENTENCES.get(error.verify_code, error.verify_message)
        if error.verify_code in (_NAME, _ADDRESS):
            said = f"certificate is not valid for {host}"
        return f"tls: failed to verify certificate: x509: {said}"
    reason = error.reason if isinstance(error, ssl.SSLError) else ""
    return _TLS.get(reason or "", f"tls: {(reason or 'handshake failure').lower().replace('_', ' ')}")
