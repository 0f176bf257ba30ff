"""The machine itself as the source of a trace. Its one way into a lab is the gate, which leads to the API server."""

from __future__ import annotations

from dataclasses import replace

from netlab.errors import UsageError
from netlab.kernel import lookup
from netlab.lab import plan
from netlab.lab.state import LabRecord
from netlab.trace.target import Objects, Target

RELAY = "fabric"
"""Where the gate's other side is."""


def target(lab: LabRecord, host: int, wanted: Target, known: Objects, protocol: str) -> Target:
    """Return where a packet of the host's own goes: for the API server to the gate, else as it was wanted.

    Args:
        lab: which.
        host: the host's own network namespace.
        wanted: what the user asked for.
        known: what the API server knows.
        protocol: what is sent.

    Raises:
        UsageError: it would leave the machine by one of its interfaces, or has no address.
    """
    if not wanted.address:
        raise UsageError(f"{wanted.name} is no Service that the API server knows, and the host's own DNS is not asked",
                         hint="names are resolved from Pods and nodes: netlab trace node/NAME " + wanted.label)
    if protocol == "tcp" and (wanted.address, wanted.port) in _api_servers(lab, known):
        return replace(wanted, address="127.0.0.1", port=lab.port, name="", http=False)
    found = lookup.Lookup(host)
    way = found.route(wanted.address)
    out = next((entry for entry in found.links.values() if entry.name == way.interface), None)
    if out is not None and out.name != "lo" and not out.alias.startswith("netlab:"):
        raise UsageError(
            f"the host's only way into the lab is the gate, 127.0.0.1:{lab.port}, which leads to the API server; "
            f"its route to {wanted.address} leaves this machine by {out.name}",
            hint=f"netlab trace host svc/kubernetes, or trace from outside, a host beyond the cluster: "
                 f"netlab trace outside {wanted.label}")
    return wanted


def relay(lab: LabRecord, chosen: Target) -> str:
    """Return the place from which a connection to this target is passed on, "" when it is not the gate's."""
    return RELAY if (chosen.address, chosen.port) == ("127.0.0.1", lab.port) else ""


def _api_servers(lab: LabRecord, known: Objects) -> set[tuple[str, int]]:
    found = {(ip, plan.API_PORT) for node in lab.nodes if node.role == "control-plane" for ip in node.ips}
    for service in known.services:
        meta, spec = service["metadata"], service.get("spec", {})
        if (meta.get("namespace"), meta["name"]) == ("default", "kubernetes"):
            found |= {(ip, port["port"]) for ip in spec.get("clusterIPs", ()) for port in spec.get("ports", ())}
    return found
