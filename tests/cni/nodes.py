"""A node to plug containers into: a namespace, plugin directories, and a way to call plugins side by side."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from netlab.cni import delegate, main, skel
from netlab.kernel import link, netns
from netlab.kernel.rtnl import Rtnl

REFERENCE = Path("/usr/lib/cni")


@dataclass
class Node:
    """A namespace and a directory; `pods` are the containers made so far."""

    fd: int
    directory: Path
    pods: list[int] = field(default_factory=list)

    @property
    def bin(self) -> Path:
        return self.directory / "bin"

    @property
    def data(self) -> Path:
        return self.directory / "networks"

    def pod(self) -> str:
        """Return the path of a new container's namespace."""
        fd = netns.new_netns()
        os.set_inheritable(fd, True)
        self.pods.append(fd)
        return f"/proc/{os.getpid()}/fd/{fd}"

    def config(self, *, version: str = "1.0.0", subnets: tuple[str, ...] = ("10.9.0.0/24",), **more: Any) -> dict[str, Any]:
        """Return a bridge network with addresses from host-local."""
        ipam = {"type": "host-local", "dataDir": str(self.data), "ranges": [[{"subnet": one}] for one in subnets],
                "routes": [{"dst": "::/0" if ":" in one else "0.0.0.0/0"} for one in subnets]}
        return {"cniVersion": version, "name": "net", "type": "bridge", "bridge": "cni0", "isGateway": True,
                "ipam": ipam} | more

    def call(self, verb: str, config: dict[str, Any], *, container: str = "c1", ns: str = "", ifname: str = "eth0",
             args: str = "", reference: bool = False, executable: bool = False, plugin: str = "") -> tuple[int, Any]:
        """Run a plugin in this node: ours in this process or as an executable, or the reference plugin."""
        name = plugin or config["type"]
        directory = REFERENCE if reference else self.bin
        environ = {"PATH": os.environ["PATH"], "CNI_COMMAND": verb, "CNI_PATH": str(directory),
                   "CNI_CONTAINERID": container, "CNI_IFNAME": ifname}
        environ |= ({"CNI_NETNS": ns} if ns else {}) | ({"CNI_ARGS": args} if args else {})
        stdin = json.dumps(config).encode()
        with netns.inside(self.fd):
            if reference or executable:
                done = subprocess.run([str(directory / name)], input=stdin, env=environ, capture_output=True, timeout=30,
                                      check=False)
                code, out = done.returncode, done.stdout
            else:
                code, out = skel.respond(delegate.plugin(name), environ, stdin)
        return code, json.loads(out) if out else {}

    def add(self, config: dict[str, Any], **how: Any) -> Any:
        code, answer = self.call("ADD", config, **how)
        assert code == 0, answer
        return answer

    def delete(self, config: dict[str, Any], **how: Any) -> None:
        code, answer = self.call("DEL", config, **how)
        assert (code, answer) == (0, {}), answer

    def fails(self, verb: str, config: dict[str, Any], **how: Any) -> Any:
        code, answer = self.call(verb, config, **how)
        assert code != 0
        return answer

    def reservations(self) -> set[str]:
        """Return the addresses that are taken."""
        folder = self.data / "net"
        names = {file.name for file in folder.iterdir()} if folder.is_dir() else set()
        return {name for name in names if name != "lock" and not name.startswith(("last_reserved_ip", "."))}

    def links(self) -> set[str]:
        """Return the names of the node's links, lo and the bridge aside."""
        with Rtnl(self.fd) as sock:
            return {found.name for found in link.links(sock)} - {"lo", "cni0"}

    def run(self, *words: str, ns: str = "") -> str:
        """Run a tool in the node or in a container."""
        with netns.inside(ns or self.fd):
            done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
        return done.stdout + done.stderr

    def nat(self) -> list[str]:
        """Return the rules of the nat table."""
        return [line for line in self.run("iptables-save", "-t", "nat").splitlines() if line.startswith("-A")]


@contextlib.contextmanager
def a_node(directory: Path) -> Iterator[Node]:
    """Make a node, and remove it with its containers."""
    node = Node(netns.new_netns(), directory)
    assert sys.executable
    main.install(str(node.bin))
    with Rtnl(node.fd) as sock:
        link.set_up(sock, "lo")
    try:
        yield node
    finally:
        for fd in (*node.pods, node.fd):
            os.close(fd)
