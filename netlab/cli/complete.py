"""What a shell offers for a PLACE or a destination: asked of the lab at the moment of the key press."""

from __future__ import annotations

import click


def places(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Return the nodes and Pods of the lab, and the other places, that begin as given."""
    return _matching(ctx, incomplete, services=False)


def destinations(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Return the places and Services of the lab that begin as given."""
    return _matching(ctx, incomplete, services=True)


def services(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Return the Services of the lab that begin as given."""
    return [each for each in _matching(ctx, incomplete, services=True) if each.startswith("svc/")]


def nodes(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Return the names of the lab's nodes that begin as given, with node/ in front or without."""
    from netlab.errors import NetlabError
    from netlab.lab import state

    try:
        known = [node.name for node in state.find(_lab(ctx)).nodes]
    except (NetlabError, OSError):
        return []
    prefix = "node/" if incomplete.startswith("node/") else ""
    return [prefix + each for each in known if (prefix + each).startswith(incomplete)]


def _matching(ctx: click.Context, incomplete: str, *, services: bool) -> list[str]:
    import asyncio

    from netlab.errors import NetlabError
    from netlab.lab import state

    try:
        lab = state.find(_lab(ctx))
        found = [f"node/{node.name}" for node in lab.nodes] + ["outside", "fabric"]
        found += asyncio.run(_objects(lab, services=services))
    except (NetlabError, OSError, TimeoutError):  # a shell has no use for a reason
        return []
    return sorted(each for each in found if each.startswith(incomplete))


def _lab(ctx: click.Context) -> str:
    current: click.Context | None = ctx
    while current is not None:
        if current.params.get("name"):
            return str(current.params["name"])
        current = current.parent
    return ""


async def _objects(lab: object, *, services: bool) -> list[str]:
    import asyncio

    from netlab.api import meta
    from netlab.errors import NetlabError
    from netlab.lab.places import Places

    found: list[str] = []
    try:
        async with asyncio.timeout(3), Places(lab).client() as client:  # type: ignore[arg-type]
            for resource, kind in (("pods", "pod"), *((("services", "svc"),) if services else ())):
                items, _ = await client.list(resource)
                found += [f"{kind}/{meta.key(item).removeprefix('default/')}" for item in items]
    except (NetlabError, TimeoutError):  # the nodes are known without an API server
        return found
    return found
