"""A node: namespaces of its own, a root file system, a control socket, and the shim as pid 1 that runs it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import signal
import socket
from pathlib import Path
from typing import NoReturn

from netlab import klog
from netlab.errors import KernelError, NetlabError
from netlab.kernel import cgroup, libc, mount, process
from netlab.runtime import launch, rootfs, wrappers
from netlab.runtime.context import Context
from netlab.runtime.cri import Event
from netlab.runtime.image import PATH, PROGRAM_DIRECTORY, Images
from netlab.runtime.nodespec import SHIM_SOCKET, NodeSpec, Programs
from netlab.runtime.reaper import Reaper
from netlab.runtime.sandbox import install_pause
from netlab.runtime.shim import Shim
from netlab.runtime.shimclient import short_path
from netlab.runtime.supervise import Kubelet

log = logging.getLogger(__name__)

DIRECTORY = SHIM_SOCKET.parent
IMAGE_STORE = Path("/var/lib/netlab/images")
SHIM_LOG = Path("/var/log/shim.log")
_STOP_SECONDS = 2.0


def start_node(spec: NodeSpec, programs: Programs) -> int:
    """Start a node and return its shim's pid, as this process sees it.

    Call it in a process with one thread and no running event loop. The shim becomes a child of the nearest subreaper
    or pid 1. When it returns, the control socket answers.

    Raises:
        KernelError: the node did not come up; says why. Nothing of it is left.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def middle() -> int:
        ours.close()
        try:
            libc.setns(spec.netns_fd, libc.CLONE_NEWNET)
            group = cgroup.create(spec.cgroup) if spec.cgroup else cgroup.Group()
            group.child("system").add_self()
            libc.unshare(libc.CLONE_NEWNS | libc.CLONE_NEWUTS | libc.CLONE_NEWIPC | libc.CLONE_NEWPID)
            pid = process.fork(lambda: _shim(spec, programs, group, theirs))
        except (NetlabError, OSError) as error:
            theirs.send(f"!{error}".encode()[:4096])
            return 1
        theirs.send(str(pid).encode())
        return 0

    child = process.fork(middle)
    theirs.close()
    os.waitpid(child, 0)
    pid = 0
    with ours:
        while data := ours.recv(8192):
            if data.isdigit():
                pid = int(data)
            elif data == b"ready":
                return pid
            else:
                raise KernelError(f"node {spec.name} did not start: {data[1:].decode(errors='replace')}")
    raise KernelError(f"node {spec.name} did not start: its shim died")


