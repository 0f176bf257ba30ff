"""Decoding an object as Go would: which fields are unknown, doubled or of a wrong type, in Kubernetes' own words.

That is the part of validation that needs no knowledge of the kind; values are judged by the API server's strategies.
The texts are those of sigs.k8s.io/json and of apimachinery/pkg/runtime/serializer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from netlab.api import fits, scalars
from netlab.api.meta import Object
from netlab.api.schema import Field, Struct, Type, struct_of, table
from netlab.errors import ApiError

Mode: TypeAlias = Literal["Strict", "Warn", "Ignore"]
MAX_DEPTH = 200
"""JSON may be nested so deep; no kind comes near it, and what follows may recurse without fear."""

_GO = {"boolean": "bool", "double": "float64", "float": "float32", "byte": "[]uint8",
       "object": "map[string]interface {}",
       "time": "v1.Time", "micro-time": "v1.MicroTime", "quantity": "resource.Quantity",
       "int-or-string": "intstr.IntOrString", "raw": "runtime.RawExtension", "any": "interface {}"}


@dataclass(frozen=True)
class Findings:
    """`unknown` are paths of unknown fields, `errors` the texts of values that can't be decoded, in document order."""

    unknown: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()


class _Walk:
    def __init__(self) -> None:
        self.unknown: list[str] = []
        self.errors: list[str] = []

    def struct(self, value: Mapping[str, Any], shape: Struct, path: str, plain: str) -> None:
        """Look at the fields of a struct. `path` has list places (`a.b[0]`), `plain` has none, as Go's errors."""
        fields = shape.fields
        for name, inner in value.items():
            field = fields.get(name)
            if field is None:
                self.unknown.append(f"{path}{name}")
            elif inner is not None and not (type(inner) is str and field.type.code == "string"):
                self.value(inner, field.type, path + name, plain + name, shape, field)

    def value(self, value: Any, kind: Type, path: str, plain: str, owner: Struct, field: Field) -> None:
        code = kind.code
        if value is None:
            return
        if code == "struct":
            if not isinstance(value, dict):
                self.mismatch(value, kind, plain, owner, field)
                return
            shape = struct_of(kind)
            if shape is not None:
                self.struct(value, shape, path + ".", plain + ".")
        elif code == "list":
            if not isinstance(value, list):
                self.mismatch(value, kind, plain, owner, field)
            elif kind.item is not None:
                for at, item in enumerate(value):
                    self.value(item, kind.item, f"{path}[{at}]", plain, owner, field)
        elif code == "map":
            if not isinstance(value, dict):
                self.mismatch(value, kind, plain, owner, field)
            elif kind.item is not None:
                for name, item in value.items():
                    self.value(item, kind.item, f"{path}.{name}", plain, owner, field)
        elif code not in {"any", "raw"}:
            self.scalar(value, kind, plain, owner, field)

    def scalar(self, value: Any, kind: Type, plain: str, owner: Struct, field: Field) -> None:
        complaint = scalars.COMPLAINTS.get(kind.code)
        if complaint is not None:
            if problem := complaint(value):
                self.errors.append(problem)
        elif not scalars.fits(value, kind.code):
            self.mismatch(value, kind, plain, owner, field)

    def mismatch(self, value: Any, kind: Type, plain: str, owner: Struct, field: Field) -> None:
        found = scalars.json_kind(value)
        if found == "number" and kind.code in scalars.LIMITS:
            found = f"number {json.dumps(value)}"
        self.errors.append(f"json: cannot unmarshal {found} into Go struct field {owner.go_name}.{plain} of type "
                           f"{_go_type(kind, owner, field)}")


def _go_type(kind: Type, owner: Struct, field: Field) -> str:
    if kind.item is not None:
        return ("[]" if kind.code == "list" else "map[string]") + _go_type(kind.item, owner, field)
    if kind.struct:
        return ".".join(kind.struct.split(".")[-2:])
    if field.cast:
        return field.cast if "." in field.cast else f"{owner.name.split('.')[-2]}.{field.cast}"
    return _GO.get(kind.code, kind.code)


def check(obj: Object, api_version: str, kind: str) -> Findings:
    """Return what does not fit the schema of a kind; nothing for kinds without one."""
    shape = table().kind(api_version, kind)
    if shape is None or fits.of_struct(shape)(obj):
        return Findings()
    walk = _Walk()
    walk.struct(obj, shape, "", "")
    return Findings(tuple(walk.unknown), tuple(walk.errors))


def prune(obj: Object, api_version: str, kind: str) -> Object:
    """Return the object without unknown fields, as Go's decoding drops them; the same object if it has none."""
    shape = table().kind(api_version, kind)
    return obj if shape is None or fits.of_struct(shape)(obj) else _prune(obj, shape)


def _prune(value: Object, shape: Struct) -> Object:
    kept: Object = {}
    changed = False
    for name, inner in value.items():
        field = shape.fields.get(name)
        if field is None:
            changed = True
            continue
        kept[name] = pruned = _prune_value(inner, field.type)
        changed = changed or pruned is not inner
    return kept if changed else value


