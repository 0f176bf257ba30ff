"""A lab on an external etcd, or on a snapshot, before it boots: who else is there, and does it fit?"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from netlab.errors import UsageError
from netlab.lab import endpoints, state
from netlab.lab.external import FIELDS, PREFIX, External, Way, named
from netlab.lab.plan import Lab
from netlab.lab.swap import Swap

if TYPE_CHECKING:
    from netlab.apiserver import preflight

_DATABASES = {"embedded": "var/lib/apiserver/store.db", "netlab-etcd": "var/lib/etcd/store.db"}
"""Where the file of netlab's own store is on the control-plane node."""


def prepare(lab: Lab, name: str, *, swaps: Sequence[Swap], notes: list[str]) -> tuple[Lab, str]:
    """Return the lab with the ways to its external etcd, and the number of that etcd's cluster; all others unchanged.

    Args:
        lab: on paper.
        name: what it will be called.
        swaps: with another API server in place of ours, the values in the etcd are that one's matter.
        notes: takes what the user should know of.

    Raises:
        UsageError: a flag about it is wrong, another lab is on it, or its objects do not go with this lab's networks.
        TemporaryError: it does not answer.
    """
    etcd = lab.external
    if etcd is None:
        return lab, ""
    lab = replace(lab, ways=ways(lab, etcd))
    from netlab.apiserver import preflight  # gRPC is imported where it is spoken

    found = preflight.look(_target(etcd), opaque=_opaque(swaps))
    other = tenant(state.all_labs(), name, found.cluster, etcd)
    if other:
        raise UsageError(f'the lab "{other}" keeps its objects under {etcd.prefix} of that etcd, and runs',
                         hint=f"netlab down --name {other} first, or choose another place: --etcd-prefix=/{name}")
    unfit(lab, found, f"{named('prefix')}: the objects under {etcd.prefix} are",
          f", or another prefix: {FIELDS['prefix']}=/{lab.name}")
    notes += remarks(lab, etcd, found)
    return lab, found.cluster


def adopt(lab: Lab, ca: str, *, swaps: Sequence[Swap]) -> None:
    """Make what is in a lab's external etcd go with the lab's own keys, of which `ca` is the CA in PEM.

    Raises:
        TemporaryError: the etcd does not answer.
    """
    if lab.external is None or _opaque(swaps):
        return
    import asyncio

    from netlab.apiserver import adopt as adopting

    asyncio.run(adopting.etcd(_target(lab.external), ca))


def _target(etcd: External) -> preflight.Target:
    from netlab.apiserver import preflight

    return preflight.Target(etcd.endpoints, etcd.prefix, etcd.ca, etcd.certificate, etcd.key)


def _opaque(swaps: Sequence[Swap]) -> bool:
    """Tell whether the values in the etcd are those of another API server than ours."""
    return any(one.component == "kube-apiserver" for one in swaps)


def ways(lab: Lab, etcd: External) -> tuple[Way, ...]:
    """Return the ways from a lab to an etcd. Raises UsageError: there is none."""
    ranges = [*((cidr, "the Pods' range") for cidr in lab.pod_cidrs),
              *((cidr, "the Services' range") for cidr in lab.service_cidrs)]
    own = [*((word, f"node {node.name}") for node in lab.nodes for word in (node.name, *node.ips)),
           *((ip, "the nodes' router") for one in lab.numbers for ip in (one.router, one.outside_router)),
           *((word, "the host `outside`") for one in lab.numbers for word in ("outside", one.outside))]
    return endpoints.ways(etcd, families=lab.families, ranges=ranges, own=own)


def tenant(labs: Iterable[state.LabRecord], name: str, cluster: str, etcd: External) -> str:
    """Return the name of another lab that lives on the same keys, "" when none does."""
    return next((one.name for one in labs if one.name != name and one.external is not None
                 and (one.etcd_cluster, one.external.prefix) == (cluster, etcd.prefix)
                 and (one.alive() or one.launcher.alive())), "")


