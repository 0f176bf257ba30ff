"""The TLS of a component's own port, and whose certificates are good there.

netlab.serving, which asks for a certificate without judging it in the handshake, is loaded when the first client comes.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

from netlab.client.delegation import Asker
from netlab.client.tls import self_signed, server_context
from netlab.errors import UsageError
from netlab.serving.headers import RequestHeader, named

if TYPE_CHECKING:
    from cryptography import x509

    from netlab.serving.files import FromFiles
    from netlab.serving.tls import Endpoint, Identity, ServerContext, Settings
    from netlab.serving.trust import Authorities, Chain

_LOOK_SECONDS = 1.0


def subject(certificate: x509.Certificate) -> tuple[str, tuple[str, ...]]:
    """Return the last common name of a certificate's subject ("" without one) and its organizations."""
    from cryptography.x509.oid import NameOID

    names, groups = ([str(one.value) for one in certificate.subject.get_attributes_for_oid(oid)] for oid in (
        NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME))
    return names[-1] if names else "", tuple(groups)


def whose(chain: Chain, authorities: Authorities, now: float) -> Asker | None:
    """Return whom a client's certificate stands for at a time (s since 1970), None when it names nobody.

    Raises:
        Untrusted: it is not good.
    """
    authorities.vouch(chain, now)
    name, groups = subject(chain[0])
    return Asker(name, (*groups, "system:authenticated")) if name else None


class Doors:
    """What asyncio takes for an `ssl.SSLContext`, and what tells who shows a certificate."""

    def __init__(self, certificate: str, key: str, address: str, *,
                 monotonic: Callable[[], float] = time.monotonic) -> None:
        """Look whether the files are any good; without any a certificate for `address` is made.

        Raises:
            UsageError: they are not.
        """
        self._files = (certificate, key or certificate) if certificate else None
        self._monotonic, self._looked = monotonic, 0.0
        self._clients = self._proxies = b""
        self._told: RequestHeader | None = None
        self._trusted: dict[bytes, Authorities] = {}
        self._identity: FromFiles[Identity] | None = None
        self._context: ServerContext | None = None
        try:
            self._pem = b"".join(Path(file).read_bytes() + b"\n" for file in self._files) if self._files \
                else self_signed(address)
            server_context(self._pem)
        except (OSError, ssl.SSLError) as error:
            raise UsageError(f"can't use the certificate {certificate}: {error}") from error

    def believe(self, clients: bytes, proxies: bytes = b"", told: RequestHeader | None = None) -> None:
        """Ask who comes for a certificate from now on: of these authorities (PEM), for clients and for proxies.

        Raises:
            UsageError: there is no certificate in one of them.
        """
        for what, pem in (("client CA", clients), ("request header CA", proxies)):
            try:
                if pem:
                    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cadata=pem.decode())
            except (ssl.SSLError, ValueError) as error:
                raise UsageError(f"the {what} can't be used: {error}") from error
        self._clients, self._proxies, self._told = clients, proxies if told is not None else b"", told
        self._trusted.clear()
        if self._context is not None:
            self._context.renew(self._settings())

    def who(self, chain: Chain, headers: Mapping[str, str], now: float, complaints: list[str]) -> Asker | None:
        """Return whom a certificate stands for, or whom the proxy that shows it tells; what is not good is noted.

        `now`: seconds since 1970.
        """
        from netlab.serving.trust import Untrusted

        if self._proxies and self._told is not None:
            try:
                self._authorities(self._proxies).verify(chain, now)
                if self._told.names and (name := subject(chain[0])[0]) not in self._told.names:
                    raise Untrusted(f"x509: subject with cn={name} is not in the allowed list")
                found = named(headers, self._told)
            except Untrusted as error:
                complaints.append(str(error))
            else:
                if found is not None:
                    return Asker(*found)
        if self._clients:
            try:
                return whose(chain, self._authorities(self._clients), now)
            except Untrusted as error:
                complaints.append(str(error))
        return None

    def for_asyncio(self) -> ssl.SSLContext:
        """Return itself, as the type that asyncio's calls are declared with."""
        return cast(ssl.SSLContext, self)

    def wrap_bio(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, server_side: bool = True,
                 server_hostname: str | None = None) -> Endpoint:
        """Return the server's end of a new connection; files are looked at once a second at most."""
        if self._context is None:
            from netlab.serving.files import FromFiles
            from netlab.serving.tls import Identity, ServerContext

            if self._files:
                self._identity = FromFiles("serving certificate", self._files, Identity.of)
            self._context = ServerContext(self._settings())
        elif self._identity is not None and (now := self._monotonic()) >= self._looked + _LOOK_SECONDS:
            self._looked = now
            if self._identity.refresh(now):
                self._context.renew(self._settings())
        return self._context.wrap_bio(incoming, outgoing, server_side, server_hostname)

    def _settings(self) -> Settings:
        from netlab.serving.tls import Identity, Settings

        identity = self._identity.current if self._identity is not None else Identity.of(self._pem, self._pem)
        asked = [one for pem in (self._clients, self._proxies) if pem for one in self._authorities(pem).certificates]
        return Settings(identity, clients=asked or None)

    def _authorities(self, pem: bytes) -> Authorities:
        from netlab.serving.trust import Authorities

        if pem not in self._trusted:
            self._trusted[pem] = Authorities(pem)
        return self._trusted[pem]
