"""Which interface is at the other end of which cable, told from the kernel alone: veth pairs name each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from netlab.errors import NetlabError
from netlab.kernel import link
from netlab.kernel.rtnl import Rtnl


def far_ends(places: Sequence[tuple[str, int]], nodes: Mapping[str, str]) -> dict[str, str]:
    """Return the place at the far end of each cable, by `place interface`.

    An end knows the other's index in a namespace that it does not name; the pair is the one that names each other. A
    Pod's cable is looked for on its node first; elsewhere a pair counts only if there is no second one like it.

    Args:
        places: names and descriptors of namespaces.
        nodes: the place of the node (`node/worker1`) of each Pod's place.
    """
    links: dict[str, dict[int, link.Link]] = {}
    for place, fd in places:
        try:
            with Rtnl(fd) as sock:
                links[place] = {entry.ifindex: entry for entry in link.links(sock)}
        except NetlabError:
            continue
    found: dict[str, str] = {}
    for place, mine in links.items():
        for entry in mine.values():
            if entry.kind != "veth" or not entry.peer:
                continue
            others = [nodes[place]] if nodes.get(place) in links else [other for other in links if other != place]
            ends = [other for other in others if (end := links[other].get(entry.peer)) is not None
                    and end.kind == "veth" and end.peer == entry.ifindex]
            if len(ends) == 1:
                found[f"{place} {entry.name}"] = ends[0]
                if nodes.get(place) == ends[0]:
                    found[f"{ends[0]} {links[ends[0]][entry.peer].name}"] = place
    return found
