"""What may change in a Pod: its spec, its size, its ephemeral containers (core/validation)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from netlab.api import quantity
from netlab.api.meta import Object
from netlab.apiserver.validation import containers, meta, pod_notes, scheduling
from netlab.apiserver.validation.claims import difference
from netlab.apiserver.validation.errors import FieldError, forbidden, invalid, required

_MOST = 2**31 - 1
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_UPDATE_TEXT = (
    "pod updates may not change fields other than `spec.containers[*].image`,"
    "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to "
    "existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was "
    "previously negative)"
)
_LISTS = ("containers", "initContainers")
_SIZES = ("cpu", "memory")
_PLAIN = frozenset((
    "hostNetwork", "hostPID", "hostIPC", "readOnly", "stdin", "stdinOnce", "tty", "hostPort", "hostIP",
    "initialDelaySeconds", "value", "subPath", "subPathExpr", "prefix", "workingDir", "medium", "priorityClassName",
    "nodeName", "hostname", "subdomain", "serviceAccountName", "serviceAccount", "partition", "fsType", "path",
    "operator", "effect", "key", "chapAuthDiscovery", "chapAuthSession", "resources", "nodeSelector", "matchLabels",
    "limits", "requests", "options", "volumeAttributes", "overhead",
))
"""Fields of a PodSpec that upstream keeps by value: false, zero and empty are what an absent one is."""


def pod_update(obj: Object, old: Object) -> list[FieldError]:
    """Check what a write of a Pod changes."""
    notes, before_notes = (one["metadata"].get("annotations") for one in (obj, old))
    errors = list(pod_notes.update(notes, before_notes, "metadata.annotations"))
    spec, before = obj["spec"], old["spec"]
    for part in _LISTS:
        new, had = spec.get(part) or [], before.get(part) or []
        if len(new) != len(had):
            return [*errors, forbidden(f"spec.{part}", "pod updates may not add or remove containers")]
        for at, container in enumerate(new):
            if not container.get("image"):
                errors.append(required(f"spec.{part}[{at}].image"))
            errors += containers.trimmed_image(container, f"spec.{part}[{at}]")
    problem = _deadline(spec.get("activeDeadlineSeconds"), before.get("activeDeadlineSeconds"))
    if problem is not None:
        errors.append(problem)
        if spec.get("activeDeadlineSeconds") is not None:
            return errors
    if spec == before:
        return errors
    errors += _tolerations(spec.get("tolerations") or [], before.get("tolerations") or [])
    errors += _gates(spec.get("schedulingGates") or [], before.get("schedulingGates") or [])
    kept = _with_old_parts(spec, before)
    if before.get("schedulingGates"):
        errors += _gated(kept, before)
    if not _equal(kept, before):
        errors.append(forbidden("spec", f"{_UPDATE_TEXT}\n{difference(kept, before)}"))
    return errors


def _deadline(new: int | None, old: int | None) -> FieldError | None:
    field = "spec.activeDeadlineSeconds"
    if new is None:
        return None if old is None else invalid(field, None, "must not update from a positive integer to nil value")
    if not 0 <= new <= _MOST:
        return invalid(field, new, f"must be between 0 and {_MOST}, inclusive")
    grown = old is not None and new > old
    return invalid(field, new, "must be less than or equal to previous value") if grown else None


def _tolerations(new: list[Any], old: list[Any]) -> Iterator[FieldError]:
    known = [_untimed(one) for one in new]
    if any(_untimed(one) not in known for one in old):
        yield forbidden("spec.tolerations", "existing toleration can not be modified except its tolerationSeconds")
    else:
        yield from scheduling.tolerations(new, "spec.tolerations")


def _untimed(toleration: Object) -> Object:
    return {part: value for part, value in toleration.items() if part != "tolerationSeconds" and value}


def _gates(new: list[Any], old: list[Any]) -> Iterator[FieldError]:
    had = {gate.get("name", "") for gate in old}
    for at, gate in enumerate(new):
        name = gate.get("name", "")
        if name not in had:
            yield forbidden(
                f"spec.schedulingGates[{at}].name", f"only deletion is allowed, but found new scheduling gate '{name}'"
            )


def _with_old_parts(spec: Object, before: Object) -> Object:
    """Return the new spec with the old one's values where a change is allowed (and judged elsewhere)."""
    kept = dict(spec)
    for part in ("activeDeadlineSeconds", "schedulingGates", "tolerations"):
        _follow(kept, before, part)
    for part in _LISTS:
        if kept.get(part):
            kept[part] = [
                {**new, "image": had.get("image", "")} for new, had in zip(kept[part], before[part], strict=True)
            ]
    if (before.get("terminationGracePeriodSeconds") or 0) < 0 and spec.get("terminationGracePeriodSeconds") == 1:
        _follow(kept, before, "terminationGracePeriodSeconds")
    return kept


