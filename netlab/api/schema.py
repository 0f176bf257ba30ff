"""The schema table: the fields of every kind of the stable groups, with what patches, validation and protobuf need.

data/schema.json.gz is made by generate.py. Its layout: {"kubernetes": "1.36", "structs": {NAME: {
"f": {FIELD: {"t": type, "n": protobuf number, "p": pointer in Go, "r": required, "e": enum, "d": default,
              "m": patch merge key, "s": patch strategy, "l": list type, "k": list-map keys, "x": map type,
              "c": named type in Go, "i": embedded: a message on the wire, fields of the struct itself in JSON}},
"b": the fields on the wire of what is a scalar in JSON, "x": map type, "g": [[group, version, kind]],
"w": only on the wire}}}. A type is `string`, `int32`, ..., `&NAME` a struct, `[]` a list of, `{}` a map of.

Reading the file takes about 5 ms; each struct is built when first asked for.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "data" / "schema.json.gz"
_META = "io.k8s.apimachinery.pkg.apis.meta.v1."
_EXTENSIONS = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1."
ARRAY, BOOLEAN, STRINGS = (f"{_EXTENSIONS}JSONSchemaPropsOr{other}" for other in ("Array", "Bool", "StringArray"))
"""What is a schema or something else."""
SCALARS = {
    f"{_META}Time": "time", f"{_META}MicroTime": "micro-time",
    f"{_META}FieldsV1": "raw", f"{_META}Patch": "raw", "io.k8s.apimachinery.pkg.runtime.RawExtension": "raw",
    "io.k8s.apimachinery.pkg.api.resource.Quantity": "quantity",
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": "int-or-string",
    f"{_EXTENSIONS}JSON": "any", ARRAY: "any", BOOLEAN: "any", STRINGS: "any",
}
"""Definitions that are structs in Go and something else in JSON. `raw` is any JSON object, kept as it is."""


@dataclass(frozen=True, slots=True)
class Type:
    """A type: `code` is string, boolean, int32, int64, uint32, uint64, double, float, byte (base64 text), time,
    micro-time, quantity, int-or-string, raw, any, object, struct (named in `struct`), list or map (of `item`).
    """

    code: str
    struct: str = ""
    item: Type | None = None
    reference: str = ""  # the definition's name, also of scalars that have one


@cache
def parse_type(text: str) -> Type:
    """Return the type that a text of the table stands for."""
    if text.startswith("[]"):
        return Type("list", item=parse_type(text[2:]))
    if text.startswith("{}"):
        return Type("map", item=parse_type(text[2:]))
    if text.startswith("&"):
        name = text[1:]
        scalar = SCALARS.get(name)
        return Type(scalar, reference=name) if scalar else Type("struct", struct=name, reference=name)
    return Type(text)


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a struct. `number` is 0 when protobuf does not know it; `list_type` is atomic, set, map or "".

    `cast` is the named type of a string or number in Go (RestartPolicy), `pointer` whether it is a pointer there.
    """

    name: str
    type: Type
    required: bool = False
    enum: tuple[str, ...] = ()
    default: Any = None
    merge_key: str = ""
    patch_strategy: tuple[str, ...] = ()
    list_type: str = ""
    list_keys: tuple[str, ...] = ()
    map_type: str = ""
    number: int = 0
    pointer: bool = False
    cast: str = ""
    inline: bool = False


class Struct:
    """A definition: its fields by JSON name. `map_type` is "atomic" when its fields are owned as one."""

    def __init__(self, name: str, raw: Mapping[str, Any]) -> None:
        self.name = name
        self.kinds: tuple[tuple[str, str, str], ...] = tuple(map(tuple, raw.get("g", ())))  # (group, version, kind)
        self.map_type: str = raw.get("x", "")
        self.wire_only = bool(raw.get("w"))
        self._raw = raw

    @cached_property
    def fields(self) -> dict[str, Field]:
        """Return the fields that JSON has."""
        return {name: _field(name, spec) for name, spec in self._raw["f"].items() if "i" not in spec}

    @cached_property
    def by_number(self) -> dict[int, Field]:
        """Return the fields that protobuf has."""
        other = self._raw.get("b", {})
        shared = {name: field for name, field in self.fields.items() if name not in other}
        return {spec["n"]: shared.get(name) or _field(name, spec)
                for name, spec in {**self._raw["f"], **other}.items() if "n" in spec}

    @property
    def go_name(self) -> str:
        """Return the struct's name in Go, as error texts have it: `PodSpec`."""
        return self.name.rpartition(".")[2]


def _field(name: str, spec: Mapping[str, Any]) -> Field:
    strategy: str = spec.get("s", "")
    return Field(name, parse_type(spec["t"]), required="r" in spec, enum=tuple(spec.get("e", ())),
                 default=spec.get("d"), merge_key=spec.get("m", ""),
                 patch_strategy=tuple(strategy.split(",")) if strategy else (), list_type=spec.get("l", ""),
                 list_keys=tuple(spec.get("k", ())), map_type=spec.get("x", ""), number=spec.get("n", 0),
                 pointer="p" in spec, cast=spec.get("c", ""), inline="i" in spec)


class Table:
    """All structs, by name and by kind."""

    def __init__(self, raw: Mapping[str, Any]) -> None:
        self.kubernetes: str = raw["kubernetes"]
        self._raw: Mapping[str, Mapping[str, Any]] = raw["structs"]
        self._structs: dict[str, Struct] = {}
        self._kinds = {(f"{group}/{version}" if group else version, kind): name for name, struct in self._raw.items()
                       for group, version, kind in struct.get("g", ())}

    def struct(self, name: str) -> Struct:
        """Return a struct by its full name, e.g. io.k8s.api.core.v1.PodSpec.

        Raises:
            KeyError: there is none.
        """
        found = self._structs.get(name)
        if found is None:
            found = self._structs[name] = Struct(name, self._raw[name])
        return found

    def kind(self, api_version: str, kind: str) -> Struct | None:
        """Return the struct of a kind, e.g. ("apps/v1", "Deployment"); None if the table has no such kind."""
        name = self._kinds.get((api_version, kind)) or self._message(api_version, kind)
        return self.struct(name) if name else None

    def kinds(self) -> Iterator[tuple[str, str]]:
        """Yield every (apiVersion, kind)."""
        yield from self._kinds

    def names(self) -> Iterator[str]:
        """Yield the names of the structs that OpenAPI documents show."""
        return (name for name, raw in self._raw.items() if "w" not in raw)

    def _message(self, api_version: str, kind: str) -> str:
        """Return the struct of a kind without a GVK of its own: options of requests, and old spellings of them."""
        group, _, version = api_version.rpartition("/")
        folder = "core" if not group else group.partition(".")[0]
        for name in (f"io.k8s.api.{folder}.{version}.{kind}", f"{_META}{kind}"):
            if name in self._raw and name not in SCALARS:
                return name
        return ""


@lru_cache(maxsize=1)
def table() -> Table:
    """Return the table; read once."""
    return Table(json.loads(gzip.decompress(DATA.read_bytes())))


def field_struct(field: Field) -> Struct | None:
    """Return the struct of a field, or of its items if it is a list or map; None for others."""
    kind = field.type
    while kind.item is not None:
        kind = kind.item
    return table().struct(kind.struct) if kind.code == "struct" else None


def struct_of(kind: Type) -> Struct | None:
    """Return the struct that a type names; None for others."""
    return table().struct(kind.struct) if kind.code == "struct" else None
