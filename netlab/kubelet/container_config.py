"""A container's spec in the runtime's words; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from netlab.api import meta, quantity
from netlab.api.meta import Object
from netlab.kubelet import observe, spec
from netlab.kubelet.env import expand
from netlab.runtime import cri

HOSTS = "/etc/hosts"
MESSAGE_PATH = "/dev/termination-log"
_PERIOD = 100_000
_LEAST_SHARES, _LEAST_QUOTA = 2, 1000


@dataclass(frozen=True)
class Place:
    """Where a container's things are on the node."""

    attempt: int
    log: Path
    message: Path
    hosts: Path | None = None
    mounts: tuple[cri.Mount, ...] = ()
    image_user: str = ""
    memory: int = 0
    """The machine's memory in bytes, for the OOM score; 0 when unknown."""


def container_config(pod: Object, wanted: Object, environment: Mapping[str, str], place: Place) -> cri.ContainerConfig:
    """Return what the runtime is asked for.

    Raises:
        ValueError: runAsNonRoot, and it would run as root; worded as upstream's event.
    """
    mounts = list(place.mounts)
    taken = {m.container_path for m in mounts}
    message = str(wanted.get("terminationMessagePath") or MESSAGE_PATH)
    if message not in taken:
        mounts.append(cri.Mount(container_path=message, host_path=str(place.message)))
    if place.hosts is not None and HOSTS not in taken:
        mounts.append(cri.Mount(container_path=HOSTS, host_path=str(place.hosts)))
    return cri.ContainerConfig(
        name=wanted["name"], image=str(wanted.get("image", "")), attempt=place.attempt,
        command=tuple(expand(str(word), environment) for word in wanted.get("command") or ()),
        args=tuple(expand(str(word), environment) for word in wanted.get("args") or ()),
        working_dir=str(wanted.get("workingDir") or ""), envs=tuple(environment.items()), mounts=tuple(mounts),
        log_path=str(place.log), stdin=bool(wanted.get("stdin")), stdin_once=bool(wanted.get("stdinOnce")),
        tty=bool(wanted.get("tty")), security=_security(pod, wanted, place.image_user),
        resources=resources(pod, wanted, place.memory), labels=labels(pod) | {observe.CONTAINER_NAME: wanted["name"]},
        annotations={observe.CONTAINER_HASH: spec.container_hash(wanted), observe.MESSAGE_PATH: str(place.message),
                     observe.MESSAGE_POLICY: str(wanted.get("terminationMessagePolicy") or "File")})


def labels(pod: Object) -> dict[str, str]:
    """Return the labels by which the runtime's things are known as a Pod's."""
    return {observe.POD_NAME: meta.name(pod), observe.POD_NAMESPACE: meta.namespace(pod),
            observe.POD_UID: meta.uid(pod)}


def resources(pod: Object, wanted: Object, memory: int) -> cri.Resources:
    """Return a container's limits for its cgroup."""
    declared = wanted.get("resources") or {}
    limits, requests = declared.get("limits") or {}, declared.get("requests") or {}
    cpu_limit = quantity.parse(limits["cpu"]).milli() if "cpu" in limits else 0
    cpu = quantity.parse(requests["cpu"]).milli() if "cpu" in requests else cpu_limit
    return cri.Resources(
        memory_limit=int(quantity.parse(limits["memory"]).value()) if "memory" in limits else 0,
        cpu_shares=max(_LEAST_SHARES, cpu * 1024 // 1000),
        cpu_quota=max(_LEAST_QUOTA, cpu_limit * _PERIOD // 1000) if cpu_limit else 0, cpu_period=_PERIOD,
        oom_score_adj=oom_score(pod, wanted, memory))


def oom_score(pod: Object, wanted: Object, memory: int) -> int:
    """Return who dies first when memory runs out (k8s:pkg/kubelet/qos/policy.go)."""
    if int(spec.spec(pod).get("priority") or 0) >= 2_000_001_000 or quality(pod) == "Guaranteed":
        return -997
    if quality(pod) == "BestEffort":
        return 1000
    request = ((wanted.get("resources") or {}).get("requests") or {}).get("memory")
    if request is None or not memory:
        return 999
    return min(max(1000 - int(1000 * quantity.parse(request).value() // memory), 3), 999)


def quality(pod: Object) -> str:
    """Return Guaranteed, Burstable or BestEffort: the API server's word, or for a static Pod the same rule."""
    given = (pod.get("status") or {}).get("qosClass")
    if given:
        return str(given)
    guaranteed = True
    some = False
    for wanted in (*spec.init_containers(pod), *spec.containers(pod)):
        declared = wanted.get("resources") or {}
        limits, requests = declared.get("limits") or {}, declared.get("requests") or {}
        some |= any(key in ("cpu", "memory") for key in (*limits, *requests))
        guaranteed &= all(
            key in limits and quantity.parse(requests.get(key, limits[key])) == quantity.parse(limits[key])
            for key in ("cpu", "memory"))
    return "Guaranteed" if some and guaranteed else "Burstable" if some else "BestEffort"


def _security(pod: Object, wanted: Object, image_user: str) -> cri.Security:
    own, shared = wanted.get("securityContext") or {}, spec.spec(pod).get("securityContext") or {}
    user, group = spec.security(pod, wanted, "runAsUser"), spec.security(pod, wanted, "runAsGroup")
    if spec.security(pod, wanted, "runAsNonRoot"):
        where = f'(pod: "{spec.shown(pod)}", container: {wanted["name"]})'
        if user == 0:
            raise ValueError(f"container's runAsUser breaks non-root policy {where}")
        name = image_user.partition(":")[0]
        if user is None and name in ("", "0", "root"):
            raise ValueError(f"container has runAsNonRoot and image will run as root {where}")
        if user is None and not name.isdigit():
            raise ValueError(f"container has runAsNonRoot and image has non-numeric user ({name}), cannot verify user "
                             f"is non-root {where}")
    groups = [int(g) for g in shared.get("supplementalGroups") or []]
    if shared.get("fsGroup") is not None:
        groups.append(int(shared["fsGroup"]))
    capabilities = own.get("capabilities") or {}
    return cri.Security(
        run_as_user=None if user is None else int(user), run_as_group=None if group is None else int(group),
        supplemental_groups=tuple(dict.fromkeys(groups)), privileged=bool(own.get("privileged")),
        add_capabilities=tuple(capabilities.get("add") or ()), drop_capabilities=tuple(capabilities.get("drop") or ()),
        readonly_rootfs=bool(own.get("readOnlyRootFilesystem")),
        no_new_privs=own.get("allowPrivilegeEscalation") is False,
        unmasked_proc=own.get("procMount") == "Unmasked")
