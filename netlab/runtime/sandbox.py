"""A Pod's sandbox: the namespaces its containers share, and pause, whose life is the sandbox's."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from netlab.errors import KernelError
from netlab.kernel import libc, netns, process
from netlab.kernel.cgroup import Group
from netlab.runtime import pause
from netlab.runtime.context import Context
from netlab.runtime.cri import Dns, Mount, Sandbox, SandboxConfig

if TYPE_CHECKING:
    from netlab.runtime.container import PodContainer

MAX_HOSTNAME = 64


class PodSandbox:
    """One sandbox. `namespaces` are descriptors by kind: net, uts, ipc, pid; they outlive pause, until `release`."""

    def __init__(self, node: Context, config: SandboxConfig) -> None:
        self.node, self.config = node, config
        self.id = secrets.token_hex(32)
        self.created_at = time.time_ns()
        self.directory = node.directory / "sandboxes" / self.id[:12]
        self.namespaces: dict[str, int] = {}
        self.containers: dict[str, PodContainer] = {}
        self.pid = 0
        self.group = Group()
        self.hostname = (config.hostname or (node.hostname if config.host_network else config.name))[:MAX_HOSTNAME]
        self._ended: asyncio.Future[tuple[int, int]] | None = None

    @property
    def group_name(self) -> str:
        """The name of the Pod's cgroup below the node's."""
        return f"pod{self.config.uid or self.id[:12]}-{self.id[:8]}"

    @property
    def ready(self) -> bool:
        """Whether pause lives."""
        return self._ended is not None and not self._ended.done()

    def start(self) -> None:
        """Make the namespaces and start pause in them.

        Raises:
            KernelError: the kernel refused; nothing is left behind.
        """
        try:
            self._write_files()
            self.group = self.node.group.child(self.group_name)
            self._make()
        except BaseException as error:
            if self.pid:
                os.kill(self.pid, signal.SIGKILL)
            self.release()
            if isinstance(error, OSError):
                raise KernelError(f"can't make the sandbox: {error}", errno=error.errno or 0) from None
            raise
        self._ended = self.node.reaper.watch(self.pid)
        self._ended.add_done_callback(self._pause_ended)
        self.node.happened("sandbox_ready", sandbox=self.id)

    def _make(self) -> None:
        config = self.config
        shared = [kind for kind, wanted in (("net", config.host_network), ("ipc", config.host_ipc)) if wanted]
        with process.new_namespaces(*(kind for kind in ("net", "uts", "ipc") if kind not in shared)) as made:
            libc.sethostname(self.hostname)
            if not config.host_network:
                netns.loopback_up()
            for name, value in config.sysctls.items():
                _set_sysctl(name, value)
            with nullcontext() if config.host_pid else process.children_in(None):
                self.pid = process.spawn(*_pause(self.node.directory), blocked=(signal.SIGINT, signal.SIGTERM))
        self.namespaces.update(made)
        for kind in shared:
            self.namespaces[kind] = os.open(f"/proc/self/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)
        self.namespaces["pid"] = os.open(f"/proc/{self.pid}/ns/pid", os.O_RDONLY | os.O_CLOEXEC)

    def _pause_ended(self, _: object) -> None:
        self.node.happened("sandbox_stopped", sandbox=self.id)

    async def stop(self) -> None:
        """Kill the containers, then pause."""
        await asyncio.gather(*(container.stop(0) for container in list(self.containers.values())))
        if self._ended is not None:
            if self.ready:
                os.kill(self.pid, signal.SIGKILL)
            await asyncio.shield(self._ended)

    def release(self) -> None:
        """Give back everything that a stopped sandbox still holds."""
        for fd in self.namespaces.values():
            os.close(fd)
        self.namespaces.clear()
        self.group.close()
        self.node.discard_group(self.node.group, self.group_name)
        shutil.rmtree(self.directory, ignore_errors=True)

    def mounts(self) -> list[Mount]:
        """Return the files that every container of the Pod gets."""
        return [Mount(container_path=f"/etc/{name}", host_path=str(self.directory / name))
                for name in ("hosts", "hostname", "resolv.conf")]

    @property
    def shm(self) -> Path:
        """The directory that all containers of the Pod see as /dev/shm."""
        return self.directory / "shm"

    def _write_files(self) -> None:
        self.directory.mkdir(parents=True)
        self.shm.mkdir()
        self.shm.chmod(0o1777)
        config = self.config
        if config.host_network:
            hosts = Path("/etc/hosts").read_text()
        else:
            hosts = f"127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\t{self.hostname}\n"
        (self.directory / "hosts").write_text(hosts)
        (self.directory / "hostname").write_text(self.hostname + "\n")
        if config.dns is not None:
            text = resolv_conf(config.dns)
        else:
            text = Path("/etc/resolv.conf").read_text() if Path("/etc/resolv.conf").exists() else ""
        (self.directory / "resolv.conf").write_text(text)

    def status(self) -> Sandbox:
        """Return the sandbox as the kubelet sees it."""
        net = self.namespaces.get("net")
        host = self.config.host_network
        return Sandbox(
            id=self.id, name=self.config.name, uid=self.config.uid, namespace=self.config.namespace,
            attempt=self.config.attempt, state="ready" if self.ready else "notready", created_at=self.created_at,
            netns_path="/proc/1/ns/net" if host else f"/proc/1/fd/{net}" if net is not None else "",
            netns_inode=os.fstat(net).st_ino if net is not None else 0, pid=self.pid if self.ready else 0,
            host_network=host, labels=self.config.labels, annotations=self.config.annotations)


def resolv_conf(dns: Dns) -> str:
    """Return the text of /etc/resolv.conf."""
    lines = [f"search {' '.join(dns.searches)}"] if dns.searches else []
    lines += [f"nameserver {server}" for server in dns.servers]
    lines += [f"options {' '.join(dns.options)}"] if dns.options else []
    return "".join(f"{line}\n" for line in lines)


def install_pause(directory: Path) -> None:
    """Write pause's executable where sandboxes look for it."""
    code = pause.executable()
    if code is not None:
        (directory / "pause").write_bytes(code)
        (directory / "pause").chmod(0o755)


def _pause(directory: Path) -> tuple[Path, list[str]]:
    """Return the executable and the arguments of pause; a machine that we have no code for takes sleep."""
    code = directory / "pause"
    return (code, ["/pause"]) if code.exists() else (Path("/usr/bin/sleep"), ["/pause", "infinity"])


def _set_sysctl(name: str, value: str) -> None:
    try:
        Path("/proc/sys", name.replace(".", "/")).write_text(value)
    except OSError as error:
        raise KernelError(f"can't set the sysctl {name}={value}: {error.strerror}", errno=error.errno or 0) from None


CHILD_NAMESPACES = libc.CLONE_NEWNS | libc.CLONE_NEWNET | libc.CLONE_NEWUTS | libc.CLONE_NEWIPC | libc.CLONE_NEWCGROUP
"""What a command that is exec'd into a container joins of its first process, beside the PID namespace."""
