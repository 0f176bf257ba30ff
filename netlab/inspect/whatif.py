"""A cluster's objects with a change applied, as kubectl and the controllers would have it. Nothing is sent. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Final

from netlab.api import meta, selector
from netlab.api.meta import Object
from netlab.api.patch import merge
from netlab.controllers import endpointslices as slices
from netlab.errors import NotFound
from netlab.netfilter.model import Chain, Ruleset, Table
from netlab.netfilter.nft import NftTable
from netlab.proxy import names
from netlab.proxy.endpoints import service_of

FOLLOWED: Final = ("Service", "EndpointSlice", "Node", "Pod")
"""Kinds whose change moves packets by way of kube-proxy's rules."""

_SLICE_LIMIT: Final = 100
_FIRST_NODE_PORT: Final = 30000

Key = tuple[str, str, str]


@dataclass(frozen=True)
class Changed:
    """The objects after a change. `gone` are the keys, `Pod default/web-1`, of what it deleted."""

    objects: tuple[Object, ...]
    notes: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()


def applied(objects: Iterable[Object], changes: Sequence[Object], deletions: Sequence[Object] = ()) -> Changed:
    """Apply manifests: what is there is merged (lists as a whole), what is not is created, `deletions` go.

    A manifest with `$patch: delete` is a deletion, one with `$patch: replace` takes the object's place. New Services
    get addresses and node ports that are free, and the EndpointSlices of Services with a selector follow their Pods.

    Raises:
        NotFound: a deletion of what is not there.
    """
    found: dict[Key, Object] = {_key(each): each for each in objects}
    touched: set[str] = set()
    notes: list[str] = []
    gone: list[str] = []
    for change in [*changes, *({**each, "$patch": "delete"} for each in deletions)]:
        key, kind = _key(change), str(change.get("kind"))
        what = f"{kind} {meta.key(change)}"
        if kind not in FOLLOWED:
            notes.append(f"{what} moves no packet by itself: the objects that its controller would make are not worked "
                         "out here")
            continue
        body = {name: value for name, value in change.items() if name != "$patch"}
        directive, old = change.get("$patch"), found.get(key)
        if directive == "delete":
            if old is None:
                raise NotFound(f"the change deletes {what}, which is not there")
            del found[key]
            gone.append(what)
        elif kind == "Service":
            found[key] = _service(body, None if directive == "replace" else old, old, found.values(), notes)
        else:
            found[key] = body if old is None or directive == "replace" else merge.apply(deepcopy(old), body)
        if kind in ("Service", "Pod"):
            touched.add(meta.namespace(change) or "default")
    _follow(found, touched)
    return Changed(tuple(found.values()), tuple(notes), tuple(gone))


def _key(each: Object) -> Key:
    namespace = "" if each.get("kind") == "Node" else meta.namespace(each) or "default"
    return str(each.get("kind")), namespace, meta.name(each)


def _service(change: Object, base: Object | None, old: Object | None, others: Iterable[Object],
             notes: list[str]) -> Object:
    """Return a Service as the API server would keep it: with the addresses and node ports that it had, or free ones."""
    made: Object = merge.apply(deepcopy(base), change) if base is not None else deepcopy(change)
    made["metadata"].setdefault("namespace", "default")
    spec = made.setdefault("spec", {})
    before = (old or {}).get("spec") or {}
    listed = [each.get("spec") or {} for each in others if each.get("kind") == "Service"]
    spec.setdefault("type", "ClusterIP")
    if spec["type"] != "ExternalName" and not spec.get("clusterIP"):
        spec["clusterIP"] = before.get("clusterIP") or _free_address(listed)
        spec["clusterIPs"] = before.get("clusterIPs") or [spec["clusterIP"]]
        if not before:
            notes.append(f"Service {meta.key(made)} is new: it is given {spec['clusterIP']} here")
    held = {(port.get("protocol", "TCP"), port.get("port")): port.get("nodePort") for port in before.get("ports") or ()}
    taken = {port.get("nodePort") for each in listed for port in each.get("ports") or ()}
    for port in spec.get("ports") or ():
        port.setdefault("protocol", "TCP")
        if spec["type"] in ("NodePort", "LoadBalancer") and not port.get("nodePort"):
            port["nodePort"] = held.get((port["protocol"], port.get("port"))) or next(
                number for number in range(_FIRST_NODE_PORT, 1 << 16) if number not in taken)
            taken.add(port["nodePort"])
        elif spec["type"] == "ClusterIP":
            port.pop("nodePort", None)
    return made


