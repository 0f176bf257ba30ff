"""A container's environment: its own variables, those from ConfigMaps and Secrets, and the Services'; pure.

https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables and
k8s:pkg/kubelet/kubelet_pods.go (makeEnvironmentVariables).
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping

from netlab.api import meta
from netlab.api.meta import Object
from netlab.kubelet import spec
from netlab.kubelet.downward import Surroundings, field_text, resource_text

Lookup = Callable[[str, str], Object | None]
"""(resource, name) → the ConfigMap or Secret of the Pod's namespace, None when there is none."""


class Missing(ValueError):
    """What a container needs is not there (yet); the text is the event's and the status'."""


def references(wanted: Object) -> set[tuple[str, str]]:
    """Return the (resource, name) of all ConfigMaps and Secrets that a container's environment comes from."""
    found = set()
    for source in wanted.get("envFrom") or []:
        for key, resource in (("configMapRef", "configmaps"), ("secretRef", "secrets")):
            if key in source:
                found.add((resource, source[key].get("name", "")))
    for variable in wanted.get("env") or []:
        for key, resource in (("configMapKeyRef", "configmaps"), ("secretKeyRef", "secrets")):
            reference = (variable.get("valueFrom") or {}).get(key)
            if reference:
                found.add((resource, reference.get("name", "")))
    return found


def make(pod: Object, wanted: Object, services: Mapping[str, str], lookup: Lookup,
         around: Surroundings) -> dict[str, str]:
    """Return the whole environment.

    Raises:
        Missing: a ConfigMap, Secret or key that is not optional is not there.
        ValueError: a reference that means nothing.
    """
    made: dict[str, str] = {}
    for source in wanted.get("envFrom") or []:
        made |= _from_all(source, lookup)
    for variable in wanted.get("env") or []:
        name, origin = variable["name"], variable.get("valueFrom")
        if origin:
            value = _from_one(pod, wanted, origin, lookup, around)
            if value is None:
                continue
        else:
            value = expand(str(variable.get("value") or ""), {**services, **made})
        made[name] = value
    return {**{name: value for name, value in services.items() if name not in made}, **made}


def expand(text: str, known: Mapping[str, str]) -> str:
    """Replace each $(NAME) that is known; $$ stands for one $ (k8s:third_party/forked/golang/expansion)."""
    out, at = [], 0
    while at < len(text):
        if text[at] != "$" or at + 1 >= len(text):
            out.append(text[at])
            at += 1
        elif text[at + 1] == "$":
            out.append("$")
            at += 2
        elif text[at + 1] == "(" and ")" in text[at + 2:]:
            end = text.index(")", at + 2)
            name = text[at + 2:end]
            out.append(known.get(name, f"$({name})"))
            at = end + 1
        else:
            out.append("$")
            at += 1
    return "".join(out)


def of_services(services: Iterable[Object]) -> dict[str, str]:
    """Return the variables that tell of Services (k8s:pkg/kubelet/envvars)."""
    made: dict[str, str] = {}
    for service in services:
        body = service.get("spec") or {}
        ip, ports = body.get("clusterIP"), body.get("ports") or []
        if ip in (None, "", "None") or not ports:
            continue
        name = meta.name(service).upper().replace("-", "_")
        made |= {f"{name}_SERVICE_HOST": ip, f"{name}_SERVICE_PORT": str(ports[0]["port"])}
        for port in ports:
            if port.get("name"):
                made[f"{name}_SERVICE_PORT_{port['name'].upper().replace('-', '_')}"] = str(port["port"])
        shown = f"[{ip}]" if ":" in ip else ip
        for n, port in enumerate(ports):
            protocol = str(port.get("protocol") or "TCP")
            url = f"{protocol.lower()}://{shown}:{port['port']}"
            if n == 0:
                made[f"{name}_PORT"] = url
            prefix = f"{name}_PORT_{port['port']}_{protocol}"
            made |= {prefix: url, f"{prefix}_PROTO": protocol.lower(), f"{prefix}_PORT": str(port["port"]),
                     f"{prefix}_ADDR": ip}
    return made


def services_for(pod: Object, by_namespace: Callable[[str], Iterable[Object]]) -> dict[str, str]:
    """Return a Pod's Service variables: of its own namespace if it wants them, and always the API server's."""
    links = spec.spec(pod).get("enableServiceLinks")
    own = list(by_namespace(meta.namespace(pod))) if links is None or links else []
    api = [s for s in by_namespace("default") if meta.name(s) == "kubernetes"]
    return of_services([s for s in own if s not in api] + api)


def _from_all(source: Object, lookup: Lookup) -> dict[str, str]:
    resource, key = ("configmaps", "configMapRef") if "configMapRef" in source else ("secrets", "secretRef")
    reference = source.get(key) or {}
    found = lookup(resource, reference.get("name", ""))
    if found is None:
        if reference.get("optional"):
            return {}
        raise Missing(f'{resource[:-1]} "{reference.get("name", "")}" not found')
    prefix = source.get("prefix", "")
    return {prefix + name: value for name, value in texts(found).items() if name and "=" not in name}


def _from_one(pod: Object, wanted: Object, origin: Object, lookup: Lookup, around: Surroundings) -> str | None:
    if "fieldRef" in origin:
        return field_text(pod, str(origin["fieldRef"].get("fieldPath", "")), around)
    if "resourceFieldRef" in origin:
        return resource_text(pod, origin["resourceFieldRef"], around, default_container=wanted["name"])
    for key, resource, shown in (("configMapKeyRef", "configmaps", "ConfigMap"), ("secretKeyRef", "secrets", "Secret")):
        if key in origin:
            reference = origin[key]
            found = lookup(resource, reference.get("name", ""))
            values = texts(found) if found is not None else {}
            if reference.get("key") in values:
                return values[reference["key"]]
            if reference.get("optional"):
                return None
            if found is None:
                raise Missing(f'{resource[:-1]} "{reference.get("name", "")}" not found')
            raise Missing(f"couldn't find key {reference.get('key')} in {shown} "
                          f"{meta.namespace(pod)}/{reference.get('name')}")
    raise ValueError(f"unsupported valueFrom: {', '.join(origin)}")


def texts(found: Object) -> dict[str, str]:
    """Return the data of a ConfigMap or Secret as text (what is not UTF-8 keeps its bytes by surrogate escapes)."""
    if found.get("kind") == "Secret":
        return {k: base64.b64decode(v).decode(errors="surrogateescape") for k, v in (found.get("data") or {}).items()}
    return dict(found.get("data") or {})
