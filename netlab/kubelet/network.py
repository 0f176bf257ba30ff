"""A sandbox's network, by whatever network plugins this node is configured with.

https://www.cni.dev/docs/spec/ and k8s: the container runtimes' use of it (CNI_ARGS, capabilities).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from netlab.api import meta, quantity
from netlab.api.meta import Object
from netlab.cni import invoke
from netlab.errors import NetlabError
from netlab.kubelet import spec
from netlab.kubelet.netfiles import Resolver
from netlab.runtime import cri

log = logging.getLogger(__name__)

NOT_READY = ("container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady "
             "message:Network plugin returns error: cni plugin not initialized")
INTERFACE = "eth0"
IPS = "netlab.io/ips"
"""The annotation of a Pod that asks for addresses, with commas between: the capability `ips` of CNI's conventions."""
_AT_ONCE = 1
"""Networks under work at once: plugins take the same locks (addresses, netlink) anyway, more of them only wait."""


class Network:
    """Attaches sandboxes and detaches them."""

    def __init__(self, conf_dir: Path, bin_dirs: tuple[Path, ...], cache_dir: Path,
                 sandboxes: Callable[[], Awaitable[Sequence[cri.Sandbox]]] | None = None) -> None:
        """Make it. `sandboxes` returns those that the runtime has: what all others hold is freed at the first ADD."""
        self.conf_dir = conf_dir
        self._sandboxes = sandboxes
        self._bin_dirs, self._cache_dir = bin_dirs, cache_dir
        self._stamp: tuple[tuple[str, int, int], ...] = ()
        self._conflist: invoke.Conflist | None = None
        self._trouble = ""
        self._gate = asyncio.Semaphore(_AT_ONCE)

    def ready(self) -> str:
        """Return "" when there is a network configuration, else why there is none, in upstream's words.

        The directory is read again only when something in it has changed.
        """
        stamp = self._look()
        if stamp != self._stamp or (self._conflist is None and not self._trouble):
            self._stamp, self._conflist, self._trouble = stamp, None, NOT_READY
            if stamp:
                try:
                    self._conflist, self._trouble = invoke.load_conflist(self.conf_dir), ""
                except NetlabError as error:
                    log.warning("network configuration: %s", error)
                    self._trouble = f"{NOT_READY}: {error}"
        return self._trouble

    async def attach(self, pod: Object, sandbox: cri.Sandbox, resolver: Resolver) -> tuple[str, ...]:
        """Run ADD and return the sandbox's addresses, without prefix lengths.

        Raises:
            NetlabError: a plugin failed; what had been made is taken away again.
        """
        trouble = self.ready()
        if self._conflist is None:
            raise NetlabError(trouble)
        async with self._gate:
            await self._collect(self._conflist)
            result = await invoke.add(self._conflist, container_id=sandbox.id, netns=sandbox.netns_path,
                                      ifname=INTERFACE, args=_args(sandbox),
                                      capability_args=_capabilities(pod, resolver),
                                      plugin_dirs=[str(p) for p in self._bin_dirs], cache_dir=self._cache_dir)
        ips = tuple(dict.fromkeys(ip.address.partition("/")[0] for ip in result.ips))
        if not ips:
            await self.detach(sandbox)
            raise NetlabError("the network plugins gave the Pod no address")
        return ips

    async def detach(self, sandbox: cri.Sandbox) -> None:
        """Run DEL, with the configuration that ADD had. Idempotent; nothing to do where there never was one."""
        if sandbox.host_network:
            return
        self.ready()
        # the path of a dead sandbox may have come to mean another one's namespace
        netns = sandbox.netns_path if sandbox.state == "ready" else ""
        async with self._gate:
            await invoke.delete(self._conflist, container_id=sandbox.id, netns=netns, ifname=INTERFACE,
                                args=_args(sandbox), capability_args={},
                                plugin_dirs=[str(p) for p in self._bin_dirs], cache_dir=self._cache_dir)

    async def _collect(self, conflist: invoke.Conflist) -> None:
        """Free what sandboxes that are gone still hold: after a crash of the node nobody calls DEL for them."""
        if self._sandboxes is None:
            return
        listed, self._sandboxes = self._sandboxes, None
        try:
            await invoke.gc(conflist, [(sandbox.id, INTERFACE) for sandbox in await listed()],
                            plugin_dirs=[str(p) for p in self._bin_dirs], cache_dir=self._cache_dir)
        except NetlabError as error:
            log.warning("the network of sandboxes that are gone was not all freed: %s", error)

    def _look(self) -> tuple[tuple[str, int, int], ...]:
        try:
            found = sorted(p for p in self.conf_dir.iterdir() if p.suffix in (".conf", ".conflist", ".json"))
            return tuple((p.name, p.stat().st_mtime_ns, p.stat().st_size) for p in found)
        except OSError:
            return ()


def _args(sandbox: cri.Sandbox) -> Mapping[str, str]:
    return {"IgnoreUnknown": "1", "K8S_POD_NAMESPACE": sandbox.namespace, "K8S_POD_NAME": sandbox.name,
            "K8S_POD_INFRA_CONTAINER_ID": sandbox.id, "K8S_POD_UID": sandbox.uid}


def _capabilities(pod: Object, resolver: Resolver) -> dict[str, Any]:
    """Return the runtime configuration that plugins may ask for by their capabilities (CNI CONVENTIONS.md)."""
    ports = [{"hostPort": port["hostPort"], "containerPort": port["containerPort"],
              "protocol": str(port.get("protocol") or "TCP").lower(), "hostIP": port.get("hostIP") or ""}
             for wanted in (*spec.init_containers(pod), *spec.containers(pod))
             for port in wanted.get("ports") or [] if port.get("hostPort")]
    made: dict[str, Any] = {
        "dns": {"servers": list(resolver.servers), "searches": list(resolver.searches),
                "options": list(resolver.options)}}
    wanted = [text.strip() for text in meta.annotations(pod).get(IPS, "").split(",") if text.strip()]
    if wanted:
        made["ips"] = wanted
    if ports:
        made["portMappings"] = ports
    bandwidth = {key: _bits(text) for key, text in (
        ("ingressRate", meta.annotations(pod).get("kubernetes.io/ingress-bandwidth")),
        ("egressRate", meta.annotations(pod).get("kubernetes.io/egress-bandwidth"))) if text}
    if bandwidth:
        made["bandwidth"] = bandwidth | {key.replace("Rate", "Burst"): (1 << 31) - 1 for key in bandwidth}
    return made


def _bits(text: str) -> int:
    return quantity.parse(text).value()
