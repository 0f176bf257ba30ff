"""The operations of the API: which paths there are, what each method takes and gives. Both documents render them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from netlab.api.kinds import Resource
from netlab.api.schema import Struct, table

META = "io.k8s.apimachinery.pkg.apis.meta.v1."
PATCH_TYPES = ("application/json-patch+json", "application/merge-patch+json",
               "application/strategic-merge-patch+json", "application/apply-patch+yaml")
_LIST = (("allowWatchBookmarks", "boolean"), ("continue", "string"), ("fieldSelector", "string"),
         ("labelSelector", "string"), ("limit", "integer"), ("resourceVersion", "string"),
         ("resourceVersionMatch", "string"), ("sendInitialEvents", "boolean"), ("timeoutSeconds", "integer"),
         ("watch", "boolean"))
_WRITE = (("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string"))
_DELETE = (("dryRun", "string"), ("gracePeriodSeconds", "integer"), ("orphanDependents", "boolean"),
           ("propagationPolicy", "string"))
QUERY = {"list": _LIST, "get": (), "connect": (), "post": _WRITE, "put": _WRITE,
         "patch": (*_WRITE, ("force", "boolean")), "delete": _DELETE, "deletecollection": _DELETE + _LIST[1:-1]}
"""Query parameters of each action: (name, type)."""

_WORD = {"list": "list", "get": "read", "post": "create", "put": "replace", "patch": "patch", "delete": "delete",
         "deletecollection": "deleteCollection", "connect": "connect"}
_SUBRESOURCE_KIND = {"scale": ("autoscaling/v1", "Scale"), "eviction": ("policy/v1", "Eviction"),
                     "binding": ("v1", "Binding"), "token": ("authentication.k8s.io/v1", "TokenRequest")}
_CONNECT = frozenset({"exec", "attach", "portforward", "proxy", "log"})


@dataclass(frozen=True)
class Operation:
    """One method on one path. `body` and `answer` are names of definitions, "" for none."""

    method: str
    action: str
    id: str
    group: str
    version: str
    kind: str
    body: str
    answer: str
    tag: str


    @property
    def gvk(self) -> dict[str, str]:
        """Return the kind that the operation is about."""
        return {"group": self.group, "kind": self.kind, "version": self.version}


@dataclass(frozen=True)
class Path:
    """A path, its parameters in braces, and its operations."""

    path: str
    operations: tuple[Operation, ...]

    @property
    def parameters(self) -> tuple[str, ...]:
        """Return the names of the parameters in the path."""
        return tuple(name for name in ("name", "namespace") if f"{{{name}}}" in self.path)


def paths(resources: Sequence[Resource]) -> Iterator[Path]:
    """Yield the paths of all resources."""
    for resource in resources:
        struct = table().kind(resource.api_version, resource.kind)
        if struct is None:
            continue
        base = resource.root + ("/namespaces/{namespace}" if resource.namespaced else "") + f"/{resource.plural}"
        listed = table().kind(resource.api_version, f"{resource.kind}List")
        answer = listed.name if listed is not None else struct.name
        many = [_operation(resource, method, action, struct, answer if action == "list" else "")
                for verb, method, action in (("list", "get", "list"), ("create", "post", "post"),
                                             ("deletecollection", "delete", "deletecollection"))
                if verb in resource.verbs]
        if many:
            yield Path(base, tuple(many))
        one = [_operation(resource, method, method, struct, "")
               for verb, method in (("get", "get"), ("update", "put"), ("patch", "patch"), ("delete", "delete"))
               if verb in resource.verbs]
        if one:
            yield Path(base + "/{name}", tuple(one))
        for subresource in resource.subresources:
            yield _subresource(resource, struct, base, subresource)
        if resource.namespaced and "list" in resource.verbs:
            everywhere = _operation(resource, "get", "list", struct, answer, suffix="ForAllNamespaces")
            yield Path(f"{resource.root}/{resource.plural}", (everywhere,))


def definitions(found: Sequence[Path]) -> set[str]:
    """Return the names of the definitions that the paths speak of, and of those that all answers share."""
    names = {name for path in found for operation in path.operations for name in (operation.body, operation.answer)}
    return names - {""} | {f"{META}{kind}" for kind in ("APIResourceList", "DeleteOptions", "Status", "WatchEvent")}


def _subresource(resource: Resource, struct: Struct, base: str, name: str) -> Path:
    path = f"{base}/{{name}}/{name}"
    if name in _CONNECT:
        return Path(path, (_operation(resource, "get", "connect", struct, "", suffix=name.title()),))
    api_version, kind = _SUBRESOURCE_KIND.get(name, (resource.api_version, resource.kind))
    struct = table().kind(api_version, kind) or struct
    methods = ("post",) if name in {"eviction", "binding", "token"} else ("put",) if name == "finalize" else (
        "get", "put", "patch")
    group, _, version = api_version.rpartition("/")
    return Path(path, tuple(_operation(resource, method, method, struct, "", suffix=name.title(),
                                       gvk=(group, version, kind)) for method in methods))


def _operation(resource: Resource, method: str, action: str, struct: Struct, answer: str, *, suffix: str = "",
               gvk: tuple[str, str, str] | None = None) -> Operation:
    group, version, kind = gvk or (resource.group, resource.version, resource.kind)
    spoken = (resource.group.partition(".")[0] or "core").title() + resource.version.title()
    scope = "Namespaced" if resource.namespaced and suffix != "ForAllNamespaces" else ""
    body = {"post": struct.name, "put": struct.name, "patch": f"{META}Patch", "delete": f"{META}DeleteOptions",
            "deletecollection": f"{META}DeleteOptions"}.get(action, "")
    if not answer and action != "connect":
        answer = f"{META}Status" if action in {"delete", "deletecollection"} else struct.name
    identity = f"{_WORD[action]}{spoken}{scope}{resource.kind}{suffix}"
    return Operation(method, action, identity, group, version, kind, body, answer,
                     f"{resource.group.partition('.')[0] or 'core'}_{resource.version}")
