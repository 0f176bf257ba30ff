"""PodSpecs (k8s.io/kubernetes/pkg/apis/core/validation): what a learner gets wrong, in upstream's words."""

from __future__ import annotations

from typing import Any

from netlab.api.meta import Object
from netlab.apiserver.validation import names
from netlab.apiserver.validation.containers import container_list
from netlab.apiserver.validation.errors import FieldError, duplicate, forbidden, invalid, not_supported, required
from netlab.apiserver.validation.meta import check_labels
from netlab.apiserver.validation.volumes import volumes

_RESTART = ("Always", "OnFailure", "Never")
_DNS = ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None")
_OPERATORS = ("Equal", "Exists", "Gt", "Lt")
_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_UNSATISFIABLE = ("DoNotSchedule", "ScheduleAnyway")
_SERVERS, _SEARCHES = 3, 32

_UPDATE_TEXT = ("pod updates may not change fields other than `spec.containers[*].image`, "
                "`spec.initContainers[*].image`, `spec.activeDeadlineSeconds`, `spec.tolerations` (only additions to "
                "existing tolerations), `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was "
                "previously negative)")


def pod_spec(spec: Object, path: str, *, is_pod: bool = False) -> list[FieldError]:
    """Check a PodSpec, of a Pod or of a template."""
    volume_names, errors = volumes(spec.get("volumes") or [], f"{path}.volumes")
    errors += container_list(spec, path, volume_names, is_pod=is_pod)
    policy = spec.get("restartPolicy")
    if policy not in _RESTART:
        errors.append(not_supported(f"{path}.restartPolicy", policy, _RESTART))
    errors += _dns(spec, path)
    grace = spec.get("terminationGracePeriodSeconds")
    if isinstance(grace, int) and grace < 0:
        errors.append(invalid(f"{path}.terminationGracePeriodSeconds", grace, "must be greater than or equal to 0"))
    deadline = spec.get("activeDeadlineSeconds")
    if isinstance(deadline, int) and not 1 <= deadline <= 2**31 - 1:
        errors.append(invalid(f"{path}.activeDeadlineSeconds", deadline, "must be between 1 and 2147483647, inclusive"))
    errors += check_labels(spec.get("nodeSelector"), f"{path}.nodeSelector")
    for part in ("serviceAccountName", "nodeName"):
        if spec.get(part):
            errors += [invalid(f"{path}.{part}", spec[part], said) for said in names.dns_subdomain(spec[part])]
    for part in ("hostname", "subdomain"):
        if spec.get(part):
            errors += [invalid(f"{path}.{part}", spec[part], said) for said in names.dns_label(spec[part])]
    errors += tolerations(spec.get("tolerations") or [], f"{path}.tolerations")
    errors += _host_aliases(spec.get("hostAliases") or [], f"{path}.hostAliases")
    errors += _spread(spec.get("topologySpreadConstraints") or [], f"{path}.topologySpreadConstraints")
    for at, reference in enumerate(spec.get("imagePullSecrets") or []):
        if not reference.get("name"):
            errors.append(required(f"{path}.imagePullSecrets[{at}].name"))
    if spec.get("priorityClassName"):
        errors += [invalid(f"{path}.priorityClassName", spec["priorityClassName"], said)
                   for said in names.dns_subdomain(spec["priorityClassName"])]
    return errors


def tolerations(found: list[Any], path: str) -> list[FieldError]:
    """Check tolerations."""
    errors: list[FieldError] = []
    for at, toleration in enumerate(found):
        field = f"{path}[{at}]"
        key, operator = toleration.get("key", ""), toleration.get("operator") or "Equal"
        if key:
            errors += [invalid(f"{field}.key", key, said) for said in names.qualified_name(key)]
        elif operator != "Exists":
            errors.append(invalid(f"{field}.operator", operator, "operator must be Exists when `key` is empty, which "
                                                                 "means \"match all values and all keys\""))
        if toleration.get("tolerationSeconds") is not None and toleration.get("effect") != "NoExecute":
            errors.append(invalid(f"{field}.effect", toleration.get("effect", ""),
                                  "effect must be 'NoExecute' when `tolerationSeconds` is set"))
        if operator not in _OPERATORS:
            errors.append(not_supported(f"{field}.operator", operator, ("Equal", "Exists")))
        elif operator == "Exists" and toleration.get("value"):
            errors.append(invalid(f"{field}.operator", toleration, "value must be empty when `operator` is 'Exists'"))
        elif operator == "Equal":
            errors += [invalid(f"{field}.operator", toleration.get("value", ""), said)
                       for said in names.label_value(toleration.get("value") or "")]
        if toleration.get("effect") and toleration["effect"] not in _EFFECTS:
            errors.append(not_supported(f"{field}.effect", toleration["effect"], _EFFECTS))
    return errors


