"""`netlab status`: a lab at a glance."""

from __future__ import annotations

import time
from typing import Any

import click

from netlab.cli.options import lab_name
from netlab.cli.options import output as output_option


@click.command("status")
@output_option("json", "yaml", "wide")
@lab_name
def command(name: str, output: str) -> int:
    """Show a lab's nodes, components, Pods, ports and memory. The exit code is 1 when something is not well."""
    import asyncio

    from netlab.cli.output import emit
    from netlab.lab import state, status

    found = asyncio.run(status.collect(state.find(name)))
    if output in ("json", "yaml"):
        emit(found, output)
    else:
        click.echo(render(found, wide=output == "wide", now=time.time()))
    well = all(node["state"] == "Ready" for node in found["nodes"]) and not found["trouble"]
    return 0 if well else 1


def render(found: dict[str, Any], *, wide: bool, now: float) -> str:
    """Return the page for a terminal."""
    from netlab.cli.output import duration, size, table

    memory = found["memory"]
    head = [("Lab", f"{found['name']} ({found['scenario']}), {found['state']}, up {duration(now - found['created'])}"
                    + (", rootless" if found["rootless"] else "")),
            ("API server", found["apiServer"] + ("" if found["gate"] == "up" else " (the gate is down)")),
            ("Context", found["context"] or "none"), ("Kubeconfig", found["kubeconfig"]),
            ("Memory", size(memory["total"]))]
    parts = ["\n".join(f"{key + ':':<12} {value}" for key, value in head)]
    parts.append(table(["NODE", "ROLE", "STATUS", "IP", "POD CIDR", "PODS", "BOOTS"],
                       [[node["name"], node["role"], node["state"], node["ip"], node["podCIDR"], node["pods"],
                         node["boots"]] for node in found["nodes"]]))
    shown = found["pods"] if wide else [pod for pod in found["pods"] if pod["namespace"] != "kube-system"
                                        or pod["state"] != "Running"]
    if shown:
        parts.append(table(["NAMESPACE", "POD", "READY", "STATUS", "RESTARTS", "IP", "NODE"],
                           [[pod["namespace"], pod["name"], pod["ready"], pod["state"], pod["restarts"], pod["ip"],
                             pod["node"]] for pod in shown]))
    system = [pod for pod in found["pods"] if pod["namespace"] == "kube-system"]
    if system and not wide:
        running = sum(pod["state"] == "Running" for pod in system)
        parts.append(f"kube-system: {running} of {len(system)} Pods run (-o wide lists them)")
    if wide:
        parts.append(table(["PROCESS", "MEMORY"], [[name, size(used)] for name, used in memory["byProcess"].items()]))
    trouble = [*found["trouble"], *(f"node {node['name']}: {node['trouble']}" for node in found["nodes"]
                                    if node["trouble"]),
               *(f"pod {pod['namespace']}/{pod['name']}: {pod['detail']}" for pod in found["pods"] if pod["detail"])]
    if trouble:
        parts.append("\n".join(f"! {line}" for line in trouble))
    return "\n\n".join(parts)
