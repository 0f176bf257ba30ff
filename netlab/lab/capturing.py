"""A capture inside a lab: places and selectors become namespaces, and Pods are followed as they come and go."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from netlab.api import meta, selector
from netlab.api.meta import Object
from netlab.client.informer import Informer
from netlab.errors import ApiError, NetlabError, NotFound, UsageError
from netlab.lab.places import Namespace, Places, enter_lab
from netlab.lab.state import LabRecord
from netlab.lab.tracing import addresses_of_places, far_ends, objects
from netlab.runtime.shimclient import ShimClient
from netlab.trace.recording import Found
from netlab.trace.target import Objects, names

Chooser = Callable[[Object], bool]
ALL = "all"
ALIVE = 1.0
"""Seconds between two looks whether the lab is still there: taps hold its namespaces, so they won't tell."""


@dataclass(frozen=True)
class Choice:
    """What to listen in: `fixed` places, Pods for which one of `pods` says yes, or simply `everything`."""

    fixed: tuple[str, ...] = ()
    pods: tuple[Chooser, ...] = ()
    everything: bool = False
    labels: str = field(default="", compare=False)


async def choose(places: Places, words: Sequence[str], labels: str, namespace: str) -> Choice:
    """Return what PLACEs and a selector mean.

    Args:
        places: of the lab.
        words: the PLACEs.
        labels: a label selector, "" for none.
        namespace: of the selector's Pods, "" for all.

    Raises:
        UsageError: no such kind of place, or a selector that is none.
        NotFound: a node, Pod, Deployment or Service that is not there.
    """
    fixed: list[str] = []
    pods: list[Chooser] = []
    for word in words:
        kind, _, rest = word.partition("/")
        if word == ALL:
            return Choice(everything=True)
        if kind in ("deploy", "deployment", "deployments", "svc", "service", "services") and rest:
            pods.append(await _owned(places, kind, rest))
            continue
        found = await places.resolve(word)
        if found.name.startswith("pod/"):
            pods.append(_named(found.name.removeprefix("pod/")))
        elif found.name not in fixed:
            fixed.append(found.name)
    if labels:
        try:
            wanted = selector.parse(labels)
        except ValueError as error:
            raise UsageError(f"-l {labels}: {error}", hint="such as: -l app=web,tier!=cache") from None
        pods.append(_selected(wanted.matches, namespace))
    return Choice(tuple(fixed), tuple(pods), labels=labels)


def _named(key: str) -> Chooser:
    return lambda pod: meta.key(pod) == key


def _selected(matches: Callable[[Mapping[str, str]], bool], namespace: str) -> Chooser:
    return lambda pod: (not namespace or meta.namespace(pod) == namespace) and matches(meta.labels(pod))


async def _owned(places: Places, kind: str, rest: str) -> Chooser:
    space, slash, name = rest.partition("/")
    namespace, name = (space, name) if slash else ("default", space)
    resource = "services" if kind.startswith("s") else "deployments.apps"
    async with places.client() as client:
        try:
            owner = await client.get(resource, name, namespace)
        except ApiError as error:
            if error.code != 404:
                raise
            raise NotFound(f"there is no {kind}/{name} in namespace {namespace}") from None
    wanted = (owner.get("spec") or {}).get("selector")
    if not wanted:
        raise UsageError(f"{kind}/{name} selects no Pods by labels", hint="name the Pods themselves, or use -l")
    found = selector.from_labels(wanted) if resource == "services" else selector.from_object(wanted)
    return _selected(found.matches, namespace)


