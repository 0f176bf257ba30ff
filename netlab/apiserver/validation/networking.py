"""NetworkPolicies, Ingresses, IngressClasses, service ranges (k8s.io/kubernetes/pkg/apis/networking/validation)."""

from __future__ import annotations

import ipaddress

from netlab.api.meta import Object
from netlab.apiserver.validation import meta, names
from netlab.apiserver.validation.errors import (
    FieldError,
    forbidden,
    invalid,
    not_supported,
    required,
    too_long,
    too_many,
    unsupported,
    wrong,
)
from netlab.apiserver.validation.selectors import label_selector

_PROTOCOLS = ("TCP", "UDP", "SCTP")
_DIRECTIONS = ("Ingress", "Egress")
_PATH_TYPES = ("Exact", "ImplementationSpecific", "Prefix")
_BAD_PARTS = ("//", "/./", "/../", "%2f", "%2F")
_BAD_ENDS = ("/..", "/.")
_CIDR = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
_WILDCARD = ("a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must "
             "consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. "
             "'*.example.com', regex used for validation is '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?"
             "(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')")
_CONTROLLER_LIMIT = 250


def network_policy(spec: Object, path: str) -> list[FieldError]:
    """Check a NetworkPolicySpec."""
    errors = [*label_selector(spec.get("podSelector"), f"{path}.podSelector")]
    for direction, peers in (("ingress", "from"), ("egress", "to")):
        for at, rule in enumerate(spec.get(direction) or []):
            field = f"{path}.{direction}[{at}]"
            for index, port in enumerate(rule.get("ports") or []):
                errors += _policy_port(port, f"{field}.ports[{index}]")
            for index, peer in enumerate(rule.get(peers) or []):
                errors += _peer(peer, f"{field}.{peers}[{index}]")
    kinds = spec.get("policyTypes") or []
    if len(kinds) > 2:
        return [*errors, invalid(f"{path}.policyTypes", kinds, "may not specify more than two policyTypes")]
    return errors + [unsupported(f"{path}.policyTypes[{at}]", kind, _DIRECTIONS)
                     for at, kind in enumerate(kinds) if kind not in _DIRECTIONS]


