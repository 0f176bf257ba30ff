"""What is done now and then: orphans ended, what they left removed, logs kept small, the images counted."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING

from netlab.errors import NetlabError

if TYPE_CHECKING:
    from netlab.kubelet.kubelet import Kubelet

log = logging.getLogger(__name__)

_SECONDS = 10.0


class Housekeeping:
    """The chores of one kubelet."""

    def __init__(self, kubelet: Kubelet) -> None:
        self._kubelet = kubelet

    async def run(self, stop: asyncio.Event) -> None:
        """Do them until `stop` is set."""
        await self._kubelet.observer.listed.wait()
        while not stop.is_set():
            try:
                await self._kubelet.look_at_images()
                await self._orphans()
                await self._rotate_logs()
            except (NetlabError, OSError) as error:
                log.warning("housekeeping: %s", error)
            except Exception:  # a chore that fails must not end the others
                log.exception("housekeeping")
            await asyncio.sleep(_SECONDS if self._kubelet.sources_known() else 1.0)

    async def _orphans(self) -> None:
        kubelet = self._kubelet
        if not kubelet.sources_known():
            return
        for uid in [uid for uid in kubelet.observer.uids() if uid not in kubelet.workers]:
            kubelet.adopt_orphan(uid)
        known = set(kubelet.workers) | set(kubelet.observer.uids())
        for uid in kubelet.node.volumes.orphans(known):
            log.info("removing what pod %s has left", uid)
            await kubelet.node.volumes.tear_down(uid)
        if kubelet.config.logs.is_dir():
            for place in kubelet.config.logs.iterdir():
                if place.name.rpartition("_")[2] not in known:
                    await asyncio.to_thread(_remove, place)

    async def _rotate_logs(self) -> None:
        """Put a log aside that has grown too large, and drop the oldest of those."""
        config = self._kubelet.config
        for uid in self._kubelet.observer.uids():
            for found in self._kubelet.observer.record(uid).containers:
                path = Path(found.log_path)
                if not found.running or not found.log_path or not path.exists() \
                        or path.stat().st_size < config.log_max_bytes:
                    continue
                path.rename(f"{path}.{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}")
                await self._kubelet.shim.reopen_container_log(found.id)
                aside = sorted(path.parent.glob(f"{path.name}.*"))
                for old in aside[:max(0, len(aside) - (config.log_max_files - 1))]:
                    old.unlink(missing_ok=True)


def _remove(place: Path) -> None:
    for path in sorted(place.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
    place.rmdir()