def _free_address(specs: Sequence[Mapping[str, object]]) -> str:
    """Return an address that no Service has, near those that they have."""
    taken = {ipaddress.ip_address(str(spec["clusterIP"])) for spec in specs
             if spec.get("clusterIP") not in (None, "", "None")}
    last = max(taken, key=lambda each: (each.version, int(each)), default=ipaddress.ip_address("10.96.0.100"))
    return str(last + 1)


def _follow(found: dict[Key, Object], namespaces: set[str]) -> None:
    """Make the EndpointSlices of the Services of some namespaces what their controller would make them."""
    zones = {meta.name(each): meta.labels(each)[slices.ZONE] for each in found.values()
             if each.get("kind") == "Node" and slices.ZONE in meta.labels(each)}
    services = {meta.key(each): each for each in found.values() if each.get("kind") == "Service"}
    managed: dict[str, list[Object]] = {}
    for each in list(found.values()):
        if each.get("kind") != "EndpointSlice" or meta.namespace(each) not in namespaces:
            continue
        if meta.labels(each).get(slices.MANAGED_BY) != slices.MANAGER:
            continue
        if service_of(each) in services:
            managed.setdefault(service_of(each), []).append(each)
        else:
            del found[_key(each)]
    for key, service in services.items():
        wanted = (service.get("spec") or {}).get("selector")
        if meta.namespace(service) not in namespaces or not wanted:
            continue
        pods = [each for each in found.values() if each.get("kind") == "Pod"
                and meta.namespace(each) == meta.namespace(service)
                and selector.from_labels(wanted).matches(meta.labels(each))]
        plan = slices.decide(service, pods, zones, managed.get(key, ()), limit=_SLICE_LIMIT)
        for each in plan.delete:
            found.pop(_key({**each, "kind": "EndpointSlice"}), None)
        for number, each in enumerate((*plan.create, *plan.update)):
            made = {**each, "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1"}
            made["metadata"] = {**made["metadata"], "name": made["metadata"].get("name") or
                                f"{meta.name(service)}-whatif{number}", "namespace": meta.namespace(service)}
            found[_key(made)] = made


def with_rules(live: Ruleset, wanted: Ruleset) -> Ruleset:
    """Return a node's rules with kube-proxy's own chains as they should be; all else stays as it is."""
    tables: dict[str, Table] = {}
    for name in dict.fromkeys((*live.tables, *wanted.tables)):
        chains = {chain.name: chain for chain in live.table(name).chains.values()
                  if not (name == "nat" and chain.name.startswith(names.SERVICE_PREFIXES))}
        for chain in wanted.table(name).chains.values():
            if chain.name.startswith("KUBE-") and (chain.rules or chain.name not in chains):
                chains[chain.name] = Chain(chain.name, chain.rules)
            elif chain.name not in chains:
                chains[chain.name] = chain
            elif chain.name in _EMPTIED and not chain.rules:
                chains[chain.name] = Chain(chain.name)
        tables[name] = Table(name, chains)
    return Ruleset(tables, live.generator)


def with_table(live: NftTable, wanted: NftTable) -> NftTable:
    """Return kube-proxy's table of nftables mode as it should be; what affinity has remembered stays."""
    sets = {name: replace(each, elements=live.elements(name)) if name.startswith("affinity-") else each
            for name, each in wanted.sets.items()}
    return replace(wanted, sets=sets)


_EMPTIED: Final = (names.SERVICES, names.EXTERNAL_SERVICES, names.NODE_PORTS, names.PROXY_FIREWALL)
