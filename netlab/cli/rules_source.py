"""Where `netlab rules` reads from: a lab, or a machine that is none (`--attach`); and the options of all views."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import click

from netlab.cli import complete
from netlab.cli.options import lab_name

if TYPE_CHECKING:
    from netlab.api.meta import Object
    from netlab.inspect.foreign import Wish
    from netlab.inspect.holding import Holding
    from netlab.inspect.names import Names
    from netlab.kernel.conntrack import Flow
    from netlab.lab.history import Held
    from netlab.lab.state import LabRecord

F = TypeVar("F", bound=Callable[..., Any])
KINDS = {"services": "Service", "endpointslices.discovery.k8s.io": "EndpointSlice", "nodes": "Node", "pods": "Pod"}


class Source(Protocol):
    """Nodes with their rules, and the objects of their API."""

    def nodes(self) -> list[str]:
        """Return the names of the nodes that were asked for."""
        ...

    def namespaces(self) -> Iterator[tuple[str, int]]:
        """Yield each node's name and a descriptor of its network namespace, which is closed behind the caller."""
        ...

    def objects(self, revision: str = "") -> list[Object]:
        """Return Services, EndpointSlices, Nodes and Pods, of an exact resourceVersion where one is given."""
        ...

    def names(self, key: str = "") -> Names:
        """Return what the API calls addresses, of one Service where a key is given; nothing while it is away."""
        ...


@dataclass(frozen=True)
class Asked:
    """The words of the command line that choose where to look. `families` are False for IPv4 and True for IPv6."""

    name: str = ""
    node: str = ""
    families: tuple[bool, ...] = (False,)
    attach: tuple[str, ...] = ()
    kubeconfig: str = ""
    objects: str = ""
    at: str = ""
    chosen: bool = field(default=False)
    """Whether the families were chosen by the caller."""

    def source(self) -> Source:
        """Return the source.

        Raises:
            UsageError: options that contradict each other; NotFound: there is no such lab, node or namespace.
        """
        from netlab.errors import UsageError

        if self.at:
            if not self.at.removeprefix("@").isdigit():
                raise UsageError(f"--at {self.at}: no revision", hint="a resourceVersion, such as --at 1234")
            return Past(replace(self, at="").source(), self.at.removeprefix("@"))
        if not self.attach:
            if self.kubeconfig or self.objects:
                raise UsageError("--kubeconfig and --objects go with --attach", hint="a lab has its own API server")
            return LabSource.of(self.name, self.node)
        from netlab.inspect import foreign

        return Attached(tuple(foreign.wish(text) for text in self.attach), self.kubeconfig, self.objects,
                        self.node.removeprefix("node/"))


def options(function: F) -> F:
    """Add the options that say where to look; the command gets them as one argument, `asked`."""
    def wrapped(*args: Any, name: str, node: str, ipv4: bool, ipv6: bool, attach: tuple[str, ...], kubeconfig: str,
                objects: str, **rest: Any) -> Any:
        from netlab.lab import state

        families = (False, True) if ipv4 and ipv6 else (ipv6 or not (ipv4 or attach or state.has_ipv4(name)),)
        at = rest.pop("at", "")
        return function(*args, asked=Asked(name, node, families, attach, kubeconfig, objects, at, ipv4 or ipv6), **rest)

    wrapped.__name__, wrapped.__doc__ = function.__name__, function.__doc__
    wrapped.__click_params__ = getattr(function, "__click_params__", [])  # type: ignore[attr-defined]
    for option in (
            lab_name,
            click.option("--objects", metavar="FILE", default="", help="With --attach: the API's objects from a file."),
            click.option("--kubeconfig", metavar="FILE", default="", help="With --attach: the API server's objects."),
            click.option("--attach", metavar="PLACE", multiple=True,
                         help="No lab: this machine's nodes (auto), host, pid:N, tree:N, netns:PATH; NAME=… names it."),
            click.option("--ipv6", "-6", is_flag=True, help="The rules of IPv6; with --ipv4 both."),
            click.option("--ipv4", "-4", is_flag=True, help="The rules of IPv4."),
            click.option("--node", metavar="NAME", default="", shell_complete=complete.nodes,
                         help="Only this node (node/NAME is understood too).")):
        wrapped = option(wrapped)
    return wrapped  # type: ignore[return-value]


at_option = click.option("--at", metavar="REVISION", default="", help=(
    "As they were at this resourceVersion: as recorded, or worked out from the objects of that time."))


def holdings(source: Source, *, ipv6: bool = False, both: bool = False, only: str = "") -> Iterator[Holding]:
    """Yield what each node holds in one family, or would have held."""
    from netlab.inspect import expected, reading

    if isinstance(source, Past):
        objects, recorded = source.objects(), source.recorded()
        for held in holdings(source.now, ipv6=ipv6):
            then = recorded.get(held.node)
            yield (then.holding(held.node, held) if then is not None else
                   expected.expected(held, objects, held.mode or "iptables"))
        return
    for node, netns in source.namespaces():
        yield reading.read(node, netns, ipv6=ipv6, both=both, only=only)


