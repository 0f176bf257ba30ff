"""The program kube-scheduler."""

from __future__ import annotations

import asyncio
import random
import sys
import time
from contextlib import AsyncExitStack
from dataclasses import replace

from netlab import daemon, flags, klog
from netlab.client import guard, leader
from netlab.client.client import Client
from netlab.client.config import Config, in_cluster
from netlab.client.config import load as load_kubeconfig
from netlab.client.health import serving
from netlab.client.leader import LeaderElector, new_identity
from netlab.errors import NetlabError
from netlab.flags import Flag, Flags
from netlab.scheduler import config
from netlab.scheduler.config import Settings
from netlab.scheduler.queue import SchedulingQueue
from netlab.scheduler.scheduler import Scheduler

PROGRAM = "kube-scheduler"

FLAGS: tuple[Flag, ...] = (
    Flag("kubeconfig", help="Path of the kubeconfig; without it the Pod's service account is used."),
    Flag("master", help="Address of the API server, in place of the kubeconfig's."),
    Flag("config", help="Path of a KubeSchedulerConfiguration."),
    *leader.flags(PROGRAM),
    Flag("bind-address", default="0.0.0.0", help="Address of the health server."),
    Flag("secure-port", "int", 10259, "Port of the health server; 0 for none."),
    Flag("tls-cert-file", help="Certificate of the health server; without it a self-signed one is made."),
    Flag("tls-private-key-file", help="Key of that certificate."),
    *guard.FLAGS,
    Flag("v", "int", 0, "Verbosity of the log; 4 and more is debugging."),
    Flag("help", "bool", False, "Print this."),
    *(Flag(name, ignored=True) for name in (
        "feature-gates", "logging-format", "kube-api-qps", "kube-api-burst",
        "kube-api-content-type", "tls-min-version", "tls-cipher-suites",
        "cert-dir", "leader-elect-resource-lock", "pod-max-in-unschedulable-pods-duration", "vmodule",
        "write-config-to", "permit-address-sharing", "permit-port-sharing")),
    *(Flag(name, "bool", ignored=True) for name in ("profiling", "contention-profiling")))

_ELECTION = {"leaderElect": "leader-elect", "leaseDuration": "leader-elect-lease-duration",
             "renewDeadline": "leader-elect-renew-deadline", "retryPeriod": "leader-elect-retry-period",
             "resourceName": "leader-elect-resource-name", "resourceNamespace": "leader-elect-resource-namespace"}


def main(argv: list[str]) -> int:
    """Run the program; return its exit code."""
    try:
        given = flags.parse(PROGRAM, argv, FLAGS)
        if given["help"]:
            sys.stdout.write(flags.usage(PROGRAM, "Binds each Pod to the node that fits it best.", FLAGS))
            return 0
        settings = config.load(given["config"])
        for word, name in _ELECTION.items():
            if word in settings.leader_election and name not in given.given:
                given.values[name] = settings.leader_election[word]
        path = given["kubeconfig"] or settings.kubeconfig
        where = load_kubeconfig(path) if path else in_cluster()
        where = replace(where, server=given["master"].rstrip("/")) if given["master"] else where
    except NetlabError as error:
        sys.stderr.write(f"{PROGRAM}: {error}{f' ({error.hint})' if error.hint else ''}\n")
        return 1
    klog.setup(verbosity=given["v"])
    random.seed()
    return daemon.run(lambda stop: run(stop, given, settings, where))


async def run(stop: asyncio.Event, given: Flags, settings: Settings, where: Config) -> None:
    """Schedule until `stop` is set, under the lease unless --leader-elect=false."""
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(Client(where, PROGRAM))
        queue = SchedulingQueue(time.monotonic, first_backoff=settings.first_backoff,
                                longest_backoff=settings.longest_backoff)
        scheduler = Scheduler(client, settings.profiles, queue)
        elector = LeaderElector(client, given["leader-elect-resource-name"], given["leader-elect-resource-namespace"],
                                new_identity(), given["leader-elect-lease-duration"],
                                given["leader-elect-renew-deadline"], given["leader-elect-retry-period"],
                                alone=bool(given["secure-port"]))
        door = await guard.guarding(stack, given, client, PROGRAM)
        await stack.enter_async_context(serving(
            given["bind-address"], given["secure-port"], certificate=given["tls-cert-file"],
            key=given["tls-private-key-file"], metrics=lambda: _metrics(scheduler, elector), guard=door))
        if not await client.ready(stop):
            return
        await stack.enter_async_context(door.informed())
        gone = asyncio.Event()
        watching = asyncio.ensure_future(scheduler.watch(gone))
        try:
            await (elector.run(stop, scheduler.run) if given["leader-elect"] else scheduler.run(stop))
        finally:
            gone.set()
            await asyncio.gather(watching, return_exceptions=True)


def _metrics(scheduler: Scheduler, elector: LeaderElector) -> str:
    lines = ["# TYPE scheduler_pending_pods gauge"]
    lines += [f'scheduler_pending_pods{{queue="{name}"}} {count}' for name, count in scheduler.queue.counts().items()]
    lines.append("# TYPE scheduler_schedule_attempts_total counter")
    lines += [f'scheduler_schedule_attempts_total{{result="{result}",profile="{profile}"}} {count}'
              for (result, profile), count in scheduler.attempts.items()]
    lines += ["# TYPE scheduler_scheduling_algorithm_seconds_total counter",
              f"scheduler_scheduling_algorithm_seconds_total {scheduler.seconds:.6f}",
              "# TYPE leader_election_master_status gauge",
              f'leader_election_master_status{{name="{elector.name}"}} {int(elector.leader == elector.identity)}']
    return "\n".join(lines) + "\n"