class LabSource:
    """Finds a lab's namespaces (see recording.Source)."""

    def __init__(self, lab: LabRecord, places: Places, choice: Choice, pods: Informer | None) -> None:
        self._lab, self._places, self._choice, self._pods = lab, places, choice, pods
        self._changed = asyncio.Event()
        self._described: set[str] = set()
        self.links: dict[str, str] = {}
        """What is at the far end of interfaces, by `place interface`."""
        self.names: dict[str, str] = {}
        """Names by address."""
        if pods is not None:
            pods.add_handler(self._pod_changed)

    def _pod_changed(self, _key: str, _old: Object | None, new: Object | None) -> None:
        if new is not None:
            self.names |= names(Objects(pods=[new]))
        self._changed.set()

    async def changed(self) -> None:
        """Wait until a Pod has changed.

        Raises:
            NotFound: the lab has gone meanwhile.
        """
        while self._lab.alive():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ALIVE):
                    await self._changed.wait()
                return
        raise NotFound(f'lab "{self._lab.name}" is down')

    async def look(self) -> tuple[Sequence[Found], bool]:
        """Return the namespaces that are there now, and whether one of a Pod is about to come."""
        self._changed.clear()
        if self._choice.everything:
            every = await self._places.all()
            self._know(every)
            return [Found(entry.place, entry.fd) for entry in every], self._pending({entry.place for entry in every})
        found = [Found(entry.place, entry.fd) for place in self._choice.fixed for entry in self._places.own(place)]
        soon = False
        for node, wanted in self._chosen().items():
            try:
                async with ShimClient(self._places.shim(node)) as shim:
                    for place, shared in wanted.items():
                        try:
                            _, fds = await shim.call_fds("netns", place=f"node/{node}" if shared else place)
                            found.append(Found(f"node/{node}" if shared else place, fds[0]))
                        except NetlabError:  # not made yet
                            soon = True
            except NetlabError:  # the node is down
                continue
        there = {each.place for each in found}
        if there - self._described:
            self._described = there
            await self._describe()
        return found, soon

    def _chosen(self) -> dict[str, dict[str, bool]]:
        """Return the chosen Pods that are on a node, by node, and whether each is on its node's own network."""
        found: dict[str, dict[str, bool]] = {}
        for pod in self._pods.all() if self._pods is not None else ():
            if _alive(pod) and any(chooser(pod) for chooser in self._choice.pods):
                spec = pod["spec"]
                found.setdefault(spec["nodeName"], {})[f"pod/{meta.key(pod)}"] = bool(spec.get("hostNetwork"))
        return found

    def _pending(self, there: set[str]) -> bool:
        return any(_alive(pod) and not pod["spec"].get("hostNetwork") and f"pod/{meta.key(pod)}" not in there
                   for pod in (self._pods.all() if self._pods is not None else ()))

    async def _describe(self) -> None:
        """Learn what is at the far end of interfaces."""
        every = await self._places.all()
        try:
            self._know(every)
        finally:
            for entry in every:
                os.close(entry.fd)

    def _know(self, every: Sequence[Namespace]) -> None:
        nodes = {f"pod/{meta.key(pod)}": pod["spec"].get("nodeName", "")
                 for pod in (self._pods.all() if self._pods is not None else ())}
        with contextlib.suppress(NetlabError):
            self.links |= far_ends(every, nodes)


def _alive(pod: Object) -> bool:
    return bool(pod["spec"].get("nodeName")) and (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")


@contextlib.asynccontextmanager
async def source(lab: LabRecord, words: Sequence[str], labels: str, namespace: str) -> AsyncIterator[LabSource]:
    """Give a source for the body, with a copy of the Pods that is kept current.

    Without an API server only places that are no Pods can be listened in.
    """
    places = Places(lab)
    choice = await choose(places, words, labels, namespace)
    enter_lab(lab)
    stop = asyncio.Event()
    async with places.client() as client:
        pods = Informer(client, "pods")
        running = asyncio.ensure_future(pods.run(stop))
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(10 if choice.pods else 2):
                    await pods.synced.wait()
            found = LabSource(lab, places, choice, pods)
            known = await objects(lab, places)
            found.names |= names(replace(known, places=addresses_of_places(places.own("outside"))))
            yield found
        finally:
            stop.set()
            await asyncio.gather(running, return_exceptions=True)
