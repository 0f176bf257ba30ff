"""Services (k8s.io/kubernetes/pkg/apis/core/validation: ValidateService)."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterator
from typing import Any

from netlab.api.meta import Object
from netlab.apiserver.validation import meta, names
from netlab.apiserver.validation.endpoints import special
from netlab.apiserver.validation.errors import (
    FieldError,
    duplicate,
    forbidden,
    invalid,
    not_supported,
    required,
    unsupported,
    wrong,
)

_TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
_PROTOCOLS = ("SCTP", "TCP", "UDP")
_POLICIES = ("PreferDualStack", "RequireDualStack", "SingleStack")
_DISTRIBUTION = ("PreferClose", "PreferSameZone", "PreferSameNode")
_MODES = ("Proxy", "VIP")
_STICKY_SECONDS = 86400
_RANGES = "service.beta.kubernetes.io/load-balancer-source-ranges"
_TOPOLOGY, _OLD_TOPOLOGY = "service.kubernetes.io/topology-mode", "service.kubernetes.io/topology-aware-hints"
_ONCE = "may not change once set"
_BALANCED_ONLY = "may only be used when `type` is 'LoadBalancer'"


def service(obj: Object, families: tuple[str, ...], old: Object | None = None) -> list[FieldError]:
    """Check a Service but for its metadata.

    Args:
        obj: the Service.
        families: those that the cluster has addresses of.
        old: the Service before a change; addresses that it had already may be of a form that new ones may not.
    """
    spec, path, before = obj["spec"], "spec", (old or {}).get("spec") or {}
    errors = list(_topology(obj["metadata"].get("annotations") or {}))
    kind, headless = spec.get("type"), _headless(spec)
    ports = spec.get("ports") or []
    if not ports and not headless and kind != "ExternalName":
        errors.append(required(f"{path}.ports"))
    if kind in ("LoadBalancer", "NodePort") and headless:
        errors.append(invalid(f"{path}.clusterIPs[0]", "None", f"may not be set to 'None' for {kind} services"))
    if kind == "ExternalName":
        errors += _external_name(spec, path)
    errors += _ports(ports, f"{path}.ports")
    errors += meta.check_labels(spec.get("selector"), f"{path}.selector")
    errors += _affinity(spec, path)
    if kind != "ExternalName":
        errors += _cluster_addresses(spec, path, families, before.get("clusterIPs") or ())
    known = before.get("externalIPs") or ()
    for at, address in enumerate(spec.get("externalIPs") or []):
        field = f"{path}.externalIPs[{at}]"
        complaints = [] if address in known else names.ip_address(address)
        errors += [invalid(field, address, said) for said in complaints] or special(address, field)
    if kind not in _TYPES:
        errors.append(not_supported(f"{path}.type", kind, _TYPES))
    errors += _port_clashes(ports, f"{path}.ports", kind)
    errors += _source_ranges(obj, old or {}, path)
    if spec.get("allocateLoadBalancerNodePorts") is not None and kind != "LoadBalancer":
        errors.append(forbidden(f"{path}.allocateLoadBalancerNodePorts", _BALANCED_ONLY))
    errors += _balancer_class(spec, path)
    return errors + _traffic(spec, path)


def service_update(spec: Object, old: Object) -> list[FieldError]:
    """Check what of a Service stays while it keeps needing it: cluster addresses, families, a balancer's class."""
    errors: list[FieldError] = []
    if "ExternalName" not in (spec.get("type"), old.get("type")):
        if not (_headless(old) and _headless(spec)):
            errors += _addresses_update(spec, old)
        if not _headless(old) and not _headless(spec):
            errors += _families_update(spec, old)
    if spec.get("type") == old.get("type") == "LoadBalancer" \
            and spec.get("loadBalancerClass") != old.get("loadBalancerClass"):
        errors.append(invalid("spec.loadBalancerClass", spec.get("loadBalancerClass"), _ONCE))
    if _health_checked(old) and _health_checked(spec) \
            and (spec.get("healthCheckNodePort") or 0) != (old.get("healthCheckNodePort") or 0):
        errors.append(forbidden("spec.healthCheckNodePort", "field is immutable"))
    return errors


