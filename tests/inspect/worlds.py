"""A small cluster as objects and rules, and ways to meddle with the rules."""

from __future__ import annotations

from typing import Any

from netlab.inspect.world import World
from netlab.netfilter import parse
from netlab.netfilter.model import Ruleset
from netlab.netfilter.render import ruleset
from tests.proxy.builders import (
    a_node,
    a_port,
    a_service,
    a_settings,
    a_slice,
    an_endpoint,
    rules_for,
)


def versioned(each: dict[str, Any], version: str, **more: Any) -> dict[str, Any]:
    each["metadata"] |= {"resourceVersion": version, **more}
    return each


def objects(*ips: str, **spec: Any) -> list[dict[str, Any]]:
    """A Service of two ports with these endpoints, a Service without any, and the node."""
    ports = [a_port(node_port=30080), a_port(53, "dns", "UDP")]
    ends = [an_endpoint(ip) | {"targetRef": {"kind": "Pod", "namespace": "default", "name": f"web-{at}"}}
            for at, ip in enumerate(ips)]
    spec = {"type": "NodePort", **spec}
    return [versioned(a_service(ports=ports, **spec), "11"),
            versioned(a_slice(endpoints=ends, ports=[{"name": "http", "port": 8080, "protocol": "TCP"},
                                                     {"name": "dns", "port": 53, "protocol": "UDP"}]), "12"),
            versioned(a_service("empty", ip="10.96.0.99"), "13"), versioned(a_slice("empty", endpoints=[]), "14"),
            versioned(a_node(), "15")]


def world(listed: list[dict[str, Any]], **settings: Any) -> World:
    return World.of(listed, a_settings(**settings))


def changed(listed: list[dict[str, Any]], table: str, *commands: str, **settings: Any) -> Ruleset:
    """Return the rules for these objects after some commands such as `-I FORWARD -j DROP`, `:MINE -` in a table."""
    text = ruleset(rules_for(*listed, **settings))
    return parse.parse(text + "\n".join((f"*{table}", *commands, "COMMIT\n")))
