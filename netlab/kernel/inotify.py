"""Notice changes of directories and files at once (inotify(7)), inside an event loop.

One instance per watcher: the kernel allows 128 instances per user, so a program makes one and adds paths to it. Where
none is to be had, nothing is ever reported: who waits for changes also looks by itself now and then.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import struct
from collections.abc import Callable

from netlab.kernel import libc

log = logging.getLogger(__name__)

MODIFY, CLOSE_WRITE, MOVED_FROM, MOVED_TO, CREATE, DELETE = 0x2, 0x8, 0x40, 0x80, 0x100, 0x200
DELETE_SELF, MOVE_SELF = 0x400, 0x800
ENTRIES = CLOSE_WRITE | MOVED_FROM | MOVED_TO | CREATE | DELETE
"""A directory's entries come, go, or have been written."""
GROWTH = MODIFY | DELETE_SELF | MOVE_SELF
"""A file grows, or is replaced."""
_IGNORED, _MASK_ADD = 0x8000, 0x20000000
_HEAD = struct.Struct("iIII")


class Inotify:
    """Callbacks for changes of paths. For one event loop; close it in the end."""

    def __init__(self) -> None:
        self._callbacks: dict[int, dict[object, Callable[[], None]]] = {}
        self._fd = -1
        try:
            self._fd = libc.inotify_init()
        except OSError as error:
            log.warning("changes of files are noticed late: %s (see fs.inotify.max_user_instances)", error)
            return
        asyncio.get_running_loop().add_reader(self._fd, self._read)

    def watch(self, path: str | os.PathLike[str], changed: Callable[[], None],
              mask: int = ENTRIES) -> Callable[[], None]:
        """Call `changed()` after changes of `path`, which exists. Returns what ends the watch (twice is fine)."""
        try:
            number = libc.inotify_add_watch(self._fd, path, mask | _MASK_ADD)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EBADF):
                log.debug("no watch on %s: %s", path, error)
            return lambda: None
        token = object()
        self._callbacks.setdefault(number, {})[token] = changed

        def end() -> None:
            callbacks = self._callbacks.get(number, {})
            callbacks.pop(token, None)
            if not callbacks and self._callbacks.pop(number, None) is not None and self._fd >= 0:
                libc.inotify_rm_watch(self._fd, number)

        return end

    def close(self) -> None:
        """End all watches."""
        if self._fd >= 0:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1
        self._callbacks.clear()

    def _read(self) -> None:
        try:
            data = os.read(self._fd, 65536)
        except BlockingIOError:
            return
        at, seen = 0, set()
        while at < len(data):
            number, mask, _, length = _HEAD.unpack_from(data, at)
            at += _HEAD.size + length
            if mask & _IGNORED:
                self._callbacks.pop(number, None)
            else:
                seen.add(number)
        for number in seen:
            for changed in list(self._callbacks.get(number, {}).values()):
                changed()
