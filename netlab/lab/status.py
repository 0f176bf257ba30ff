"""A lab at a glance: its nodes, what runs on them, the ways in, the memory it takes."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from netlab.api import meta
from netlab.api.meta import Object
from netlab.errors import NetlabError
from netlab.lab import boot, control, usage
from netlab.lab.places import Places
from netlab.lab.state import LabRecord, phase


async def collect(record: LabRecord) -> dict[str, Any]:
    """Return the state of a lab as plain data; a part that does not answer has a `trouble` instead."""
    result: dict[str, Any] = {
        "name": record.name, "state": phase(record), "scenario": record.scenario, "rootless": record.rootless,
        "created": record.created, "apiServer": f"https://127.0.0.1:{record.port}",
        "gate": "up" if _listens(record.port) else "down", "kubeconfig": str(record.admin_conf),
        "context": f"netlab-{record.name}" if record.kubeconfig else "", "trouble": []}
    shims: dict[str, Any] = {}
    try:
        with control.connect(record.run_dir / "holder.sock") as sock:
            shims = control.ask(sock, {"op": "status"})[0]["nodes"]
    except NetlabError as error:
        result["trouble"].append(str(error))
    nodes: list[Object] = []
    pods: list[Object] = []
    try:
        async with asyncio.timeout(5), Places(record).client() as client:
            (nodes, _), (pods, _) = await asyncio.gather(client.list("nodes"), client.list("pods"))
    except (NetlabError, TimeoutError) as error:
        result["trouble"].append(f"the API server does not answer: {error}".rstrip(": "))
    result["nodes"] = [_node(row.name, row.role, row.ip, shims.get(row.name, {}), nodes, pods) for row in record.nodes]
    result["pods"] = [_pod(pod) for pod in sorted(pods, key=meta.key)]
    used = usage.by_name(usage.processes(record))
    result["memory"] = {"total": sum(used.values()), "byProcess": used}
    return result


def _listens(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


def _node(name: str, role: str, ip: str, shim: Object, nodes: list[Object], pods: list[Object]) -> Object:
    found = next((node for node in nodes if meta.name(node) == name), None)
    if not shim.get("up"):
        state = "Down"
    elif found is None:
        state = "Unregistered"
    else:
        state = "Ready" if boot.condition(found, "Ready") else "NotReady"
    return {"name": name, "role": role, "state": state, "ip": ip, "boots": shim.get("starts", 0),
            "trouble": shim.get("trouble", ""), "podCIDR": (found or {}).get("spec", {}).get("podCIDR", ""),
            "pods": sum((pod.get("spec") or {}).get("nodeName") == name for pod in pods)}


def _pod(pod: Object) -> Object:
    status = pod.get("status") or {}
    rows = status.get("containerStatuses") or []
    fine = boot.condition(pod, "Ready") or status.get("phase") == "Succeeded"
    if meta.deleting(pod):
        word, words = "Terminating", ""
    else:
        word, words = (str(status.get("phase")), "") if fine else boot.trouble(pod)
    return {"namespace": meta.namespace(pod), "name": meta.name(pod), "node": pod["spec"].get("nodeName", ""),
            "ip": status.get("podIP", ""), "ready": f"{sum(bool(row.get('ready')) for row in rows)}/"
                                                    f"{len(pod['spec'].get('containers') or [])}",
            "restarts": sum(int(row.get("restartCount", 0)) for row in rows),
            "state": word, "detail": words}
