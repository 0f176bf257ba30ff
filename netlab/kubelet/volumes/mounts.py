"""Where a container sees its Pod's volumes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from netlab.api.meta import Object
from netlab.kubelet.env import expand
from netlab.runtime.cri import Mount


def mounts(wanted: Object, volumes: Mapping[str, Path], environment: Mapping[str, str]) -> list[Mount]:
    """Return a container's mounts, in the order of its spec.

    Args:
        wanted: the container.
        volumes: host paths by volume name.
        environment: for subPathExpr.

    Raises:
        ValueError: a mount names no volume of the Pod, or its subPath leads out of the volume.
        OSError: a subPath's directory can't be made.
    """
    made = []
    for mount in wanted.get("volumeMounts") or []:
        place = volumes.get(mount["name"])
        if place is None:
            raise ValueError(f'cannot find volume "{mount["name"]}" to mount into container "{wanted["name"]}"')
        below = str(mount.get("subPath") or "")
        if mount.get("subPathExpr"):
            below = expand(str(mount["subPathExpr"]), environment)
        if below:
            _make_sub_path(place, below)
        made.append(Mount(container_path=_absolute(str(mount["mountPath"])), host_path=str(place),
                          readonly=bool(mount.get("readOnly")), sub_path=below))
    return made


def _absolute(path: str) -> str:
    return path if path.startswith("/") else f"/{path}"


def _make_sub_path(volume: Path, below: str) -> None:
    """Make the directory that a subPath names unless it is there (it may be a file)."""
    pure = PurePosixPath(below)
    if pure.is_absolute() or ".." in pure.parts:
        raise ValueError(f'subPath "{below}" must be relative and stay in the volume')
    place = volume / below
    if os.path.lexists(place):
        return
    nearest = next(p for p in place.parents if os.path.lexists(p))
    if not Path(os.path.realpath(nearest)).is_relative_to(os.path.realpath(volume)):
        raise ValueError(f'subPath "{below}" leads out of the volume through a link')
    place.mkdir(parents=True, mode=0o750)
