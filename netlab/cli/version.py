"""`netlab version`: what runs here."""

from __future__ import annotations

import platform
from importlib import metadata

import click

from netlab import __version__
from netlab.cli.options import output as output_option

LIBRARIES = ("aiohttp", "click", "cryptography", "orjson", "pyroute2", "python-iptables", "PyYAML", "scapy")


@click.command("version")
@output_option()
def command(output: str) -> None:
    """Print the versions of netlab and of what it stands on."""
    from netlab.cli.output import emit

    found = {"netlab": __version__, "python": platform.python_version(), "kernel": platform.release()}
    for library in LIBRARIES:
        try:
            found[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            found[library] = "missing"
    if output:
        emit(found, output)
    else:
        click.echo("\n".join(f"{name:<16} {version}" for name, version in found.items()))
