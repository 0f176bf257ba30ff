"""/version: which API is served, and what the program that serves it was made of.

Upstream's build writes commit, time and toolchain into its program. This one is no binary: the commit is that of the
source tree it runs from, or that the package index installed it from, the time is that of its newest file, and what
stands for Go is the Python that runs it.
https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.36/ (version.Info)
"""

from __future__ import annotations

import platform
import re
from functools import cache
from pathlib import Path

import orjson

import netlab
from netlab.api import meta
from netlab.apiserver.http import Reply

_SOURCES = Path(netlab.__file__).parent
_COMMIT = re.compile(r"[0-9a-f]{40}")
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


def page(git_version: str) -> Reply:
    """Answer /version; `git_version` is such as v1.36.0-netlab.1."""
    return Reply(_info(git_version))


@cache
def _info(git_version: str) -> bytes:
    major, minor = git_version.removeprefix("v").split(".")[:2]
    found, state, newest = built()
    return orjson.dumps({
        "major": major, "minor": minor, "emulationMajor": major, "emulationMinor": minor,
        "minCompatibilityMajor": major, "minCompatibilityMinor": str(int(minor) - 1), "gitVersion": git_version,
        "gitCommit": found, "gitTreeState": state, "buildDate": meta.timestamp(newest),
        "goVersion": f"python{platform.python_version()}", "compiler": platform.python_implementation().lower(),
        "platform": f"linux/{_MACHINES.get(platform.machine(), platform.machine())}"})


@cache
def built() -> tuple[str, str, float]:
    """Return the commit of the sources, its state, and the time of the newest file, as they are when first asked for.

    A lab asks before it forks its nodes, in whose file systems the rest of the source tree is not to be seen.
    """
    newest = max(path.stat().st_mtime for path in _SOURCES.rglob("*.py"))
    return *commit(_SOURCES.parent, newest), newest


def commit(tree: Path, newest: float) -> tuple[str, str]:
    """Return the commit of a source tree and its state, as upstream names it: clean, dirty, or archive without git.

    A tree is dirty when a file of it is newer (Unix seconds) than what git has written down of it last.
    """
    try:
        git = _git(tree)
        found = _head(git)
        return found, "dirty" if newest > (git / "index").stat().st_mtime else "clean"
    except (OSError, ValueError):
        return _installed(), "archive"


def _git(tree: Path) -> Path:
    """Return the folder where git keeps what it knows of a tree; of a linked one a file tells where that is."""
    place = tree / ".git"
    if place.is_file():
        return tree / place.read_text().removeprefix("gitdir:").strip()
    return place


def _head(git: Path) -> str:
    """Return the commit that a tree is at.

    Raises:
        OSError, ValueError: it can't be told.
    """
    head = (git / "HEAD").read_text().strip()
    if not head.startswith("ref: "):
        return _checked(head)
    name, common = head.removeprefix("ref: "), git
    if (git / "commondir").exists():
        common = git / (git / "commondir").read_text().strip()
    if (common / name).exists():
        return _checked((common / name).read_text().strip())
    packed = (common / "packed-refs").read_text().splitlines()
    return _checked(next((line.split(" ")[0] for line in packed if line.endswith(f" {name}")), ""))


def _checked(text: str) -> str:
    if not _COMMIT.fullmatch(text):
        raise ValueError(f"no commit: {text!r}")
    return text


def _installed() -> str:
    """Return the commit that the installed package was made of, where its installer wrote that down (PEP 610)."""
    from importlib import metadata  # 8 ms of a start and 0.7 MiB, which a source tree never needs

    try:
        text = metadata.distribution("kube-netlab").read_text("direct_url.json") or "{}"
        return str(orjson.loads(text).get("vcs_info", {}).get("commit_id", ""))
    except (metadata.PackageNotFoundError, ValueError, AttributeError):
        return ""