def _follow(one: Object, other: Object, part: str) -> None:
    if part in other:
        one[part] = other[part]
    else:
        one.pop(part, None)


def _equal(one: Any, other: Any, name: str = "") -> bool:
    """Tell whether two values of a field say the same: where upstream has no pointer, nothing is as good as absent."""
    if isinstance(one, dict) and isinstance(other, dict):
        return all(_equal(one.get(part), other.get(part), part) for part in one.keys() | other.keys())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(_equal(a, b) for a, b in zip(one, other, strict=True))
    if one == other:
        return True
    nothing: tuple[Any, ...] = (None, [], {}, "", 0, False) if name in _PLAIN else (None, [])
    return one in nothing and other in nothing


def _gated(kept: Object, before: Object) -> Iterator[FieldError]:
    """Check what a Pod that waits for its gates may get: more demands on its node; put the old ones in `kept`."""
    wanted, had = kept.get("nodeSelector") or {}, before.get("nodeSelector") or {}
    if wanted != had:
        if any(wanted.get(key) != value for key, value in had.items()):
            yield invalid(
                "spec.nodeSelector",
                wanted,
                "only additions to spec.nodeSelector are allowed (no mutations or deletions)",
            )
        _follow(kept, before, "nodeSelector")
    affinity, old = kept.get("affinity"), before.get("affinity")
    nodes, old_nodes = (affinity or {}).get("nodeAffinity"), (old or {}).get("nodeAffinity")
    if _equal(nodes, old_nodes):
        return
    yield from _narrowed(nodes or {}, old_nodes or {}, f"spec.affinity.nodeAffinity.{_REQUIRED}.nodeSelectorTerms")
    rest = {part: value for part, value in (affinity or {}).items() if part != "nodeAffinity"}
    kept["affinity"] = rest | ({"nodeAffinity": old_nodes} if old_nodes is not None else {})
    if not kept["affinity"] and old is None:
        del kept["affinity"]


def _narrowed(new: Object, old: Object, field: str) -> Iterator[FieldError]:
    """Check that each term of a node affinity only got more demands."""
    terms, had = ((one.get(_REQUIRED) or {}).get("nodeSelectorTerms") or [] for one in (new, old))
    if had and len(had) != len(terms):
        yield invalid(field, terms, "no additions/deletions to non-empty NodeSelectorTerms list are allowed")
        return
    for at, before in enumerate(had):
        pairs = [(terms[at].get(part) or [], before.get(part) or []) for part in ("matchExpressions", "matchFields")]
        grown = any(now for now, _ in pairs) and not any(was for _, was in pairs)
        if grown or any(not _equal(now[: len(was)], was) for now, was in pairs):
            yield invalid(f"{field}[{at}]", terms[at], "only additions are allowed (no mutations or deletions)")


def ephemeral_update(obj: Object, old: Object) -> Iterator[FieldError]:
    """Check that the ephemeral containers there are stay as they are."""
    if pod_notes.MIRROR in (old["metadata"].get("annotations") or ()):
        yield forbidden("[]", "static pods do not support ephemeral containers")
        return
    field = "spec.ephemeralContainers"
    new = {container.get("name", ""): container for container in obj["spec"].get("ephemeralContainers") or ()}
    for container in old["spec"].get("ephemeralContainers") or ():
        name = container.get("name", "")
        if name not in new:
            yield forbidden(field, f'existing ephemeral containers "{name}" may not be removed\n')
        elif not _equal(new[name], container):
            yield forbidden(
                field, f'existing ephemeral containers "{name}" may not be changed\n' + difference(new[name], container)
            )


