"""Image references: what `busybox` means.

As the container runtimes read them (https://pkg.go.dev/github.com/distribution/reference): no registry is docker.io,
no folder there is library/, no tag is :latest.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from netlab.errors import UsageError

_REPOSITORY = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*\Z")
_TAG = re.compile(r"\w[\w.-]{0,127}\Z", re.ASCII)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")


@dataclass(frozen=True)
class Reference:
    """A full name: `repository` with its registry (docker.io/library/busybox), then a tag, a digest, or both."""

    repository: str
    tag: str
    digest: str = ""

    def __str__(self) -> str:
        return self.repository + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


def parse(text: str) -> Reference:
    """Read a reference as it stands in a manifest.

    Raises:
        UsageError: it is none. Kubelets show this as InvalidImageName.
    """
    name, _, digest = text.partition("@")
    head, slash, last = name.rpartition("/")
    last, _, tag = last.partition(":")
    name = head + slash + last
    registry, slash, rest = name.partition("/")
    if not slash or not ("." in registry or ":" in registry or registry == "localhost"):
        registry, rest = "docker.io", name
    if registry in ("docker.io", "index.docker.io"):
        registry, rest = "docker.io", rest if "/" in rest else f"library/{rest}"
    if not _REPOSITORY.match(rest) or (tag and not _TAG.match(tag)) or (digest and not _DIGEST.match(digest)):
        raise UsageError(f'couldn\'t parse image name "{text}": invalid reference format')
    return Reference(f"{registry}/{rest}", tag or ("" if digest else "latest"), digest)
