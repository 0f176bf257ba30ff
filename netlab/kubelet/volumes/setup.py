"""Make a Pod's volumes on the node, keep them current, and take them away."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import stat
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from netlab.api import meta
from netlab.api.meta import Object
from netlab.errors import ApiError, KernelError, NetlabError, TemporaryError
from netlab.kernel import mount
from netlab.kubelet import spec
from netlab.kubelet.downward import Surroundings
from netlab.kubelet.references import Key, References
from netlab.kubelet.tokens import Tokens
from netlab.kubelet.volumes import atomic, payload

log = logging.getLogger(__name__)

_KINDS = {"configMap": "configmap", "secret": "secret", "downwardAPI": "downward-api", "projected": "projected",
          "emptyDir": "empty-dir"}


class MountTrouble(NetlabError):
    """A volume can't be set up now; the text is the FailedMount event's."""


class Volumes:
    """The volumes below `root`/pods."""

    def __init__(self, root: Path, references: References, tokens: Tokens) -> None:
        self._root, self._references, self._tokens = root, references, tokens
        self._empty_dirs = root / "empty-dirs"

    def prepare(self) -> None:
        """Put the Pods' directory into memory, unless an earlier kubelet did, or this process may not mount."""
        place = self._root / "pods"
        place.mkdir(parents=True, exist_ok=True)
        if not os.path.ismount(place):
            try:
                mount.tmpfs(place, mode=0o750)
            except KernelError as error:
                log.info("Pods' files are kept on the disk: %s", error)

    def pod_dir(self, uid: str) -> Path:
        """Return the directory of all that the kubelet keeps of a Pod."""
        return self._root / "pods" / uid

    async def set_up(self, pod: Object, around: Surroundings) -> dict[str, Path]:
        """Make or update all volumes; return their host paths by name.

        Raises:
            MountTrouble: with upstream's words for the first volume that failed.
        """
        made: dict[str, Path] = {}
        for volume in spec.spec(pod).get("volumes") or []:
            name = str(volume["name"])
            try:
                made[name] = await self._one(pod, volume, around)
            except (ValueError, OSError, ApiError, KernelError, TemporaryError) as error:
                said = error.strerror or str(error) if isinstance(error, OSError) else str(error)
                raise MountTrouble(f'MountVolume.SetUp failed for volume "{name}" : {said}') from error
        return made

    async def tear_down(self, uid: str) -> None:
        """Remove all that there is of a Pod. Idempotent."""
        self._references.drop(uid)
        self._tokens.drop(uid)
        own = self._empty_dirs / uid
        if own.exists():
            for entry in own.iterdir():
                if os.path.ismount(entry):
                    mount.unmount(entry)
                if any(entry.iterdir()):  # perhaps much: not in the event loop's time
                    await asyncio.to_thread(shutil.rmtree, entry, ignore_errors=True)
        for place in (own, self.pod_dir(uid)):
            shutil.rmtree(place, ignore_errors=True)

    def renew_at(self, uid: str) -> float:
        """Return when one of the Pod's tokens wants renewal (Unix seconds), 0.0 for never."""
        return self._tokens.renew_at(uid)

    def orphans(self, known: set[str]) -> list[str]:
        """Return the uids of Pods that left a directory behind."""
        found = {p.name for place in (self._root / "pods", self._empty_dirs) if place.is_dir() for p in place.iterdir()}
        return sorted(found - known)

    async def _one(self, pod: Object, volume: Object, around: Surroundings) -> Path:
        if "hostPath" in volume:
            return _host_path(volume["hostPath"])
        kind = next((k for k in _KINDS if k in volume), None)
        if kind is None:
            sort = next((k for k in volume if k != "name"), "nothing")
            raise ValueError(f"no volume plugin matched: {sort} volumes are not supported by this kubelet")
        place = (self.pod_dir(meta.uid(pod)) / "volumes" / f"kubernetes.io~{_KINDS[kind]}" / str(volume["name"]))
        if kind == "emptyDir":
            own = self._empty_dirs / meta.uid(pod) / str(volume["name"])
            _empty_dir(pod, volume["emptyDir"] or {}, own)
            place.parent.mkdir(parents=True, exist_ok=True)
            if not place.is_symlink():
                place.symlink_to(own)
            return own
        place.mkdir(parents=True, exist_ok=True)
        files = await self._files(pod, volume, around)
        if _group(pod) >= 0:  # the group may read, whatever the modes say (k8s:pkg/volume/volume_linux.go)
            files = {path: replace(file, mode=file.mode | 0o440) for path, file in files.items()}
        atomic.write(place, files, gid=_group(pod))
        return place

    async def _files(self, pod: Object, volume: Object, around: Surroundings) -> Mapping[str, atomic.File]:
        space = meta.namespace(pod)
        keys: list[Key] = [(resource, space, name) for resource, name in payload.references(volume)]
        if keys:
            await self._references.hold(meta.uid(pod), keys)
        tokens = {request: (await self._tokens.get(pod, request)).text for request in payload.tokens(volume)}
        return payload.files(pod, volume, lambda resource, name: self._references.get(resource, space, name),
                             lambda request: tokens[request], around)


def _group(pod: Object) -> int:
    group = (spec.spec(pod).get("securityContext") or {}).get("fsGroup")
    return -1 if group is None else int(group)


def _empty_dir(pod: Object, body: Object, place: Path) -> None:
    """Make an emptyDir: for everyone to write, as upstream's, or for the Pod's fsGroup."""
    if not place.exists():
        place.mkdir(parents=True)
        place.chmod(0o777)
    if body.get("medium") == "Memory" and not os.path.ismount(place):
        mount.tmpfs(place, mode=0o1777)
    if _group(pod) >= 0 and place.stat().st_gid != _group(pod):
        atomic.give(place, -1, _group(pod))
        place.chmod(0o2777)


def _host_path(body: Object) -> Path:
    """Check, or make, a hostPath by its type (core/v1 HostPathType)."""
    place, kind = Path(str(body.get("path", ""))), str(body.get("type") or "")
    if kind == "DirectoryOrCreate" and not place.exists():
        place.mkdir(parents=True, mode=0o755)
    elif kind == "FileOrCreate" and not place.exists():
        place.touch(mode=0o644)
    elif kind == "" and not place.exists():
        place.mkdir(parents=True, mode=0o755)  # what container runtimes do with a missing source
    if kind:
        mode = place.stat().st_mode if place.exists() else 0
        shown, test = {"DirectoryOrCreate": ("directory", stat.S_ISDIR), "Directory": ("directory", stat.S_ISDIR),
                       "FileOrCreate": ("file", stat.S_ISREG), "File": ("file", stat.S_ISREG),
                       "Socket": ("socket file", stat.S_ISSOCK), "CharDevice": ("character device", stat.S_ISCHR),
                       "BlockDevice": ("block device", stat.S_ISBLK)}.get(kind, ("", None))
        if test is None:
            raise ValueError(f"hostPath type {kind} is unknown")
        if not test(mode):
            raise ValueError(f"hostPath type check failed: {place} is not a {shown}")
    return place
