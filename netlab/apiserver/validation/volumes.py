"""Volumes of a PodSpec."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from netlab.api.meta import Object
from netlab.apiserver.validation import claims, containers, names, projected
from netlab.apiserver.validation.errors import FieldError, duplicate, invalid, required, wrong
from netlab.apiserver.validation.volume_sources import OF_POD, one_source, sources

_ISCSI_LIMIT = 64
_ISCSI_LONG = (
    "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName "
    "is specified."
)


def volumes(
    found: list[Any],
    path: str,
    pod_name: str = "",
    *,
    is_pod: bool = False,
) -> tuple[dict[str, Object], list[FieldError]]:
    """Return the volumes without a fault by name, and what is wrong with the others.

    Args:
        found: the volumes.
        path: where they are.
        pod_name: the Pod's name, of which the claims' for ephemeral volumes are made ("" in a template).
        is_pod: they are a Pod's, not a template's.
    """
    good: dict[str, Object] = {}
    errors: list[FieldError] = []
    made = (
        {f"{pod_name}-{volume.get('name', '')}" for volume in found if volume.get("ephemeral") is not None}
        if pod_name
        else ()
    )
    for at, volume in enumerate(found):
        field, name = f"{path}[{at}]", volume.get("name", "")
        problems = list(_volume(volume, field, pod_name, is_pod=is_pod))
        if name in good:
            problems.append(duplicate(f"{field}.name", name))
        if problems:
            errors += problems
        else:
            good[name] = volume
        claim = volume.get("persistentVolumeClaim")
        if made and claim is not None and claim.get("claimName") in made:
            errors.append(
                invalid(
                    f"{field}.persistentVolumeClaim.claimName",
                    claim["claimName"],
                    "must not reference a PVC that gets created for an ephemeral volume",
                )
            )
    return good, errors


def _volume(volume: Object, path: str, pod_name: str, *, is_pod: bool) -> Iterator[FieldError]:
    name = volume.get("name", "")
    given = sources(volume, OF_POD)
    yield from one_source(volume, given, OF_POD, path)
    first = given[0] if given else ""
    source = volume.get(first) or {}
    if first == "projected":
        yield from projected.projected(source, f"{path}.projected")
    elif first == "downwardAPI":
        yield from projected.downward(source, f"{path}.downwardAPI")
    elif first == "ephemeral":
        yield from _ephemeral(source, f"{path}.ephemeral")
        if pod_name and name:
            claim = f"{pod_name}-{name}"
            yield from wrong(
                f"{path}.name", name, (f'PVC name "{claim}": {said}' for said in names.dns_subdomain(claim))
            )
    elif first == "image":
        if is_pod and not source.get("reference"):
            yield required(f"{path}.image.reference")
        yield from containers.pull_policy(source.get("pullPolicy"), f"{path}.image.pullPolicy")
    disk = volume.get("iscsi")
    if (
        disk is not None
        and disk.get("initiatorName") is not None
        and len(f"{name}:{disk.get('targetPortal', '')}".encode()) > _ISCSI_LIMIT
    ):
        yield invalid(f"{path}.name", name, _ISCSI_LONG)
    if not name:
        yield required(f"{path}.name")
    else:
        yield from wrong(f"{path}.name", name, names.dns_label(name))


def _ephemeral(source: Object, path: str) -> Iterator[FieldError]:
    template = source.get("volumeClaimTemplate")
    if template is None:
        yield required(f"{path}.volumeClaimTemplate")
    else:
        yield from claims.template(template, f"{path}.volumeClaimTemplate")
