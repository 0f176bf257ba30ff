"""Network namespaces of a machine that is no lab: a real node, or kind's node containers. Shared by trace, capture
and rules with `--attach`. Only looks: nothing is made, and what is opened ends with this process.

How to use it, in this order (all but the second are quick and synchronous)::

    wishes = [foreign.wish(text) for text in ("auto",)]           # the words of --attach
    objects = await foreign.objects(kubeconfig="", file="")        # Pods, Nodes, Services, EndpointSlices; may be []
    spots = foreign.discover(wishes, objects)                      # list[Spot]: place, role, node, netns
    with foreign.opened(spots) as places: ...                      # list[tuple[Spot, fd]]

`Spot.place` is the name that all views show: `node/worker1`, `pod/default/web-1`, `host`, and where the API does not
tell `pod/UID` with the first 8 digits, `pid/1234`, `netns/NAME`; always unique within one answer.

How they are told apart in `auto`: a namespace in which a kubelet runs, or which the processes of two Pods or more
share, is a node's; one whose Pod processes are all of one Pod is that Pod's. A process is a Pod's when its control
group says so (`pod` and the uid, as the kubelet names it with both drivers). A Pod's node is that of the nearest
ancestor, which is the runtime's shim. The machine's own namespace counts as a node when that holds for it, and
otherwise only when it is asked for (`host`). Where the API's Nodes are known, `auto` leaves other clusters' nodes out.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from netlab.api import meta
from netlab.api.meta import Object
from netlab.errors import KernelError, NetlabError, NetnsGone, NotFound, UsageError
from netlab.inspect import membership
from netlab.inspect import objects as files
from netlab.kernel import link, netns, procs
from netlab.kernel.procs import Process
from netlab.kernel.rtnl import Rtnl

Role = Literal["node", "pod", "other"]
NODE_AGENTS: Final = frozenset({"kubelet", "k3s-server", "k3s-agent", "k3s", "rke2", "kubelite", "k0s"})
HINT: Final = "write auto, host, pid:1234, tree:1234 or netns:/run/netns/x, each also as NAME=…"
_POD: Final = re.compile(r"pod([0-9a-f]{8}(?:[-_]?[0-9a-f]{4}){3}[-_]?[0-9a-f]{12})(?![0-9a-f])")
_NAME: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,250}[A-Za-z0-9])?")
_OTHERS: Final = 4
"""Processes of a namespace that are asked, where the first has ended or moved by the time that it is opened."""
_PLACE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,250}")


@dataclass(frozen=True)
class Wish:
    """One `--attach`: `kind` is auto, host, pid, tree or netns, `value` its pid or path, `name` a name given to it."""

    kind: str
    value: str = ""
    name: str = ""


@dataclass(frozen=True)
class Spot:
    """One namespace. `path` opens it, `inode` is its identity, `pid` a process in it (0: none known), `others` more.

    `node` is the place (`node/worker1`) of the node that a Pod is on, "" where that is not known.
    """

    place: str
    role: Role
    path: str
    inode: int
    pid: int = 0
    uid: str = ""
    node: str = ""
    addresses: tuple[str, ...] = ()
    others: tuple[int, ...] = ()


def wish(text: str) -> Wish:
    """Return what one `--attach` asks for.

    Raises:
        UsageError: it is none of the words in HINT.
    """
    head, equals, rest = text.partition("=")
    name, body = (head, rest) if equals and not head.startswith("netns:") else ("", text)
    kind, _, value = body.partition(":")
    if name and not _PLACE.fullmatch(name):
        raise UsageError(f'--attach {text}: "{name}" is no name for a place', hint="such as node/worker1=pid:1234")
    if kind in ("auto", "host") and not value and not (name and kind == "auto"):
        return Wish(kind, name=name)
    if kind in ("pid", "tree") and value.isdigit() and int(value) > 0 and not (name and kind == "tree"):
        return Wish(kind, value, name)
    if kind == "netns" and value:
        return Wish(kind, value if "/" in value else f"/run/netns/{value}", name)
    raise UsageError(f"--attach {text}: no such way to find a namespace", hint=HINT)


async def objects(kubeconfig: str = "", file: str = "") -> list[Object]:
    """Return Pods, Nodes, Services and EndpointSlices from an API server or from a file; [] when neither is given.

    Raises:
        NetlabError: the kubeconfig or the file can't be read, or the server does not answer.
    """
    found: list[Object] = []
    if file:
        try:
            with open(file, encoding="utf-8") as stream:
                found += files.read(stream.read(), file)
        except (OSError, UnicodeDecodeError) as error:
            raise NotFound(f"can't read {file}: {getattr(error, 'strerror', '') or error}") from None
    if kubeconfig:
        from netlab.client import config
        from netlab.client.client import Client

        kinds = {"pods": "Pod", "nodes": "Node", "services": "Service",
                 "endpointslices.discovery.k8s.io": "EndpointSlice"}
        async with Client(config.load(kubeconfig), "netlab") as client:
            for resource, kind in kinds.items():
                items, _ = await client.list(resource)
                found += [{**item, "kind": kind} for item in items]
    return found


def discover(wishes: Sequence[Wish], known: Iterable[Object] = ()) -> list[Spot]:
    """Look at this machine and return the namespaces that were asked for, nodes first, each once.

    Raises:
        NotFound: a pid or path that is not there, or `auto` found no node and no Pod.
        KernelError: this user may not see other processes' namespaces.
    """
    processes, hidden = procs.scan()
    own = netns.inode(netns.OWN)
    try:
        chosen = choose(wishes, processes, own, os.stat)
    except NotFound:
        if hidden and os.geteuid() != 0:
            raise KernelError(f"{hidden} processes do not let this user see their namespaces",
                              hint="run as root on the machine itself, not in a container of its own") from None
        raise
    looked = [replace(spot, addresses=_addresses(spot)) for spot in chosen]
    known, node_of = list(known), _nodes(processes, looked)
    if all(each.kind == "auto" for each in wishes):
        looked = _members(looked, known, node_of)
    hosts = {spot.inode: procs.hostname(_agent(spot, processes)) for spot in looked if spot.role == "node"}
    return named(looked, known, hosts, node_of)


def choose(wishes: Sequence[Wish], processes: Sequence[Process], own: int, stat: object = os.stat) -> list[Spot]:
    """Return the namespaces that are wished for, not yet named (`place` is "" but where the user gave one).

    Each is opened by the oldest of its processes: others may be over in a moment, as those of a probe.
    """
    roles = classify(processes)
    processes = sorted(processes, key=lambda process: (process.started, process.pid))
    inside: dict[int, list[int]] = {}
    for process in processes:
        inside.setdefault(process.netns, []).append(process.pid)
    spots: dict[int, Spot] = {}

    def add(inode: int, path: str, *, pid: int = 0, name: str = "") -> None:
        role, uid = roles.get(inode, ("other", ""))
        old = spots.get(inode)
        if old is None or (name and not old.place):
            others = [other for other in inside.get(inode, ()) if other != pid][:_OTHERS]
            spots[inode] = Spot(name, role, path, inode, pid, uid, others=tuple(others))

    by_pid = {process.pid: process for process in processes}
    for each in wishes:
        if each.kind == "auto":
            for process in processes:
                if roles[process.netns][0] != "other":
                    add(process.netns, f"/proc/{process.pid}/ns/net", pid=process.pid)
            if not any(spot.role != "other" for spot in spots.values()):
                raise NotFound("no kubelet and no Pod's process runs on this machine",
                               hint="name the namespaces: --attach pid:1234 --attach netns:/run/netns/x")
        elif each.kind == "host":
            add(own, f"/proc/{os.getpid()}/ns/net", pid=os.getpid(), name=each.name or "")
        elif each.kind in ("pid", "tree"):
            if int(each.value) not in by_pid:
                raise NotFound(f"no process {each.value} whose namespace can be seen")
            tree = set(below(int(each.value), processes)) if each.kind == "tree" else {int(each.value)}
            for pid in [process.pid for process in processes if process.pid in tree]:
                add(by_pid[pid].netns, f"/proc/{pid}/ns/net", pid=pid, name=each.name)
        else:
            try:
                inode = stat(each.value).st_ino  # type: ignore[operator]
            except OSError as error:
                raise NotFound(f"no network namespace at {each.value}: {error.strerror}") from None
            pid = next((process.pid for process in processes if process.netns == inode), 0)
            add(inode, each.value, pid=pid, name=each.name)
    order = {"node": 0, "pod": 1, "other": 2}
    return sorted(spots.values(), key=lambda spot: order[spot.role])


def classify(processes: Iterable[Process]) -> dict[int, tuple[Role, str]]:
    """Return what each namespace is by its inode, with a Pod's uid (see the rules at the top)."""
    uids: dict[int, set[str]] = {}
    agents: set[int] = set()
    for process in processes:
        uid = pod_uid(process.cgroups)
        uids.setdefault(process.netns, set()).update([uid] if uid else [])
        if process.name in NODE_AGENTS and not uid:
            agents.add(process.netns)
    found: dict[int, tuple[Role, str]] = {}
    for inode, inside in uids.items():
        if inode in agents or len(inside) > 1:
            found[inode] = ("node", "")
        elif inside:
            found[inode] = ("pod", next(iter(inside)))
        else:
            found[inode] = ("other", "")
    return found


