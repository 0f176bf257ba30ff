"""PodSpecs, of Pods and of templates (k8s.io/kubernetes/pkg/apis/core/validation)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from netlab.api.meta import Object
from netlab.apiserver.validation import (
    containers,
    meta,
    names,
    pod_notes,
    resources,
    scheduling,
    security,
    windows,
)
from netlab.apiserver.validation.errors import (
    FieldError,
    as_struct,
    duplicate,
    forbidden,
    invalid,
    not_found,
    required,
    too_long,
    unsupported,
    wrong,
)
from netlab.apiserver.validation.remembered import Passed
from netlab.apiserver.validation.volumes import volumes

_RESTART = ("Always", "OnFailure", "Never")
_DNS = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
_PREEMPTION = ("PreemptLowerPriority", "Never")
_SERVERS, _SEARCHES, _SEARCH_SIGNS = 3, 32, 2048
_HOST_NAME_LIMIT = 64
_FORMS = (
    ("serviceAccountName", names.dns_subdomain),
    ("nodeName", names.dns_subdomain),
    ("hostname", names.dns_label),
    ("subdomain", names.dns_label),
)
_CLAIM = {"Name": "", "ResourceClaimName": None, "ResourceClaimTemplateName": None}
_PASSED = Passed()
_NO_USERS = "when `hostUsers` is false"


def pod(obj: Object) -> list[FieldError]:
    """Check what is always true of a Pod beside its metadata's form: annotations and spec."""
    metadata, spec = obj["metadata"], obj["spec"]
    return [
        *pod_notes.of_pod(metadata.get("annotations"), spec, "metadata.annotations"),
        *pod_spec(spec, "spec", is_pod=True, metadata=metadata),
    ]


def new_pod(obj: Object) -> Iterator[FieldError]:
    """Check what a Pod may not have when it is made."""
    metadata, spec = obj["metadata"], obj["spec"]
    if spec.get("ephemeralContainers"):
        yield forbidden("spec.ephemeralContainers", "cannot be set on create")
    if spec.get("nodeName") and spec.get("schedulingGates"):
        yield forbidden("spec.nodeName", "cannot be set until all schedulingGates have been cleared")
    yield from pod_notes.same_profiles(metadata.get("annotations"), spec, "spec")


def pod_template(template: Object, path: str) -> list[FieldError]:
    """Check a PodTemplateSpec's labels, annotations and spec."""
    metadata, spec = template.get("metadata") or {}, template.get("spec") or {}
    notes = metadata.get("annotations")
    errors = [
        *meta.check_labels(metadata.get("labels"), f"{path}.labels"),
        *meta.check_annotations(notes, f"{path}.annotations"),
        *pod_notes.of_pod(notes, spec, f"{path}.annotations"),
        *pod_spec(spec, f"{path}.spec"),
        *pod_notes.same_profiles(notes, spec, f"{path}.spec"),
    ]
    if spec.get("ephemeralContainers"):
        errors.append(forbidden(f"{path}.spec.ephemeralContainers", "ephemeral containers not allowed in pod template"))
    return errors


def pod_spec(spec: Object, path: str, *, is_pod: bool = False, metadata: Object | None = None) -> list[FieldError]:
    """Check a PodSpec, of a Pod (its metadata says what claims will be called) or of a template."""

    def check() -> list[FieldError]:
        return _pod_spec(spec, path, is_pod=is_pod, metadata=metadata)

    volumes_of = spec.get("volumes") or ()
    named = spec.get("resourceClaims") or any(volume.get("ephemeral") is not None for volume in volumes_of)
    return check() if named else _PASSED.errors(check, spec, is_pod)


def _pod_spec(spec: Object, path: str, *, is_pod: bool, metadata: Object | None) -> list[FieldError]:
    errors: list[FieldError] = []
    good: dict[str, Object] = {}
    if spec.get("terminationGracePeriodSeconds") is None:
        errors.append(required(f"{path}.terminationGracePeriodSeconds"))
    if spec.get("volumes"):
        good, errors_of_volumes = volumes(
            spec["volumes"], f"{path}.volumes", (metadata or {}).get("name", ""), is_pod=is_pod
        )
        errors += errors_of_volumes
    claims: Sequence[Any] = spec.get("resourceClaims") or ()
    claim_names = {claim["name"] for claim in claims if claim.get("name")}
    if claims:
        errors += _claims(claims, f"{path}.resourceClaims", metadata or {})
    errors += containers.containers(containers.Around(good, claim_names, spec), path)
    if spec.get("resources") is not None:
        errors += resources.pod_level(spec, f"{path}.resources", claim_names)
    errors += _parts(spec, path, is_pod=is_pod)
    if is_pod:
        errors += _only_pods(spec, path)
    return errors


