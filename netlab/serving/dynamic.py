"""A server's TLS settings and the authorities of its clients, all of files that may change while it runs."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509

from netlab.errors import UsageError
from netlab.serving import suites
from netlab.serving.files import FromFiles
from netlab.serving.tls import Identity, ServerContext, Settings
from netlab.serving.trust import Authorities

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Named:
    """A further certificate, for clients that ask for a name: its files, and its names if not its own ones."""

    certificate: str
    key: str
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Files:
    """Where the certificates are. Of `clients` and `proxies`, files of authorities, each may be empty."""

    certificate: str
    key: str
    clients: str = ""
    proxies: str = ""
    named: tuple[Named, ...] = ()


class Serving:
    """What a server listens with (`context`), and whom it believes: `clients`, and `proxies` that tell the user."""

    def __init__(self, files: Files, *, minimum: str = "", ciphers: Sequence[str] = ()) -> None:
        """Read all files.

        Raises:
            UsageError: one of them is missing or broken, or there is no such version or cipher suite.
        """
        self._minimum, self._ciphers = suites.version(minimum), suites.ciphers(ciphers)
        self._identity = FromFiles("serving certificate", (files.certificate, files.key), Identity.of)
        self._named = [(one.names, FromFiles("serving certificate", (one.certificate, one.key), Identity.of))
                       for one in files.named]
        self._clients = FromFiles("client CA", (files.clients,), Authorities) if files.clients else None
        self._proxies = FromFiles("request header CA", (files.proxies,), Authorities) if files.proxies else None
        try:
            self.context = ServerContext(self._settings())
        except ValueError as error:
            raise UsageError(f"the certificate {files.certificate} can't be served: {error}") from None

    @property
    def clients(self) -> Authorities | None:
        """Return whose clients' certificates are good; None: there is no such authority."""
        return self._clients.current if self._clients is not None else None

    @property
    def proxies(self) -> Authorities | None:
        """Return whose proxies may tell the user in headers; None: nobody's."""
        return self._proxies.current if self._proxies is not None else None

    def refresh(self, now: float) -> None:
        """Take up files that have changed: authorities for every request from now on, the rest for new connections.

        `now`: seconds that only grow.
        """
        parts: list[FromFiles[Authorities] | FromFiles[Identity]] = [self._identity, *(made for _, made in self._named)]
        parts += [one for one in (self._clients, self._proxies) if one is not None]
        changed = [part.refresh(now) for part in parts]
        if any(changed):
            try:
                self.context.renew(self._settings())
            except ValueError as error:
                log.error("the new certificates can't be served: %s; those before stay in use", error)

    def _settings(self) -> Settings:
        asked: list[x509.Certificate] | None = None
        for authorities in (self.clients, self.proxies):
            if authorities is not None:
                asked = [*(asked or ()), *authorities.certificates]
        named: dict[str, Identity] = {}
        for names, made in reversed(self._named):  # the first one that has a name wins …
            named |= dict.fromkeys(() if names else made.current.names(), made.current)
        for names, made in reversed(self._named):  # … and names that were written win over a certificate's own
            named |= dict.fromkeys(names, made.current)
        return Settings(self._identity.current, self._minimum, self._ciphers, asked, named)