def load_balancer(obj: Object, old: Object) -> list[FieldError]:
    """Check the load balancer in a Service's status."""
    now, before = (((one.get("status") or {}).get("loadBalancer") or {}).get("ingress") or [] for one in (obj, old))
    path, known = "status.loadBalancer.ingress", {one.get("ip") for one in before}
    if now and (obj.get("spec") or {}).get("type") != "LoadBalancer":
        return [forbidden(path, "may only be used when `spec.type` is 'LoadBalancer'")]
    errors: list[FieldError] = []
    for at, entry in enumerate(now):
        field, address, mode, name = f"{path}[{at}]", entry.get("ip"), entry.get("ipMode"), entry.get("hostname")
        if address and address not in known:
            errors += wrong(f"{field}.ip", address, names.ip_address(address))
        if mode is None and address:
            errors.append(required(f"{field}.ipMode", "must be specified when `ip` is set"))
        elif mode is not None and not address:
            errors.append(forbidden(f"{field}.ipMode", "may not be specified when `ip` is not set"))
        elif mode is not None and mode not in _MODES:
            errors.append(not_supported(f"{field}.ipMode", mode, _MODES))
        if name:
            errors += wrong(f"{field}.hostname", name, names.dns_subdomain(name))
            if not names.ip_address(name):
                errors.append(invalid(f"{field}.hostname", name, "must be a DNS name, not an IP address"))
    return errors


def _topology(annotations: Object) -> Iterator[FieldError]:
    mode, hints = annotations.get(_TOPOLOGY), annotations.get(_OLD_TOPOLOGY)
    if mode is not None and hints is not None and mode != hints:
        yield invalid(f"metadata.annotations[{_TOPOLOGY}]", mode,
                      f"must match annotations[{_OLD_TOPOLOGY}] when both are specified")


def _headless(spec: Object) -> bool:
    return (spec.get("clusterIPs") or [spec.get("clusterIP")]) == ["None"]


def _health_checked(spec: Object) -> bool:
    return spec.get("type") == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"


