"""Containers of a PodSpec (k8s.io/kubernetes/pkg/apis/core/validation)."""

from __future__ import annotations

from typing import Any

from netlab.api import quantity
from netlab.api.meta import Object
from netlab.apiserver.validation import names
from netlab.apiserver.validation.errors import FieldError, duplicate, forbidden, invalid, not_supported, required

_PULL = ("Always", "IfNotPresent", "Never")
_PROTOCOLS = ("SCTP", "TCP", "UDP")
_MESSAGE = ("File", "FallbackToLogsOnError")
_SCHEMES = ("HTTP", "HTTPS")
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc")
_SOURCES = ("fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef")
_OVERCOMMIT = ("cpu", "memory", "ephemeral-storage")


def container_list(spec: Object, path: str, volume_names: set[str], *, is_pod: bool = False) -> list[FieldError]:
    """Check all containers of a Pod: init, main, ephemeral."""
    errors: list[FieldError] = []
    seen: set[str] = set()
    host_network = ("pod" if is_pod else "template") if spec.get("hostNetwork") else ""
    main = spec.get("containers") or []
    if not main:
        errors.append(required(f"{path}.containers"))
    for part in ("initContainers", "containers", "ephemeralContainers"):
        ports: set[tuple[Any, Any, Any]] = set()
        for at, container in enumerate(spec.get(part) or []):
            field = f"{path}.{part}[{at}]"
            name = container.get("name", "")
            if name and name in seen:
                errors.append(duplicate(f"{field}.name", name))
            seen.add(name)
            errors += _container(container, field, volume_names, host_network=host_network, part=part)
            for number, port in enumerate(container.get("ports") or []):
                key = (port.get("protocol"), port.get("hostIP", ""), port.get("hostPort"))
                if port.get("hostPort") and part == "containers":
                    if key in ports:
                        errors.append(duplicate(f"{field}.ports[{number}].hostPort",
                                                f"{key[0]}/{key[1]}/{key[2]}"))
                    ports.add(key)
    return errors


def _container(container: Object, path: str, volume_names: set[str], *, host_network: str, part: str,
               ) -> list[FieldError]:
    errors: list[FieldError] = []
    name = container.get("name", "")
    if not name:
        errors.append(required(f"{path}.name"))
    else:
        errors += [invalid(f"{path}.name", name, said) for said in names.dns_label(name)]
    image = container.get("image", "")
    if not image:
        errors.append(required(f"{path}.image"))
    elif image != image.strip():
        errors.append(invalid(f"{path}.image", image, "must not have leading or trailing whitespace"))
    if container.get("imagePullPolicy") not in _PULL:
        errors.append(not_supported(f"{path}.imagePullPolicy", container.get("imagePullPolicy"), _PULL))
    if container.get("terminationMessagePolicy") not in _MESSAGE:
        errors.append(not_supported(f"{path}.terminationMessagePolicy", container.get("terminationMessagePolicy"),
                                    _MESSAGE))
    errors += _ports(container.get("ports") or [], f"{path}.ports", host_network=host_network)
    errors += _env(container.get("env") or [], f"{path}.env")
    errors += _env_from(container.get("envFrom") or [], f"{path}.envFrom")
    errors += _mounts(container.get("volumeMounts") or [], f"{path}.volumeMounts", volume_names)
    errors += resources(container.get("resources") or {}, f"{path}.resources")
    restarts = part == "initContainers" and container.get("restartPolicy") == "Always"
    for kind in _PROBES:
        if isinstance(container.get(kind), dict):
            if part == "initContainers" and not restarts:
                errors.append(forbidden(f"{path}.{kind}", "may not be set for init containers without "
                                                          "restartPolicy=Always"))
            else:
                errors += _probe(container[kind], f"{path}.{kind}", kind)
    for kind in ("postStart", "preStop"):
        handler = (container.get("lifecycle") or {}).get(kind)
        if isinstance(handler, dict):
            errors += _handler(handler, f"{path}.lifecycle.{kind}", allowed=(*_HANDLERS[:3], "sleep"))
    return errors


