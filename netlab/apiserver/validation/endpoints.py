"""Endpoints and EndpointSlices."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Any

from netlab.api.meta import Object
from netlab.apiserver.validation import meta, names
from netlab.apiserver.validation.errors import FieldError, duplicate, invalid, not_supported, required, too_many, wrong

_PROTOCOLS = ("SCTP", "TCP", "UDP")
_TYPES = ("FQDN", "IPv4", "IPv6")
_LINK_LOCAL_MULTICAST = (ipaddress.ip_network("224.0.0.0/24"), ipaddress.ip_network("ff02::/16"))
_ENDPOINTS, _PORTS, _ADDRESSES, _TOPOLOGY, _HINTS = 1000, 20000, 100, 16, 8


def endpoints(subsets: list[Any], path: str) -> list[FieldError]:
    """Check Endpoints' subsets."""
    errors: list[FieldError] = []
    for at, subset in enumerate(subsets):
        field = f"{path}[{at}]"
        if not subset.get("addresses") and not subset.get("notReadyAddresses"):
            errors.append(required(field, "must specify `addresses` or `notReadyAddresses`"))
        for part in ("addresses", "notReadyAddresses"):
            for number, address in enumerate(subset.get(part) or []):
                spot = f"{field}.{part}[{number}]"
                errors += _ip(address.get("ip", ""), f"{spot}.ip")
                if address.get("hostname"):
                    errors += wrong(f"{spot}.hostname", address["hostname"], names.dns_label(address["hostname"]))
                if address.get("nodeName") is not None:
                    errors += wrong(f"{spot}.nodeName", address["nodeName"], names.dns_subdomain(address["nodeName"]))
        ports = subset.get("ports") or []
        for number, port in enumerate(ports):
            spot = f"{field}.ports[{number}]"
            if len(ports) > 1 and not port.get("name"):
                errors.append(required(f"{spot}.name"))
            elif port.get("name"):
                errors += wrong(f"{spot}.name", port["name"], names.dns_label(port["name"]))
            errors += wrong(f"{spot}.port", port.get("port", 0), names.port_number(port.get("port")))
            if port.get("protocol") not in _PROTOCOLS:
                errors.append(not_supported(f"{spot}.protocol", port.get("protocol"), _PROTOCOLS))
            errors += _app_protocol(port, spot)
    return errors


def endpoint_slice(obj: Object) -> list[FieldError]:
    """Check an EndpointSlice."""
    errors: list[FieldError] = []
    kind = obj.get("addressType", "")
    if not kind:
        errors.append(required("addressType"))
    elif kind not in _TYPES:
        errors.append(not_supported("addressType", kind, _TYPES))
    found = obj.get("endpoints") or []
    if len(found) > _ENDPOINTS:
        errors.append(too_many("endpoints", len(found), _ENDPOINTS))
    for at, endpoint in enumerate(found):
        errors += _endpoint(endpoint, f"endpoints[{at}]", kind)
    ports = obj.get("ports") or []
    if len(ports) > _PORTS:
        errors.append(too_many("ports", len(ports), _PORTS))
    seen: set[str] = set()
    for at, port in enumerate(ports):
        name = port.get("name") or ""
        if name in seen:
            errors.append(duplicate(f"ports[{at}].name", name))
        seen.add(name)
        if name:
            errors += wrong(f"ports[{at}].name", name, names.dns_label(name))
        if port.get("port") is not None:
            errors += wrong(f"ports[{at}].port", port["port"], names.port_number(port["port"]))
        if port.get("protocol") not in _PROTOCOLS:
            errors.append(not_supported(f"ports[{at}].protocol", port.get("protocol"), _PROTOCOLS))
        errors += _app_protocol(port, f"ports[{at}]")
    return errors


def endpoint_slice_update(obj: Object, old: Object) -> list[FieldError]:
    """Check that the type of address stays."""
    return meta.immutable(obj.get("addressType"), old.get("addressType"), "addressType")


def _app_protocol(port: Object, path: str) -> list[FieldError]:
    found = port.get("appProtocol")
    return [] if found is None else [invalid(f"{path}.appProtocol", found, said)
                                     for said in names.qualified_name(found)]


def _endpoint(endpoint: Object, path: str, kind: str) -> list[FieldError]:
    errors: list[FieldError] = []
    addresses = endpoint.get("addresses") or []
    if not addresses:
        errors.append(required(f"{path}.addresses", "must contain at least 1 address"))
    if len(addresses) > _ADDRESSES:
        errors.append(too_many(f"{path}.addresses", len(addresses), _ADDRESSES))
    for at, address in enumerate(addresses):
        errors += _address(address, kind, f"{path}.addresses[{at}]")
    node, hostname = endpoint.get("nodeName"), endpoint.get("hostname")
    if node is not None:
        errors += wrong(f"{path}.nodeName", node, names.dns_subdomain(node))
    topology, field = endpoint.get("deprecatedTopology") or {}, f"{path}.deprecatedTopology"
    if len(topology) > _TOPOLOGY:
        errors.append(too_many(field, len(topology), _TOPOLOGY))
    for key, value in topology.items():
        errors += wrong(field, key, names.qualified_name(key))
        if key == "topology.kubernetes.io/zone":
            errors.append(invalid(f"{field}[{key}]", value, "use zone field instead"))
    if hostname is not None:
        errors += wrong(f"{path}.hostname", hostname, names.dns_label(hostname))
    hints = endpoint.get("hints") or {}
    return [*errors, *_hints(hints.get("forZones") or [], f"{path}.hints.forZones", names.label_value),
            *_hints(hints.get("forNodes") or [], f"{path}.hints.forNodes", names.dns_subdomain)]


def _address(address: str, kind: str, path: str) -> list[FieldError]:
    if kind == "FQDN":
        name = address.removesuffix(".")
        if not name:
            return [required(path)]
        errors = [invalid(path, name, said) for said in names.dns_subdomain(name)]
        return errors or ([] if "." in name else [
            invalid(path, name, "should be a domain with at least two segments separated by dots")])
    errors = _ip(address, path)
    if not names.ip_address(address) and kind in ("IPv4", "IPv6") \
            and f"IPv{ipaddress.ip_address(address).version}" != kind:
        errors.insert(0, invalid(path, address, f"must be a valid {kind} address"))
    return errors


def _hints(found: list[Object], path: str, form: Callable[[str], list[str]]) -> list[FieldError]:
    if len(found) > _HINTS:
        return [too_many(path, len(found), _HINTS)]
    errors: list[FieldError] = []
    seen: set[str] = set()
    for at, hint in enumerate(found):
        name = hint.get("name", "")
        if name in seen:
            errors.append(duplicate(f"{path}[{at}].name", name))
        else:
            errors += [invalid(f"{path}[{at}].name", name, said) for said in form(name)]
        seen.add(name)
    return errors


def _ip(address: str, path: str) -> list[FieldError]:
    return [invalid(path, address, said) for said in names.ip_address(address)] or special(address, path)


def special(address: str, path: str) -> list[FieldError]:
    """Check that an address can be that of another machine (ValidateEndpointIP); one that can't be read is fine."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return []
    if parsed.is_unspecified:
        return [invalid(path, address, f"may not be unspecified ({address})")]
    if parsed.is_loopback:
        return [invalid(path, address, "may not be in the loopback range (127.0.0.0/8, ::1/128)")]
    if parsed.is_link_local:
        return [invalid(path, address, "may not be in the link-local range (169.254.0.0/16, fe80::/10)")]
    if any(parsed in network for network in _LINK_LOCAL_MULTICAST if network.version == parsed.version):
        return [invalid(path, address, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)")]
    return []