def _prune_value(value: Any, kind: Type) -> Any:
    shape = struct_of(kind)
    if shape is not None:
        return _prune(value, shape) if isinstance(value, dict) else value
    if kind.item is None or kind.item.code not in {"struct", "list", "map"}:
        return value
    if isinstance(value, list):
        items = [_prune_value(item, kind.item) for item in value]
        return items if any(a is not b for a, b in zip(items, value, strict=True)) else value
    if isinstance(value, dict):
        entries = {name: _prune_value(item, kind.item) for name, item in value.items()}
        return entries if any(entries[name] is not item for name, item in value.items()) else value
    return value


def duplicates(raw: bytes | str) -> tuple[str, ...]:
    """Return the paths of fields that a JSON text gives more than once. Raises ValueError if it is no JSON."""
    found: list[str] = []
    if not raw.strip():
        return ()
    try:
        json.loads(raw, object_pairs_hook=_single)
    except _Doubled:
        pass
    else:
        return ()
    _doubled(json.loads(raw, object_pairs_hook=_Pairs), "", found)
    return tuple(found)


class _Doubled(Exception):
    """Some object has a member twice."""


def _single(pairs: list[tuple[str, Any]]) -> None:
    if len(dict(pairs)) != len(pairs):
        raise _Doubled


class _Pairs(list[tuple[str, Any]]):
    """An object with its doubled members."""


def _doubled(node: Any, path: str, found: list[str]) -> None:
    if isinstance(node, _Pairs):
        seen: set[str] = set()
        for name, value in node:
            if name in seen:
                found.append(path + name)
            seen.add(name)
            _doubled(value, f"{path}{name}.", found)
    elif isinstance(node, list):
        for at, item in enumerate(node):
            _doubled(item, f"{path[:-1]}[{at}].", found)


def handle(raw: bytes, obj: Object, api_version: str, kind: str, mode: Mode = "Warn") -> tuple[str, ...]:
    """Judge a request body the way `fieldValidation` asks; returns the texts for the Warning header.

    Args:
        raw: the body as JSON, to look for doubled fields; b"" to skip that (protobuf can't have any).
        obj: the decoded body.
        api_version: of the kind that the path asks for.
        kind: that kind.
        mode: Strict refuses, Warn tells, Ignore drops silently.

    Raises:
        ApiError: 400 with Go's text.
    """
    findings = check(obj, api_version, kind)
    if findings.errors:
        raise _refuse(api_version, kind, findings.errors[0])
    if mode == "Ignore":
        return ()
    problems = [f'unknown field "{path}"' for path in findings.unknown]
    problems += [f'duplicate field "{path}"' for path in duplicates(raw)]
    if problems and mode == "Strict":
        raise _refuse(api_version, kind, "strict decoding error: " + ", ".join(problems))
    return tuple(problems)


def _refuse(api_version: str, kind: str, text: str) -> ApiError:
    version = api_version.rpartition("/")[2]
    return ApiError(400, "BadRequest", f'{kind} in version "{version}" cannot be handled as a {kind}: {text}')


def depth(value: Any, limit: int = MAX_DEPTH) -> bool:
    """Tell whether a decoded JSON value is nested at most `limit` deep."""
    level = [value]
    for _ in range(limit):
        level = [inner for node in level if isinstance(node, (dict, list))
                 for inner in (node.values() if isinstance(node, dict) else node)]
        if not level:
            return True
    return False


def handle_patch(patch: bytes, obj: Object, api_version: str, kind: str, mode: Mode = "Warn", *,
                 shown: str = "") -> tuple[str, ...]:
    """Judge the object that a patch made, as `handle`; what cannot be taken is Invalid here, as upstream.

    Args:
        patch: the patch as it was sent; a JSON one, to look for doubled fields.
        obj: the object after the patch.
        api_version: of the object.
        kind: of the object.
        mode: see `handle`.
        shown: the patch as errors show it; else the object is shown, or what is Strict's fault the patch itself.

    Raises:
        ApiError: 422 for values that can't be decoded, and for what Strict refuses.
    """
    findings = check(obj, api_version, kind)
    if findings.errors:
        raise invalid_patch(shown or as_json(obj), findings.errors[0])
    if mode == "Ignore":
        return ()
    problems = [f'duplicate field "{path}"' for path in duplicates(patch)]
    problems += [f'unknown field "{path}"' for path in findings.unknown]
    if problems and mode == "Strict":
        raise invalid_patch(shown or (as_json(obj) if findings.unknown else patch.decode("utf-8", "replace")),
                            "strict decoding error: " + ", ".join(problems))
    return tuple(problems)


def as_json(obj: Object) -> str:
    """Return an object as error texts show it."""
    return json.dumps(obj, ensure_ascii=False, separators=(",", ":"))


def invalid_patch(value: str, why: str) -> ApiError:
    """422: what a patch makes cannot be taken; `value` is shown."""
    said = f"Invalid value: {json.dumps(value, ensure_ascii=False)}: {why}"
    return ApiError(422, "Invalid", f' "" is invalid: patch: {said}',
                    details={"causes": [{"reason": "FieldValueInvalid", "field": "patch", "message": said}]})
