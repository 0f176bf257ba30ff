"""What form a client wants its answer in (Accept) and what form its body has (Content-Type).

Protobuf is for clients that take nothing else in the shape they want; upstream gives it to all that name it first. The
store holds JSON, which is sent as it is stored, so protobuf has to be made of each object anew: on a busy machine a
LIST of 5,000 Pods took 0.9 s of this process's time with it and 0.04 s with JSON, and it is one process for everybody.
A GET took 0.8 ms instead of 0.6 ms, an event 0.15 ms more, once for all its watchers. What a client saves in reading
protobuf, all others would pay for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import orjson

from netlab.api import pack, protobuf, validate
from netlab.api.meta import Object
from netlab.apiserver import status
from netlab.apiserver.http import JSON, Large, Reply, Response
from netlab.errors import ApiError

_OFFERED = ("application/json", "application/yaml", protobuf.CONTENT_TYPE)
_CUSTOM = _OFFERED[:2]
_OPEN = ("application/json", "*/*", "application/*", "application/yaml")
_TABLES = {("Table", "meta.k8s.io", "v1"), ("Table", "meta.k8s.io", "v1beta1")}
_PARTIAL = {("PartialObjectMetadata", "meta.k8s.io", "v1"), ("PartialObjectMetadataList", "meta.k8s.io", "v1"),
            ("PartialObjectMetadata", "meta.k8s.io", "v1beta1"), ("PartialObjectMetadataList", "meta.k8s.io",
                                                                  "v1beta1")}
_YAML = ("application/yaml", "text/yaml", "application/x-yaml")
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
    protobuf: bool = False


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
def accept(header: str, *, plain: bool = False, custom: bool = False) -> Form:
    """Choose the form of the answer.

    Args:
        header: Accept.
        plain: there is no other shape than the object itself.
        custom: it is a custom resource, of which there is no protobuf but of its metadata.

    Raises:
        ApiError: 406, the client reads none of ours.
    """
    if not header:
        return PLAIN
    forms = [form for kind, pairs in media_types(header) for form in _forms(kind, dict(pairs), plain, custom)]
    if not forms:
        raise status.not_acceptable(_CUSTOM if custom else _OFFERED)
    first = forms[0]
    if first.protobuf:
        return next((form for form in forms if not form.protobuf and form.shape == first.shape), first)
    return first


def _forms(kind: str, parameters: Mapping[str, str], plain: bool, custom: bool) -> Iterator[Form]:
    """Yield the form that one media type asks for, if we have it."""
    packed = kind == protobuf.CONTENT_TYPE
    if not packed and kind not in _OPEN:
        return
    found = Form(yaml=kind == "application/yaml", protobuf=packed)
    if "as" not in parameters:
        if not (packed and custom):
            yield found
        return
    wanted = (parameters["as"], parameters.get("g", ""), parameters.get("v", ""))
    if plain:
        return
    if wanted in _TABLES and not packed:
        yield replace(found, shape="table", version=wanted[2])
    elif wanted in _PARTIAL and not (packed and wanted[2] != "v1"):  # v1beta1's list has other field numbers
        yield replace(found, shape="partial", version=wanted[2])


@lru_cache(maxsize=256)
def only_protobuf(header: str) -> bool:
    """Tell whether a client takes protobuf and nothing else that we have."""
    kinds = {kind for kind, _ in media_types(header)} if header else set()
    return protobuf.CONTENT_TYPE in kinds and not kinds & set(_OPEN)


def dump(form: Form, body: bytes) -> tuple[bytes, str]:
    """Return encoded JSON in the form's encoding, with its content type."""
    if form.protobuf:
        return packed(orjson.loads(body)), protobuf.CONTENT_TYPE
    if not form.yaml:
        return body, JSON
    import yaml

    return yaml.dump(orjson.loads(body), Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper), sort_keys=True,
                     allow_unicode=True).encode(), "application/yaml"


def dumped(form: Form, response: Response) -> Response:
    """Return an answer in JSON in the form's encoding; any other as it is."""
    if (form.protobuf or form.yaml) and isinstance(response, Reply) and not isinstance(response, Large) \
            and response.content_type == JSON:
        response.body, response.content_type = dump(form, response.body)
    return response


def packed(obj: Object) -> bytes:
    """Return an object in protobuf, with its envelope.

    Raises:
        ApiError: 500, what is stored does not fit its kind.
    """
    try:
        return pack.encode(obj)
    except pack.Unpackable as error:
        raise status.internal(str(error)) from None


def decode(body: bytes, headers: Mapping[str, str], *, kind: str = "") -> Object:
    """Return the object in a request's body: JSON (also when no type is named), YAML or Kubernetes' protobuf.

    `kind` is what it has to be, for the words of an error.

    Raises:
        ApiError: 415 for another type; 400 for a body that is no object.
    """
    content = _content(headers)
    if content == protobuf.CONTENT_TYPE or (not content and protobuf.is_protobuf(body)):
        return protobuf.decode(body)
    text = content in _YAML
    if not text and content not in ("", "application/json", "text/json", "*/*"):
        raise status.unsupported_media_type(_OFFERED)
    try:
        value = load_yaml(body) if text else load_json(body)
        value = {} if value is None else value  # which Go reads into an object without complaint
        _whole(value)
    except ApiError as error:
        said = error.message if text else f"couldn't get version/kind; json parse error: {error.message}"
        raise (status.unrecognized(kind, body, said) if kind else status.bad_request(said)) from None
    if not all(isinstance(key, str) for key in value):
        raise status.bad_request("the body's keys must be text")
    if (text or not shallow(body)) and not validate.depth(value, MAX_DEPTH):
        raise status.bad_request("exceeded max depth")
    found: Object = value
    return found


def is_json(body: bytes, headers: Mapping[str, str]) -> bool:
    """Tell whether a body that `decode` took is an object in JSON (YAML may begin with a brace, too)."""
    return body.lstrip()[:1] == b"{" and _content(headers) not in _YAML


def _content(headers: Mapping[str, str]) -> str:
    return headers.get("Content-Type", "").partition(";")[0].strip().lower()


def shallow(text: bytes) -> bool:
    """Tell whether JSON is surely not nested too deeply: it has too few lists and objects that hold something."""
    return text.count(b"{") + text.count(b"[") - text.count(b"{}") - text.count(b"[]") < MAX_DEPTH


def load_json(body: bytes) -> Any:
    """Parse JSON.

    Raises:
        ApiError: 400.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        ended = error.pos >= len(error.doc)
        raise status.bad_request("unexpected end of JSON input" if ended else str(error)) from None


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
        raise status.bad_request(f"error converting YAML to JSON: yaml: {error}".replace("\n", " ")) from None


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


def _whole(value: Any) -> None:
    """Refuse what is no object, and so has no kind and no version."""
    if not isinstance(value, dict):
        raise status.bad_request(
            f"json: cannot unmarshal {go_kind(value)} into Go value of type struct {{ APIVersion string "
            '"json:\\"apiVersion,omitempty\\""; Kind string "json:\\"kind,omitempty\\"" }')


def go_kind(value: Any) -> str:
    """Return what Go's JSON reader calls a value."""
    return {str: "string", bool: "bool", int: "number", float: "number", list: "array"}.get(type(value), "null")
