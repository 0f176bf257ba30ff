"""Make and end a Pod's sandbox: namespaces by the runtime, the network by plugins, /etc/hosts by us."""

from __future__ import annotations

import contextlib
from pathlib import Path

from netlab.api import meta
from netlab.api.meta import Object
from netlab.errors import NetlabError
from netlab.kubelet import netfiles, spec
from netlab.kubelet.config import Config
from netlab.kubelet.container_config import labels
from netlab.kubelet.containers import log_dir
from netlab.kubelet.firm import firm
from netlab.kubelet.network import Network
from netlab.kubelet.observe import GRACE, Observer
from netlab.kubelet.records import PodRecord, Sandbox
from netlab.runtime import cri
from netlab.runtime.shimclient import ShimClient


class Sandboxes:
    """Makes sandboxes and ends them."""

    def __init__(self, config: Config, shim: ShimClient, observer: Observer, network: Network) -> None:
        self._config, self._shim, self._observer, self.network = config, shim, observer, network
        self._resolver = (0, netfiles.Resolver())

    async def make(self, pod: Object, attempt: int) -> None:
        """Make a sandbox with its network; the observer knows it afterwards.

        Raises:
            NetlabError: nothing is left of the attempt.
        """
        resolver = netfiles.resolver(pod, self._config.cluster_dns, self._config.cluster_domain, self._node_resolver())
        body, security = spec.spec(pod), spec.spec(pod).get("securityContext") or {}
        sandbox = await firm(self._shim.run_pod_sandbox(cri.SandboxConfig(
            name=meta.name(pod), uid=meta.uid(pod), namespace=meta.namespace(pod), attempt=attempt,
            hostname=self._config.node_name if spec.host_network(pod)
            else netfiles.hostname(pod, self._config.cluster_domain)[0],
            log_directory=str(self.logs(pod)), host_network=spec.host_network(pod),
            dns=cri.Dns(servers=resolver.servers, searches=resolver.searches, options=resolver.options),
            host_pid=bool(body.get("hostPID")), host_ipc=bool(body.get("hostIPC")),
            share_process_namespace=bool(body.get("shareProcessNamespace")),
            sysctls={row["name"]: row["value"] for row in security.get("sysctls") or []},
            labels={**meta.labels(pod), **labels(pod)},
            annotations={**meta.annotations(pod), GRACE: str(spec.grace_period(pod))})))
        if sandbox.host_network:
            self._observer.put_sandbox(sandbox)
            return
        try:
            ips = await firm(self.network.attach(pod, sandbox, resolver))
        except BaseException:
            with contextlib.suppress(NetlabError):
                await firm(self._shim.remove_pod_sandbox(sandbox.id))
            raise
        self._observer.set_ips(sandbox.uid, sandbox.id, ips)
        self._observer.put_sandbox(sandbox)

    async def end(self, record: PodRecord) -> None:
        """Detach and stop all sandboxes of a Pod; their containers die with them.

        Raises:
            NetlabError: a plugin or the runtime failed; calling again goes on from there.
        """
        for sandbox in record.sandboxes:
            await self._end(sandbox)

    async def remove(self, record: PodRecord, *, keep: int = 0) -> None:
        """Forget ended sandboxes with their containers, but for the newest `keep`."""
        for sandbox in record.sandboxes[keep:]:
            await self._end(sandbox)
            await self._shim.remove_pod_sandbox(sandbox.id)
            await self._observer.look_at_sandbox(sandbox.id)

    def hosts_file(self, pod: Object, ips: tuple[str, ...]) -> Path | None:
        """Write the Pod's /etc/hosts and return its path on the node."""
        place = self._config.root / "pods" / meta.uid(pod) / "etc-hosts"
        try:
            node_hosts = Path("/etc/hosts").read_text() if spec.host_network(pod) else ""
        except OSError:
            node_hosts = ""
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(netfiles.hosts(pod, ips, self._config.cluster_domain, node_hosts))
        place.chmod(0o644)
        return place

    def logs(self, pod: Object) -> Path:
        """Return the directory of the Pod's logs."""
        return log_dir(self._config.logs, meta.namespace(pod), meta.name(pod), meta.uid(pod))

    async def _end(self, sandbox: Sandbox) -> None:
        known = self._observer.sandbox_info(sandbox.id)
        if known is None:
            return
        if sandbox.ready or sandbox.ips:
            await self.network.detach(known)
        if sandbox.ready:
            await self._shim.stop_pod_sandbox(sandbox.id)
            await self._observer.look_at_sandbox(sandbox.id)
        if sandbox.ips:
            self._observer.set_ips(known.uid, sandbox.id, ())

    def _node_resolver(self) -> netfiles.Resolver:
        """Return the node's own resolv.conf; read again when it has changed."""
        path = Path(self._config.resolv_conf)
        try:
            stamp = path.stat().st_mtime_ns
            if stamp != self._resolver[0]:
                self._resolver = (stamp, netfiles.parse_resolv_conf(path.read_text()))
        except OSError:
            return netfiles.Resolver()
        return self._resolver[1]
