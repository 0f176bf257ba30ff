"""Services (k8s.io/kubernetes/pkg/apis/core/validation: ValidateService)."""

from __future__ import annotations

import ipaddress
from typing import Any

from netlab.api.meta import Object
from netlab.apiserver.validation import meta, names
from netlab.apiserver.validation.errors import FieldError, duplicate, forbidden, invalid, not_supported, required

_TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
_PROTOCOLS = ("SCTP", "TCP", "UDP")
_POLICIES = ("PreferDualStack", "RequireDualStack", "SingleStack")
_DISTRIBUTION = ("PreferClose", "PreferSameNode", "PreferSameZone")


def service(spec: Object, path: str, families: tuple[str, ...]) -> list[FieldError]:
    """Check a ServiceSpec. `families` are those that the cluster has addresses of."""
    errors: list[FieldError] = []
    kind, headless = spec.get("type"), spec.get("clusterIP") == "None"
    ports = spec.get("ports") or []
    if not ports and not headless and kind != "ExternalName":
        errors.append(required(f"{path}.ports"))
    if kind not in _TYPES:
        errors.append(not_supported(f"{path}.type", kind, _TYPES))
    elif kind in ("LoadBalancer", "NodePort") and headless:
        errors.append(invalid(f"{path}.clusterIPs[0]", "None", f"may not be set to 'None' for {kind} services"))
    if kind == "ExternalName":
        errors += _external_name(spec, path)
    errors += _ports(ports, f"{path}.ports", kind)
    errors += meta.check_labels(spec.get("selector"), f"{path}.selector")
    affinity = spec.get("sessionAffinity")
    if affinity not in ("ClientIP", "None"):
        errors.append(not_supported(f"{path}.sessionAffinity", affinity, ("ClientIP", "None")))
    elif affinity == "ClientIP":
        seconds = ((spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}).get("timeoutSeconds")
        if not isinstance(seconds, int) or not 0 < seconds <= 86400:
            errors.append(invalid(f"{path}.sessionAffinityConfig.clientIP.timeoutSeconds", seconds,
                                  "must be greater than 0 and less than 86400"))
    errors += _addresses(spec, path, families)
    errors += _traffic(spec, path)
    return errors


def service_update(spec: Object, old: Object) -> list[FieldError]:
    """Check that cluster addresses stay while the Service keeps needing them."""
    if spec.get("type") == "ExternalName" or old.get("type") == "ExternalName":
        return []
    new_ips, old_ips = spec.get("clusterIPs") or [], old.get("clusterIPs") or []
    errors: list[FieldError] = []
    if old_ips and not new_ips:
        errors.append(invalid("spec.clusterIPs[0]", new_ips, "primary clusterIP can not be unset"))
    elif old_ips and new_ips and old_ips[0] != new_ips[0]:
        errors.append(invalid("spec.clusterIPs[0]", new_ips, "may not change once set"))
    elif len(old_ips) > 1 and len(new_ips) > 1 and old_ips[1] != new_ips[1]:
        errors.append(invalid("spec.clusterIPs[1]", new_ips, "may not change once set"))
    new_families, old_families = spec.get("ipFamilies") or [], old.get("ipFamilies") or []
    if old_families and new_families and old_families[0] != new_families[0]:
        errors.append(invalid("spec.ipFamilies[0]", new_families, "may not change once set"))
    return errors


