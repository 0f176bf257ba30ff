"""Another program in place of one of ours: `netlab up --use COMPONENT=PATH`.

A binary (or script) is exec'd where the component's program would run: in its container, with the flags that the
manifests have, under the name of the component. An image archive takes the place of the component's image. A CNI plugin
is a file in each node's /opt/cni/bin, and needs nothing more.
"""

from __future__ import annotations

import os
import shutil
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from netlab.cni.delegate import OWN as PLUGINS
from netlab.errors import UsageError
from netlab.runtime import archive

COMPONENTS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "netd", "coredns",
              "etcd", "agnhost")
_ON_THE_NODE = ("kubelet", "agnhost")
"""Components without an image that a manifest of ours names: a binary only."""


@dataclass(frozen=True)
class Swap:
    """One component and the file that stands in for it."""

    component: str
    path: str
    kind: Literal["binary", "image", "plugin"]


def parse(text: str) -> Swap:
    """Return what COMPONENT=PATH asks for.

    Raises:
        UsageError: no such component, no such file, or one that cannot be run.
    """
    component, equals, given = text.partition("=")
    if not equals or not given:
        raise UsageError(f"--use {text}: want COMPONENT=PATH", hint="e.g. --use kube-proxy=./kube-proxy")
    if component not in (*COMPONENTS, *PLUGINS):
        raise UsageError(f'--use {text}: there is no component "{component}"',
                         hint=f"there are: {', '.join(COMPONENTS)}; and the CNI plugins {', '.join(PLUGINS)}")
    path = Path(given).expanduser().resolve()
    if not path.is_file():
        raise UsageError(f"--use {text}: there is no file {given}")
    if component in PLUGINS:
        return Swap(component, str(_executable(path, text)), "plugin")
    if not tarfile.is_tarfile(path):
        return Swap(component, str(_executable(path, text)), "binary")
    if component in _ON_THE_NODE:
        raise UsageError(f"--use {text}: {component} is swapped by a binary, not by an image")
    return Swap(component, str(path), "image")


def binaries(swaps: Iterable[Swap]) -> dict[str, str]:
    """Return the paths of the binaries by component."""
    return {swap.component: swap.path for swap in swaps if swap.kind == "binary"}


def load_images(swaps: Iterable[Swap], store: Path) -> dict[str, str]:
    """Load the archives into a lab's image store; return the image of each component.

    Raises:
        UsageError: an archive can't be read, or holds several images.
    """
    found = {}
    for swap in swaps:
        if swap.kind == "image":
            names = archive.load(Path(swap.path), store)
            if len(names) != 1:
                raise UsageError(f"{swap.path} holds {len(names)} images: {', '.join(names)}",
                                 hint=f"save the one that is to be {swap.component} alone")
            found[swap.component] = names[0]
    return found


def install_plugins(swaps: Iterable[Swap], folder: Path) -> None:
    """Put the plugins into a node's folder for them, before anybody else does."""
    for swap in swaps:
        if swap.kind == "plugin":
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(swap.path, folder / swap.component)
            (folder / swap.component).chmod(0o755)


def _executable(path: Path, text: str) -> Path:
    if not os.access(path, os.X_OK):
        raise UsageError(f"--use {text}: {path} is neither an image archive nor executable", hint=f"chmod +x {path}")
    return path
