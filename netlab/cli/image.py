"""`netlab image`: archives into a lab, and what its nodes have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from netlab.cli.options import lab_name
from netlab.cli.options import output as output_option


@click.group("image")
def command() -> None:
    """Load image archives into a lab, and list what its nodes have. Nothing is ever downloaded."""


@command.command("load")
@click.argument("archives", nargs=-1, required=True, metavar="FILE...",
                type=click.Path(exists=True, dir_okay=False, path_type=Path))
@lab_name
def load(archives: tuple[Path, ...], name: str) -> None:
    """Load image archives (`docker save`, `podman save`, OCI layout; .tar, .tar.gz) into all nodes of a lab."""
    from netlab.lab import state
    from netlab.runtime import image

    record = state.find(name)
    for archive in archives:
        for loaded in image.load(archive, record.images):
            click.echo(f"loaded {loaded}")


@command.command("ls")
@output_option()
@lab_name
def ls(name: str, output: str) -> None:
    """List the images that a Pod of a lab can use."""
    import asyncio

    from netlab.cli.output import emit, size, table
    from netlab.lab import state
    from netlab.runtime.shimclient import ShimClient

    record = state.find(name)

    async def body() -> list[Any]:
        async with ShimClient(record.nodes[0].socket) as shim:
            return await shim.list_images()

    rows = [{"images": list(found.tags), "id": found.id, "size": found.size} for found in asyncio.run(body())]
    if output:
        emit(rows, output)
    else:
        click.echo(table(["IMAGE", "ID", "SIZE"],
                         [[", ".join(row["images"]), row["id"].removeprefix("sha256:")[:12],
                           size(row["size"]) if row["size"] else "built in"] for row in rows]))


@command.command("rm")
@click.argument("image")
@lab_name
def rm(image: str, name: str) -> None:
    """Remove a loaded image from a lab; containers that run on it keep running."""
    from netlab.lab import state
    from netlab.runtime import image as images

    images.remove(state.find(name).images, image)
    click.echo(f"removed {image}")