def pod_uid(cgroups: Iterable[str]) -> str:
    """Return the uid of the Pod that a process belongs to by its control groups, "" for none.

    The kubelet writes it as `pod2a9b…-…` (cgroupfs) or with underscores (systemd); that of a static Pod is the hash
    of its manifest, without dashes.
    """
    for path in cgroups:
        found = _POD.findall(path)
        if found:
            return str(found[-1]).replace("_", "-")
    return ""


def below(pid: int, processes: Iterable[Process]) -> list[int]:
    """Return a process and all its descendants, as they stand now."""
    children: dict[int, list[int]] = {}
    for process in processes:
        children.setdefault(process.parent, []).append(process.pid)
    found, todo = [], [pid]
    while todo:
        found.append(todo.pop())
        todo += children.get(found[-1], [])
    return found


def named(spots: Sequence[Spot], known: Sequence[Object], hostnames: Mapping[int, str],
          node_of: Mapping[int, int]) -> list[Spot]:
    """Give every namespace its place: the API's name by uid, then by address; else what the machine calls it.

    Args:
        spots: as found.
        known: Pods and Nodes.
        hostnames: what a node calls itself, by inode.
        node_of: the inode of a Pod's node, by the Pod's inode.
    """
    by_uid, by_ip = _names(known)
    placed: dict[int, Spot] = {}
    taken: set[str] = set()
    for spot in spots:
        place = spot.place or _place(spot, by_uid, by_ip, hostnames)
        if place in taken:
            place = f"{place}@{spot.inode}"
        taken.add(place)
        placed[spot.inode] = replace(spot, place=place)
    return [replace(spot, node=_node(spot, placed, known, node_of)) for spot in placed.values()]


