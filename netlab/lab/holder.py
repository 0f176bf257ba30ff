"""The holder: pid 1 of the lab's PID namespace, owner of the fabric's and the nodes' network namespaces.

It reaps what nobody else does, has the template fork a shim for each node, and starts a node again whose shim died.
Nothing of the lab outlives it: the kernel kills its PID namespace and frees its network namespaces.

Requests, on the leash (the launcher's socketpair) and on holder.sock alike: network, nodes, places, status, commit.
Until `commit`, the end of the leash is the end of the lab: a launcher that dies leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from netlab import klog
from netlab.errors import NetlabError, TemporaryError, UsageError
from netlab.kernel.process import open_pidfd, set_title
from netlab.lab import control, network, pid1, plan

log = logging.getLogger(__name__)

_RESTART_DELAY = 1.0
_MAX_RESTART_DELAY = 30.0
_PAGE = 200  # namespaces in one answer: the kernel passes at most 253 descriptors


@dataclass
class Shim:
    """A node's shim; `starts` counts its boots, `trouble` says why the last attempt failed."""

    spec: dict[str, Any]
    pid: int = 0
    pidfd: int = -1
    starts: int = 0
    started: float = 0.0
    delay: float = _RESTART_DELAY
    trouble: str = ""


@dataclass
class Holder:
    """The state of one lab's holder; `template` is the socket to the warm interpreter."""

    name: str
    leash: socket.socket
    template: socket.socket
    relay: socket.socket | None = None
    net: network.Network | None = None
    shims: dict[str, Shim] = field(default_factory=dict)
    committed: bool = False
    ending: asyncio.Event = field(default_factory=asyncio.Event)
    forking: asyncio.Lock = field(default_factory=asyncio.Lock)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def run(self) -> None:
        """Serve until told to end, or until the launcher dies before it has committed."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGCHLD, self._reap)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.ending.set)
        self._reap()
        self._serve(self.leash)
        await self.ending.wait()
        log.info("lab %s ends", self.name)

    # --- requests ---

    def _serve(self, sock: socket.socket) -> None:
        self._keep(self._session(sock))

    async def _session(self, sock: socket.socket) -> None:
        try:
            while True:
                await _readable(sock)
                got = control.receive(sock)
                if got is None:
                    break
                await self._answer(sock, *got)
        except (OSError, ValueError) as error:
            log.warning("a control connection broke: %s", error)
        finally:
            sock.close()
            if sock is self.leash and not self.committed:
                log.error("the launcher ended before the lab was ready")
                self.ending.set()

    async def _answer(self, sock: socket.socket, message: control.Message, fds: list[int]) -> None:
        out: list[int] = []
        try:
            match message.get("op"):
                case "network":
                    answer = self._network(message, *fds)
                case "nodes":
                    answer = await self._nodes(message["specs"])
                case "places":
                    answer, out = self._places(str(message.get("only", "")), int(message.get("from", 0)))
                case "status":
                    answer = self._status()
                case "commit":
                    self.committed, answer = True, {}
                case other:
                    raise UsageError(f"the holder knows no {other}")
        except NetlabError as error:
            answer = {"error": str(error), "hint": error.hint}
        except Exception as error:
            log.exception("the request %s failed", message.get("op"))
            answer = {"error": f"{type(error).__name__}: {error}"}
        finally:
            for fd in fds:
                with contextlib.suppress(OSError):
                    os.close(fd)
        try:
            control.send(sock, answer, out)
        finally:
            for fd in out:
                os.close(fd)

    def _network(self, message: control.Message, gate_fd: int, listener_fd: int, *relay_fd: int) -> control.Message:
        """Make the lab's network, listen for commands, and tell the gate the way in, the relay the way out."""
        net = self.net = network.make(plan.from_json(message["lab"]))
        self._keep(self._accept(control.listen(Path(message["socket"]))))
        self._keep(self._hold_gate(net, socket.socket(fileno=os.dup(gate_fd)), os.dup(listener_fd), message["port"]))
        if relay_fd:
            self.relay = socket.socket(fileno=os.dup(relay_fd[0]))
            self._keep(self._hold_relay(self.relay))
        return {"fabric": net.fabric, "outside": net.outside, "nodes": net.nodes}

    async def _nodes(self, specs: list[dict[str, Any]]) -> control.Message:
        for spec in specs:
            shim = self.shims[spec["name"]] = Shim(spec)
            await self._start(shim)
        return {"pids": {name: shim.pid for name, shim in self.shims.items()}}

    def _places(self, only: str, start: int) -> tuple[control.Message, list[int]]:
        """Return a page of the lab's own namespaces; the user namespace comes first, `more` tells of a next page."""
        named: list[tuple[str, int]] = []
        if self.net is not None:
            named = [("fabric", self.net.fabric), ("outside", self.net.outside),
                     *((f"node/{name}", fd) for name, fd in self.net.nodes.items())]
        page = [(place, fd) for place, fd in named if only in ("", place)][start:start + _PAGE]
        with _user_namespace() as user:
            fds = [os.dup(fd) for fd in (user, *(fd for _, fd in page))]
        return {"places": [place for place, _ in page], "more": start + _PAGE < len(named)}, fds

    def _status(self) -> control.Message:
        return {"nodes": {name: {"pid": shim.pid, "up": shim.pidfd >= 0, "starts": shim.starts,
                                 "trouble": shim.trouble} for name, shim in self.shims.items()}}

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        listener.setblocking(False)
        while True:
            sock, _ = await loop.sock_accept(listener)
            sock.setblocking(True)  # messages are whole packets: once readable, receive() returns at once
            self._serve(sock)

    async def _hold_gate(self, net: network.Network, gate: socket.socket, listener: int, port: int) -> None:
        """Keep a gate running: each ends when our end of its socket closes. A substitute for one that died is ours.

        The listening socket belongs to the host's network whoever holds it, so the port stays the same.
        """
        while True:
            with gate, contextlib.suppress(OSError):
                with _user_namespace() as user:
                    control.send(gate, {"targets": [[node.ip, port] for node in net.lab.control_planes]},
                                 [net.fabric, user])
                await _readable(gate)
            log.warning("the gate is gone, starting another")
            await asyncio.sleep(_RESTART_DELAY)
            gate, theirs = control.pair()
            with theirs:
                pid1.spawn(["gate", self.name], listener, theirs.fileno())

    async def _hold_relay(self, relay: socket.socket) -> None:
        """Give a relay its listening sockets, whenever one asks: each ends when our end of its socket closes."""
        assert self.net is not None
        while True:
            await _readable(relay)
            if control.receive(relay) is None:
                log.error("the relay to the etcd is gone")
                return
            for place in ("fabric", *(node.name for node in self.net.lab.control_planes)):
                self._tell_relay(place)

    def _tell_relay(self, place: str) -> None:
        """Have the relay listen in a place, and no more where it listened there before."""
        if self.relay is None or self.net is None:
            return
        try:
            targets, sockets = network.ways(self.net, place)
            control.send(self.relay, {"place": place, "targets": targets}, [sock.fileno() for sock in sockets])
            for sock in sockets:
                sock.close()
        except (NetlabError, OSError) as error:
            log.error("the way to the etcd from %s is closed: %s", place, error)

    # --- nodes ---

    async def _start(self, shim: Shim) -> None:
        assert self.net is not None
        name = shim.spec["name"]
        async with self.forking:
            answer = await self._fork(shim.spec, self.net.nodes[name])
        shim.pid, shim.pidfd = answer["pid"], open_pidfd(answer["pid"])
        shim.starts += 1
        shim.started = time.monotonic()
        shim.trouble = ""
        asyncio.get_running_loop().add_reader(shim.pidfd, self._died, shim)

    async def _fork(self, spec: dict[str, Any], netns_fd: int) -> control.Message:
        request: control.Message = {"op": "start", "spec": spec}
        try:
            return await _ask(self.template, request, [netns_fd])
        except (OSError, TemporaryError) as error:
            log.warning("the template is gone, starting another: %s", error)
            self.template.close()
            self.template = pid1.spawn_template()
            return await _ask(self.template, request, [netns_fd])

    def _died(self, shim: Shim) -> None:
        asyncio.get_running_loop().remove_reader(shim.pidfd)
        os.close(shim.pidfd)
        shim.pid, shim.pidfd = 0, -1
        log.warning("node %s crashed: its shim is gone", shim.spec["name"])
        self._keep(self._restart(shim))

    async def _restart(self, shim: Shim) -> None:
        name = shim.spec["name"]
        if time.monotonic() - shim.started > _MAX_RESTART_DELAY:
            shim.delay = _RESTART_DELAY
        while not self.ending.is_set():
            await asyncio.sleep(shim.delay)
            shim.delay = min(2 * shim.delay, _MAX_RESTART_DELAY)
            try:
                assert self.net is not None
                network.renew(self.net, name)
                self._tell_relay(name)
                await self._start(shim)
            except NetlabError as error:
                shim.trouble = str(error)
                log.warning("node %s does not boot: %s", name, error)
                continue
            log.info("node %s booted again", name)
            return

    # --- being pid 1 ---

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass

    def _keep(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)


async def _ask(sock: socket.socket, message: control.Message, fds: list[int]) -> control.Message:
    control.send(sock, message, fds)
    await _readable(sock)
    return control.answer(sock)[0]


@contextlib.contextmanager
def _user_namespace() -> Iterator[int]:
    fd = os.open("/proc/self/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


async def _readable(sock: socket.socket) -> None:
    """Wait until a message, or the end, is there."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(sock.fileno(), lambda: None if ready.done() else ready.set_result(None))
    try:
        await ready
    finally:
        loop.remove_reader(sock.fileno())


def main(argv: list[str], template: socket.socket) -> int:
    """Hold a lab: argv is its name and the descriptor of the leash; `template` is the socket to its template."""
    set_title(["netlab-holder", argv[0]])
    klog.setup()
    leash = socket.socket(fileno=int(argv[1]))
    leash.set_inheritable(False)
    asyncio.run(Holder(argv[0], leash, template).run())
    return 0