def _parts(spec: Object, path: str, *, is_pod: bool) -> Iterator[FieldError]:
    if spec.get("hostNetwork"):
        yield from _host_network(spec.get("containers") or [], path, is_pod=is_pod)
    for part, known in (("restartPolicy", _RESTART), ("dnsPolicy", _DNS)):
        value = spec.get(part)
        if value not in known:
            yield unsupported(f"{path}.{part}", value, known) if value else required(f"{path}.{part}")
    if spec.get("nodeSelector"):
        yield from meta.check_labels(spec["nodeSelector"], f"{path}.nodeSelector")
    if spec.get("securityContext") or spec.get("shareProcessNamespace"):  # part of the context inside of upstream
        yield from security.pod(spec.get("securityContext") or {}, spec, f"{path}.securityContext")
    if spec.get("affinity") is not None:
        yield from scheduling.affinity(spec["affinity"], f"{path}.affinity")
    if spec.get("dnsConfig") is not None or spec.get("dnsPolicy") == "None":
        yield from _dns(spec, path)
    for at, gate in enumerate(spec.get("readinessGates") or ()):
        name = gate.get("conditionType", "")
        yield from wrong(f"{path}.readinessGates[{at}].conditionType", name, names.qualified_name(name))
    if spec.get("schedulingGates"):
        yield from _gates(spec["schedulingGates"], f"{path}.schedulingGates")
    if spec.get("topologySpreadConstraints"):
        yield from scheduling.spreading(spec["topologySpreadConstraints"], f"{path}.topologySpreadConstraints")
    yield from _whole(spec, path)


def _whole(spec: Object, path: str) -> Iterator[FieldError]:
    """Check what concerns all containers at once, and single values."""
    every = list(containers.every(spec, path))
    yield from windows.host_process(spec, path, every)
    if spec.get("hostUsers") is False:
        yield from _host_users(spec, path, every)
    if spec.get("hostnameOverride") is not None:
        yield from _host_name(spec, spec["hostnameOverride"], f"{path}.hostnameOverride")
    for part, form in _FORMS[:2]:
        if spec.get(part):
            yield from wrong(f"{path}.{part}", spec[part], form(spec[part]))
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None and not 1 <= deadline <= 2**31 - 1:
        yield invalid(f"{path}.activeDeadlineSeconds", deadline, "must be between 1 and 2147483647, inclusive")
    for part, form in _FORMS[2:]:
        if spec.get(part):
            yield from wrong(f"{path}.{part}", spec[part], form(spec[part]))
    if spec.get("tolerations"):
        yield from scheduling.tolerations(spec["tolerations"], f"{path}.tolerations")
    for at, alias in enumerate(spec.get("hostAliases") or ()):
        yield from _host_alias(alias, f"{path}.hostAliases[{at}]")
    if spec.get("priorityClassName"):
        yield from wrong(
            f"{path}.priorityClassName", spec["priorityClassName"], names.dns_subdomain(spec["priorityClassName"])
        )
    if spec.get("runtimeClassName") is not None:
        yield from wrong(
            f"{path}.runtimeClassName", spec["runtimeClassName"], names.dns_subdomain(spec["runtimeClassName"])
        )
    preemption = spec.get("preemptionPolicy")
    if preemption is not None and preemption not in _PREEMPTION:
        field = f"{path}.preemptionPolicy"
        yield unsupported(field, preemption, _PREEMPTION) if preemption else required(field)
    if spec.get("overhead"):
        yield from resources.requirements({"limits": spec["overhead"]}, f"{path}.overhead")
    if spec.get("os") is not None:
        yield from windows.system(spec, path, every)
    yield from _files(spec, every)


def _host_network(found: list[Any], path: str, *, is_pod: bool) -> Iterator[FieldError]:
    for at, container in enumerate(found):
        for number, port in enumerate(container.get("ports") or ()):
            host = port.get("hostPort", 0)
            if host != port.get("containerPort", 0) and (is_pod or host):  # a template may leave it out
                yield invalid(
                    f"{path}.containers[{at}].ports[{number}].hostPort",
                    host,
                    "must match `containerPort` when `hostNetwork` is true",
                )


def _dns(spec: Object, path: str) -> Iterator[FieldError]:
    policy, config = spec.get("dnsPolicy"), spec.get("dnsConfig")
    field = f"{path}.dnsConfig"
    if config is None:
        yield required(field, f"must provide `dnsConfig` when `dnsPolicy` is {policy}")
        return
    servers, searches = config.get("nameservers") or [], config.get("searches") or []
    if policy == "None" and not servers:
        yield required(f"{field}.nameservers", "must provide at least one DNS nameserver when `dnsPolicy` is None")
        return
    if len(servers) > _SERVERS:
        yield invalid(f"{field}.nameservers", servers, f"must not have more than {_SERVERS} nameservers")
    for at, server in enumerate(servers):
        yield from wrong(f"{field}.nameservers[{at}]", server, names.ip_address(server))
    if len(searches) > _SEARCHES:
        yield invalid(f"{field}.searches", searches, f"must not have more than {_SEARCHES} search paths")
    if len(" ".join(searches)) > _SEARCH_SIGNS:
        yield invalid(
            f"{field}.searches",
            searches,
            f"must not have more than {_SEARCH_SIGNS} characters (including spaces) in the search list",
        )
    for at, search in enumerate(searches):
        if search != ".":
            domain = search.removesuffix(".")
            yield from wrong(f"{field}.searches[{at}]", domain, names.dns_search(domain))
    for at, option in enumerate(config.get("options") or ()):
        if not option.get("name"):
            yield required(f"{field}.options[{at}]", "must not be empty")


