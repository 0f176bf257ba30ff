"""A prediction inside a lab: its state is read, nothing is sent; as it is, and as a change of objects would make it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from netlab.api import meta
from netlab.api.meta import Object
from netlab.errors import TemporaryError, UsageError
from netlab.inspect import guess, nft_world, whatif
from netlab.inspect.nft_world import NftWorld
from netlab.inspect.world import World as Cluster
from netlab.lab import history, past, tracing
from netlab.lab.places import Places, closing, enter_lab
from netlab.lab.state import LabRecord
from netlab.lab.tracing import Wish
from netlab.netfilter.model import Ruleset
from netlab.netfilter.nft_eval import Book
from netlab.netfilter.stations import Beside, not_known
from netlab.proxy.addresses import Family
from netlab.proxy.nft_names import TABLE
from netlab.proxy.settings import Settings
from netlab.trace import assume, look
from netlab.trace.branch import Prediction, Question
from netlab.trace.listen import Tap
from netlab.trace.predict import predict
from netlab.trace.target import names, resolve
from netlab.trace.world import World


@dataclass(frozen=True)
class Change:
    """Manifests to apply, and manifests of what to delete."""

    apply: tuple[Object, ...] = ()
    delete: tuple[Object, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.apply or self.delete)


@dataclass(frozen=True)
class Foretold:
    """A prediction, the one with the change (None without one), and what is at the far end of each cable."""

    now: Prediction
    then: Prediction | None
    links: Mapping[str, str]


async def foretell(lab: LabRecord, wish: Wish, change: Change, *, revision: str = "") -> Foretold:
    """Predict a packet's way by what the kernel and the API server hold.

    Args:
        lab: which.
        wish: the packet.
        change: what if these manifests were applied?
        revision: with kube-proxy's rules as they were at this resourceVersion, "" for those of now.

    Raises:
        UsageError: a place or a destination that is none; NotFound: no such place.
        NotFound: the revision is compacted, and which one is the oldest.
    """
    if wish.source == "host":
        raise UsageError("a prediction begins at a place of the lab: the host's own rules are left alone",
                         hint="predict from outside, a host beyond the cluster, or send a packet: without --predict")
    places = Places(lab)
    source = await places.resolve(wish.source)
    objects = await _objects(places) if change or revision else ()
    known = await tracing.objects(lab, places)
    then = await _objects(places, revision) if revision else None
    on = {f"pod/{meta.key(pod)}": pod["spec"].get("nodeName", "") for pod in known.pods}
    enter_lab(lab)
    with closing(await places.all()) as namespaces:
        taps = [Tap(entry.place, entry.fd, on.get(entry.place, "")) for entry in namespaces]
        here = source.name if source.name in {tap.place for tap in taps} else f"node/{source.node}"
        known = replace(known, places=tracing.addresses_of_places(namespaces))
        if then is not None:
            known = replace(known, services=[each for each in then if each["kind"] == "Service"])
        links = tracing.far_ends(namespaces, on)
        after = whatif.applied(objects if then is None else then, change.apply, change.delete) if change else None
        if after is not None:  # the destination may be new
            known = replace(known, services=[each for each in after.objects if each["kind"] == "Service"] + [
                each for each in known.services if f"Service {meta.key(each)}" in after.gone])
        target = resolve(wish.target, known, protocol=wish.protocol, ipv6=wish.ipv6)
        if not target.address:
            raise UsageError(f"{wish.target}: its address is told by DNS, which a prediction does not ask",
                             hint="write the address, or svc/NAME")
        family = look.family_of(target.address)
        world = await asyncio.to_thread(look.world, taps, names(known), family=family)
    if then is not None:
        world = _as_of(world, then, objects, family, revision, history.at(lab, int(revision)))
    protocol = "icmpv6" if wish.protocol == "icmp" and family == 6 else wish.protocol
    question = Question(here, target.address, target.port, protocol, wish.source_address)
    now = predict(world, question, target=target.label)
    if after is None:
        return Foretold(now, None, links)
    changed = replace(_changed(world, after.objects, objects, family, gone=after.gone),
                      notes=(*world.notes, *after.notes))
    return Foretold(now, predict(changed, question, target=target.label), links)


async def _objects(places: Places, revision: str = "") -> tuple[Object, ...]:
    try:
        async with asyncio.timeout(10), places.client() as client:
            return await past.objects(client, revision)
    except TimeoutError:
        raise TemporaryError("the API server does not answer: it has to tell which objects there are") from None


def _as_of(world: World, then: Sequence[Object], objects: Sequence[Object], family: int, revision: str,
           recorded: Mapping[str, history.Held]) -> World:
    """Return the world with the nodes' rules, routes, links and settings as they were: recorded, else worked out."""
    made = _changed(world, then, objects, family)
    spaces, notes = dict(made.spaces), [*made.notes]
    for place, space in world.spaces.items():
        kind, _, name = place.partition("/")
        if kind != "node":
            continue
        held = recorded.get(name)
        if held is None:
            notes.append(f"{place}: kube-proxy's rules are recomputed from the objects at resourceVersion {revision}; "
                         "routes, links, settings and other rules are those of now")
            continue
        was = held.space(space, family)
        unsure = look.doubts(place, not_known(was.rules.get(family), family, was.beside[family]),
                             was.policies.get(family, ()))
        spaces[place] = replace(was, doubts=unsure)
        notes.append(f"{place}: rules, routes, links and settings as recorded, {held.words}")
    notes.append("Pods, their links and the fabric are those of now")
    return replace(made, spaces=spaces, notes=tuple(notes))


def _changed(world: World, objects: Sequence[Object], before: Sequence[Object], family: int,
             gone: Sequence[str] = ()) -> World:
    """Return the world with the rules that kube-proxy would write for these objects, and without Pods that are gone."""
    which: Family = "IPv6" if family == 6 else "IPv4"
    left = {f"pod/{each.removeprefix('Pod ')}" for each in gone if each.startswith("Pod ")}
    spaces = {place: space for place, space in world.spaces.items() if place not in left}
    for place, space in list(spaces.items()):
        kind, _, name = place.partition("/")
        live = space.rules.get(family)
        if kind != "node":
            continue
        node = next((each for each in before if each["kind"] == "Node" and meta.name(each) == name), None)
        beside = space.beside.get(family) or Beside()
        book = next((each for each in beside.books if each.table.name == TABLE and each.table.family != "inet"), None)
        if book is not None:
            made = nft_world.settings(book.table, which, name=name, node=node)

            def changed(beside: Beside = beside, book: Book = book, settings: Settings = made) -> Beside:
                wanted = whatif.with_table(book.table, NftWorld.of(objects, settings).table)
                return replace(beside, books=tuple(Book(wanted) if each is book else each for each in beside.books))

            spaces[place] = replace(space, beside=assume.Lazy(family, changed))
        elif live is not None:
            settings = guess.settings(live, which, name=name, node=node)

            def rules(live: Ruleset = live, settings: Settings = settings) -> Ruleset:
                return whatif.with_rules(live, Cluster.of(objects, settings).rules)

            spaces[place] = replace(space, rules=assume.Lazy(family, rules))
    return replace(world, spaces=spaces)
