"""Defaults of Pods and of every template that makes Pods (k8s.io/kubernetes/pkg/apis/core/v1/defaults.go)."""

from __future__ import annotations

import re
from typing import Any

from netlab.api import quantity
from netlab.api.meta import Object
from netlab.apiserver.validation import resources

_LETTERS = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_HOST = r"[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*(?::[0-9]+)?"
_IMAGE = re.compile(rf"(?:{_HOST}/)?{_LETTERS}(?:/{_LETTERS})*(?::[\w.-]+)?\Z", re.ASCII)
"""What is called like an image; of what is not, upstream takes no tag."""
_FILE_MODE = 0o644
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_HANDLERS = ("postStart", "preStop")
_PROBE_NUMBERS = (("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3))
_WITH_MODE = ("secret", "configMap", "downwardAPI", "projected")
_SOURCES: dict[str, tuple[tuple[str, Any], ...]] = {
    "hostPath": (("type", ""),),
    "iscsi": (("iscsiInterface", "default"),),
    "rbd": (("pool", "rbd"), ("user", "admin"), ("keyring", "/etc/ceph/keyring")),
    "scaleIO": (("storageMode", "ThinProvisioned"), ("fsType", "xfs")),
    "azureDisk": (("cachingMode", "ReadWrite"), ("kind", "Shared"), ("fsType", "ext4"), ("readOnly", False)),
}
"""What of a volume's source stands where it is left out (also in PersistentVolumes)."""


def pod_spec(spec: Object, *, host_ports: bool = False) -> None:
    """Fill in a PodSpec. `host_ports` (a Pod, no template): on the host's network container ports are host ports."""
    account = spec.get("serviceAccountName") or spec.get("serviceAccount")
    if account:  # the old name of the field is still served
        spec["serviceAccountName"] = spec["serviceAccount"] = account
    for name, value in (
        ("restartPolicy", "Always"),
        ("dnsPolicy", "ClusterFirst"),
        ("schedulerName", "default-scheduler"),
    ):
        if not spec.get(name):
            spec[name] = value
    spec.setdefault("terminationGracePeriodSeconds", 30)
    if not isinstance(spec.get("securityContext"), dict):
        spec["securityContext"] = {}
    if host_ports:
        spec.setdefault("enableServiceLinks", True)
    for name in ("containers", "initContainers", "ephemeralContainers"):
        for container in spec.get(name) or []:
            _container(
                container, host_network=host_ports and name != "ephemeralContainers" and bool(spec.get("hostNetwork"))
            )
    for volume in spec.get("volumes") or []:
        _volume(volume)
    if spec.get("overhead"):
        whole_milli(spec["overhead"])
    amounts(spec.get("resources"))


def pod_template(template: Object) -> None:
    """Fill in a PodTemplateSpec; an empty one gets its metadata and spec."""
    template.setdefault("metadata", {})
    if not isinstance(template.get("spec"), dict):
        template["spec"] = {}
    pod_spec(template["spec"])


def limits_as_requests(spec: Object) -> None:
    """Give every container that only names limits the same requests (Pods only; templates keep what was written)."""
    for name in ("containers", "initContainers"):
        for container in spec.get(name) or []:
            own = container.get("resources") or {}
            limits = own.get("limits") or {}
            if limits:
                own["requests"] = {**limits, **(own.get("requests") or {})}
    if spec.get("resources"):
        _whole_pod(spec, spec["resources"])


def _whole_pod(spec: Object, whole: Object) -> None:
    """Complete what a Pod asks for as a whole by what its containers do (upstream's order: pages, requests, limits)."""
    sums = {part: resources.of_containers(spec, part) for part in ("requests", "limits")}
    limits, requests = dict(whole.get("limits") or {}), dict(whole.get("requests") or {})
    if limits or requests:
        for name, amount in sums["limits"].items():
            if resources.is_huge(name) and name not in requests:
                limits.setdefault(name, str(amount))
    asked = bool(requests)
    if limits:
        for name, amount in sums["requests"].items():
            if name in ("cpu", "memory"):
                requests.setdefault(name, str(amount))
        for name, text in limits.items():
            if name in ("cpu", "memory") or resources.is_huge(name):
                requests.setdefault(name, text)
    elif asked:
        every = [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]
        for name, amount in sums["limits"].items():
            if name in ("cpu", "memory") and all(
                name in ((container.get("resources") or {}).get("limits") or ()) for container in every
            ):
                limits[name] = str(amount)
    for part, amounts in (("limits", limits), ("requests", requests)):
        if amounts:
            whole[part] = amounts


def _container(container: Object, *, host_network: bool) -> None:
    if not container.get("terminationMessagePath"):
        container["terminationMessagePath"] = "/dev/termination-log"
    if not container.get("terminationMessagePolicy"):
        container["terminationMessagePolicy"] = "File"
    if not container.get("imagePullPolicy"):
        container["imagePullPolicy"] = _pull_policy(container.get("image", ""))
    if not isinstance(container.get("resources"), dict):
        container["resources"] = {}
    amounts(container["resources"])
    for port in container.get("ports") or []:
        if not port.get("protocol"):
            port["protocol"] = "TCP"
        if host_network and not port.get("hostPort"):
            port["hostPort"] = port.get("containerPort", 0)
    for name in _PROBES:
        if isinstance(container.get(name), dict):
            probe(container[name])
    for name in _HANDLERS:
        handler = (container.get("lifecycle") or {}).get(name)
        if isinstance(handler, dict):
            _http(handler)
    for entry in container.get("env") or []:
        source = entry.get("valueFrom")
        if source:
            _field(source)
            files = source.get("fileKeyRef")
            if isinstance(files, dict):
                files.setdefault("optional", False)
            _divisor(source)


def probe(found: Object) -> None:
    """Fill in a probe."""
    for name, value in _PROBE_NUMBERS:
        if not found.get(name):
            found[name] = value
    _http(found)
    if isinstance(found.get("grpc"), dict):
        found["grpc"].setdefault("service", "")


def _http(handler: Object) -> None:
    get = handler.get("httpGet")
    if isinstance(get, dict):
        if not get.get("path"):
            get["path"] = "/"
        if not get.get("scheme"):
            get["scheme"] = "HTTP"


def _volume(volume: Object) -> None:
    if set(volume) <= {"name"}:
        volume["emptyDir"] = {}
    for kind, source in volume.items():
        if not isinstance(source, dict):
            continue
        if kind in _WITH_MODE:
            source.setdefault("defaultMode", _FILE_MODE)
        source_defaults(kind, source)
        if kind == "downwardAPI":
            _files(source)
        elif kind == "projected":
            _projected(source)
        elif kind == "image" and not source.get("pullPolicy"):
            source["pullPolicy"] = _pull_policy(source.get("reference", ""))
        elif kind == "ephemeral" and isinstance(source.get("volumeClaimTemplate"), dict):
            template = source["volumeClaimTemplate"]
            template.setdefault("metadata", {})
            template.setdefault("spec", {}).setdefault("volumeMode", "Filesystem")
            amounts(template["spec"].get("resources"))


def source_defaults(kind: str, source: Object) -> None:
    """Fill in what a volume's source leaves out."""
    for name, value in _SOURCES.get(kind, ()):
        if source.get(name) in (None, ""):
            source[name] = value


def _projected(source: Object) -> None:
    for part in source.get("sources") or []:
        token = part.get("serviceAccountToken")
        if isinstance(token, dict):
            token.setdefault("expirationSeconds", 3600)
        if isinstance(part.get("downwardAPI"), dict):
            _files(part["downwardAPI"])


def _files(source: Object) -> None:
    for item in source.get("items") or []:
        _field(item)
        _divisor(item)


def _field(item: Object) -> None:
    reference = item.get("fieldRef")
    if isinstance(reference, dict) and not reference.get("apiVersion"):
        reference["apiVersion"] = "v1"


def _divisor(item: Object) -> None:
    reference = item.get("resourceFieldRef")
    if isinstance(reference, dict):
        reference.setdefault("divisor", "0")  # a quantity is always written


def amounts(found: Object | None, parts: tuple[str, ...] = ("limits", "requests")) -> None:
    """Round amounts that are parts of a structure."""
    if found:
        for part in parts:
            if found.get(part):
                whole_milli(found[part])


def whole_milli(found: Object) -> None:
    """Round amounts up to thousandths, the finest that upstream keeps of a resource."""
    for name, text in found.items():
        if isinstance(text, str) and text[-1:] in "nu0123456789" and ("." in text or text[-1:] in "nu"):
            parsed = quantity.parse(text)
            if (parsed.amount * 1000).denominator != 1:
                found[name] = str(quantity.parse(f"{parsed.milli()}m"))


def _pull_policy(image: str) -> str:
    return "Always" if _tag(image) == "latest" and _IMAGE.match(image) else "IfNotPresent"


def _tag(image: str) -> str:
    """Return the tag that decides the pull policy: "latest" when neither tag nor digest is given."""
    if "@" in image:
        return ""
    last = image.rpartition("/")[2]
    return last.partition(":")[2] or "latest"
