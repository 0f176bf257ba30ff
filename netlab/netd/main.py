"""The program netd: keep this node's network as the cluster's Node objects ask, for as long as it runs."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from netlab import daemon, klog
from netlab.api import meta
from netlab.client import config
from netlab.client.client import Client, user_agent
from netlab.client.informer import Informer
from netlab.errors import NetlabError, UsageError
from netlab.flags import Flag, Flags, parse, usage
from netlab.netd import plan
from netlab.netd.configuration import Configuration
from netlab.netd.node import Node
from netlab.netd.recorder import Recorder

log = logging.getLogger(__name__)

FLAGS: Final = (
    Flag("kubeconfig", "string", "", "kubeconfig file; without one, the Pod's service account"),
    Flag("node-name", "string", "", "this node's name"),
    Flag("backend", "string", "host-gw", "how Pods of other nodes are reached: host-gw or vxlan"),
    Flag("cluster-cidr", "list", [], "range of all Pods; with a comma, one of each family"),
    Flag("cni-conf-dir", "string", "/etc/cni/net.d", "where the CNI configuration goes"),
    Flag("cni-bin-dir", "string", "/opt/cni/bin", "where the CNI plugins go"),
    Flag("cni-state-dir", "string", "/var/lib/cni", "where it is kept what was written"),
    Flag("history-dir", "string", "", "where it is kept which rules and routes the kernel held; without, nowhere"),
    Flag("masquerade", "bool", True, "give Pods the node's address for what they send out of the cluster"),
    Flag("sync-period", "duration", 30.0, "how often rules are looked at, changes or not"),
    Flag("v", "int", 0, "log verbosity"),
    Flag("help", "bool", False, "this text"),
)
_LOOK_SECONDS: Final = 5.0  # settings and routes cost a fraction of a millisecond to look at


def main(argv: list[str]) -> int:
    """Run netd. Returns the exit code."""
    try:
        flags = parse("netd", argv, FLAGS)
        if flags["help"]:
            sys.stdout.write(usage("netd", "netd: CNI configuration, routes to other nodes and masquerade of one node.",
                                   FLAGS))
            return 0
        _check(flags)
    except UsageError as error:
        sys.stderr.write(f"netd: {error}\n")
        return 1
    klog.setup(verbosity=flags["v"])
    return daemon.run(lambda stop: run(flags, stop))


async def run(flags: Flags, stop: asyncio.Event) -> None:
    """Keep the node right until `stop` is set; everything stays in place then, for the next one to take over."""
    settings = config.load(flags["kubeconfig"]) if flags["kubeconfig"] else config.in_cluster()
    async with Client(settings, user_agent("netd")) as client:
        nodes = Informer(client, "nodes", transform=_slim)
        netd = Netd(flags, nodes, client)
        nodes.add_handler(netd.node_changed)
        works = [stop.wait(), nodes.run(stop), netd.run()]
        if flags["history-dir"]:
            works.append(Recorder(Path(flags["history-dir"]), lambda: _revision(client)).run())
        await daemon.first(*works)


async def _revision(client: Client) -> int:
    """Return the revision that the store is at."""
    async with asyncio.timeout(2):
        _, revision = await client.list("nodes")
    return int(revision)


class Netd:
    """The loop: look at all, repair what differs. `dirty` makes it look now."""

    def __init__(self, flags: Flags, nodes: Informer, client: Client) -> None:
        self.dirty = asyncio.Event()
        self._name, self._nodes, self._client = flags["node-name"], nodes, client
        self._masquerade, self._period = flags["masquerade"], flags["sync-period"]
        self._node = Node(flags["cluster-cidr"], flags["backend"])
        self._files = Configuration(Path(flags["cni-conf-dir"]), Path(flags["cni-bin-dir"]),
                                    Path(flags["cni-state-dir"]))
        self._rules_due = 0.0
        self._said: dict[str, str] = {}
        self._reported = False

    def node_changed(self, _key: str, old: meta.Object | None, new: meta.Object | None) -> None:
        """Look again when a Node's addresses or ranges have changed; most of its updates are heartbeats."""
        if old is None or new is None or plan.view(old) != plan.view(new):
            self.dirty.set()

    async def run(self) -> None:
        """Reconcile on every change and every few seconds; never ends by itself."""
        await self._try("plugins", self._files.install_plugins)
        await self._nodes.synced.wait()
        while True:
            self.dirty.clear()
            await self._reconcile(time.monotonic())
            try:
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self.dirty.wait()
            except TimeoutError:
                pass

    async def _reconcile(self, now: float) -> None:
        done = await self._try("settings", self._node.apply_settings)
        views = [plan.view(node) for node in self._nodes.all()]
        me = next((node for node in views if node.name == self._name), None)
        if me is not None and me.pod_cidrs and me.ips:
            self._say("node", f"node {me.name} has the Pod ranges {', '.join(me.pod_cidrs)}")
            mine = me
            # the configuration first: the node's Pods wait for it
            done &= await self._try("configuration", lambda: self._write(mine))
            done &= await self._try("routes", lambda: self._node.apply_routes(mine, views))
        else:
            lacks = "an object" if me is None else "a Pod range" if not me.pod_cidrs else "an address"
            self._say("node", f"waiting for node {self._name} to have {lacks}")
            done = False
        if self._masquerade and now >= self._rules_due:
            kept = await self._try("rules", self._node.apply_rules)
            self._rules_due = now + (self._period if kept else _LOOK_SECONDS)
            done &= kept
        if done:
            await self._report()

    def _write(self, me: plan.NodeView) -> None:
        wanted = plan.conflist(me.pod_cidrs, mtu=self._node.mtu(me), portmap=self._files.has_plugin("portmap"),
                               dynamic_from=me.dynamic_from)
        self._files.write(wanted)

    async def _report(self) -> None:
        """Take the condition NetworkUnavailable off the Node, as network agents do, once."""
        if self._reported:
            return
        now = meta.timestamp(time.time())
        condition = {"type": "NetworkUnavailable", "status": "False", "reason": "NetdIsUp",
                     "message": "netd is running on this node", "lastTransitionTime": now, "lastHeartbeatTime": now}
        try:
            await self._client.patch("nodes", self._name, {"status": {"conditions": [condition]}}, type="strategic",
                                     subresource="status")
            self._reported = True
            self._say("report", "")
        except NetlabError as error:
            self._say("report", f"cannot report that the network is up: {error}")

    async def _try(self, what: str, step: Callable[[], None]) -> bool:
        """Do one step beside the loop; what fails is said once and tried again at the next look."""
        try:
            await asyncio.to_thread(step)
        except NetlabError as error:
            self._say(what, f"{what}: {error}" + (f" ({error.hint})" if error.hint else ""))
            return False
        if self._said.get(what):
            self._say(what, f"{what}: all right again" if self._said[what].startswith(f"{what}: ") else "")
        return True

    def _say(self, what: str, words: str) -> None:
        if words and self._said.get(what) != words:
            log.info("%s", words)
        self._said[what] = words


def _check(flags: Flags) -> None:
    if not flags["node-name"]:
        raise UsageError("--node-name is needed: which node is this?")
    if flags["backend"] not in ("host-gw", "vxlan"):
        raise UsageError(f'--backend "{flags["backend"]}": want host-gw or vxlan')
    if not flags["cluster-cidr"]:
        raise UsageError("--cluster-cidr is needed: the range of all Pods, such as 10.244.0.0/16")
    try:
        plan.check_cidrs(flags["cluster-cidr"])
    except ValueError as error:
        raise UsageError(f"--cluster-cidr: {error}") from None


def _slim(node: meta.Object) -> meta.Object:
    """Keep of a Node what the plan needs: heartbeats then leave nothing behind."""
    metadata = {key: value for key, value in node["metadata"].items() if key in ("name", "uid", "resourceVersion")}
    start = meta.annotations(node).get(plan.DYNAMIC_FROM)
    if start:
        metadata["annotations"] = {plan.DYNAMIC_FROM: start}
    status = {"addresses": node.get("status", {}).get("addresses")}
    return {"metadata": metadata, "spec": node.get("spec", {}), "status": status}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
