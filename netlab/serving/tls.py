"""A server's TLS for asyncio by pyOpenSSL: it takes any certificate that a client shows and proves to have the key of.

asyncio's TLS (`asyncio.sslproto`) asks its context for one thing, an object that turns bytes of one side into bytes of
the other: `Endpoint` is that object, with the calls and the exceptions of `ssl.SSLObject`.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, cast

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL

from netlab.serving import suites
from netlab.serving.trust import Chain

_RELEASE_BUFFERS: Final = 0x10
"""SSL_MODE_RELEASE_BUFFERS of OpenSSL's ssl.h, which pyOpenSSL has no name for: a watch that is quiet holds none."""
_PARTIAL_WRITE: Final = 0x1
"""SSL_MODE_ENABLE_PARTIAL_WRITE: pyOpenSSL sets it; without, one call takes all that it is given."""
_RECORD: Final = 16 * 1024
"""Bytes of a TLS record at most, and so of one read."""
_OVERHEAD: Final = 4096


@dataclass(frozen=True)
class Identity:
    """Whom the server can show that it is: a certificate with those between it and its authority, and the key."""

    chain: Chain
    key: Any

    @classmethod
    def of(cls, certificate: bytes, key: bytes) -> Identity:
        """Read both (PEM).

        Raises:
            ValueError: one of them can't be read, or they don't belong together.
        """
        try:
            made = cls(tuple(x509.load_pem_x509_certificates(certificate)), load_pem_private_key(key, None))
        except (TypeError, UnsupportedAlgorithm) as error:
            raise ValueError(str(error)) from None
        if made.chain[0].public_key() != made.key.public_key():
            raise ValueError("tls: private key does not match public key")
        return made

    def names(self) -> tuple[str, ...]:
        """Return the names and addresses that the certificate is for; without any, its common name."""
        leaf = self.chain[0]
        try:
            value = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except x509.ExtensionNotFound:
            return tuple(str(one.value) for one in leaf.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME))
        return (*value.get_values_for_type(x509.DNSName),
                *(str(one) for one in value.get_values_for_type(x509.IPAddress)))


@dataclass(frozen=True)
class Settings:
    """All that a handshake is done with. `named` has further identities by name (`*.` may stand for one label)."""

    identity: Identity
    minimum: int = suites.VERSIONS[suites.DEFAULT_VERSION]
    ciphers: str = field(default_factory=lambda: suites.ciphers(()))
    clients: Sequence[x509.Certificate] | None = None
    """Authorities that are named when a client's certificate is asked for; None: none is asked for."""
    named: Mapping[str, Identity] = field(default_factory=dict)


class ServerContext:
    """What asyncio takes for an `ssl.SSLContext`; its settings may change while it is in use, for new connections."""

    def __init__(self, settings: Settings) -> None:
        self.renew(settings)

    def renew(self, settings: Settings) -> None:
        """Have connections from now on made with other settings.

        Raises:
            ValueError: OpenSSL refuses them; those before stay.
        """
        try:
            made = _context(settings, settings.identity)
            named = {name.lower(): _context(settings, one) for name, one in settings.named.items()}
        except SSL.Error as error:
            raise ValueError(_words(error)) from None
        if named:
            made.set_tlsext_servername_callback(lambda connection: _choose(connection, named))
        self._context = made

    def for_asyncio(self) -> ssl.SSLContext:
        """Return itself, as the type that asyncio's calls are declared with."""
        return cast(ssl.SSLContext, self)

    def wrap_bio(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, server_side: bool = True,
                 server_hostname: str | None = None) -> Endpoint:
        """Return the server's end of a new connection."""
        assert server_side
        assert server_hostname is None
        return Endpoint(self._context, incoming, outgoing)


def _context(settings: Settings, identity: Identity) -> SSL.Context:
    made = SSL.Context(SSL.TLS_SERVER_METHOD)
    made.set_mode(_RELEASE_BUFFERS)
    made.clear_mode(_PARTIAL_WRITE)
    made.set_min_proto_version(settings.minimum)
    weak = ":@SECLEVEL=0" if settings.minimum < SSL.TLS1_2_VERSION else ""  # such versions sign with SHA-1
    made.set_cipher_list(f"{settings.ciphers or suites.ciphers(())}{weak}".encode())
    made.set_options(SSL.OP_CIPHER_SERVER_PREFERENCE)
    made.use_certificate(identity.chain[0])
    for one in identity.chain[1:]:
        made.add_extra_chain_cert(one)
    made.use_privatekey(identity.key)
    made.set_session_id(b"netlab")  # sessions with a client's certificate can't be taken up without one
    made.set_alpn_select_callback(lambda _, offered: b"http/1.1" if b"http/1.1" in offered
                                  else SSL.NO_OVERLAPPING_PROTOCOLS)
    if settings.clients is not None:
        for one in settings.clients:
            made.add_client_ca(one)
        made.set_verify(SSL.VERIFY_PEER, lambda *_: True)  # the key is proven; whose it is, is asked for each request
    return made


