"""The TLS of the kubelet's server: see netlab.serving, which is loaded when the first client comes.

Most kubelets of a lab are asked for nothing while it lives, and pyOpenSSL is 5 MiB and 50 ms for each of them.
"""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from netlab.client.delegation import Asker
from netlab.client.doors import whose
from netlab.errors import NetlabError

if TYPE_CHECKING:
    from netlab.serving.dynamic import Serving
    from netlab.serving.tls import Endpoint
    from netlab.serving.trust import Chain

log = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0


class Doors:
    """What asyncio takes for an `ssl.SSLContext`, and what tells whether a client's certificate is good."""

    def __init__(self, certificate: str, key: str, client_ca: str, *,
                 monotonic: Callable[[], float] = time.monotonic) -> None:
        """Look whether the files are any good. Without `client_ca` no certificate is asked for.

        Raises:
            NetlabError: they are not.
        """
        self._files = certificate, key or certificate, client_ca
        self._serving: Serving | None = None
        self._monotonic, self._looked = monotonic, 0.0
        try:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate, key or None)
            if client_ca:
                context.load_verify_locations(client_ca)
        except (OSError, ssl.SSLError) as error:
            raise NetlabError(f"the kubelet's certificates can't be used: {error}") from error

    def for_asyncio(self) -> ssl.SSLContext:
        """Return itself, as the type that asyncio's calls are declared with."""
        return cast(ssl.SSLContext, self)

    def wrap_bio(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, server_side: bool = True,
                 server_hostname: str | None = None) -> Endpoint:
        """Return the server's end of a new connection."""
        return self._now().context.wrap_bio(incoming, outgoing, server_side, server_hostname)

    def who(self, chain: Chain, now: float) -> Asker | None:
        """Return whom a client's certificate stands for at a time (s since 1970); None, and a log line: it is not good.

        A certificate that names nobody stands for nobody, too.
        """
        from netlab.serving.trust import Untrusted

        authorities = self._now().clients
        if authorities is None:
            return None
        try:
            return whose(chain, authorities, now)
        except Untrusted as error:
            log.error('"Unable to authenticate the request" err="%s"', error)
            return None

    def _now(self) -> Serving:
        """Return what is made of the files as they are; at most every second they are looked at."""
        if self._serving is None:
            from netlab.serving.dynamic import Files, Serving

            certificate, key, clients = self._files
            self._serving = Serving(Files(certificate, key, clients=clients))
        elif (now := self._monotonic()) >= self._looked + _LOOK_SECONDS:
            self._looked = now
            self._serving.refresh(now)
        return self._serving
