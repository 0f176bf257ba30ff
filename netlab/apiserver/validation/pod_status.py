"""The status of Pods: what a kubelet may write (core/validation)."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from typing import Any

from netlab.api.meta import Object
from netlab.apiserver.validation import meta, names
from netlab.apiserver.validation.errors import (
    FieldError,
    duplicate,
    forbidden,
    invalid,
    not_supported,
    required,
    wrong,
)

_OWN_CONDITIONS = ("PodScheduled", "Ready", "Initialized")
_LISTS = (("containerStatuses", "containers"), ("initContainerStatuses", "initContainers"))
_HEALTH = ("Healthy", "Unhealthy", "Unknown")
_ENDED = "may not be transitioned to non-terminated state"
_NEGATIVE = "must be a non-negative integer"
_FAMILIES = "may specify no more than one IP for each IP family"


def status_update(obj: Object, old: Object) -> Iterator[FieldError]:
    """Check a written status against the Pod and what the status was."""
    spec, state, before = obj["spec"], obj.get("status") or {}, old.get("status") or {}
    for at, condition in enumerate(state.get("conditions") or ()):
        field, kind = f"status.conditions[{at}]", condition.get("type", "")
        if condition.get("observedGeneration", 0) < 0:
            yield invalid(f"{field}.observedGeneration", condition["observedGeneration"], _NEGATIVE)
        if kind not in _OWN_CONDITIONS:
            yield from wrong(f"{field}.Type", kind, names.qualified_name(kind))
    node, had = state.get("nominatedNodeName", ""), before.get("nominatedNodeName", "")
    if node and node != had:
        yield from wrong("status.nominatedNodeName", node, names.dns_subdomain(node))
        if old["spec"].get("nodeName"):
            yield forbidden("status.nominatedNodeName", "may not be set on pods that are already bound to a node")
    if state.get("observedGeneration", 0) < 0:
        yield invalid("status.observedGeneration", state["observedGeneration"], _NEGATIVE)
    if before.get("qosClass"):
        yield from meta.immutable(state.get("qosClass"), before["qosClass"], "status.qosClass")
    for part, holders in _LISTS:
        yield from _transitions(state.get(part) or (), before.get(part) or (), part, spec, holders)
    yield from _transitions(
        state.get("ephemeralContainerStatuses") or (),
        before.get("ephemeralContainerStatuses") or (),
        "ephemeralContainerStatuses",
        spec,
        "",
    )
    yield from _claims(state.get("resourceClaimStatuses") or (), spec)
    yield from _addresses(state.get("podIPs") or [], "status.podIPs")
    hosts = state.get("hostIPs") or []
    if hosts and state.get("hostIP", "") != hosts[0].get("ip", ""):
        yield invalid("status.hostIPs[0].ip", hosts[0].get("ip", ""), "must be equal to `hostIP`")
    yield from _addresses(hosts, "status.hostIPs")
    yield from _details(state, spec)


def _transitions(new: Sequence[Any], old: Sequence[Any], part: str, spec: Object, holders: str) -> Iterator[FieldError]:
    """Check that containers that have ended run again only where their policy lets them."""
    if not any((one.get("state") or {}).get("terminated") is not None for one in old) or _all_may_restart(spec):
        return
    running = {one.get("name") for one in new if (one.get("state") or {}).get("terminated") is None}
    known = {one.get("name"): one for one in spec.get(holders) or ()} if holders else {}
    for at, one in enumerate(old):
        end = (one.get("state") or {}).get("terminated")
        if end is None or one.get("name") not in running:
            continue
        container = known.get(one.get("name"))
        if container is None or not _may_restart(container, spec, end.get("exitCode", 0)):
            yield forbidden(f"status.{part}[{at}].state", _ENDED)


def _all_may_restart(spec: Object) -> bool:
    return any(
        rule.get("action") == "RestartAllContainers"
        for holders in ("containers", "initContainers")
        for container in spec.get(holders) or ()
        for rule in container.get("restartPolicyRules") or ()
    )


def _may_restart(container: Object, spec: Object, code: int) -> bool:
    """Tell whether a container runs again after this exit code: by its rules, its policy, or its Pod's."""
    for rule in container.get("restartPolicyRules") or ():
        codes = rule.get("exitCodes")
        if codes is not None and (code in (codes.get("values") or ())) == (codes.get("operator") == "In"):
            return bool(rule.get("action") == "Restart")
    policy = container.get("restartPolicy") or spec.get("restartPolicy")
    return policy == "Always" or (policy == "OnFailure" and code != 0)


