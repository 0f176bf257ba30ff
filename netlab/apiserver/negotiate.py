"""What form a client wants its answer in (Accept) and what form its body has (Content-Type)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson

from netlab.api import protobuf, validate
from netlab.api.meta import Object
from netlab.apiserver import status

_OFFERED = ("application/json", "application/yaml", "application/vnd.kubernetes.protobuf")
_TABLES = {("Table", "meta.k8s.io", "v1"), ("Table", "meta.k8s.io", "v1beta1")}
_PARTIAL = {("PartialObjectMetadata", "meta.k8s.io", "v1"), ("PartialObjectMetadataList", "meta.k8s.io", "v1"),
            ("PartialObjectMetadata", "meta.k8s.io", "v1beta1"), ("PartialObjectMetadataList", "meta.k8s.io",
                                                                  "v1beta1")}
MAX_DEPTH = 200
_TAGS = frozenset((None, "!", *(f"tag:yaml.org,2002:{kind}" for kind in ("map", "null", "seq", "str"))))
"""The types that a body may name itself; the others follow from how a value is written."""
_MAX_NODES = 1_000_000


@dataclass(frozen=True, slots=True)
class Form:
    """The chosen form: `shape` is "object", "table" or "partial"; `version` is that of meta.k8s.io for the last two."""

    shape: str = "object"
    version: str = "v1"
    yaml: bool = False


PLAIN = Form()


@lru_cache(maxsize=256)
def media_types(header: str) -> tuple[tuple[str, tuple[tuple[str, str], ...]], ...]:
    """Return an Accept header's media types with their parameters, best first (q, then the client's order)."""
    found = []
    for position, text in enumerate(header.split(",")):
        kind, *rest = (part.strip() for part in text.split(";"))
        pairs = tuple((name.strip().lower(), value.strip().strip('"')) for name, _, value in
                      (item.partition("=") for item in rest))
        try:
            quality = float(dict(pairs).get("q", "1"))
        except ValueError:
            quality = 0.0
        if kind and quality > 0:
            found.append((-quality, position, kind.lower(), tuple(pair for pair in pairs if pair[0] != "q")))
    return tuple((kind, pairs) for _, _, kind, pairs in sorted(found))


@lru_cache(maxsize=256)
def accept(header: str, *, plain: bool = False) -> Form:
    """Choose the form of the answer; `plain` says that there is no other than the object itself.

    Raises:
        ApiError: 406, the client reads none of ours (protobuf answers are not made: every client of upstream's that
            asks for them also takes JSON).
    """
    if not header:
        return PLAIN
    for kind, pairs in media_types(header):
        yaml = kind == "application/yaml"
        if kind not in ("application/json", "*/*", "application/*", "application/yaml",
                        "application/json;stream=watch"):
            continue
        parameters = dict(pairs)
        if "as" not in parameters:
            return Form(yaml=yaml)
        if plain:
            continue
        wanted = (parameters["as"], parameters.get("g", ""), parameters.get("v", ""))
        if wanted in _TABLES:
            return Form("table", wanted[2], yaml)
        if wanted in _PARTIAL:
            return Form("partial", wanted[2], yaml)
    raise status.not_acceptable(_OFFERED)


def dump(form: Form, body: bytes) -> tuple[bytes, str]:
    """Return encoded JSON in the form's encoding, with its content type."""
    if not form.yaml:
        return body, "application/json"
    import yaml

    return yaml.dump(orjson.loads(body), Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper), sort_keys=True,
                     allow_unicode=True).encode(), "application/yaml"


def decode(body: bytes, headers: Mapping[str, str]) -> Object:
    """Return the object in a request's body: JSON (also when no type is named), YAML or Kubernetes' protobuf.

    Raises:
        ApiError: 415 for another type; 400 for a body that is no object.
    """
    kind = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind == protobuf.CONTENT_TYPE or (not kind and protobuf.is_protobuf(body)):
        return protobuf.decode(body)
    if kind in ("", "application/json", "text/json", "*/*"):
        return _object(load_json(body), flat=body.count(b"{") + body.count(b"[") <= MAX_DEPTH)
    if kind in ("application/yaml", "text/yaml", "application/x-yaml"):
        return _object(load_yaml(body))
    raise status.unsupported_media_type(_OFFERED)