def _choose(connection: SSL.Connection, named: Mapping[str, SSL.Context]) -> None:
    """Show the certificate of the name that is asked for: an exact one before one with a wildcard."""
    name = (connection.get_servername() or b"").decode("ascii", "replace").lower().rstrip(".")
    name = name or connection.get_app_data() or ""  # who asks for an address names none
    found = named.get(name) or named.get("*." + name.partition(".")[2])
    if found is not None:
        connection.set_context(found)


class Endpoint:
    """The server's end of one connection, as asyncio uses an `ssl.SSLObject`."""

    __slots__ = ("_connection", "_incoming", "_outgoing")

    def __init__(self, context: SSL.Context, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> None:
        self._connection = SSL.Connection(context)
        self._connection.set_accept_state()
        self._incoming, self._outgoing = incoming, outgoing

    def arrived(self, address: str) -> None:
        """Be told which of this machine's addresses the client has come to."""
        self._connection.set_app_data(address)

    def do_handshake(self) -> None:
        """Go on with the handshake.

        Raises:
            ssl.SSLWantReadError: more is to come from the client.
            ssl.SSLError: it failed; the client is told why.
        """
        self._feed()
        with self._translated():
            self._connection.do_handshake()
        self._drain()

    def read(self, count: int, buffer: memoryview | None = None) -> bytes | int:
        """Return what the client has said, at most `count` bytes (or put it into `buffer`); nothing at the end.

        Raises:
            ssl.SSLWantReadError: there is nothing now.
            ssl.SSLError: it is no TLS.
        """
        fresh = self._feed()
        try:
            if buffer is not None:
                return self._connection.recv_into(buffer, min(count, _RECORD))
            return self._connection.recv(min(count, _RECORD))
        except SSL.WantReadError:
            if fresh:  # what came was about the connection itself: there may be an answer to it
                self._drain()
            raise ssl.SSLWantReadError from None
        except SSL.ZeroReturnError:
            return b"" if buffer is None else 0
        except SSL.Error as error:
            self._drain()
            raise _failed(_words(error)) from None

    def write(self, data: bytes | memoryview) -> int:
        """Say something to the client; returns how many bytes of it were taken: all.

        Raises:
            ssl.SSLError: the connection is at its end.
        """
        try:  # this is done for every event of every watch: no _translated, which costs as much again
            count = self._connection.send(data)
        except SSL.Error as error:
            raise _failed(_words(error)) from None
        self._drain(count)
        return count

    def unwrap(self) -> None:
        """Say that this side has come to its end, and wait for the same of the client.

        Raises:
            ssl.SSLWantReadError: the client has not said so yet.
            ssl.SSLError: the connection is broken.
        """
        self._feed()
        with self._translated():
            if not self._connection.shutdown():
                self._drain()
                self._connection.shutdown()
        self._drain()

    def getpeercert(self) -> Chain:
        """Return the certificates that the client has shown, its own first. What they are worth is not known.

        Raises:
            ssl.SSLError: one of them can't be read.
        """
        try:
            leaf = self._connection.get_peer_certificate(as_cryptography=True)
            if leaf is None:
                return ()
            others = self._connection.get_peer_cert_chain(as_cryptography=True) or ()
        except ValueError as error:
            raise _failed(f"bad certificate: {error}") from None
        return (leaf, *(one for one in others if one != leaf))

    def cipher(self) -> tuple[str, str, int] | None:
        """Return name, version and bits of the cipher in use."""
        used = self._connection
        name = used.get_cipher_name()
        return None if name is None else (name, used.get_cipher_version() or "", used.get_cipher_bits() or 0)

    def compression(self) -> None:
        """Return None: there is none."""

    def _feed(self) -> bool:
        if not self._incoming.pending:
            return False
        self._connection.bio_write(self._incoming.read())
        return True

    def _drain(self, expected: int = 0) -> None:
        size = expected + _OVERHEAD + expected // 256  # a record of 16 KiB has 22 bytes around it
        try:
            while True:
                data = self._connection.bio_read(size)
                self._outgoing.write(data)
                if len(data) < size:
                    return
        except SSL.WantReadError:
            return

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except SSL.WantReadError:
            self._drain()
            raise ssl.SSLWantReadError from None
        except SSL.Error as error:
            self._drain()
            raise _failed(_words(error)) from None


def _failed(said: str) -> ssl.SSLError:
    """Return the error, with a reason as `ssl` gives it."""
    error = ssl.SSLError(ssl.SSL_ERROR_SSL, said)
    error.reason = said.upper().replace(" ", "_")
    return error


def _words(error: SSL.Error) -> str:
    """Return the reasons that OpenSSL gives: pyOpenSSL has them as [(library, function, reason), …]."""
    told = error.args[0] if error.args else ()
    return "; ".join(str(row[-1]) for row in told) if isinstance(told, list) and told else str(error)