def _claims(found: Sequence[Any], spec: Object) -> Iterator[FieldError]:
    known = {claim.get("name") for claim in spec.get("resourceClaims") or ()}
    seen: set[str] = set()
    for at, one in enumerate(found):
        field, name, claim = f"status.resourceClaimStatuses[{at}]", one.get("name", ""), one.get("resourceClaimName")
        if name not in known:
            yield invalid(f"{field}.name", name, "must match the name of an entry in `spec.resourceClaims`")
        if name in seen:
            yield duplicate(f"{field}.name", name)
        seen.add(name)
        if claim is not None:
            yield from wrong(f"{field}.resourceClaimName", claim, names.dns_subdomain(claim))


def _addresses(found: list[Any], path: str) -> Iterator[FieldError]:
    """Check that there is at most one address of each family."""
    texts = [one.get("ip", "") for one in found]
    bad = False
    for at, text in enumerate(texts):
        complaints = names.ip_address(text)
        bad = bad or bool(complaints)
        yield from wrong(f"{path}[{at}]", text, complaints)
    if len(texts) > 1 and not bad and sorted(ipaddress.ip_address(text).version for text in texts) != [4, 6]:
        yield invalid(path, [{"IP": text} for text in texts], _FAMILIES)


def _details(state: Object, spec: Object) -> Iterator[FieldError]:
    """Check who a container runs as, and how its devices are."""
    system = (spec.get("os") or {}).get("name") or "linux"
    for part, holders in (*_LISTS, ("ephemeralContainerStatuses", "")):
        known = {one.get("name"): one for one in spec.get(holders) or ()} if holders else {}
        for at, one in enumerate(state.get(part) or ()):
            field, user = f"status.{part}[{at}]", (one.get("user") or {}).get("linux")
            if user is not None and system == "windows":
                yield forbidden(f"{field}.linux", "cannot be set for a windows pod")
            elif user is not None:
                for name in ("uid", "gid"):
                    yield from wrong(f"{field}.linux.{name}", user.get(name, 0), names.unix_id(user.get(name, 0)))
                for number, group in enumerate(user.get("supplementalGroups") or ()):
                    yield from wrong(f"{field}.linux.supplementalGroups[{number}]", group, names.unix_id(group))
            devices = one.get("allocatedResourcesStatus") or ()
            if devices and not holders:
                yield forbidden(f"{field}.allocatedResourcesStatus", "must not be specified in container status")
            elif devices:
                yield from _devices(devices, known.get(one.get("name")), f"{field}.allocatedResourcesStatus")


def _devices(found: Sequence[Any], container: Object | None, path: str) -> Iterator[FieldError]:
    own = (container or {}).get("resources") or {}
    claims = {
        f"claim:{claim.get('name', '')}" + (f"/{claim['request']}" if claim.get("request") else "")
        for claim in own.get("claims") or ()
    }
    for at, one in enumerate(found):
        name, seen = one.get("name", ""), set[str]()
        if not name:
            yield required(f"{path}[{at}].name")
        elif container is not None and name.startswith("claim:"):
            if name not in claims:
                yield invalid(
                    f"{path}[{at}].name",
                    name,
                    "must match one of the container's resource claims in a "
                    "format 'claim:<claimName>/<request>' or 'claim:<claimName>' if request is empty",
                )
        elif container is not None and name not in (own.get("requests") or ()):
            yield invalid(f"{path}[{at}].name", name, "must match one of the container's resource requests")
        for number, device in enumerate(one.get("resources") or ()):
            field, key = f"{path}[{at}].resources[{number}]", device.get("resourceID", "")
            if device.get("health", "") not in _HEALTH:
                yield not_supported(f"{field}.health", device.get("health", ""), _HEALTH)
            if key in seen:
                yield duplicate(f"{field}.resourceID", key)
            seen.add(key)