def load_json(body: bytes) -> Any:
    """Parse JSON.

    Raises:
        ApiError: 400.
    """
    if not body:
        raise status.bad_request("the body of the request is empty: want a JSON object")
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise status.bad_request(f"couldn't get version/kind; json parse error: {error}") from None


def load_yaml(body: bytes) -> Any:
    """Parse YAML as Kubernetes does: times and dates stay text.

    Raises:
        ApiError: 400.
    """
    import yaml

    try:
        _check_yaml(body)
        return yaml.load(body, Loader=_yaml_loader())
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise status.bad_request(f"yaml: {error}".replace("\n", " ")) from None


def _check_yaml(body: bytes) -> None:
    """Refuse what would overflow the parser's stack, or grow beyond measure by aliases of aliases.

    Raises:
        ValueError, yaml.YAMLError.
    """
    import yaml

    open_nodes: list[tuple[str | None, int]] = []  # (anchor, nodes counted when it began)
    anchors: dict[str, int] = {}
    total = 0
    for event in yaml.parse(body, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        if isinstance(event, yaml.AliasEvent):
            total += anchors.get(event.anchor or "", 1)
        elif isinstance(event, yaml.NodeEvent):
            total += 1
            tag = getattr(event, "tag", None)
            if tag not in _TAGS:
                raise ValueError(f"cannot decode a value of type {tag}")
            if isinstance(event, yaml.CollectionStartEvent):
                open_nodes.append((event.anchor, total))
                if len(open_nodes) > MAX_DEPTH:
                    raise ValueError("exceeded max depth")
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, began = open_nodes.pop()
            if anchor:
                anchors[anchor] = total - began + 1
        if total > _MAX_NODES:
            raise ValueError("document contains excessive aliasing")


@lru_cache(maxsize=1)
def _yaml_loader() -> Any:
    import yaml

    base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    loader: Any = type("KubernetesLoader", (base,), {})
    # YAML 1.1 reads 2001-01-01 as a date and 12:30 as 750; Kubernetes' reader takes both as text.
    loader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in rules if tag != "tag:yaml.org,2002:timestamp"]
        for first, rules in base.yaml_implicit_resolvers.items()}
    loader.add_constructor("tag:yaml.org,2002:map", _yaml_map)
    loader.add_constructor("tag:yaml.org,2002:int", _yaml_int)
    return loader


def _yaml_map(loader: Any, node: Any) -> Iterator[Any]:
    """Make an object: its keys are text, as in JSON."""
    made: Object = {}
    yield made
    for key, value in loader.construct_mapping(node).items():
        text = key if isinstance(key, str) else orjson.dumps(key).decode()
        made[text] = value


def _yaml_int(loader: Any, node: Any) -> Any:
    """Make a number: one beyond 64 bits has no exact value, as in JSON."""
    if not node.value:
        raise ValueError("cannot decode an empty value as a number")
    found = loader.construct_yaml_int(node)
    return found if -2**63 <= found < 2**64 else float(found)


def _object(value: Any, *, flat: bool = False) -> Object:
    """Check that a decoded body is an object; `flat` says that its depth needs no look."""
    if not isinstance(value, dict):
        raise status.bad_request("couldn't get version/kind; json parse error: json: cannot unmarshal "
                                 f"{_go_kind(value)} into Go value of type struct")
    if not all(isinstance(key, str) for key in value):
        raise status.bad_request("the body's keys must be text")
    if not flat and not validate.depth(value, MAX_DEPTH):
        raise status.bad_request("exceeded max depth")
    return value


def _go_kind(value: Any) -> str:
    return {str: "string", bool: "bool", int: "number", float: "number", list: "array"}.get(type(value), "null")
