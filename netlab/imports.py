"""Importing whole programs, which is most of the time that one takes to start."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_SYSTEMS: Final = ("SSL_CERT_FILE", "SSL_CERT_DIR")


@contextmanager
def without_system_roots() -> Iterator[None]:
    """Have contexts that the body makes trust nobody: for importing aiohttp, which makes two for requests without one.

    Reading the system's certificates for them takes as long as all else of the import (60 ms, of a command's 500) and
    3 MiB; whoever asks by https here brings a context. OpenSSL reads these variables whenever it looks for
    the defaults.
    """
    before = {name: os.environ.get(name) for name in _SYSTEMS}
    os.environ.update(dict.fromkeys(_SYSTEMS, os.devnull))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def uncollected() -> Iterator[None]:
    """Have no garbage looked for while the body imports modules: they make much, and throw away next to nothing.

    To look through all of it time and again is a tenth of the import of an API server. What is there at the end is
    not looked through later either (https://docs.python.org/3/library/gc.html#gc.freeze).
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was:
            gc.enable()