def _ports(ports: list[Any], path: str, *, host_network: str) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for at, port in enumerate(ports):
        field, name = f"{path}[{at}]", port.get("name", "")
        if name:
            said = names.port_name(name)
            errors += [invalid(f"{field}.name", name, text) for text in said]
            if not said and name in seen:
                errors.append(duplicate(f"{field}.name", name))
            seen.add(name)
        number = port.get("containerPort", 0)
        if not number:
            errors.append(required(f"{field}.containerPort"))
        else:
            errors += [invalid(f"{field}.containerPort", number, text) for text in names.port_number(number)]
        host = port.get("hostPort", 0)
        if host:
            errors += [invalid(f"{field}.hostPort", host, text) for text in names.port_number(host)]
        if host_network and host != number and (host or host_network == "pod"):  # a template may leave it out
            errors.append(invalid(f"{field}.hostPort", host, "must match `containerPort` when `hostNetwork` is true"))
        if port.get("protocol") not in _PROTOCOLS:
            errors.append(not_supported(f"{field}.protocol", port.get("protocol"), _PROTOCOLS))
        if port.get("hostIP"):
            errors += [invalid(f"{field}.hostIP", port["hostIP"], text) for text in names.ip_address(port["hostIP"])]
    return errors


def _env(entries: list[Any], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for at, entry in enumerate(entries):
        field, name = f"{path}[{at}]", entry.get("name", "")
        if not name:
            errors.append(required(f"{field}.name"))
        else:
            errors += [invalid(f"{field}.name", name, said) for said in names.env_name(name)]
        source = entry.get("valueFrom")
        if not isinstance(source, dict):
            continue
        given = [kind for kind in _SOURCES if source.get(kind) is not None]
        if not given:
            errors.append(invalid(f"{field}.valueFrom", "", "must specify one of: `fieldRef`, `resourceFieldRef`, "
                                                            "`configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"))
        elif entry.get("value"):
            errors.append(invalid(f"{field}.valueFrom", "", "may not be specified when `value` is not empty"))
        elif len(given) > 1:
            errors.append(invalid(f"{field}.valueFrom", "", "may not have more than one field specified at a time"))
        for kind in ("configMapKeyRef", "secretKeyRef"):
            reference = source.get(kind)
            if isinstance(reference, dict):
                errors += [required(f"{field}.valueFrom.{kind}.{part}") for part in ("name", "key")
                           if not reference.get(part)]
        reference = source.get("fieldRef")
        if isinstance(reference, dict) and not reference.get("fieldPath"):
            errors.append(required(f"{field}.valueFrom.fieldRef.fieldPath"))
    return errors


def _env_from(entries: list[Any], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for at, entry in enumerate(entries):
        given = [kind for kind in ("configMapRef", "secretRef") if entry.get(kind) is not None]
        if len(given) != 1:
            said = "must specify one of: `configMapRef` or `secretRef`" if not given else \
                "may not have more than one field specified at a time"
            errors.append(invalid(f"{path}[{at}]", "", said))
    return errors


def _mounts(mounts: list[Any], path: str, volume_names: set[str]) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for at, mount in enumerate(mounts):
        field, name, where = f"{path}[{at}]", mount.get("name", ""), mount.get("mountPath", "")
        if not name:
            errors.append(required(f"{field}.name"))
        elif name not in volume_names:
            errors.append(FieldError("FieldValueNotFound", f"{field}.name", f'Not found: "{name}"'))
        if not where:
            errors.append(required(f"{field}.mountPath"))
        if where in seen:
            errors.append(invalid(f"{field}.mountPath", where, "must be unique"))
        seen.add(where)
        sub = mount.get("subPath", "")
        if sub.startswith("/"):
            errors.append(invalid(f"{field}.subPath", sub, "must be a relative path"))
        if ".." in sub.split("/"):
            errors.append(invalid(f"{field}.subPath", sub, "must not contain '..'"))
    return errors


def resources(found: Object, path: str) -> list[FieldError]:
    """Check requests and limits."""
    errors: list[FieldError] = []
    amounts: dict[str, dict[str, quantity.Quantity]] = {"limits": {}, "requests": {}}
    for kind, parsed in amounts.items():
        for name, value in (found.get(kind) or {}).items():
            field = f"{path}.{kind}[{name}]"
            errors += [invalid(field, name, said) for said in names.qualified_name(name)]
            if "/" not in name and name not in (*_OVERCOMMIT, "storage") and not name.startswith("hugepages-"):
                errors.append(invalid(field, name, "must be a standard resource type or fully qualified"))
                errors.append(invalid(field, name, "must be a standard resource for containers"))
            try:
                parsed[name] = quantity.parse(value)
            except ValueError as error:
                errors.append(invalid(field, value, str(error)))
                continue
            if parsed[name] < quantity.parse(0):
                errors.append(invalid(field, value, "must be greater than or equal to 0"))
    for name, wanted in amounts["requests"].items():
        limit = amounts["limits"].get(name)
        field = f"{path}.requests"
        if limit is not None and wanted != limit and name not in _OVERCOMMIT:
            errors.append(invalid(field, str(wanted), f"must be equal to {name} limit of {limit}"))
        elif limit is not None and wanted > limit:
            errors.append(invalid(field, str(wanted), f"must be less than or equal to {name} limit of {limit}"))
    return errors


def _probe(probe: Object, path: str, kind: str) -> list[FieldError]:
    errors = _handler(probe, path, allowed=_HANDLERS)
    for part in ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"):
        value = probe.get(part)
        if isinstance(value, int) and value < 0:
            errors.append(invalid(f"{path}.{part}", value, "must be greater than or equal to 0"))
    if kind != "readinessProbe" and probe.get("successThreshold") != 1:
        errors.append(invalid(f"{path}.successThreshold", probe.get("successThreshold"), "must be 1"))
    if probe.get("terminationGracePeriodSeconds") is not None:
        if kind == "readinessProbe":
            errors.append(invalid(f"{path}.terminationGracePeriodSeconds", probe["terminationGracePeriodSeconds"],
                                  "must not be set for readinessProbes"))
        elif probe["terminationGracePeriodSeconds"] <= 0:
            errors.append(invalid(f"{path}.terminationGracePeriodSeconds", probe["terminationGracePeriodSeconds"],
                                  "must be greater than 0"))
    return errors


def _handler(handler: Object, path: str, *, allowed: tuple[str, ...]) -> list[FieldError]:
    errors: list[FieldError] = []
    given = [kind for kind in allowed if handler.get(kind) is not None]
    if not given:
        return [required(path, "must specify a handler type")]
    errors += [forbidden(f"{path}.{kind}", "may not specify more than 1 handler type") for kind in given[1:]]
    kind = given[0]
    body = handler[kind]
    if kind == "exec" and not body.get("command"):
        errors.append(required(f"{path}.exec.command"))
    if kind in ("httpGet", "tcpSocket"):
        errors += _handler_port(body.get("port"), f"{path}.{kind}.port")
    if kind == "httpGet":
        if body.get("scheme") not in _SCHEMES:
            errors.append(not_supported(f"{path}.httpGet.scheme", body.get("scheme"), _SCHEMES))
        for at, header in enumerate(body.get("httpHeaders") or []):
            if not header.get("name"):
                errors.append(required(f"{path}.httpGet.httpHeaders[{at}].name"))
    if kind == "grpc":
        errors += [invalid(f"{path}.grpc.port", body.get("port"), said) for said in names.port_number(body.get("port"))]
    return errors


def _handler_port(port: Any, path: str) -> list[FieldError]:
    if isinstance(port, str) and not port.isdigit():
        return [invalid(path, port, said) for said in names.port_name(port)]
    return [invalid(path, port or 0, said) for said in names.port_number(int(port or 0))]