def unfit(lab: Lab, found: preflight.Found, where: str, otherwise: str = "") -> None:
    """Check that what is in a store goes with a lab's networks; `where` begins the words about what does not.

    Raises:
        UsageError: it has Nodes with Pods elsewhere, or Services. Neither can be changed once it is there.
    """
    nodes, services = found.nodes, found.service_ips
    where, hint = f"{where} of a cluster", f"give this lab that network in a scenario file{otherwise}"
    networks = [ipaddress.ip_network(cidr) for cidr in lab.pod_cidrs]
    for node, cidrs in nodes.items():
        for cidr in map(ipaddress.ip_network, cidrs):
            if not any(cidr.version == one.version and cidr.subnet_of(one) for one in networks):  # type: ignore[arg-type]
                raise UsageError(f"{where} whose node {node} has Pods in {cidr}, outside of this lab's podSubnet "
                                 f"{','.join(lab.pod_cidrs)}", hint=hint)
    if not set(services) <= set(lab.api_services):
        raise UsageError(f"{where} whose API server is {', '.join(services)}, which is not of this lab's serviceSubnet "
                         f"{','.join(lab.service_cidrs)}", hint=hint)


def remarks(lab: Lab, etcd: External, found: preflight.Found) -> list[str]:
    """Return what a user should know of an etcd that will do."""
    words = [f"etcd at {line}" for line in found.silent]
    if found.keys:
        words.append(f"{found.keys} keys were under {etcd.prefix} of the etcd already: this lab goes on with them")
    elif found.elsewhere:
        words.append(f"nothing was under {etcd.prefix} of the etcd, but there is a cluster under {found.elsewhere}: "
                     f"{FIELDS['prefix']}={found.elsewhere} goes on with that one")
    return [*words, *strangers(lab, found)]


def strangers(lab: Lab, found: preflight.Found) -> list[str]:
    """Return a remark on Nodes that a lab does not have, if there are such."""
    names = sorted(set(found.nodes) - {node.name for node in lab.nodes})
    return [(f"not in this lab, though the store has them: nodes {', '.join(names)}; if they are gone for good: "
             f"netlab kubectl delete node {' '.join(names)}")] if names else []


def check_snapshot(lab: Lab, file: str) -> None:
    """Make sure that a lab's store may begin with a snapshot, "" for none.

    Raises:
        UsageError: it is an etcd, which brings programs of its own for that, or the file can't be read.
    """
    if not file:
        return
    if lab.store not in _DATABASES:
        raise UsageError(
            f"--store-snapshot begins netlab's own store with a file, not {lab.store}",
            hint=f"etcdutl (before 3.5: etcdctl) snapshot restore {file} --data-dir=DIR makes a directory of it; start "
                 f"an etcd with that, and the lab with {FIELDS['endpoints']}=http://127.0.0.1:2379")
    try:
        with open(file, "rb") as opened:
            opened.read(1)
    except OSError as error:
        raise UsageError(f"--store-snapshot: cannot read {file}: {error.strerror}") from None


def restore(lab: Lab, file: str, folder: Path, ca: str) -> list[str]:
    """Begin the store of a lab with a snapshot, before its first boot; returns what the user should know of it.

    Args:
        lab: on paper, checked.
        file: what `etcdctl snapshot save` wrote; "" for a store that begins empty.
        folder: of the control-plane node.
        ca: the lab's new CA in PEM.

    Raises:
        UsageError: that is no snapshot of a lab, or of one with other networks.
    """
    if not file:
        return []
    import asyncio

    from netlab.apiserver import adopt as adopting

    path = folder / _DATABASES[lab.store]
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = asyncio.run(adopting.snapshot(Path(file), path, ca))
    unfit(lab, found, f"--store-snapshot: the objects in {file} are")
    return [f"{found.keys} keys were in {file}: this lab goes on with them", *strangers(lab, found)]


def epilogue(etcd: External) -> str:
    """Return what to say of an external etcd when its lab is down."""
    servers = ",".join(etcd.endpoints)
    values = {"endpoints": servers, "caFile": etcd.ca, "certFile": etcd.certificate, "keyFile": etcd.key,
              "prefix": etcd.prefix if etcd.prefix != PREFIX else ""}
    flags = [f"{FIELDS[field]}={value}" for field, value in values.items() if value]
    return (f"its objects are still under {etcd.prefix} in the etcd at {servers}\n"
            f"  a lab goes on with them:  netlab up {' '.join(flags)}\n"
            f"  to remove them:           ETCDCTL_API=3 {etcd.etcdctl()} del {etcd.prefix}/ --prefix")
