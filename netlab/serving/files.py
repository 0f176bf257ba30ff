"""What is made of files and made anew when they change: certificates, keys and authorities that are replaced in place.

Upstream is told of changes by inotify, and looks once a minute all the same. Here somebody asks every second or so
whether a file is another than before, which is a matter of microseconds; symbolic links that are turned to another
place, as a kubelet does in a volume, are seen too.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from netlab.errors import UsageError

log = logging.getLogger(__name__)

Made = TypeVar("Made")
LOOK_SECONDS = 1.0
_ANYWAY_SECONDS = 60.0
"""A file that looks unchanged is read again after so long: clocks of file systems are coarse."""


async def keep(*refreshed: Callable[[float], object]) -> None:
    """Call these with the time, in seconds that only grow, now and then and for ever."""
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        for refresh in refreshed:
            refresh(time.monotonic())


class FromFiles(Generic[Made]):
    """Something made of files. `current` is the newest that could be made."""

    def __init__(self, what: str, paths: Sequence[str], make: Callable[..., Made]) -> None:
        """Read the files and make it; `make` takes one content after the other and raises ValueError.

        Raises:
            UsageError: a file can't be read, or nothing can be made of them.
        """
        self._what, self._paths, self._make = what, tuple(paths), make
        self._marks = self._look()
        try:
            self._contents = self._read()
            self.current = make(*self._contents)
        except (OSError, ValueError) as error:
            raise UsageError(self._complaint(error)) from None
        self._read_at = 0.0
        self._said = ""

    def refresh(self, now: float) -> bool:
        """Make it anew if the files have changed, and tell whether that was so. `now`: seconds that only grow.

        Files that are broken, or not there, leave what is current; the log says so once.
        """
        marks = self._look()
        if marks == self._marks and now < self._read_at + _ANYWAY_SECONDS:
            return False
        self._marks, self._read_at = marks, now
        try:
            contents = self._read()
            if contents == self._contents:
                self._said = ""
                return False
            made = self._make(*contents)
        except (OSError, ValueError) as error:
            if (complaint := self._complaint(error)) != self._said:
                log.error("%s; what was there before stays in use", complaint)
                self._said = complaint
            return False
        self._contents, self.current, self._said = contents, made, ""
        log.info("Loaded a new %s: %s", self._what, ", ".join(self._paths))
        return True

    def _look(self) -> list[tuple[int, int, int] | None]:
        found: list[tuple[int, int, int] | None] = []
        for path in self._paths:
            try:
                stat = os.stat(path)
            except OSError:
                found.append(None)
            else:
                found.append((stat.st_ino, stat.st_mtime_ns, stat.st_size))
        return found

    def _read(self) -> tuple[bytes, ...]:
        return tuple(Path(path).read_bytes() for path in self._paths)

    def _complaint(self, error: OSError | ValueError) -> str:
        said = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)
        return f"the {self._what} ({', '.join(self._paths)}) can't be used: {said}"
