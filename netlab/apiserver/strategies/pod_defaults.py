"""Defaults of Pods and of every template that makes Pods (k8s.io/kubernetes/pkg/apis/core/v1/defaults.go)."""

from __future__ import annotations

from typing import Any

from netlab.api.meta import Object

_FILE_MODE = 0o644
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_HANDLERS = ("postStart", "preStop")


def pod_spec(spec: Object, *, host_ports: bool = False) -> None:
    """Fill in a PodSpec. `host_ports` (a Pod, no template): on the host's network container ports are host ports."""
    account = spec.get("serviceAccountName") or spec.get("serviceAccount")
    if account:  # the old name of the field is still served
        spec["serviceAccountName"] = spec["serviceAccount"] = account
    spec.setdefault("restartPolicy", "Always")
    spec.setdefault("dnsPolicy", "ClusterFirst")
    spec.setdefault("terminationGracePeriodSeconds", 30)
    if not isinstance(spec.get("securityContext"), dict):
        spec["securityContext"] = {}
    spec.setdefault("schedulerName", "default-scheduler")
    spec.setdefault("enableServiceLinks", True)
    if not spec["restartPolicy"]:
        spec["restartPolicy"] = "Always"
    for name in ("containers", "initContainers", "ephemeralContainers"):
        for container in spec.get(name) or []:
            _container(container, host_network=host_ports and bool(spec.get("hostNetwork")))
    for volume in spec.get("volumes") or []:
        _volume(volume)


def pod_template(template: Object) -> None:
    """Fill in a PodTemplateSpec; an empty one gets its metadata."""
    template.setdefault("metadata", {})
    if isinstance(template.get("spec"), dict):
        pod_spec(template["spec"])


def limits_as_requests(spec: Object) -> None:
    """Give every container that only names limits the same requests (Pods only; templates keep what was written)."""
    for name in ("containers", "initContainers"):
        for container in spec.get(name) or []:
            resources = container.get("resources") or {}
            limits = resources.get("limits") or {}
            if limits:
                resources["requests"] = {**limits, **(resources.get("requests") or {})}


def _container(container: Object, *, host_network: bool) -> None:
    container.setdefault("terminationMessagePath", "/dev/termination-log")
    container.setdefault("terminationMessagePolicy", "File")
    if not container.get("imagePullPolicy"):
        container["imagePullPolicy"] = "Always" if _tag(container.get("image", "")) == "latest" else "IfNotPresent"
    if not isinstance(container.get("resources"), dict):
        container["resources"] = {}
    for port in container.get("ports") or []:
        port.setdefault("protocol", "TCP")
        if host_network and not port.get("hostPort"):
            port["hostPort"] = port.get("containerPort")
    for name in _PROBES:
        if isinstance(container.get(name), dict):
            probe(container[name])
    for name in _HANDLERS:
        handler = (container.get("lifecycle") or {}).get(name)
        if isinstance(handler, dict):
            _http(handler)
    for entry in container.get("env") or []:
        reference = (entry.get("valueFrom") or {}).get("fieldRef")
        if isinstance(reference, dict):
            reference.setdefault("apiVersion", "v1")
        files = (entry.get("valueFrom") or {}).get("fileKeyRef")
        if isinstance(files, dict):
            files.setdefault("optional", False)


def probe(found: Object) -> None:
    """Fill in a probe."""
    for name, value in (("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)):
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
    for source in ("secret", "configMap", "downwardAPI", "projected"):
        if isinstance(volume.get(source), dict):
            volume[source].setdefault("defaultMode", _FILE_MODE)
    for item in (volume.get("downwardAPI") or {}).get("items") or []:
        _field(item)
    for part in (volume.get("projected") or {}).get("sources") or []:
        token: Any = part.get("serviceAccountToken")
        if isinstance(token, dict):
            token.setdefault("expirationSeconds", 3600)
        for item in (part.get("downwardAPI") or {}).get("items") or []:
            _field(item)
    host = volume.get("hostPath")
    if isinstance(host, dict):
        host.setdefault("type", "")


def _field(item: Object) -> None:
    reference = item.get("fieldRef")
    if isinstance(reference, dict):
        reference.setdefault("apiVersion", "v1")


def _tag(image: str) -> str:
    """Return the tag that decides the pull policy: "latest" when neither tag nor digest is given."""
    if "@" in image:
        return ""
    last = image.rpartition("/")[2]
    return last.partition(":")[2] or "latest"