def observed(source: Source, node: str) -> dict[str, Any]:
    """Return the fields that say of a node's past rules whether they were recorded; nothing for the present."""
    if not isinstance(source, Past):
        return {}
    held = source.recorded().get(node)
    if held is None:
        return {"observed": False}
    return {"observed": True, "from": {"at": held.moment.at, "revision": held.moment.revision},
            "until": {"at": held.until.at, "revision": held.until.revision} if held.until else None}


def flows(source: Source, *, ipv6: bool = False) -> dict[str, list[Flow]]:
    """Return the conntrack entries of each node."""
    from netlab.kernel import conntrack

    return {node: conntrack.flows(netns, ipv6=ipv6) for node, netns in source.namespaces()}


@dataclass
class Past:
    """The rules of a source's nodes at an earlier revision.

    Of a lab, as they were recorded. What was not is worked out for the objects as they were, with the settings of
    today: what netd, CNI plugins and people wrote then is not among that.
    """

    now: Source
    revision: str
    _objects: list[Object] | None = None
    _recorded: Mapping[str, Held] | None = None

    def recorded(self) -> Mapping[str, Held]:
        """Return what was recorded, by node."""
        if self._recorded is None:
            self._recorded = self.now.recorded(self.revision) if isinstance(self.now, LabSource) else {}
        return self._recorded

    def words(self) -> list[str]:
        """Return for each node since when its rules were held, or that they were not recorded."""
        self.objects()  # a revision that is compacted is refused first
        found = self.recorded()
        return [f"node/{node}: {found[node].words}" if node in found else
                f"node/{node}: not recorded; recomputed from the objects of that revision, with today's settings"
                for node in self.nodes()]

    def nodes(self) -> list[str]:
        """Return the names of the nodes."""
        return self.now.nodes()

    def namespaces(self) -> Iterator[tuple[str, int]]:
        """Yield the namespaces as they are now: what is kept there is of now."""
        yield from self.now.namespaces()

    def objects(self, revision: str = "") -> list[Object]:
        """Return the objects as they were."""
        if revision:
            return self.now.objects(revision)
        if self._objects is None:
            self._objects = self.now.objects(self.revision)
        return self._objects

    def names(self, key: str = "") -> Names:  # noqa: ARG002 - all objects are at hand
        """Return what the API called addresses then."""
        from netlab.inspect.names import Names

        return Names.of(self.objects())


@dataclass(frozen=True)
class LabSource:
    """The nodes of a lab, `only` one of them where that is not ""."""

    lab: LabRecord
    only: str = ""

    @classmethod
    def of(cls, name: str, node: str) -> LabSource:
        """Find a lab and check the node's name."""
        from netlab.errors import NotFound
        from netlab.lab import state

        lab = state.find(name)
        only = node.removeprefix("node/")
        known = [each.name for each in lab.nodes]
        if only and only not in known:
            raise NotFound(f'lab "{lab.name}" has no node "{only}"', hint=f"there are: {', '.join(known)}")
        return cls(lab, only)

    def nodes(self) -> list[str]:
        """Return the names of the nodes."""
        return [each.name for each in self.lab.nodes if self.only in ("", each.name)]

    def recorded(self, revision: str) -> Mapping[str, Held]:
        """Return what the nodes held at a revision, as far as it was recorded."""
        from netlab.lab import history

        return history.at(self.lab, int(revision))

    def namespaces(self) -> Iterator[tuple[str, int]]:
        """Yield the nodes' namespaces. For a rootless lab this process moves into it for good."""
        from netlab.lab.places import Places, closing, enter_lab

        enter_lab(self.lab)
        with closing(Places(self.lab).own()) as namespaces:
            for each in namespaces:
                kind, _, node = each.place.partition("/")
                if kind == "node" and self.only in ("", node):
                    yield node, each.fd

    def objects(self, revision: str = "") -> list[Object]:
        """Return the objects from the lab's API server.

        Raises:
            TemporaryError: it does not answer; ApiError: the revision is compacted, or still to come.
        """
        from netlab.lab.places import Places

        if revision:
            return list(asyncio.run(_then(Places(self.lab).client, revision)))
        return asyncio.run(listed(Places(self.lab).client))

    def names(self, key: str = "") -> Names:
        """Return what the API calls addresses."""
        from netlab.errors import NetlabError
        from netlab.inspect.names import Names
        from netlab.lab.places import Places

        try:
            if key:
                return asyncio.run(_names_of(Places(self.lab).client, key))
            return Names.of(self.objects())
        except (NetlabError, TimeoutError):
            return Names()


