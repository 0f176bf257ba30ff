"""Small Pods and records for tests."""

from __future__ import annotations

from typing import Any

from netlab.api.meta import Object
from netlab.kubelet import spec
from netlab.kubelet.records import Container, PodRecord, Sandbox, ordered

UID = "11111111-2222-3333-4444-555555555555"


def a_container(name: str = "web", **fields: Any) -> Object:
    """Return a container's spec."""
    return {"name": name, "image": f"{name}:1", **fields}


def a_sidecar(name: str = "proxy", **fields: Any) -> Object:
    """Return an init container that stays."""
    return a_container(name, restartPolicy="Always", **fields)


def a_pod(*containers: Object, name: str = "web-1", namespace: str = "default", metadata: Object | None = None,
          status: Object | None = None, **fields: Any) -> Object:
    """Return a Pod, as the API server would store it."""
    pod = {"apiVersion": "v1", "kind": "Pod",
           "metadata": {"name": name, "namespace": namespace, "uid": UID, "resourceVersion": "5", **(metadata or {})},
           "spec": {"containers": list(containers) or [a_container()], "restartPolicy": "Always", **fields}}
    return pod | ({"status": status} if status else {})


def ran(wanted: Object | str, state: str = "running", *, attempt: int = 0, code: int = 0, sandbox: str = "s0",
        at: float = 100.0, ended: float = 0.0, **fields: Any) -> Container:
    """Return one run of a container, as the runtime has it."""
    wanted = a_container(wanted) if isinstance(wanted, str) else wanted
    name = wanted["name"]
    return Container(id=f"{name}-{attempt}", name=name, sandbox_id=sandbox, attempt=attempt, state=state,
                     image=wanted["image"], hash=spec.container_hash(wanted), created_at=at, started_at=at,
                     finished_at=ended or (at + 1 if state == "exited" else 0.0), exit_code=code, **fields)


def a_record(*containers: Container, sandbox: str | None = "s0", ready: bool = True,
             ips: tuple[str, ...] = ("10.244.1.2",), attempt: int = 0) -> PodRecord:
    """Return what the runtime has of the Pod."""
    sandboxes = [Sandbox(sandbox, attempt, ready, 90.0, "/proc/1/fd/9", ips)] if sandbox else []
    return ordered(UID, "web-1", "default", sandboxes, containers)