def _node(spot: Spot, placed: Mapping[int, Spot], known: Iterable[Object], node_of: Mapping[int, int]) -> str:
    """Return the place of a Pod's node: by its ancestor's namespace, else by the API, if that node is here."""
    if node_of.get(spot.inode) in placed:
        return placed[node_of[spot.inode]].place
    said = next((f"node/{each['spec'].get('nodeName', '')}" for each in known
                 if each.get("kind") == "Pod" and each.get("spec") and f"pod/{meta.key(each)}" == spot.place), "")
    return said if any(each.place == said for each in placed.values()) else ""


def _place(spot: Spot, by_uid: Mapping[str, str], by_ip: Mapping[str, str], hostnames: Mapping[int, str]) -> str:
    if spot.uid in by_uid:
        return by_uid[spot.uid]
    wanted = {"node": "node/", "pod": "pod/"}.get(spot.role, "")
    known = next((by_ip[ip] for ip in spot.addresses if ip in by_ip and by_ip[ip].startswith(wanted)), "")
    if known:
        return known
    if spot.role == "node":
        own = hostnames.get(spot.inode, "")
        return f"node/{own}" if _NAME.fullmatch(own) else f"node/pid-{spot.pid}"
    if spot.role == "pod":
        return f"pod/{spot.uid[:8]}"
    if spot.pid == os.getpid():
        return "host"
    name = os.path.basename(spot.path)
    return f"netns/{name}" if spot.path.startswith(("/run/netns/", "/var/run/netns/")) else f"pid/{spot.pid}" \
        if spot.pid else f"netns/{spot.inode}"