def _gates(found: list[Any], path: str) -> Iterator[FieldError]:
    seen: set[str] = set()
    for at, gate in enumerate(found):
        name = gate.get("name", "")
        yield from wrong(f"{path}[{at}]", name, names.qualified_name(name))
        if name in seen:
            yield duplicate(f"{path}[{at}]", name)
        seen.add(name)


def _host_alias(alias: Object, path: str) -> Iterator[FieldError]:
    address = alias.get("ip", "")
    yield from wrong(f"{path}.ip", address, names.ip_address(address))
    for at, name in enumerate(alias.get("hostnames") or ()):
        yield from wrong(f"{path}.hostnames[{at}]", name, names.dns_subdomain(name))


def _host_users(spec: Object, path: str, every: windows.Containers) -> Iterator[FieldError]:
    """Check that a Pod with users of its own shares nothing of the host's."""
    for part, called in (("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")):
        if spec.get(part):
            yield forbidden(f"{path}.{called}", _NO_USERS)
    for field, container in every:
        if container.get("volumeDevices"):
            yield forbidden(f"{field}.volumeDevices", _NO_USERS)


def _host_name(spec: Object, name: str, field: str) -> Iterator[FieldError]:
    for part in ("setHostnameAsFQDN", "hostNetwork"):
        if spec.get(part):
            yield forbidden(field, f"may not be specified when {part} is true")
    if len(name.encode()) > _HOST_NAME_LIMIT:
        yield too_long(field, _HOST_NAME_LIMIT)
    yield from wrong(field, name, names.dns_subdomain(name))


def _files(spec: Object, every: windows.Containers) -> Iterator[FieldError]:
    """Check that files of variables lie in volumes that are empty at first."""
    for path, container in every:
        for at, entry in enumerate(container.get("env") or ()):
            reference = (entry.get("valueFrom") or {}).get("fileKeyRef")
            if reference is None:
                continue
            name, field = reference.get("volumeName", ""), f"{path}.env[{at}].valueFrom.fileKeyRef.volumeName"
            volume = next((one for one in reversed(spec.get("volumes") or ()) if one.get("name", "") == name), None)
            if volume is None:
                yield not_found(field, name)
            elif volume.get("emptyDir") is None:
                yield invalid(field, name, "referenced volume must be of type emptyDir")


def _claims(found: Sequence[Any], path: str, metadata: Object) -> Iterator[FieldError]:
    """Check claims for devices."""
    if pod_notes.MIRROR in (metadata.get("annotations") or ()):
        yield forbidden("[]", "static pods do not support resource claims")
        return
    seen: set[str] = set()
    for at, claim in enumerate(found):
        field, name = f"{path}[{at}]", claim.get("name", "")
        if not name:
            yield required(f"{field}.name")
        elif name in seen:
            yield duplicate(f"{field}.name", name)
        else:
            yield from wrong(f"{field}.name", name, names.dns_label(name))
            seen.add(name)
        given = [part for part in ("resourceClaimName", "resourceClaimTemplateName") if claim.get(part) is not None]
        if len(given) == 2:
            yield invalid(
                field,
                as_struct(claim, _CLAIM),
                "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified",
            )
        elif not given:
            yield invalid(
                field, as_struct(claim, _CLAIM), "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"
            )
        for part in given:
            yield from wrong(f"{field}.{part}", claim[part], names.dns_subdomain(claim[part]))


def _only_pods(spec: Object, path: str) -> Iterator[FieldError]:
    """Check what templates are spared: tokens need an account, images have no blanks around them."""
    if not spec.get("serviceAccountName"):
        for at, volume in enumerate(spec.get("volumes") or ()):
            for number, source in enumerate((volume.get("projected") or {}).get("sources") or ()):
                if source.get("serviceAccountToken") is not None:
                    yield forbidden(
                        f"{path}.volumes[{at}].projected.sources[{number}].serviceAccountToken",
                        "must not be specified when serviceAccountName is not set",
                    )
    for part in ("containers", "initContainers"):
        for at, container in enumerate(spec.get(part) or ()):
            yield from containers.trimmed_image(container, f"{path}.{part}[{at}]")
