"""TLS as a client: certificates from memory, and sessions that are taken up again.

A component opens a dozen connections in its first moments, one for each watch. A full handshake with client
certificates costs both sides about 1 ms of arithmetic, one that takes up an earlier session (RFC 8446, section 2.2)
about a third of that.
"""

from __future__ import annotations

import os
import ssl


class ResumingContext(ssl.SSLContext):
    """A client's TLS settings that offer the server the last session again. For one server and one identity."""

    _last: ssl.SSLObject | None = None
    _ticket: ssl.SSLSession | None = None

    def wrap_bio(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, server_side: bool = False,
                 server_hostname: str | bytes | None = None, session: ssl.SSLSession | None = None) -> ssl.SSLObject:
        """Do as the base class does, with the ticket of an earlier connection; asyncio itself never passes one."""
        if self._last is not None and not server_side:
            try:
                found = self._last.session  # tickets come after the handshake, so they are fetched as late as possible
            except ValueError:  # that connection broke before it had a session
                found = None
            if found is not None and found.has_ticket:
                self._ticket = found
        made = super().wrap_bio(incoming, outgoing, server_side, server_hostname, session or self._ticket)
        self._last = made
        return made


def client_context(*, ca: bytes, certificate: bytes, key: bytes, insecure: bool) -> ssl.SSLContext:
    """Return the settings; without `ca` (PEM) the system's authorities count.

    Raises:
        ssl.SSLError: what is given is no PEM, or key and certificate don't belong together.
        UnicodeDecodeError: `ca` is not even text.
    """
    context = ResumingContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["http/1.1"])
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif ca:
        context.load_verify_locations(cadata=ca.decode())
    else:
        context.load_default_certs()
    if certificate:
        _load_chain(context, certificate + b"\n" + key)
    return context


def _load_chain(context: ssl.SSLContext, pem: bytes) -> None:
    """Load a certificate and key from memory: the ssl module takes only paths, so it gets one that no disk holds."""
    descriptor = os.memfd_create("certificate", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, pem)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def server_context(pem: bytes) -> ssl.SSLContext:
    """Return a server's settings with a certificate and key (PEM, in one)."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    _load_chain(context, pem)
    return context


def self_signed(address: str = "") -> bytes:
    """Make a certificate of one's own and its key (PEM, in one): for localhost, and for an address that is one."""
    import datetime
    import ipaddress
    import socket

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, socket.gethostname()[:60] or "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    names: list[x509.GeneralName] = [x509.DNSName("localhost"), *(
        x509.IPAddress(ipaddress.ip_address(ip)) for ip in ("127.0.0.1", "::1"))]
    if address not in ("127.0.0.1", "0.0.0.0", "::", ""):
        names.append(x509.IPAddress(ipaddress.ip_address(address)))
    made = (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
            .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=365))
            .add_extension(x509.SubjectAlternativeName(names), critical=False).sign(key, hashes.SHA256()))
    return (made.public_bytes(Encoding.PEM)
            + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