def _shim(spec: NodeSpec, programs: Programs, group: cgroup.Group, ready: socket.socket) -> int:
    """Be the node's pid 1."""
    try:
        process.close_descriptors({ready.fileno(), *group.directories.values()})
        os.setsid()
        os.umask(0o022)
        resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
        process.set_title((f"netlab-shim: {spec.lab}/{spec.name}",))
        listener = _listen(spec.socket)
        _build_root(spec)
        libc.sethostname(spec.hostname or spec.name)
        klog.setup()
        out = os.open(SHIM_LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        process.set_stdio(-1, out, out)
        os.close(out)
        node = Context(lab=spec.lab, name=spec.name, hostname=spec.hostname or spec.name, directory=DIRECTORY,
                       programs=programs, group=group, reaper=Reaper(), emit=_nobody, env=_environment(spec),
                       use={name: f"{DIRECTORY}/use/{name}" for name in spec.use},
                       images=Images(DIRECTORY / "images", IMAGE_STORE if spec.image_store else None, set(programs)))
        install_pause(DIRECTORY)
        launch.prepare()
        wrappers.install(DIRECTORY / "bin")
    except (NetlabError, OSError) as error:
        ready.send(f"!{error}".encode()[:4096])
        return 1
    return asyncio.run(_serve(spec, node, listener, ready))


def _nobody(_event: Event) -> None:
    """Take an event before anybody can have subscribed."""


async def _serve(spec: NodeSpec, node: Context, listener: socket.socket, ready: socket.socket) -> int:
    loop = asyncio.get_running_loop()
    shim = Shim(node)
    node.emit = shim.emit
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    node.reaper.start()
    shim.serve(listener)
    kubelet = Kubelet(node, spec.kubelet_argv)
    supervised = loop.create_task(kubelet.run()) if "kubelet" in node.programs or "kubelet" in node.use else None
    ready.send(b"ready")
    ready.close()
    log.info("node %s of lab %s is up", spec.name, spec.lab)
    await stop.wait()
    log.info("shutting down")
    if supervised is not None:
        supervised.cancel()
    kubelet.stop()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(asyncio.gather(*(c.stop(_STOP_SECONDS / 2) for c in shim.containers.values())),
                               _STOP_SECONDS)
    _end()


def _end() -> NoReturn:
    os._exit(0)  # pid 1: the kernel ends the rest, whatever still runs or waits


def _listen(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)  # of the node's last life
    listener.bind(short_path(path))
    path.chmod(0o600)
    listener.listen(64)
    return listener


def _environment(spec: NodeSpec) -> dict[str, str]:
    return {"PATH": f"{DIRECTORY}/bin:{PATH}:{PROGRAM_DIRECTORY}", "HOME": "/root", "TERM": "xterm", "LANG": "C.UTF-8",
            "HOSTNAME": spec.hostname or spec.name, **spec.env}


def _build_root(spec: NodeSpec) -> None:
    """Put the node's root together in a mount namespace of our own, and move into it."""
    mount.make_private()
    state = spec.state_dir
    top = state / "rootfs"
    for name in ("etc", "var", "opt"):
        (state / name).mkdir(parents=True, exist_ok=True)
    rootfs.make_directory(state / "root", 0o700)
    rootfs.fill_etc(state / "etc")
    rootfs.fill_var(state / "var")
    _name(state / "etc", spec.hostname or spec.name)
    top.mkdir(exist_ok=True)
    mount.tmpfs(top, flags=0)
    rootfs.make_skeleton(top)
    mount.bind("/usr", top / "usr", readonly=True)
    for name in rootfs.make_usr_links(top):
        mount.bind(f"/{name}", top / name, readonly=True)
    for name in ("etc", "var", "opt", "root"):
        (top / name).mkdir(exist_ok=True)
        mount.bind(state / name, top / name)
    mount.tmpfs(top / "run", flags=libc.MS_NOSUID | libc.MS_NODEV)
    mount.tmpfs(top / "tmp", mode=0o1777, flags=libc.MS_NOSUID | libc.MS_NODEV)
    for path in rootfs.host_paths():  # a checkout may lie below any of these
        target = top / path.relative_to("/")
        target.mkdir(parents=True, exist_ok=True)
        mount.bind(path, target, readonly=True)
    mount.proc(top / "proc")
    mount.sysfs(top / "sys")
    mount.dev(top / "dev")
    _fill_run(spec, top)
    mount.pivot(top)


def _fill_run(spec: NodeSpec, top: Path) -> None:
    (top / "run/lock").mkdir()
    inside = top / DIRECTORY.relative_to("/")
    rootfs.make_directory(inside, 0o711)
    (inside / "shim.sock").touch()
    mount.bind(spec.socket, inside / "shim.sock")
    for name, path in spec.use.items():
        target = inside / "use" / name
        target.parent.mkdir(exist_ok=True)
        target.touch()
        mount.bind(path, target, readonly=True)
    if spec.image_store is not None:
        spec.image_store.mkdir(parents=True, exist_ok=True)
        target = top / IMAGE_STORE.relative_to("/")
        target.mkdir(parents=True, exist_ok=True)
        mount.bind(spec.image_store, target, readonly=True)


def _name(etc: Path, hostname: str) -> None:
    if not (etc / "hostname").exists():
        (etc / "hostname").write_text(f"{hostname}\n")
    if not (etc / "resolv.conf").exists():
        (etc / "resolv.conf").write_text("")