def _members(spots: Sequence[Spot], known: Sequence[Object], node_of: Mapping[int, int]) -> list[Spot]:
    """Leave out other clusters' nodes with their Pods, where the objects tell."""
    uids = {spot.inode: spot.uid for spot in spots if spot.role == "pod"}
    here = [membership.Here(spot.inode, spot.addresses, [uid for pod, uid in uids.items()
                                                         if node_of.get(pod) == spot.inode])
            for spot in spots if spot.role == "node"]
    nodes = [each for each in known if each.get("kind") == "Node"]
    gone = membership.on(membership.strangers(here, nodes, _names(known)[0]), node_of)
    return [spot for spot in spots if spot.inode not in gone]


def _names(known: Iterable[Object]) -> tuple[dict[str, str], dict[str, str]]:
    by_uid: dict[str, str] = {}
    by_ip: dict[str, str] = {}
    for each in known:
        status = each.get("status") or {}
        if each.get("kind") == "Node":
            for address in status.get("addresses") or ():
                if address.get("type") != "Hostname":
                    by_ip[address.get("address", "")] = f"node/{meta.name(each)}"
        elif each.get("kind") == "Pod":
            place = f"pod/{meta.key(each)}"
            static = (each["metadata"].get("annotations") or {}).get("kubernetes.io/config.hash", "")
            by_uid |= {uid: place for uid in (each["metadata"].get("uid", ""), static) if uid}
            if not (each.get("spec") or {}).get("hostNetwork") and status.get("phase") not in ("Succeeded", "Failed"):
                by_ip |= {entry.get("ip", ""): place for entry in status.get("podIPs") or ()}
    by_ip.pop("", None)
    return by_uid, by_ip


def _nodes(processes: Sequence[Process], spots: Sequence[Spot]) -> dict[int, int]:
    """Return the node's namespace of each Pod's, by inode: that of the nearest ancestor in one."""
    by_pid = {process.pid: process for process in processes}
    nodes = {spot.inode for spot in spots if spot.role == "node"}
    found: dict[int, int] = {}
    for spot in spots:
        process = by_pid.get(spot.pid)
        while spot.role == "pod" and process is not None:
            if process.netns in nodes:
                found[spot.inode] = process.netns
                break
            process = by_pid.get(process.parent)
    return found


def _agent(spot: Spot, processes: Iterable[Process]) -> int:
    """Return the pid of a node's kubelet, or any process there: its root shows the node's own files."""
    mine = [process for process in processes if process.netns == spot.inode and not pod_uid(process.cgroups)]
    return next((process.pid for process in mine if process.name in NODE_AGENTS), mine[0].pid if mine else spot.pid)


def _addresses(spot: Spot) -> tuple[str, ...]:
    try:
        fd = _open(spot)
    except NetnsGone:
        return ()
    try:
        with Rtnl(fd) as sock:
            own = ("127.", "::1", "fe80:")
            return tuple(found.ip for found in link.addresses(sock) if not found.ip.startswith(own))
    except NetlabError:
        return ()
    finally:
        os.close(fd)


@contextlib.contextmanager
def opened(spots: Iterable[Spot]) -> Iterator[list[tuple[Spot, int]]]:
    """Open the namespaces for the body; one that went away meanwhile, or whose pid is another's by now, is left out."""
    with contextlib.ExitStack() as stack:
        found: list[tuple[Spot, int]] = []
        for spot in spots:
            with contextlib.suppress(NetnsGone):
                fd = _open(spot)
                stack.callback(os.close, fd)
                found.append((spot, fd))
        yield found


def _open(spot: Spot) -> int:
    """Return a descriptor of a namespace, by whichever of its processes is still there.

    Raises:
        NetnsGone: none is.
    """
    for path in (spot.path, *(f"/proc/{pid}/ns/net" for pid in spot.others)):
        with contextlib.suppress(NetnsGone):
            fd = netns.open_netns(path)
            if os.fstat(fd).st_ino == spot.inode:
                return fd
            os.close(fd)
    raise NetnsGone(spot.path)