def resize(obj: Object, old: Object, classes: tuple[str, str]) -> list[FieldError]:
    """Check a change of what a Pod's containers ask for. `classes`: its quality of service after and before."""
    spec, before = obj["spec"], old["spec"]
    if pod_notes.MIRROR in (old["metadata"].get("annotations") or ()):
        return [forbidden("[]", "static pods cannot be resized")]
    if (before.get("os") or {}).get("name") == "windows":
        return [forbidden("[]", "windows pods cannot be resized")]
    errors: list[FieldError] = []
    if classes[0] != classes[1]:
        errors.append(invalid("spec", classes[1], "Pod QOS Class may not change as a result of resizing"))
    running = next(
        (
            one
            for one in (old.get("status") or {}).get("containerStatuses") or ()
            if (one.get("state") or {}).get("running") is not None
        ),
        None,
    )
    if running is not None and running.get("resources") is None:
        errors.append(forbidden("spec", "Pod running on node without support for resize"))
    errors += _whole_size(spec, before)
    order = list(_same_order(spec, before))
    if order:
        return [*errors, *order]
    for part in ("initContainers", "containers"):
        for at, had in enumerate(before.get(part) or ()):
            if part == "containers" or had.get("restartPolicy") == "Always":
                errors += _removed(spec[part][at], had, f"spec.{part}[{at}].resources")
    for at, had in enumerate(before.get("containers") or ()):
        if not _equal(_with_old_size(spec["containers"][at], had), had):
            errors.append(forbidden("spec", "only cpu and memory resources are mutable"))
    for at, had in enumerate(before.get("initContainers") or ()):
        new = spec["initContainers"][at]
        if had.get("restartPolicy") == "Always":
            if not _equal(_with_old_size(new, had), had):
                errors.append(
                    forbidden(
                        f"spec.initContainers[{at}]",
                        "only cpu and memory resources for init or sidecar containers are mutable",
                    )
                )
        elif not _equal(new, had):
            errors.append(forbidden("spec", "resources for non-sidecar init containers are immutable"))
    return errors


def _whole_size(spec: Object, before: Object) -> Iterator[FieldError]:
    new, had = spec.get("resources"), before.get("resources")
    if not any((one or {}).get(part) for one in (new, had) for part in ("requests", "limits")):
        return
    if had is not None and new is None:
        yield forbidden("spec.resources", "pod-level resources cannot be removed")
        return
    for part in ("requests", "limits"):
        if any(name not in ((new or {}).get(part) or {}) for name in (had or {}).get(part) or ()):
            yield forbidden(f"spec.resources.{part}", f"pod-level resource {part} cannot be removed")
    if not _equal(_old_sizes(new or {}, had or {}), had):
        yield forbidden("spec", "only cpu and memory resources are mutable at pod-level")


def _same_order(spec: Object, before: Object) -> Iterator[FieldError]:
    for part in _LISTS:
        new, had = spec.get(part) or [], before.get(part) or []
        if len(new) != len(had):
            yield forbidden(f"spec.{part}", f"{part} may not be added or removed on resize")
            continue
        for at, container in enumerate(had):
            if new[at].get("name") != container.get("name"):
                yield forbidden(f"spec.{part}[{at}].name", f"{part} may not be renamed or reordered on resize")


def _removed(new: Object, old: Object, path: str) -> Iterator[FieldError]:
    for part in ("requests", "limits"):
        now = (new.get("resources") or {}).get(part) or {}
        if any(name not in now for name in (old.get("resources") or {}).get(part) or ()):
            yield forbidden(f"{path}.{part}", f"resource {part} cannot be removed")


def _with_old_size(new: Object, old: Object) -> Object:
    return {**new, "resources": _old_sizes(new.get("resources") or {}, old.get("resources") or {})}


def _old_sizes(new: Object, old: Object) -> Object:
    """Return the new amounts with the old ones of cpu and memory, all in one spelling."""
    sizes = dict(new)
    for part in ("requests", "limits"):
        amounts = {name: value for name, value in (new.get(part) or {}).items() if name not in _SIZES}
        had = old.get(part) or {}
        amounts |= {name: had[name] for name in _SIZES if name in had}
        sizes[part] = {
            name: had[name] if name in had and quantity.parse(had[name]) == quantity.parse(value) else value
            for name, value in amounts.items()
        }
    return sizes


def metadata_for_part(obj: Object, old: Object) -> list[FieldError]:
    """Check the metadata of a write of a subresource."""
    notes, before = (one["metadata"].get("annotations") for one in (obj, old))
    return [
        *meta.object_meta_update(obj["metadata"], old["metadata"]),
        *pod_notes.update(notes, before, "metadata.annotations"),
    ]