def _policy_port(port: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    protocol, number, end = port.get("protocol"), port.get("port"), port.get("endPort")
    if protocol is not None and protocol not in _PROTOCOLS:
        errors.append(unsupported(f"{path}.protocol", protocol, _PROTOCOLS))
    if number is None:
        return errors if end is None else [
            *errors, invalid(f"{path}.endPort", end, "may not be specified when `port` is not specified")]
    if isinstance(number, int):
        errors += wrong(f"{path}.port", number, names.port_number(number))
        if end is not None:
            if end < number:
                errors.append(invalid(f"{path}.endPort", number, "must be greater than or equal to `port`"))
            errors += wrong(f"{path}.endPort", end, names.port_number(end))
        return errors
    if end is not None:
        errors.append(invalid(f"{path}.endPort", end, "may not be specified when `port` is non-numeric"))
    return errors + [invalid(f"{path}.port", number, said) for said in names.port_name(number)]


def _peer(peer: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    selectors = [part for part in ("podSelector", "namespaceSelector") if peer.get(part) is not None]
    for part in selectors:
        errors += label_selector(peer[part], f"{path}.{part}")
    block = peer.get("ipBlock")
    if block is not None:
        errors += _block(block, f"{path}.ipBlock")
    if not selectors and block is None:
        errors.append(required(path, "must specify a peer"))
    elif selectors and block is not None:
        errors.append(forbidden(path, "may not specify both ipBlock and another peer"))
    return errors


def _block(block: Object, path: str) -> list[FieldError]:
    text = block.get("cidr", "")
    if not text:
        return [required(f"{path}.cidr")]
    errors = [invalid(f"{path}.cidr", text, said) for said in names.cidr(text)]
    if errors:
        return errors
    network = ipaddress.ip_network(text)
    for at, part in enumerate(block.get("except") or []):
        complaints = names.cidr(part)
        errors += [invalid(f"{path}.except[{at}]", part, said) for said in complaints]
        if complaints:
            continue
        inner = ipaddress.ip_network(part)
        if inner.version != network.version or inner == network or int(inner.network_address) < int(
                network.network_address) or int(inner.broadcast_address) > int(network.broadcast_address):
            errors.append(invalid(f"{path}.except[{at}]", part, "must be a strict subset of `cidr`"))
    return errors


def ingress(spec: Object, path: str) -> list[FieldError]:
    """Check an IngressSpec."""
    errors: list[FieldError] = []
    rules, default = spec.get("rules") or [], spec.get("defaultBackend")
    if not rules and default is None:
        errors.append(invalid(path, rules, "either `defaultBackend` or `rules` must be specified"))
    if default is not None:
        errors += _backend(default, f"{path}.defaultBackend")
    for at, rule in enumerate(rules):
        field = f"{path}.rules[{at}]"
        errors += _host(rule.get("host", ""), f"{field}.host")
        if rule.get("http") is not None:
            paths = rule["http"].get("paths") or []
            if not paths:
                errors.append(required(f"{field}.http.paths"))
            for index, entry in enumerate(paths):
                errors += _path(entry, f"{field}.http.paths[{index}]")
    for at, entry in enumerate(spec.get("tls") or []):
        for index, host in enumerate(entry.get("hosts") or []):
            errors += _domain(host, f"{path}.tls[{at}].hosts[{index}]")
        if entry.get("secretName"):
            errors += wrong(f"{path}.tls[{at}].secretName", entry["secretName"],
                            names.dns_subdomain(entry["secretName"]))
    if spec.get("ingressClassName") is not None:
        errors += wrong(f"{path}.ingressClassName", spec["ingressClassName"],
                        names.dns_subdomain(spec["ingressClassName"]))
    return errors


def ingress_create(obj: Object) -> list[FieldError]:
    """Check that the old annotation and the field do not both name a class."""
    note = "kubernetes.io/ingress.class"
    given = (obj["metadata"].get("annotations") or {}).get(note)
    if given is None or (obj.get("spec") or {}).get("ingressClassName") is None:
        return []
    return [invalid(f"metadata.annotations[{note}]", given, "can not be set when the class field is also set")]


def _host(host: str, path: str) -> list[FieldError]:
    if not host:
        return []
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return _domain(host, path)
    return [invalid(path, host, "must be a DNS name, not an IP address")]


def _domain(host: str, path: str) -> list[FieldError]:
    if "*" in host:
        return [] if host.startswith("*.") and not names.dns_subdomain(host[2:]) else [invalid(path, host, _WILDCARD)]
    return [invalid(path, host, said) for said in names.dns_subdomain(host)]


def _path(entry: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    text, kind = entry.get("path", ""), entry.get("pathType")
    if kind is None:
        return [required(f"{path}.pathType", "pathType must be specified")]
    if kind in ("Exact", "Prefix"):
        if not text.startswith("/"):
            errors.append(invalid(f"{path}.path", text, "must be an absolute path"))
        errors += [invalid(f"{path}.path", text, f"must not contain '{part}'") for part in _BAD_PARTS if part in text]
        errors += [invalid(f"{path}.path", text, f"cannot end with '{part}'") for part in _BAD_ENDS
                   if text.endswith(part)]
    elif kind == "ImplementationSpecific":
        if text and not text.startswith("/"):
            errors.append(invalid(f"{path}.path", text, "must be an absolute path"))
    else:
        return [not_supported(f"{path}.pathType", kind, _PATH_TYPES)]
    return errors + _backend(entry.get("backend") or {}, f"{path}.backend")


def _backend(backend: Object, path: str) -> list[FieldError]:
    resource, service = backend.get("resource"), backend.get("service")
    if resource is not None and service is not None:
        return [invalid(path, "", "cannot set both resource and service backends")]
    if resource is not None:
        return _typed(resource, f"{path}.resource")
    if service is None:
        return [invalid(path, "", "resource or service backend is required")]
    errors: list[FieldError] = []
    if not service.get("name"):
        errors.append(required(f"{path}.service.name"))
    else:
        errors += wrong(f"{path}.service.name", service["name"], names.dns_label(service["name"]))
    port = service.get("port") or {}
    name, number = port.get("name"), port.get("number")
    if name and number:
        errors.append(invalid(path, "", "cannot set both port name & port number"))
    elif name:
        errors += wrong(f"{path}.service.port.name", name, names.port_name(name))
    elif number:
        errors += wrong(f"{path}.service.port.number", number, names.port_number(number))
    else:
        errors.append(required(path, "port name or number is required"))
    return errors


def ingress_class(spec: Object, path: str) -> list[FieldError]:
    """Check an IngressClassSpec."""
    errors: list[FieldError] = []
    controller = spec.get("controller", "")
    if len(controller) > _CONTROLLER_LIMIT:
        errors.append(too_long(f"{path}.controller", _CONTROLLER_LIMIT))
    errors += meta.domain_prefixed(f"{path}.controller", controller)
    found = spec.get("parameters")
    if found is not None:
        errors += _typed(found, f"{path}.parameters")
        scope, namespace = found.get("scope"), found.get("namespace")
        if scope not in ("Cluster", "Namespace"):
            errors.append(not_supported(f"{path}.parameters.scope", scope, ("Cluster", "Namespace")))
        elif scope == "Namespace" and not namespace:
            errors.append(required(f"{path}.parameters.namespace",
                                   "`parameters.scope` is set to 'Namespace'"))
        elif scope == "Cluster" and namespace is not None:
            errors.append(forbidden(f"{path}.parameters.namespace", "`parameters.scope` is set to 'Cluster'"))
    return errors


def _typed(reference: Object, path: str) -> list[FieldError]:
    """Check a reference to an object of any kind."""
    group = reference.get("apiGroup")
    errors = [invalid(f"{path}.apiGroup", group, said) for said in names.dns_subdomain(group)] \
        if group is not None else []
    for part in ("kind", "name"):
        value = reference.get(part, "")
        errors += [invalid(f"{path}.{part}", value, said) for said in names.path_segment(value)] if value else [
            required(f"{path}.{part}", f"{part} is required")]
    return errors


def service_range(spec: Object, path: str) -> list[FieldError]:
    """Check a ServiceCIDRSpec: one range, or one of each family."""
    field = f"{path}.cidrs"
    cidrs = spec.get("cidrs") or []
    if not cidrs:
        return [required(field, "at least one CIDR required")]
    if len(cidrs) > 2:
        return [too_many(field, len(cidrs), 2)]
    errors: list[FieldError] = []
    families = []
    for at, text in enumerate(cidrs):
        try:
            network = ipaddress.ip_network(text)
        except ValueError:
            errors.append(invalid(f"{field}[{at}]", text, _CIDR))
            continue
        families.append(network.version)
        if str(network) != text:
            errors.append(invalid(f"{field}[{at}]", text, f"must be in canonical form ({network})"))
    if len(families) == 2 and families[0] == families[1]:
        errors.append(invalid(field, cidrs, "may specify no more than one IP for each IP family, i.e "
                                            "192.168.0.0/24 and 2001:db8::/64"))
    return errors


def address_name(name: str) -> list[str]:
    """Complain about the name of an IPAddress, which is the address in its canonical form."""
    try:
        found = ipaddress.ip_address(name)
    except ValueError:
        return ["must be a valid IP address"]
    return [] if str(found) == name else ["must be a canonical format IP address"]


def address(spec: Object, path: str) -> list[FieldError]:
    """Check an IPAddressSpec: whose address it is."""
    parent = spec.get("parentRef")
    if parent is None:
        return [required(f"{path}.parentRef")]
    errors: list[FieldError] = []
    if parent.get("group"):
        errors += wrong(f"{path}.parentRef.group", parent["group"], names.dns_subdomain(parent["group"]))
    for part in ("resource", "name"):
        value = parent.get(part, "")
        if not value:
            errors.append(required(f"{path}.parentRef.{part}"))
        else:
            errors += wrong(f"{path}.parentRef.{part}", value, names.path_segment(value))
    if parent.get("namespace"):
        errors += wrong(f"{path}.parentRef.namespace", parent["namespace"], names.path_segment(parent["namespace"]))
    return errors
