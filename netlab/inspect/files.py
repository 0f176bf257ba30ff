"""Kubernetes objects from files and folders by name; `-` is standard input."""

from __future__ import annotations

import sys
from pathlib import Path

from netlab.api.meta import Object
from netlab.errors import ManifestError, NotFound
from netlab.inspect import objects


def read(name: str) -> list[Object]:
    """Return the objects of a file, of all manifests of a folder, or of standard input.

    Raises:
        NotFound: a folder without manifests.
        ManifestError: it cannot be read, or says something wrong.
    """
    path = Path(name)
    if name != "-" and path.is_dir():
        paths = sorted(file for file in path.iterdir() if file.suffix in (".yaml", ".yml", ".json"))
        if not paths:
            raise NotFound(f"there are no manifests in {name}")
        return [each for file in paths for each in read(str(file))]
    try:
        text = sys.stdin.read() if name == "-" else path.read_text(encoding="utf-8")
    except OSError as error:
        raise ManifestError(f"cannot read it: {error.strerror}", file=name) from None
    except UnicodeDecodeError:
        raise ManifestError("it is not UTF-8 text", file=name) from None
    return objects.read(text, "standard input" if name == "-" else name)
