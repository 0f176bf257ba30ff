"""Containers of a PodSpec: main, init and ephemeral ones (core/validation)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from netlab.api.meta import Object
from netlab.apiserver.validation import env, mounts, names, probes, resources, security
from netlab.apiserver.validation.errors import (
    FieldError,
    duplicate,
    forbidden,
    invalid,
    not_found,
    not_supported,
    required,
    too_many,
    unsupported,
    wrong,
)
from netlab.apiserver.validation.mounts import Volumes

PULL = ("Always", "IfNotPresent", "Never")
_PROTOCOLS = ("SCTP", "TCP", "UDP")
_MESSAGE = ("File", "FallbackToLogsOnError")
_RESTART = ("Always", "Never", "OnFailure")
_RULE_ACTIONS = ("Restart", "RestartAllContainers")
_RULE_OPERATORS = ("In", "NotIn")
_MOST_RULES, _MOST_CODES = 20, 255
_RESIZED = ("cpu", "memory")
_RESIZE_POLICIES = ("NotRequired", "RestartContainer")
_NOT_EPHEMERAL = (
    "ports",
    "resources",
    "resizePolicy",
    "restartPolicy",
    "restartPolicyRules",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "lifecycle",
)
_NO_SIDECAR = "may not be set for init containers without restartPolicy=Always"
_RULES_ALONE = "must specify restartPolicy when restart rules are used"
_EPHEMERAL = "cannot be set for an Ephemeral Container"


@dataclass(frozen=True, slots=True)
class Around:
    """What of the Pod its containers are judged by: faultless volumes, names of claims, and the spec itself."""

    volumes: Volumes
    claims: Collection[str]
    spec: Object

    @property
    def grace(self) -> int | None:
        """Seconds that the Pod has to end (None: unknown)."""
        found = self.spec.get("terminationGracePeriodSeconds")
        return found if isinstance(found, int) else None


def containers(around: Around, path: str) -> Iterator[FieldError]:
    """Check all containers of a Pod."""
    spec = around.spec
    main = spec.get("containers") or []
    yield from _main(main, f"{path}.containers", around)
    if spec.get("initContainers"):
        yield from _init(spec["initContainers"], f"{path}.initContainers", around, main)
    if spec.get("ephemeralContainers"):
        known = {container.get("name", "") for container in (*main, *(spec.get("initContainers") or ()))}
        yield from _ephemeral(spec["ephemeralContainers"], f"{path}.ephemeralContainers", around, known)


def every(spec: Object, path: str) -> Iterator[tuple[str, Object]]:
    """Yield all containers with their paths: init, main, ephemeral."""
    for part in ("initContainers", "containers", "ephemeralContainers"):
        for at, container in enumerate(spec.get(part) or ()):
            yield f"{path}.{part}[{at}]", container


def trimmed_image(container: Object, path: str) -> Iterator[FieldError]:
    """Refuse blanks around an image's name (templates may have them)."""
    image = container.get("image", "")
    if image != image.strip():
        yield invalid(f"{path}.image", image, "must not have leading or trailing whitespace")


def _main(found: list[Any], path: str, around: Around) -> Iterator[FieldError]:
    if not found:
        yield required(path)
    seen: set[str] = set()
    for at, container in enumerate(found):
        field, name = f"{path}[{at}]", container.get("name", "")
        yield from _common(container, field, around)
        if name in seen:
            yield duplicate(f"{field}.name", name)
        seen.add(name)
        yield from _running(container, field, around)
        yield from _restarts(container, field)
    yield from _host_ports(found, path)


def _init(found: list[Any], path: str, around: Around, main: Iterable[Object]) -> Iterator[FieldError]:
    seen = {container.get("name", "") for container in main}
    for at, container in enumerate(found):
        field, name = f"{path}[{at}]", container.get("name", "")
        yield from _common(container, field, around)
        if container.get("restartPolicy") is not None or not container.get("restartPolicyRules"):
            yield from _restarts(container, field)
        else:
            yield required(f"{field}.restartPolicy", _RULES_ALONE)
        if name in seen:
            yield duplicate(f"{field}.name", name)
        elif name:
            seen.add(name)
        yield from _host_ports([container], path)  # one by one, since they run so; upstream's paths say 0 for each
        if container.get("restartPolicy") == "Always":
            yield from _running(container, field, around)
            continue
        for part in ("lifecycle", *probes.PROBES):
            if container.get(part) is not None:
                yield forbidden(f"{field}.{part}", _NO_SIDECAR)
        for number, policy in enumerate(container.get("resizePolicy") or ()):
            if policy.get("restartPolicy") == "RestartContainer":
                yield invalid(
                    f"{field}.resizePolicy[{number}].restartPolicy",
                    policy["restartPolicy"],
                    "must not be set to 'RestartContainer' for non-sidecar initContainers",
                )


def _ephemeral(found: list[Any], path: str, around: Around, others: Collection[str]) -> Iterator[FieldError]:
    seen = set(others)
    for at, container in enumerate(found):
        field, name, target = f"{path}[{at}]", container.get("name", ""), container.get("targetContainerName", "")
        yield from _common(container, field, around)
        yield from trimmed_image(container, field)
        if name in seen:
            yield duplicate(f"{field}.name", name)
        seen.add(name)
        if target and target not in others:
            yield not_found(f"{field}.targetContainerName", target)
        for part in _NOT_EPHEMERAL:
            value = container.get(part)
            if value is not None and (part != "resources" or value):
                yield forbidden(f"{field}.{part}", _EPHEMERAL)
        for number, mount in enumerate(container.get("volumeMounts") or ()):
            for part in ("subPath", "subPathExpr"):
                if mount.get(part):
                    yield forbidden(f"{field}.volumeMounts[{number}].{part}", _EPHEMERAL)


