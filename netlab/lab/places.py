"""PLACE on the command line: `node/worker1`, `pod/web-1`, `pod/NS/NAME`, `deploy/web`, `outside`, `fabric`.

A place is a network namespace, for nodes and Pods also a shim that can run commands there.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from netlab.api import meta
from netlab.api.meta import Object
from netlab.client import config
from netlab.errors import ApiError, KernelError, NetlabError, NotFound, UsageError
from netlab.kernel import libc
from netlab.lab import control, plan, state
from netlab.lab.state import LabRecord
from netlab.runtime.shimclient import ShimClient

if TYPE_CHECKING:
    from netlab.client.client import Client


_BARE: Final = re.compile(r"[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?")
_PLACES: Final = "a place is node/NAME, pod/NAME, pod/NAMESPACE/NAME, deploy/NAME, outside or fabric"


@dataclass(frozen=True)
class Place:
    """A place found: its full name, and for nodes and Pods the node whose shim runs it ("" for the others)."""

    name: str
    node: str = ""

    @property
    def target(self) -> str:
        """Return what the node's shim calls it."""
        return "node" if self.name.startswith("node/") else self.name


@dataclass(frozen=True)
class Namespace:
    """The network namespace of a place. `fd` belongs to whoever asked for it."""

    place: str
    fd: int


class Places:
    """The places of one lab."""

    def __init__(self, lab: LabRecord) -> None:
        self._lab = lab

    async def resolve(self, text: str, pods: Sequence[Object] = ()) -> Place:
        """Return the place that `text` means; Pods that are at hand already are not asked for again.

        A bare name is a Pod of namespace default, as in `kubectl exec NAME`, or a node.

        Raises:
            UsageError: it is no place, or two.
            NotFound: there is no such node, Pod or Deployment, or the Pod runs nowhere yet.
        """
        kind, _, rest = text.partition("/")
        if text in ("outside", "fabric"):
            return Place(text)
        if kind in ("node", "nodes", "no") and rest:
            if rest not in {node.name for node in self._lab.nodes}:
                raise NotFound(f'lab "{self._lab.name}" has no node "{rest}"',
                               hint=f"there are: {', '.join(node.name for node in self._lab.nodes)}")
            return Place(f"node/{rest}", rest)
        if kind in ("pod", "pods", "po", "deploy", "deployment", "deployments") and rest and rest.count("/") <= 1:
            space, slash, name = rest.partition("/")
            namespace, name = (space, name) if slash else ("default", space)
            known = {meta.key(each): each for each in pods} if kind.startswith("po") else {}
            pod = known.get(f"{namespace}/{name}")
            if pod is None:
                async with self.client() as client:
                    pod = await (_pod(client, namespace, name) if kind.startswith("po") else
                                 _pod_of_deployment(client, namespace, name))
            if not pod["spec"].get("nodeName"):
                raise NotFound(f"pod/{meta.key(pod)} is on no node yet")
            return Place(f"pod/{meta.key(pod)}", pod["spec"]["nodeName"])
        if _BARE.fullmatch(text):
            return await self._bare(text)
        raise UsageError(f'"{text}" is no place', hint=_PLACES)

    async def _bare(self, name: str) -> Place:
        async with self.client() as client:
            pods, _ = await client.list("pods", "")
            services, _ = await client.list("services", "")
            deployments, _ = await client.list("deployments.apps", "")
        mine = [f"pod/{meta.name(pod)}" for pod in pods if meta.key(pod) == f"default/{name}"]
        mine += [f"node/{node.name}" for node in self._lab.nodes if node.name == name]
        if len(mine) == 1:
            return await self.resolve(mine[0], pods)
        if mine:
            raise UsageError(f'"{name}" is two places', hint=f"write {' or '.join(mine)}")
        near = [f"deploy/{meta.key(each).removeprefix('default/')}" for each in deployments if name == meta.name(each)]
        near += [f"pod/{meta.key(pod).removeprefix('default/')}" for pod in pods if name in meta.name(pod)]
        near += [f"node/{node.name}" for node in self._lab.nodes if name in node.name]
        if near:
            raise UsageError(f'"{name}" is no place', hint=f"did you mean {', '.join(near[:4])}?")
        if any(meta.name(service) == name for service in services):
            raise UsageError(f'"{name}" is a Service, and nothing is sent from one', hint=_PLACES)
        raise UsageError(f'"{name}" is no place', hint=_PLACES)

    async def namespace(self, place: Place) -> Namespace:
        """Return the network namespace of a place.

        Raises:
            NotFound: it is not there.
            TemporaryError: its node is down.
        """
        if not place.name.startswith("pod/"):
            return next(found for found in self.own(place.name))
        async with ShimClient(self.shim(place.node)) as shim:
            chosen = None
            for entry in await shim.netns_fds():
                if entry.place == place.name and chosen is None:
                    chosen = Namespace(entry.place, entry.fd)
                elif chosen is None and entry.place == f"node/{place.node}":
                    fallback = Namespace(place.name, entry.fd)
                else:
                    os.close(entry.fd)
        if chosen is not None:
            os.close(fallback.fd)
            return chosen
        return fallback  # a Pod on its node's network

    async def all(self) -> list[Namespace]:
        """Return every network namespace of the lab: fabric, outside, nodes, Pods (not those on a node's network)."""
        found = self.own()
        for node in self._lab.nodes:
            with contextlib.suppress(NetlabError):  # a node that is down has no Pods
                async with ShimClient(node.socket) as shim:
                    for entry in await shim.netns_fds():
                        if entry.place.startswith("pod/"):
                            found.append(Namespace(entry.place, entry.fd))
                        else:
                            os.close(entry.fd)
        return found

    def own(self, only: str = "") -> list[Namespace]:
        """Return the namespaces that the holder owns: fabric, outside and nodes; or one of them."""
        found: list[Namespace] = []
        sock = control.connect(self._lab.run_dir / "holder.sock")
        with sock:
            more = True
            while more:
                answer, fds = control.ask(sock, {"op": "places", "only": only, "from": len(found)})
                os.close(fds[0])  # the user namespace
                found += [Namespace(place, fd) for place, fd in zip(answer["places"], fds[1:], strict=True)]
                more = bool(answer["more"])
        return found

    def user_namespace(self) -> int:
        """Return a descriptor of the lab's user namespace; for a lab of root's it is the machine's own."""
        with control.connect(self._lab.run_dir / "holder.sock") as sock:
            _, fds = control.ask(sock, {"op": "places", "only": "-"})
        return fds[0]

    def shim(self, node: str) -> str:
        """Return the path of a node's control socket.

        Raises:
            NotFound: no such node.
        """
        for record in self._lab.nodes:
            if record.name == node:
                return record.socket
        raise NotFound(f'lab "{self._lab.name}" has no node "{node}"')

    def config(self) -> config.Config:
        """Return the way to the lab's API server for its administrator: through the gate, from inside directly."""
        found = config.load(str(self._lab.admin_conf))
        if inside_lab(self._lab):
            control_plane = next(node for node in self._lab.nodes if node.role == "control-plane")
            found = replace(found, server=f"https://{plan.bracketed(control_plane.ip)}:{plan.API_PORT}")
        return found

    def client(self) -> Client:
        """Return a client of the lab's API server as its administrator."""
        from netlab.client.client import Client  # it takes a while to import, and not every command asks

        return Client(self.config(), "netlab")