def _external_name(spec: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if spec.get("clusterIP") or spec.get("clusterIPs"):
        errors.append(forbidden(f"{path}.clusterIPs", "may not be set for ExternalName services"))
    name = (spec.get("externalName") or "").rstrip(".")
    if not name:
        errors.append(required(f"{path}.externalName"))
    else:
        errors += [invalid(f"{path}.externalName", spec["externalName"], said) for said in names.dns_subdomain(name)]
    errors += [forbidden(f"{path}.{part}", "may not be set for ExternalName services")
               for part in ("ipFamilies", "ipFamilyPolicy") if spec.get(part)]
    return errors


def _ports(ports: list[Any], path: str, kind: Any) -> list[FieldError]:
    errors: list[FieldError] = []
    seen_names: set[str] = set()
    seen: set[tuple[Any, Any]] = set()
    nodes: set[tuple[Any, Any]] = set()
    for at, port in enumerate(ports):
        field, name = f"{path}[{at}]", port.get("name", "")
        if len(ports) > 1 and not name:
            errors.append(required(f"{field}.name"))
        elif name:
            errors += [invalid(f"{field}.name", name, said) for said in names.dns_label(name)]
            if name in seen_names:
                errors.append(duplicate(f"{field}.name", name))
            seen_names.add(name)
        number, protocol = port.get("port", 0), port.get("protocol")
        errors += [invalid(f"{field}.port", number, said) for said in names.port_number(number)]
        if protocol not in _PROTOCOLS:
            errors.append(not_supported(f"{field}.protocol", protocol, _PROTOCOLS))
        errors += _target(port.get("targetPort"), f"{field}.targetPort")
        if (protocol, number) in seen:
            errors.append(duplicate(field, {"protocol": protocol, "port": number}))
        seen.add((protocol, number))
        node = port.get("nodePort")
        if node:
            if kind not in ("NodePort", "LoadBalancer"):
                errors.append(forbidden(f"{field}.nodePort", "may not be used when `type` is 'ClusterIP'"))
            elif (protocol, node) in nodes:
                errors.append(duplicate(f"{field}.nodePort", node))
            nodes.add((protocol, node))
    return errors


def _target(port: Any, path: str) -> list[FieldError]:
    if isinstance(port, str):
        return [invalid(path, port, said) for said in names.port_name(port)]
    return [invalid(path, port, said) for said in names.port_number(port)]


def _addresses(spec: Object, path: str, families: tuple[str, ...]) -> list[FieldError]:
    errors: list[FieldError] = []
    if spec.get("type") == "ExternalName":
        return errors
    given = spec.get("clusterIPs") or []
    if len(given) > 2:
        errors.append(invalid(f"{path}.clusterIPs", given, "may only hold up to 2 values"))
    if spec.get("clusterIP") and given and spec["clusterIP"] != given[0]:
        errors.append(invalid(f"{path}.clusterIPs", given, "first value must match `clusterIP`"))
    for at, address in enumerate(given):
        if address == "None":
            if at > 0:
                errors.append(invalid(f"{path}.clusterIPs[{at}]", address, "'None' must be the first and only value"))
            continue
        errors += [invalid(f"{path}.clusterIPs[{at}]", address, said) for said in names.ip_address(address)]
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
        elif at < len(given) and given[at] != "None" and not names.ip_address(given[at]) \
                and f"IPv{ipaddress.ip_address(given[at]).version}" != family:
            errors.append(invalid(f"{path}.clusterIPs[{at}]", given[at], f'expected an {family} value as indicated by '
                                                                        f"`ipFamilies[{at}]`"))
    if policy == "RequireDualStack" and len(families) < 2 and not selectorless:
        errors.append(invalid(f"{path}.ipFamilyPolicy", policy,
                              "this cluster is not configured for dual-stack services"))
    for at, address in enumerate(spec.get("externalIPs") or []):
        errors += [invalid(f"{path}.externalIPs[{at}]", address, said) for said in names.ip_address(address)]
    for at, network in enumerate(spec.get("loadBalancerSourceRanges") or []):
        errors += [invalid(f"{path}.loadBalancerSourceRanges[{at}]", network, said) for said in names.cidr(network)]
    return errors


def _traffic(spec: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    kind = spec.get("type")
    external = spec.get("externalTrafficPolicy")
    facing = kind in ("NodePort", "LoadBalancer") or (kind == "ClusterIP" and spec.get("externalIPs"))
    if external and not facing:
        errors.append(invalid(f"{path}.externalTrafficPolicy", external,
                              "may only be set for externally-accessible services"))
    elif facing and external not in ("Cluster", "Local"):
        errors.append(not_supported(f"{path}.externalTrafficPolicy", external, ("Cluster", "Local")))
    internal = spec.get("internalTrafficPolicy")
    if internal and internal not in ("Cluster", "Local"):
        errors.append(not_supported(f"{path}.internalTrafficPolicy", internal, ("Cluster", "Local")))
    if spec.get("loadBalancerClass") and kind != "LoadBalancer":
        errors.append(forbidden(f"{path}.loadBalancerClass", "may only be used when `type` is 'LoadBalancer'"))
    distribution = spec.get("trafficDistribution")
    if distribution and distribution not in _DISTRIBUTION:
        errors.append(not_supported(f"{path}.trafficDistribution", distribution, _DISTRIBUTION))
    return errors
