"""What the holder tells the runtime about a node before it starts it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

Program = Callable[[list[str]], int]
"""A component's `main`: argv without the program's name in, exit code out."""

Programs = Mapping[str, Program]
"""Program name (kubelet, kube-proxy, agnhost, ...) to what runs it. Looked up in a fork, at the moment of use."""


@dataclass(frozen=True, kw_only=True)
class NodeSpec:
    """One node, as it is to be started.

    Attributes:
        lab: name of the lab (the mark that everything made bears).
        name: the node's name in the cluster; `hostname` is what `hostname` prints in it.
        netns_fd: descriptor of the node's network namespace, cabled by the holder. Stays the caller's.
        state_dir: host directory (absolute, 0700) with the node's writable directories etc/ var/ root/ opt/. What the
            holder puts there before the start is what the node finds; missing system files are added, none replaced.
        socket: host path of the shim's control socket. Inside the node it is also SHIM_SOCKET.
        kubelet_argv: the kubelet's flags, without its name.
        env: environment of the kubelet and of shells in the node (PATH, HOME and TERM have defaults).
        cgroup: path of the node's cgroup below the lab's place in each hierarchy, such as `netlab-LAB/worker1`; empty
            for none.
        image_store: host directory that loaded images live in (`runtime.image.load`); None when there is none.
        rootless: the lab lives in a user namespace with a single uid.
        use: component or program name to the absolute host path of a binary that is exec'd in its place.
    """

    lab: str
    name: str
    netns_fd: int
    state_dir: Path
    socket: Path
    hostname: str = ""
    kubelet_argv: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    cgroup: str = ""
    image_store: Path | None = None
    rootless: bool = False
    use: Mapping[str, str] = field(default_factory=dict)


SHIM_SOCKET = Path("/run/netlab/shim.sock")
"""The shim's control socket as the node's own processes see it."""