@contextlib.contextmanager
def closing(namespaces: Sequence[Namespace]) -> Iterator[Sequence[Namespace]]:
    """Close the descriptors at the end of the body."""
    try:
        yield namespaces
    finally:
        for namespace in namespaces:
            os.close(namespace.fd)


async def _pod(client: Client, namespace: str, name: str) -> Object:
    try:
        return await client.get("pods", name, namespace)
    except ApiError as error:
        if error.code != 404:
            raise
        others, _ = await client.list("pods", namespace)
        near = ", ".join(meta.name(pod) for pod in others[:8]) or "none"
        raise NotFound(f'there is no pod "{name}" in namespace {namespace}', hint=f"there are: {near}") from None


async def _pod_of_deployment(client: Client, namespace: str, name: str) -> Object:
    try:
        deployment = await client.get("deployments.apps", name, namespace)
    except ApiError as error:
        if error.code != 404:
            raise
        raise NotFound(f'there is no deployment "{name}" in namespace {namespace}') from None
    wanted: dict[str, Any] = deployment["spec"]["selector"].get("matchLabels") or {}
    pods, _ = await client.list("pods", namespace, labels=",".join(f"{key}={value}" for key, value in wanted.items()))
    running = [pod for pod in pods if (pod.get("status") or {}).get("phase") == "Running"]
    if not running:
        raise NotFound(f"deploy/{namespace}/{name} has no running Pod")
    return min(running, key=meta.name)


def enter_lab(lab: LabRecord) -> None:
    """Let this process open sockets in a lab's namespaces: for a rootless lab, move into it for good.

    We are root in its user namespace, which owns its networks. The network that this process was in does not belong to
    it, and there would be no way back, so the process moves to the fabric as well, where the API server can be reached
    without the gate. This user's folders are pinned first. The process must have one thread.

    Raises:
        KernelError: the kernel refuses; not ours, or several threads.
    """
    if not lab.rootless or inside_lab(lab):
        return
    found = state.dirs()
    os.environ |= {"NETLAB_RUN_DIR": str(found.run), "NETLAB_STATE_DIR": str(found.state)}
    places = Places(lab)
    user, (fabric,) = places.user_namespace(), places.own("fabric")
    try:
        libc.setns(user, libc.CLONE_NEWUSER)
        libc.setns(fabric.fd, libc.CLONE_NEWNET)
    except OSError as error:
        raise KernelError(f"cannot enter the lab: {error.strerror}", errno=error.errno or 0) from None
    finally:
        os.close(user)
        os.close(fabric.fd)


def inside_lab(lab: LabRecord) -> bool:
    """Tell whether this process has moved into a rootless lab."""
    return lab.rootless and os.geteuid() == 0