@dataclass
class Attached:
    """Namespaces of a machine that is no lab. Nothing is made there, and nothing is left."""

    wishes: tuple[Wish, ...]
    kubeconfig: str = ""
    file: str = ""
    only: str = ""
    _objects: list[Object] | None = None

    def nodes(self) -> list[str]:
        """Return the names of the namespaces."""
        return [node for node, _ in self.namespaces()]

    def namespaces(self) -> Iterator[tuple[str, int]]:
        """Yield the namespaces of nodes, and those that were asked for by name; Pods have no rules of Services."""
        from netlab.errors import NotFound
        from netlab.inspect import foreign

        spots = foreign.discover(self.wishes, self.objects())
        auto = all(wish.kind in ("auto", "tree") for wish in self.wishes)
        wanted = [spot for spot in spots if spot.role == "node" or not auto]
        chosen = [spot for spot in wanted if self.only in ("", spot.place, spot.place.removeprefix("node/"))]
        if not chosen:
            raise NotFound(f'no node "{self.only}" among the namespaces' if self.only else "no node was found",
                           hint=f"there are: {', '.join(spot.place for spot in spots) or 'none'}")
        with ExitStack() as stack:
            for spot, fd in stack.enter_context(foreign.opened(chosen)):
                yield spot.place.removeprefix("node/"), fd

    def objects(self, revision: str = "") -> list[Object]:
        """Return the objects of --kubeconfig's API server, or of the file; [] when neither is given."""
        from netlab.inspect import foreign

        if revision:
            from netlab.client import config
            from netlab.client.client import Client

            return asyncio.run(listed(lambda: Client(config.load(self.kubeconfig), "netlab"), revision))
        if self._objects is None:
            self._objects = asyncio.run(foreign.objects(self.kubeconfig, self.file))
        return self._objects

    def names(self, key: str = "") -> Names:  # noqa: ARG002 - all objects were asked for already
        """Return what the API calls addresses."""
        from netlab.inspect.names import Names

        return Names.of(self.objects())


async def listed(client: Callable[[], Any], revision: str = "") -> list[Object]:
    """Return the objects that rules are made of, all of one resourceVersion where one is given."""
    from netlab.errors import TemporaryError

    try:
        async with asyncio.timeout(20), client() as api:
            if revision:
                lists = [(await _exact(api, resource, revision), "") for resource in KINDS]
            else:
                lists = await asyncio.gather(*(api.list(resource) for resource in KINDS))
    except TimeoutError:
        raise TemporaryError("the API server does not answer: there is nothing to compare the rules with") from None
    return [{**item, "kind": kind} for kind, (items, _) in zip(KINDS.values(), lists, strict=True) for item in items]


async def _then(client: Callable[[], Any], revision: str) -> Sequence[Object]:
    from netlab.errors import TemporaryError
    from netlab.lab import past

    try:
        async with asyncio.timeout(20), client() as api:
            return await past.objects(api, revision)
    except TimeoutError:
        raise TemporaryError("the API server does not answer: only it knows the objects of that time") from None


async def _exact(api: Any, resource: str, revision: str) -> Sequence[Object]:
    from netlab.client.client import row
    from netlab.errors import NotFound

    path = f"{row(resource).path()}?resourceVersion={revision}&resourceVersionMatch=Exact"
    status, _, body = await api.raw("GET", path)
    import json

    found = json.loads(body or b"{}")
    if status != 200:
        raise NotFound(f"revision {revision}: {found.get('message') or status}",
                       hint="the store keeps some minutes of revisions; kubectl get svc -o yaml tells the newest")
    items: Sequence[Object] = found.get("items") or ()
    return items


async def _names_of(client: Callable[[], Any], key: str) -> Names:
    """Ask for one Service, its endpoints and the nodes only: ten thousand others would take a second."""
    from netlab.api.meta import split_key
    from netlab.errors import ApiError
    from netlab.inspect.names import Names

    namespace, name = split_key(key)
    async with asyncio.timeout(5), client() as api:
        async def service() -> list[Object]:
            try:
                return [{**await api.get("services", name, namespace), "kind": "Service"}]
            except ApiError as error:
                if error.code == 404:
                    return []
                raise
        found, (slices, _), (nodes, _) = await asyncio.gather(
            service(), api.list("endpointslices.discovery.k8s.io", namespace,
                                labels=f"kubernetes.io/service-name={name}"), api.list("nodes"))
    called = Names.of([*found, *({**each, "kind": "Node"} for each in nodes)])
    return called.with_endpoints(slices)


def world(held: Holding, objects: Sequence[Object]) -> Any:
    """Return what the kube-proxy of a node would write in iptables mode, with the settings that its rules show."""
    from netlab.inspect import guess
    from netlab.inspect.world import World

    return World.of(objects, guess.settings(held.rules, "IPv6" if held.ipv6 else "IPv4", name=held.node,
                                            node=_node(held, objects), liberal=held.liberal))


def nft_world(held: Holding, objects: Sequence[Object]) -> Any:
    """Return what it would write in nftables mode, None on a node that is not in it."""
    from netlab.inspect import nft_world as worlds

    if held.nft is None:
        return None
    return worlds.NftWorld.of(objects, worlds.settings(held.nft, "IPv6" if held.ipv6 else "IPv4", name=held.node,
                                                       node=_node(held, objects)))


def _node(held: Holding, objects: Sequence[Object]) -> Object | None:
    return next((each for each in objects if each["kind"] == "Node" and each["metadata"]["name"] == held.node), None)
