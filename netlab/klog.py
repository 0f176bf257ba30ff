"""Logging in the shape that Kubernetes' components use, so that logs of ours and upstream's read alike.

A line is `Lmmdd hh:mm:ss.uuuuuu pid file:line] message` with L one of D I W E F
(https://github.com/kubernetes/klog#how-to-use-klog); times are UTC, as in a container without a time zone.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from typing import TextIO

_LEVELS = {logging.DEBUG: "D", logging.INFO: "I", logging.WARNING: "W", logging.ERROR: "E", logging.CRITICAL: "F"}


class KlogFormatter(logging.Formatter):
    """Format a record as klog does."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one klog line (a traceback, where there is one, follows on its own lines)."""
        at = time.gmtime(record.created)
        micros = int(record.created % 1 * 1e6)
        head = (f"{_LEVELS.get(record.levelno, 'I')}{time.strftime('%m%d %H:%M:%S', at)}.{micros:06d} "
                f"{os.getpid():7d} {record.filename}:{record.lineno}] ")
        text = head + record.getMessage()
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return text


def setup(*, verbosity: int = 0, stream: TextIO | None = None) -> None:
    """Send all logging of this process to `stream` (standard error). `verbosity` is klog's -v; 4 and up is debug."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(KlogFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.DEBUG if verbosity >= 4 else logging.INFO)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