def _external_name(spec: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if spec.get("clusterIP") or spec.get("clusterIPs"):
        errors.append(forbidden(f"{path}.clusterIPs", "may not be set for ExternalName services"))
    errors += [forbidden(f"{path}.{part}", "may not be set for ExternalName services")
               for part in ("ipFamilies", "ipFamilyPolicy") if spec.get(part)]
    name = (spec.get("externalName") or "").removesuffix(".")
    if not name:
        return [*errors, required(f"{path}.externalName")]
    return errors + [invalid(f"{path}.externalName", name, said) for said in names.dns_subdomain(name)]


def _ports(ports: list[Any], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for at, port in enumerate(ports):
        field, name = f"{path}[{at}]", port.get("name", "")
        if len(ports) > 1 and not name:
            errors.append(required(f"{field}.name"))
        elif name:
            errors += wrong(f"{field}.name", name, names.dns_label(name))
            if name in seen:
                errors.append(duplicate(f"{field}.name", name))
            seen.add(name)
        number, protocol = port.get("port", 0), port.get("protocol")
        errors += wrong(f"{field}.port", number, names.port_number(number))
        if protocol not in _PROTOCOLS:
            errors.append(not_supported(f"{field}.protocol", protocol, _PROTOCOLS))
        errors += _target(port.get("targetPort"), f"{field}.targetPort")
        if port.get("appProtocol") is not None:
            errors += wrong(f"{field}.appProtocol", port["appProtocol"], names.qualified_name(port["appProtocol"]))
    return errors


def _port_clashes(ports: list[Any], path: str, kind: Any) -> list[FieldError]:
    errors = [forbidden(f"{path}[{at}].nodePort", "may not be used when `type` is 'ClusterIP'")
              for at, port in enumerate(ports) if kind == "ClusterIP" and port.get("nodePort")]
    nodes: set[tuple[Any, Any]] = set()
    for at, port in enumerate(ports):
        key = port.get("protocol"), port.get("nodePort")
        if key[1] and key in nodes:
            errors.append(duplicate(f"{path}[{at}].nodePort", key[1]))
        nodes.add(key)
    seen: set[tuple[Any, Any]] = set()
    for at, port in enumerate(ports):
        key = port.get("protocol"), port.get("port")
        if key in seen:  # shown as upstream's own struct, which has Go's names
            errors.append(duplicate(f"{path}[{at}]", {"Name": "", "Protocol": key[0], "AppProtocol": None,
                                                      "Port": key[1], "TargetPort": 0, "NodePort": 0}))
        seen.add(key)
    return errors


def _target(port: Any, path: str) -> list[FieldError]:
    if isinstance(port, str):
        return [invalid(path, port, said) for said in names.port_name(port)]
    return [invalid(path, port, said) for said in names.port_number(port)]


def _affinity(spec: Object, path: str) -> list[FieldError]:
    affinity, config, field = spec.get("sessionAffinity"), spec.get("sessionAffinityConfig"), "sessionAffinityConfig"
    if affinity not in ("ClientIP", "None"):
        return [not_supported(f"{path}.sessionAffinity", affinity, ("ClientIP", "None"))]
    if affinity == "None":
        return [] if config is None else [
            forbidden(f"{path}.{field}", "must not be set when session affinity is None")]
    seconds = ((config or {}).get("clientIP") or {}).get("timeoutSeconds")
    if seconds is None:
        return [required(f"{path}.{field}.clientIP.timeoutSeconds", "when session affinity type is ClientIP")]
    return [] if 0 < seconds <= _STICKY_SECONDS else [invalid(
        f"{path}.{field}.clientIP.timeoutSeconds", seconds,
        f"must be greater than 0 and less than {_STICKY_SECONDS}")]


def _cluster_addresses(spec: Object, path: str, families: tuple[str, ...],
                       known: Collection[str]) -> list[FieldError]:
    errors: list[FieldError] = []
    field, given, first = f"{path}.clusterIPs", spec.get("clusterIPs") or [], spec.get("clusterIP")
    if first and given and first != given[0]:
        errors.append(invalid(field, given, "first value must match `clusterIP`"))
    elif given and not first:
        errors.append(invalid(field, given, "must be empty when `clusterIP` is not specified"))
    errors += _families(spec, path, families)
    bad = False
    for at, address in enumerate(given):
        if at == 0 and address == "None":
            if len(given) > 1:
                bad = True
                errors.append(invalid(field, given, "'None' must be the first and only value"))
            continue
        complaints = [] if address in known else names.ip_address(address)
        bad = bad or bool(complaints)
        errors += [invalid(f"{field}[{at}]", address, said) for said in complaints]
    if len(given) > 2:
        errors.append(invalid(field, given, "may only hold up to 2 values"))
    if bad or _headless(spec):
        return errors
    versions = [_version(address) for address in given]
    if len(given) > 1 and len(set(versions)) == 1:
        errors.append(invalid(field, given, "may specify no more than one IP for each IP family"))
    for at, (version, family) in enumerate(zip(versions, spec.get("ipFamilies") or [], strict=False)):
        if family in ("IPv4", "IPv6") and version != family:
            errors.append(invalid(f"{field}[{at}]", given[at],
                                  f"expected an {family} value as indicated by `ipFamilies[{at}]`"))
    return errors


def _families(spec: Object, path: str, families: tuple[str, ...]) -> list[FieldError]:
    errors: list[FieldError] = []
    policy, wanted = spec.get("ipFamilyPolicy"), spec.get("ipFamilies") or []
    if policy and policy not in _POLICIES:
        errors.append(not_supported(f"{path}.ipFamilyPolicy", policy, _POLICIES))
    selectorless = spec.get("clusterIP") == "None" and not spec.get("selector")
    for at, family in enumerate(wanted):
        if family not in ("IPv4", "IPv6"):
            errors.append(not_supported(f"{path}.ipFamilies[{at}]", family, ("IPv4", "IPv6")))
        elif family not in families and not selectorless:
            errors.append(invalid(f"{path}.ipFamilies[{at}]", family, "not configured on this cluster"))
        elif family in wanted[:at]:
            errors.append(duplicate(f"{path}.ipFamilies[{at}]", family))
    if policy == "RequireDualStack" and len(families) < 2 and not selectorless:
        errors.append(invalid(f"{path}.ipFamilyPolicy", policy,
                              "this cluster is not configured for dual-stack services"))
    return errors


def _version(address: str) -> str:
    """Return an address's family; one from before may have zeros in front, as IPv4 only had."""
    try:
        return f"IPv{ipaddress.ip_address(address).version}"
    except ValueError:
        return "IPv4"


def _addresses_update(spec: Object, old: Object) -> list[FieldError]:
    now, before = spec.get("clusterIPs") or [], old.get("clusterIPs") or []
    if len(now) == len(before):
        return [invalid(f"spec.clusterIPs[{at}]", now, _ONCE) for at, address in enumerate(before)
                if address != now[at]]
    errors: list[FieldError] = []
    if before and not now:
        errors.append(invalid("spec.clusterIPs[0]", now, "primary clusterIP can not be unset"))
    elif before and now[0] != before[0]:
        errors.append(invalid("spec.clusterIPs[0]", now, _ONCE))
    if len(now) == 1 and len(before) > 1 and spec.get("ipFamilyPolicy") != "SingleStack":
        errors.append(invalid("spec.ipFamilyPolicy", spec.get("ipFamilyPolicy"),
                              "must be set to 'SingleStack' when releasing the secondary clusterIP"))
    return errors


def _families_update(spec: Object, old: Object) -> list[FieldError]:
    now, before = spec.get("ipFamilies") or [], old.get("ipFamilies") or []
    if len(now) == len(before):
        return [invalid("spec.ipFamilies[0]", now, _ONCE) for at, family in enumerate(before) if family != now[at]]
    errors: list[FieldError] = []
    if now and before and now[0] != before[0]:
        errors.append(invalid("spec.ipFamilies[0]", spec.get("clusterIPs"), _ONCE))
    if len(now) == 1 and len(before) > 1 and spec.get("ipFamilyPolicy") != "SingleStack":
        errors.append(invalid("spec.ipFamilyPolicy", spec.get("ipFamilyPolicy"),
                              "must be set to 'SingleStack' when releasing the secondary ipFamily"))
    return errors


def _source_ranges(obj: Object, old: Object, path: str) -> list[FieldError]:
    """Check whom a load balancer lets in: the field, or the annotation of before it."""
    spec, given = obj["spec"], obj["spec"].get("loadBalancerSourceRanges") or []
    text: str | None = (obj["metadata"].get("annotations") or {}).get(_RANGES)
    field = f"{path}.LoadBalancerSourceRanges" if given else f"metadata.annotations[{_RANGES}]"
    errors = [] if spec.get("type") == "LoadBalancer" else [forbidden(field, _BALANCED_ONLY)]
    if given:
        known = {value.strip() for value in (old.get("spec") or {}).get("loadBalancerSourceRanges") or []}
        return errors + [invalid(f"{field}[{at}]", value.strip(), said) for at, value in enumerate(given)
                         if value.strip() not in known for said in names.cidr(value.strip())]
    if text is None:
        return []
    if text == ((old.get("metadata") or {}).get("annotations") or {}).get(_RANGES) or not text.strip():
        return errors
    return errors + [invalid(field, value.strip(), said) for value in text.split(",")
                     for said in names.cidr(value.strip())]


def _balancer_class(spec: Object, path: str) -> list[FieldError]:
    found = spec.get("loadBalancerClass")
    if found is None:
        return []
    if spec.get("type") != "LoadBalancer":
        return [forbidden(f"{path}.loadBalancerClass", _BALANCED_ONLY)]
    return [invalid(f"{path}.loadBalancerClass", found, said) for said in names.qualified_name(found)]


def _traffic(spec: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    kind, external, port = spec.get("type"), spec.get("externalTrafficPolicy"), spec.get("healthCheckNodePort") or 0
    facing = kind in ("NodePort", "LoadBalancer") or (kind == "ClusterIP" and spec.get("externalIPs"))
    if external and not facing:
        errors.append(invalid(f"{path}.externalTrafficPolicy", external,
                              "may only be set for externally-accessible services"))
    elif facing and external not in ("Cluster", "Local"):
        errors.append(not_supported(f"{path}.externalTrafficPolicy", external, ("Cluster", "Local")))
    if port and not _health_checked(spec):
        errors.append(invalid(f"{path}.healthCheckNodePort", port, "may only be set when `type` is 'LoadBalancer' and "
                              "`externalTrafficPolicy` is 'Local'"))
    elif port:
        errors += wrong(f"{path}.healthCheckNodePort", port, names.port_number(port))
    internal = spec.get("internalTrafficPolicy")
    if internal and internal not in ("Cluster", "Local"):
        errors.append(not_supported(f"{path}.internalTrafficPolicy", internal, ("Cluster", "Local")))
    distribution = spec.get("trafficDistribution")
    if distribution is not None and distribution not in _DISTRIBUTION:
        errors.append(unsupported(f"{path}.trafficDistribution", distribution, _DISTRIBUTION))
    return errors
