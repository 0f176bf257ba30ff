"""`netlab up`: from a scenario to a lab that runs, or to nothing at all.

The launcher probes what this machine allows, starts the holder and the gate, writes keys and files while the template
warms up, has the nodes started, follows the boot, publishes the lab (names in /run/netns, the user's kubeconfig) and
ends. Whatever stops it before that (an error, Ctrl-C, a signal, kill -9) takes the whole lab along.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import netlab
from netlab.errors import KernelError, NetlabError, NotFound, TemporaryError, UsageError
from netlab.lab import control, nodefiles, outer, plan, probe, spawn, state, swap, teardown
from netlab.lab.boot import Limits
from netlab.lab.plan import Lab
from netlab.lab.progress import Progress
from netlab.lab.scenario import Scenario
from netlab.lab.state import LabRecord, NodeRecord
from netlab.lab.swap import Swap


@dataclass(frozen=True)
class Options:
    """How to bring a lab up. `merge` puts its context into the user's kubeconfig; `keep` leaves a failed lab.

    `snapshot` is a file to begin the store with, "" for none.
    """

    name: str
    merge: bool = True
    keep: bool = False
    limits: Limits = field(default_factory=Limits)
    swaps: tuple[Swap, ...] = ()
    snapshot: str = ""


def up(scenario: Scenario, options: Options, progress: Progress) -> LabRecord:
    """Bring a lab up and return its record once all its Pods are ready.

    Raises:
        UsageError: a lab of that name runs.
        Unsupported: this machine lets neither root nor a user namespace do it; says why and the cure.
        NetlabError: it did not come up; nothing is left of it, unless `keep` was asked for.
    """
    rootless = probe.mode() == "rootless"
    asked = scenario.networking
    lab = plan.make(options.name, workers=scenario.nodes - 1, backend=scenario.backend, pod_cidrs=asked.pod_cidrs(),
                    service_cidrs=asked.service_cidrs(), node_cidrs=asked.node_cidrs(), wishes=scenario.wishes,
                    kube_proxy=asked.patch(), store=scenario.store, store_members=scenario.store_members,
                    external=scenario.external)
    options = _with_etcd(lab, options)
    state.check_name(options.name)
    outer.check_snapshot(lab, options.snapshot)
    lab, cluster = outer.prepare(lab, options.name, swaps=options.swaps, notes=progress.notes)
    with _signals_as_exceptions(), _no_signals() as allow:
        record = replace(_begin(scenario, options, rootless=rootless), external=lab.external, etcd_cluster=cluster)
        launch = _Launch(record, lab, options, progress)
        try:
            launch.start()
            allow()
            return launch.run(scenario)
        except BaseException as error:
            with _no_signals():  # a second Ctrl-C does not stop this
                progress.failed()
                if options.keep and isinstance(error, NetlabError) and launch.started:
                    launch.leave()
                    error.hint = f"the lab is left as it is: netlab status --name {record.name}"
                    raise
                said = launch.last_words()
                launch.abort()
            if said and isinstance(error, (TemporaryError, KernelError)):
                raise type(error)(f"{error}\n{said}", hint=error.hint) from None
            raise
        finally:
            launch.close()


def _with_etcd(lab: Lab, options: Options) -> Options:
    """Return the options with this machine's etcd as that component, where the lab is to keep its objects in it.

    Raises:
        NotFound: there is none.
    """
    if lab.store != "etcd" or any(one.component == "etcd" for one in options.swaps):
        return options
    path = shutil.which("etcd")
    if path is None:
        raise NotFound("etcd is not on PATH", hint="apt install etcd-server, --use etcd=PATH, or --store netlab-etcd")
    return replace(options, swaps=(*options.swaps, Swap("etcd", str(Path(path).resolve()), "binary")))


def _begin(scenario: Scenario, options: Options, *, rootless: bool) -> LabRecord:
    """Take the name: make the folders and the first record, under the lock."""
    state.check_name(options.name)
    with state.locked():
        teardown.sweep()
        old = state.load(options.name)
        if old is not None:
            if old.alive() or old.launcher.alive():
                words = "runs already" if old.ready else "is being started"
                raise UsageError(f'lab "{options.name}" {words}',
                                 hint=f"netlab status --name {options.name} shows it, netlab down --name "
                                      f"{options.name} ends it, --name OTHER starts another")
            teardown.destroy(old)
        record = LabRecord(options.name, netlab.__version__, scenario.name, rootless, time.time(),
                           launcher=state.process(os.getpid()), cgroup="" if rootless else f"netlab-{options.name}")
        state.make_private(state.dirs().state)
        for folder in (record.run_dir, record.state_dir):
            state.make_private(folder)
        (record.run_dir / "nodes").mkdir(exist_ok=True)
        (record.state_dir / "log").mkdir(exist_ok=True)
        state.save(record)
        return record


class _Launch:
    """One `up` under way; `record` says at every moment what would have to be removed."""

    def __init__(self, record: LabRecord, lab: Lab, options: Options, progress: Progress) -> None:
        self.record, self._lab, self._options, self._progress = record, lab, options, progress
        self._leash: socket.socket | None = None
        self.started = False

    def start(self) -> None:
        """Start the holder and the gate, and have the network made. Not to be interrupted half-way."""
        self._progress.step("Preparing the network and the keys")
        record = self.record
        log = record.state_dir / "log"
        self._leash, holder_end = control.pair()
        gate, gate_end = control.pair()
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        with contextlib.ExitStack() as held, holder_end, gate, gate_end, listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen(256)
            # each is recorded as soon as it is there, so that `down` finds it whatever becomes of us
            pid = spawn.holder(record.name, holder_end, log / "holder.log", rootless=record.rootless)
            self._save(holder=state.process(pid), port=listener.getsockname()[1])
            pid = spawn.gate(record.name, listener, gate_end, log / "gate.log")
            self._save(gate=state.process(pid))
            ends = [gate.fileno(), listener.fileno()]
            if self._lab.ways:
                relay, relay_end = control.pair()
                held.enter_context(relay)
                with relay_end:
                    self._save(relay=state.process(spawn.relay(record.name, relay_end, log / "relay.log")))
                ends.append(relay.fileno())
            control.send(self._leash, self._network_request(), ends)

    def run(self, scenario: Scenario) -> LabRecord:
        """Do the rest."""
        progress, leash = self._progress, self._leash
        assert leash is not None
        admin = self._write_files()
        self._publish_network(control.answer(leash)[0])
        progress.mark("network and files made")
        progress.step(f"Starting {len(self._lab.nodes)} node{'s' if len(self._lab.nodes) > 1 else ''}")
        control.send(leash, {"op": "nodes", "specs": [self._spec(node.name) for node in self._lab.nodes]})
        from netlab.lab import boot  # imported while the template imports as well: there is a core for each

        control.answer(leash)
        self.started = True
        progress.mark("nodes started")
        progress.notes += asyncio.run(self._boot(boot.run, scenario))
        if not os.path.isdir("/proc/sys/net/bridge"):
            progress.notes.append("br_netfilter is not loaded: a Pod does not reach a Service whose endpoint is on its "
                                  "own node; sudo modprobe br_netfilter")
        merged = self._merge(admin) if self._options.merge else ""
        self._save(ready=True, kubeconfig=merged)
        control.ask(leash, {"op": "commit"})  # last: until here the lab dies with us
        return self.record

    def leave(self) -> None:
        """Let a lab that did not come up live on."""
        with contextlib.suppress(NetlabError, OSError):
            assert self._leash is not None
            control.ask(self._leash, {"op": "commit"})
            self._save(ready=True)

    def abort(self) -> None:
        """Remove everything."""
        with state.locked():
            teardown.destroy(self.record)

    def last_words(self) -> str:
        """Return the last lines of the logs that may tell why a lab did not come up."""
        logs = [self.record.state_dir / "log" / "holder.log", self.record.state_dir / "log" / "gate.log"]
        if self.started:
            logs = [self.record.state_dir / "nodes" / node.name / "var/log/kubelet.log"
                    for node in self._lab.control_planes]
        return "\n".join(f"  {path.name}: {line}" for path in logs for line in _tail(path, 3))

    def close(self) -> None:
        """Let go of the leash."""
        if self._leash is not None:
            self._leash.close()

    def _network_request(self) -> control.Message:
        return {"op": "network", "lab": asdict(self._lab), "socket": str(self.record.run_dir / "holder.sock"),
                "port": plan.API_PORT}

    def _write_files(self) -> dict[str, Any]:
        from netlab.lab import kubeconfig

        record, swaps = self.record, self._options.swaps
        images = swap.load_images(swaps, state.make_private(record.images))
        self._lab = replace(self._lab, images=images)
        keys = nodefiles.make_keys(now=time.time())
        outer.adopt(self._lab, keys.ca.pair.certificate.decode(), swaps=swaps)
        for node in self._lab.nodes:
            folder = record.state_dir / "nodes" / node.name
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            nodefiles.write(folder, self._lab, node, keys)
            swap.install_plugins(swaps, folder / "opt/cni/bin")
            if node.control:
                self._progress.notes += outer.restore(self._lab, self._options.snapshot, folder,
                                                      keys.ca.pair.certificate.decode())
        admin = kubeconfig.admin(record.name, port=record.port, ca=keys.ca.pair.certificate, pair=keys.admin)
        state.write_private(record.admin_conf, kubeconfig.text(admin))
        nodes = tuple(NodeRecord(node.name, node.role, node.ips, str(record.run_dir / "nodes" / f"{node.name}.sock"))
                      for node in self._lab.nodes)
        numbers = self._lab.numbers
        self._save(nodes=nodes, fabric=",".join(one.underlay for one in numbers), dns=self._lab.dns_service,
                   outside=",".join(one.outside for one in numbers))
        return admin

    def _publish_network(self, answer: control.Message) -> None:
        if self.record.rootless:
            return  # an ordinary user can't write /run/netns
        descriptors = {"fabric": answer["fabric"], "outside": answer["outside"], **answer["nodes"]}
        self._save(links=tuple(f"{self.record.name}-{place}" for place in descriptors))
        self._save(links=teardown.link(self.record, descriptors))

    def _spec(self, name: str) -> dict[str, Any]:
        record, node = self.record, next(node for node in self._lab.nodes if node.name == name)
        images = state.make_private(record.images)
        return {"lab": record.name, "name": name, "hostname": name,
                "state_dir": str(record.state_dir / "nodes" / name),
                "socket": str(record.run_dir / "nodes" / f"{name}.sock"),
                "kubelet_argv": nodefiles.kubelet_argv(node), "env": nodefiles.environment(self._lab, node),
                "cgroup": f"{record.cgroup}/{name}" if record.cgroup else "", "image_store": str(images),
                "rootless": record.rootless, "use": swap.binaries(self._options.swaps)}

    async def _boot(self, run: Callable[..., Coroutine[Any, Any, list[str]]], scenario: Scenario) -> list[str]:
        from netlab.client import config
        from netlab.client.client import Client

        async with Client(config.load(str(self.record.admin_conf)), "netlab-up") as client:
            booting = asyncio.create_task(
                run(client, self._lab, scenario.objects, self._progress, self._options.limits,
                    since=self.record.created if self._lab.external or self._options.snapshot else 0.0))
            dying = asyncio.create_task(self._holder_death())
            try:
                await asyncio.wait({booting, dying}, return_when=asyncio.FIRST_COMPLETED)
                if not booting.done():
                    raise TemporaryError("the lab died while it was being started",
                                         hint="another command took it down, or its holder was killed")
                return booting.result()
            finally:
                for task in (booting, dying):
                    task.cancel()
                await asyncio.gather(booting, dying, return_exceptions=True)

    async def _holder_death(self) -> None:
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()
        assert self._leash is not None
        number = self._leash.fileno()
        loop.add_reader(number, _resolve, ended)
        try:
            await ended
        finally:
            loop.remove_reader(number)

    def _merge(self, admin: dict[str, Any]) -> str:
        from netlab.lab import kubeconfig

        owner = kubeconfig.calling_user()
        path = kubeconfig.user_file(owner)
        self._save(kubeconfig=str(path))
        kubeconfig.merge(path, admin, owner)
        return str(path)

    def _save(self, **changes: Any) -> None:
        self.record = replace(self.record, **changes)
        state.save(self.record)


def _tail(path: Path, count: int) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()[-count:]
    except OSError:
        return []


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


@contextlib.contextmanager
def _signals_as_exceptions() -> Iterator[None]:
    """Make SIGTERM and SIGHUP end the body as Ctrl-C does, so that what was begun is removed."""

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, interrupt) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


@contextlib.contextmanager
def _no_signals() -> Iterator[Callable[[], None]]:
    """Hold Ctrl-C and its kin back during the body, or until the body calls what it is given."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})

    def allow() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

    try:
        yield allow
    finally:
        allow()


def down(name: str) -> LabRecord | None:
    """End a lab and remove all of it; return its record, None when there is none of that name."""
    state.check_name(name)
    with state.locked():
        record = state.load(name)
        if record is None:
            return None
        teardown.destroy(record)
        teardown.sweep()
        return record
