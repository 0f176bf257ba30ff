"""The certificate that a server shows where it is a client itself: to kubelets, and to servers behind it."""

from __future__ import annotations

import logging
import ssl
import weakref

from netlab.errors import UsageError
from netlab.serving.files import FromFiles
from netlab.serving.tls import Identity

log = logging.getLogger(__name__)


class Shown:
    """A client's certificate of files that may change; connections from then on show the new one."""

    def __init__(self, what: str, certificate: str, key: str) -> None:
        """Read the files, if there are any: `certificate` may be empty, and an empty `key` is in the same file.

        Raises:
            UsageError: they are missing or broken.
        """
        self._paths = certificate, key or certificate
        self._files = FromFiles(what, self._paths, Identity.of) if certificate else None
        self._contexts: weakref.WeakSet[ssl.SSLContext] = weakref.WeakSet()

    def put(self, context: ssl.SSLContext) -> None:
        """Have what is made with a context show the certificate, now and when it is another one.

        Raises:
            UsageError: the files have been broken since.
        """
        if self._files is None:
            return
        try:
            context.load_cert_chain(*self._paths)
        except (OSError, ssl.SSLError) as error:
            raise UsageError(f"{', '.join(self._paths)}: {error}") from error
        self._contexts.add(context)

    def refresh(self, now: float) -> None:
        """Take up files that have changed. `now`: seconds that only grow."""
        if self._files is None or not self._files.refresh(now):
            return
        try:
            for context in self._contexts:
                context.load_cert_chain(*self._paths)
        except (OSError, ssl.SSLError) as error:  # changed once more, just now: the next look finds that
            log.warning("%s: %s", ", ".join(self._paths), error)
