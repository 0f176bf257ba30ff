"""agnhost dns-suffix, dns-server-list and etc-hosts: what the container was told about names."""

from __future__ import annotations

import sys
from pathlib import Path

RESOLV_CONF = Path("/etc/resolv.conf")
HOSTS = Path("/etc/hosts")


def dns_suffix(argv: list[str]) -> int:  # noqa: ARG001 - all subcommands are called alike
    """Print the search path, with commas."""
    sys.stdout.write(",".join(_listed("search")) + "\n")
    return 0


def dns_server_list(argv: list[str]) -> int:  # noqa: ARG001
    """Print the name servers, with commas."""
    sys.stdout.write(",".join(_listed("nameserver")) + "\n")
    return 0


def etc_hosts(argv: list[str]) -> int:  # noqa: ARG001
    """Print /etc/hosts."""
    sys.stdout.write(HOSTS.read_text(encoding="utf-8"))
    return 0


def _listed(keyword: str) -> list[str]:
    lines = [line.split() for line in RESOLV_CONF.read_text(encoding="utf-8").splitlines()]
    return [word for line in lines if line and line[0] == keyword for word in line[1:]]
