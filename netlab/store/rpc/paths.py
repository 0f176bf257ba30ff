"""Keys as paths of a tree, as the v2 API sees them (pure)."""

from __future__ import annotations


def clean(path: str) -> str:
    """Return a path with one slash before each part, and none at the end."""
    return "/" + "/".join(filter(None, path.split("/")))
