"""How results are printed: kubectl-like tables (fixed width, no boxes, so they paste and grep well), JSON, YAML."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import click


def table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return rows under headers, columns three blanks apart as kubectl has them; an empty cell shows as <none>."""
    lines = [[str(cell) for cell in headers], *([str(cell) if cell not in ("", None) else "<none>" for cell in row]
                                                for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headers))]
    return "\n".join("   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
                     for line in lines)


def emit(value: Any, output: str) -> None:
    """Print a value as `json` or `yaml`."""
    if output == "yaml":
        import yaml

        click.echo(yaml.safe_dump(value, sort_keys=False, allow_unicode=True), nl=False)
    else:
        click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def duration(seconds: float) -> str:
    """Return an age as kubectl shows it: 45s, 3m20s, 5h, 3d."""
    whole = max(int(seconds), 0)
    if whole < 120:
        return f"{whole}s"
    if whole < 600:
        return f"{whole // 60}m{whole % 60}s" if whole % 60 else f"{whole // 60}m"
    if whole < 3 * 3600:
        return f"{whole // 60}m"
    if whole < 48 * 3600:
        return f"{whole // 3600}h"
    return f"{whole // 86400}d"


def size(count: float) -> str:
    """Return bytes as MiB or GiB, one place."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"