def pod_update(obj: Object, old: Object) -> list[FieldError]:
    """Check what may change in a Pod: images, deadline, added tolerations, removed scheduling gates, a binding."""
    spec, before = obj["spec"], old["spec"]
    if spec == before:
        return []
    errors: list[FieldError] = []
    for part in ("containers", "initContainers"):
        if len(spec.get(part) or []) != len(before.get(part) or []):
            return [forbidden(f"spec.{part}", "pod updates may not add or remove containers")]
    deadline, old_deadline = spec.get("activeDeadlineSeconds"), before.get("activeDeadlineSeconds")
    if deadline != old_deadline and old_deadline is not None and (deadline is None or deadline > old_deadline):
        said = "must be less than or equal to previous value" if deadline is not None else \
            "must not update from a positive integer to nil value"
        errors.append(invalid("spec.activeDeadlineSeconds", deadline, said))
    kept, grown = before.get("tolerations") or [], spec.get("tolerations") or []
    if grown != kept and any(item not in grown for item in kept):
        errors.append(forbidden("spec.tolerations",
                                "existing toleration can not be modified except its tolerationSeconds"))
    gates, old_gates = spec.get("schedulingGates") or [], before.get("schedulingGates") or []
    if any(gate not in old_gates for gate in gates):
        errors.append(forbidden("spec.schedulingGates", "only deletion is allowed, but found new scheduling gate"))
    if errors:
        return errors
    if _frozen(spec, gated=bool(old_gates)) != _frozen(before, gated=bool(old_gates)):
        return [forbidden("spec", f"{_UPDATE_TEXT}\n{_difference(spec, before)}")]
    return []


def _frozen(spec: Object, *, gated: bool) -> Object:
    """Return the part of a PodSpec that stays for life."""
    free = ["activeDeadlineSeconds", "tolerations", "schedulingGates", "terminationGracePeriodSeconds", "containers",
            "initContainers", "priority", "preemptionPolicy"] + (["nodeSelector", "affinity"] if gated else [])
    frozen = {key: value for key, value in spec.items() if key not in free}
    for part in ("containers", "initContainers"):
        frozen[part] = [{key: value for key, value in container.items() if key not in ("image", "imagePullPolicy")}
                        for container in spec.get(part) or []]
    return frozen


def _difference(spec: Object, before: Object) -> str:
    """Return which parts differ, one per line, old behind "-" and new behind "+"."""
    import orjson

    lines = []
    for part in sorted(set(spec) | set(before)):
        if spec.get(part) != before.get(part):
            lines += [f"- {part}: {orjson.dumps(before.get(part)).decode()}",
                      f"+ {part}: {orjson.dumps(spec.get(part)).decode()}"]
    return "\n".join(lines)


def _dns(spec: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    policy, config = spec.get("dnsPolicy"), spec.get("dnsConfig") or {}
    if policy not in _DNS:
        errors.append(not_supported(f"{path}.dnsPolicy", policy, _DNS))
    servers, searches = config.get("nameservers") or [], config.get("searches") or []
    if policy == "None" and not servers:
        errors.append(required(f"{path}.dnsConfig.nameservers",
                               "must provide at least one DNS nameserver when `dnsPolicy` is None"))
    if len(servers) > _SERVERS:
        errors.append(invalid(f"{path}.dnsConfig.nameservers", servers,
                              f"must not have more than {_SERVERS} nameservers"))
    for at, server in enumerate(servers):
        errors += [invalid(f"{path}.dnsConfig.nameservers[{at}]", server, said) for said in names.ip_address(server)]
    if len(searches) > _SEARCHES:
        errors.append(invalid(f"{path}.dnsConfig.searches", searches,
                              f"must not have more than {_SEARCHES} search paths"))
    for at, option in enumerate(config.get("options") or []):
        if not option.get("name"):
            errors.append(required(f"{path}.dnsConfig.options[{at}]", "must not be empty"))
    return errors


def _host_aliases(aliases: list[Any], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for at, alias in enumerate(aliases):
        errors += [invalid(f"{path}[{at}].ip", alias.get("ip", ""), said) for said in names.ip_address(alias.get("ip",
                                                                                                                 ""))]
        for name in alias.get("hostnames") or []:
            errors += [invalid(f"{path}[{at}].hostnames", name, said) for said in names.dns_subdomain(name)]
    return errors


def _spread(constraints: list[Any], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[tuple[Any, Any]] = set()
    for at, constraint in enumerate(constraints):
        field = f"{path}[{at}]"
        skew = constraint.get("maxSkew", 0)
        if not isinstance(skew, int) or skew <= 0:
            errors.append(invalid(f"{field}.maxSkew", skew, "must be greater than zero"))
        if not constraint.get("topologyKey"):
            errors.append(required(f"{field}.topologyKey", "can not be empty"))
        action = constraint.get("whenUnsatisfiable")
        if action not in _UNSATISFIABLE:
            errors.append(not_supported(f"{field}.whenUnsatisfiable", action or "", _UNSATISFIABLE))
        pair = (constraint.get("topologyKey"), action)
        if pair in seen:
            errors.append(duplicate(f"{field}.{{topologyKey, whenUnsatisfiable}}", f"{{{pair[0]}, {pair[1]}}}"))
        seen.add(pair)
    return errors
