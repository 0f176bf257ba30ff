"""The files of configMap, secret, downwardAPI and projected volumes, from the objects that they come from; pure."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from netlab.api.meta import Object
from netlab.kubelet import spec
from netlab.kubelet.downward import Surroundings, field_text, resource_text
from netlab.kubelet.env import Lookup, Missing
from netlab.kubelet.volumes.atomic import File

DEFAULT_MODE = 0o644
FILE_KINDS = ("configMap", "secret", "downwardAPI", "projected")


@dataclass(frozen=True)
class TokenRequest:
    """A service account token that a projected volume needs."""

    audience: str
    seconds: int


Tokens = Callable[[TokenRequest], str]


def references(volume: Object) -> set[tuple[str, str]]:
    """Return the (resource, name) of the ConfigMaps and Secrets that a volume is made of."""
    found = set()
    sources = (volume["projected"].get("sources") or []) if "projected" in volume else [volume]
    for source in sources:
        if "configMap" in source:
            found.add(("configmaps", str(source["configMap"].get("name", ""))))
        if "secret" in source:
            found.add(("secrets", _secret_name(source["secret"])))
    return found


def tokens(volume: Object) -> list[TokenRequest]:
    """Return the tokens that a volume needs."""
    return [_token(source["serviceAccountToken"]) for source in (volume.get("projected") or {}).get("sources") or []
            if "serviceAccountToken" in source]


def files(pod: Object, volume: Object, lookup: Lookup, tokens: Tokens, around: Surroundings) -> dict[str, File]:
    """Return the volume's files by relative path.

    Raises:
        Missing: an object or key that is not optional is not there; worded as upstream's FailedMount events.
        ValueError: a reference that means nothing.
    """
    for kind in FILE_KINDS:
        if kind in volume:
            body = volume[kind] or {}
            mode = _mode({"mode": body.get("defaultMode")}, DEFAULT_MODE)
            sources = (body.get("sources") or []) if kind == "projected" else [{kind: body}]
            made: dict[str, File] = {}
            for source in sources:
                made |= _source(pod, source, mode, lookup, tokens, around)
            return made
    raise ValueError(f"volume {volume.get('name')} has no files")


def _source(pod: Object, source: Object, mode: int, lookup: Lookup, tokens: Tokens,
            around: Surroundings) -> dict[str, File]:
    if "serviceAccountToken" in source:
        body = source["serviceAccountToken"]
        return {str(body.get("path", "token")): _token_file(pod, tokens(_token(body)), mode)}
    if "downwardAPI" in source:
        return {item["path"]: File(_downward(pod, item, around).encode(errors="surrogateescape"), _mode(item, mode))
                for item in source["downwardAPI"].get("items") or []}
    if "configMap" in source:
        body = source["configMap"]
        name, resource, shown = str(body.get("name", "")), "configmaps", "configmap"
    elif "secret" in source:
        body = source["secret"]
        name, resource, shown = _secret_name(body), "secrets", "secret"
    else:
        raise ValueError(f"volume source {', '.join(source)} is not supported")
    found = lookup(resource, name)
    if found is None:
        if body.get("optional"):
            return {}
        raise Missing(f'{shown} "{name}" not found')
    return _chosen(contents(found), body, mode, shown)


def contents(found: Object) -> dict[str, bytes]:
    """Return all entries of a ConfigMap or Secret."""
    binary = found.get("data") if found.get("kind") == "Secret" else found.get("binaryData")
    text = {} if found.get("kind") == "Secret" else found.get("data") or {}
    return {k: v.encode() for k, v in text.items()} | {k: base64.b64decode(v) for k, v in (binary or {}).items()}


def _chosen(data: Mapping[str, bytes], body: Object, mode: int, shown: str) -> dict[str, File]:
    items = body.get("items")
    if not items:
        return {name: File(content, mode) for name, content in data.items()}
    made = {}
    for item in items:
        if item["key"] in data:
            made[item["path"]] = File(data[item["key"]], _mode(item, mode))
        elif not body.get("optional"):
            raise Missing(f"{shown} references non-existent {'secret' if shown == 'secret' else 'config'} key: "
                          f"{item['key']}")
    return made


def _downward(pod: Object, item: Object, around: Surroundings) -> str:
    if "fieldRef" in item:
        return field_text(pod, str(item["fieldRef"].get("fieldPath", "")), around)
    return resource_text(pod, item.get("resourceFieldRef") or {}, around)


def _mode(item: Object, default: int) -> int:
    return int(item["mode"]) if item.get("mode") is not None else default


def _secret_name(body: Object) -> str:
    return str(body.get("secretName") or body.get("name") or "")


def _token(body: Object) -> TokenRequest:
    return TokenRequest(str(body.get("audience") or ""), int(body.get("expirationSeconds") or 3600))


def _token_file(pod: Object, token: str, mode: int) -> File:
    """A token is for its Pod's user alone, as k8s:pkg/volume/projected/projected.go decides."""
    context = spec.spec(pod).get("securityContext") or {}
    if context.get("fsGroup") is not None:
        return File(token.encode(), 0o600)
    users = {spec.security(pod, c, "runAsUser") for c in spec.all_containers(pod)}
    if len(users) == 1 and None not in users:
        return File(token.encode(), 0o600, int(users.pop()))
    return File(token.encode(), mode)


def service_account(pod: Object) -> str:
    """Return the name of the Pod's service account."""
    return str(spec.spec(pod).get("serviceAccountName") or "default")