def _common(container: Object, path: str, around: Around) -> Iterator[FieldError]:
    name = container.get("name", "")
    if not name:
        yield required(f"{path}.name")
    else:
        yield from wrong(f"{path}.name", name, names.dns_label(name))
    if not container.get("image"):
        yield required(f"{path}.image")
    message = container.get("terminationMessagePolicy")
    if message not in _MESSAGE:
        field = f"{path}.terminationMessagePolicy"
        yield unsupported(field, message, _MESSAGE) if message else required(field)
    if container.get("ports"):
        yield from _ports(container["ports"], f"{path}.ports")
    if container.get("env"):
        yield from env.variables(container["env"], f"{path}.env")
    if container.get("envFrom"):
        yield from env.sets(container["envFrom"], f"{path}.envFrom")
    if container.get("volumeMounts"):
        yield from mounts.mounts(container["volumeMounts"], f"{path}.volumeMounts", around.volumes, container)
    if container.get("volumeDevices"):
        yield from mounts.devices(container["volumeDevices"], f"{path}.volumeDevices", around.volumes, container)
    yield from pull_policy(container.get("imagePullPolicy"), f"{path}.imagePullPolicy")
    if container.get("resources"):
        yield from resources.requirements(container["resources"], f"{path}.resources", around.claims)
    if container.get("resizePolicy"):
        yield from _resize(container["resizePolicy"], f"{path}.resizePolicy", around.spec)
    if container.get("securityContext"):
        yield from security.container(
            container["securityContext"],
            f"{path}.securityContext",
            host_users=around.spec.get("hostUsers") is not False,
        )


def pull_policy(policy: str | None, path: str) -> Iterator[FieldError]:
    """Check when an image is pulled."""
    if not policy:
        yield required(path)
    elif policy not in PULL:
        yield unsupported(path, policy, PULL)


def _running(container: Object, path: str, around: Around) -> Iterator[FieldError]:
    """Check what only containers have that stay: hooks and probes."""
    if container.get("lifecycle") is not None:
        yield from probes.lifecycle(container["lifecycle"], f"{path}.lifecycle", around.grace, around.spec.get("os"))
    for kind in probes.PROBES:
        if container.get(kind) is not None:
            yield from probes.probe(container[kind], f"{path}.{kind}", kind, around.grace)


def _restarts(container: Object, path: str) -> Iterator[FieldError]:
    policy, rules = container.get("restartPolicy"), container.get("restartPolicyRules") or []
    if policy is None:
        if rules:
            yield required(f"{path}.restartPolicy", _RULES_ALONE)
    elif policy not in _RESTART:
        yield not_supported(f"{path}.restartPolicy", policy, _RESTART)
    if len(rules) > _MOST_RULES:
        yield too_many(f"{path}.restartPolicyRules", len(rules), _MOST_RULES)
    for at, rule in enumerate(rules):
        field, codes = f"{path}.restartPolicyRules[{at}]", rule.get("exitCodes")
        if rule.get("action") not in _RULE_ACTIONS:
            yield not_supported(f"{field}.action", rule.get("action", ""), _RULE_ACTIONS)
        if codes is None:
            yield required(f"{field}.exitCodes", "must be specified")
            continue
        if codes.get("operator") not in _RULE_OPERATORS:
            yield not_supported(f"{field}.exitCodes.operator", codes.get("operator", ""), _RULE_OPERATORS)
        if len(codes.get("values") or ()) > _MOST_CODES:
            yield too_many(f"{field}.exitCodes.values", len(codes["values"]), _MOST_CODES)


def _ports(found: list[Any], path: str) -> Iterator[FieldError]:
    seen: set[str] = set()
    for at, port in enumerate(found):
        field, name = f"{path}[{at}]", port.get("name", "")
        if name:
            complaints = names.port_name(name)
            yield from wrong(f"{field}.name", name, complaints)
            if not complaints:
                if name in seen:
                    yield duplicate(f"{field}.name", name)
                seen.add(name)
        number, host, protocol = port.get("containerPort", 0), port.get("hostPort", 0), port.get("protocol", "")
        if not number:
            yield required(f"{field}.containerPort")
        else:
            yield from wrong(f"{field}.containerPort", number, names.port_number(number))
        if host:
            yield from wrong(f"{field}.hostPort", host, names.port_number(host))
        if protocol not in _PROTOCOLS:
            yield (
                not_supported(f"{field}.protocol", protocol, _PROTOCOLS) if protocol else required(f"{field}.protocol")
            )


def _host_ports(found: list[Any], path: str) -> Iterator[FieldError]:
    seen: set[str] = set()
    for at, container in enumerate(found):
        for number, port in enumerate(container.get("ports") or ()):
            if not port.get("hostPort"):
                continue
            key = f"{port.get('protocol', '')}/{port.get('hostIP', '')}/{port['hostPort']}"
            if key in seen:
                yield duplicate(f"{path}[{at}].ports[{number}].hostPort", key)
            seen.add(key)


def _resize(found: list[Any], path: str, spec: Object) -> Iterator[FieldError]:
    seen: set[str] = set()
    for at, policy in enumerate(found):
        name, action = policy.get("resourceName", ""), policy.get("restartPolicy", "")
        if name in seen:
            yield duplicate(f"{path}[{at}]", name)
        seen.add(name)
        for value, known in ((name, _RESIZED), (action, _RESIZE_POLICIES)):
            if value not in known:
                yield unsupported(path, value, known) if value else required(path)
        if spec.get("restartPolicy") == "Never" and action != "NotRequired":
            yield invalid(path, action, "must be 'NotRequired' when pod `restartPolicy` is 'Never'")
