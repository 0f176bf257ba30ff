"""Random requests about custom resources of four kinds, with values that fit their schema and values that do not."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

MERGE, JSON_PATCH, APPLY = "application/merge-patch+json", "application/json-patch+json", "application/apply-patch+yaml"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
_OBJECT, _STRING, _INTEGER = {"type": "object"}, {"type": "string"}, {"type": "integer"}

SPEC: dict[str, Any] = {
    "s": {**_STRING, "minLength": 1, "maxLength": 5, "pattern": "^[a-z0-9]*$", "default": "dflt"},
    "e": {**_STRING, "enum": ["A", "B", "C"]}, "num": {**_INTEGER, "minimum": 1, "maximum": 100, "multipleOf": 1},
    "i32": {**_INTEGER, "format": "int32"}, "f": {"type": "number", "minimum": 0.5, "exclusiveMinimum": True},
    "b": {"type": "boolean"}, "nul": {**_STRING, "nullable": True}, "dnul": {**_STRING, "nullable": True, "default": "x"},
    "ios": {"x-kubernetes-int-or-string": True}, "date": {**_STRING, "format": "date-time"}, "ip": {**_STRING, "format": "ipv4"},
    "by": {**_STRING, "format": "byte"}, "dur": {**_STRING, "format": "duration"}, "uuid": {**_STRING, "format": "uuid"},
    "nested": {**_OBJECT, "default": {"r": "d"}, "required": ["r"], "properties": {"r": {**_STRING, "default": "rr"}, "q": _INTEGER}},
    "req": {**_OBJECT, "required": ["a", "b"], "properties": {"a": _INTEGER, "b": _INTEGER}, "x-kubernetes-validations": [
        {"rule": "self.a <= self.b", "message": "a le b"}, {"rule": "self.a >= oldSelf.a", "message": "a only grows"}]},
    "set": {"type": "array", "items": _STRING, "x-kubernetes-list-type": "set", "maxItems": 4},
    "atom": {"type": "array", "items": _INTEGER, "x-kubernetes-list-type": "atomic", "minItems": 1},
    "plain": {"type": "array", "items": {**_OBJECT, "properties": {"x": _INTEGER}}},
    "maps": {"type": "array", "maxItems": 5, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k", "p"],
             "items": {**_OBJECT, "required": ["k"], "properties": {
                 "k": {**_STRING, "maxLength": 5}, "p": {**_STRING, "default": "TCP"}, "v": _INTEGER,
                 "o": {**_OBJECT, "properties": {"z": _INTEGER}}}}},
    "add": {**_OBJECT, "maxProperties": 3, "additionalProperties": {**_INTEGER, "maximum": 9}},
    "addo": {**_OBJECT, "additionalProperties": {**_OBJECT, "properties": {"w": {**_INTEGER, "default": 3}, "y": _INTEGER}}},
    "atomm": {**_OBJECT, "x-kubernetes-map-type": "atomic", "properties": {"m": _INTEGER, "n": _INTEGER}},
    "free": {**_OBJECT, "x-kubernetes-preserve-unknown-fields": True, "properties": {"known": _INTEGER}},
    "emb": {**_OBJECT, "x-kubernetes-embedded-resource": True, "x-kubernetes-preserve-unknown-fields": True},
    "one": {**_OBJECT, "properties": {"l": _INTEGER, "m": _INTEGER}, "oneOf": [{"required": ["l"]}, {"required": ["m"]}]},
    "any": {**_OBJECT, "properties": {"l": _INTEGER},
            "anyOf": [{"properties": {"l": {"minimum": 3}}}, {"properties": {"l": {"enum": [1]}}}]},
    "not": {**_OBJECT, "properties": {"l": _INTEGER}, "not": {"properties": {"l": {"minimum": 3}}, "required": ["l"]}},
    "replicas": _INTEGER}
_SCALARS = ("s", "e", "num", "i32", "f", "b", "nul", "dnul", "ios", "date", "ip", "by", "dur", "uuid", "replicas", "unknown")
STATUS = {**_OBJECT, "properties": {
    "replicas": _INTEGER, "sel": _STRING, "ph": {**_STRING, "default": "new"}, "conditions": {
        "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"], "items": {
            **_OBJECT, "required": ["type", "status"], "properties": {"type": _STRING, "status": _STRING, "reason": _STRING}}}}}
SCHEMA = {**_OBJECT, "properties": {"spec": {**_OBJECT, "properties": SPEC}, "status": STATUS}, "x-kubernetes-validations": [{
    "rule": "!has(self.spec) || !has(self.spec.num) || self.spec.num < 90", "message": "too big",
    "reason": "FieldValueForbidden", "fieldPath": ".spec.num"}]}
COLUMNS = [{"name": name, "type": kind, "jsonPath": path} for name, kind, path in (
    ("S", "string", ".spec.s"), ("Num", "integer", ".spec.num"), ("F", "number", ".spec.f"), ("B", "boolean", ".spec.b"),
    ("Set", "string", ".spec.set"), ("M", "string", ".spec.maps[*].k"), ("Ios", "string", ".spec.ios"), ("Obj", "string", ".spec.nested"),
    ("Ready", "string", '.status.conditions[?(@.type=="Ready")].status'), ("Age", "date", ".metadata.creationTimestamp"))]


@dataclass
class Request:
    """`change` makes the body of what a server has; None where there is a `body`, or none is sent."""

    method: str
    path: str
    body: Any = None
    kind: str = "application/json"
    accept: str = "application/json"
    change: Callable[[dict[str, Any]], None] | None = None


def definitions() -> Iterator[dict[str, Any]]:
    """Yield the definitions: all there is to a kind, a kind of the whole cluster, two versions, and one without schema."""
    scale = {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas", "labelSelectorPath": ".status.sel"}
    yield _defined("wholes", "Namespaced", SCHEMA, subresources={"status": {}, "scale": scale}, additionalPrinterColumns=COLUMNS,
                   selectableFields=[{"jsonPath": path} for path in (".spec.s", ".spec.num", ".spec.b")])
    yield _defined("clusters", "Cluster", SCHEMA)
    two = _defined("twos", "Namespaced", SCHEMA)
    two["spec"]["versions"].append({"name": "v1beta1", "served": True, "storage": False, "deprecated": True, "schema": {
        "openAPIV3Schema": {**_OBJECT, "properties": {"spec": {**_OBJECT, "x-kubernetes-preserve-unknown-fields": True}}}}})
    yield two
    yield _defined("wilds", "Namespaced", {**_OBJECT, "x-kubernetes-preserve-unknown-fields": True})


def _defined(plural: str, scope: str, schema: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": f"{plural}.talk.example.com"}, "spec": {
                "group": "talk.example.com", "scope": scope, "names": {"plural": plural, "kind": plural[:-1].title()}, "versions": [
                    {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}, **more}]}}


class Speaker:
    """Makes up requests; the same ones for the same seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._names: tuple[str, ...] = ()

    def requests(self, count: int) -> Iterator[Request]:
        """Yield requests."""
        makers = (self._create, self._create, self._update, self._update, self._merge, self._merge, self._json_patch, self._apply,
                  self._apply, self._apply, self._look, self._list, self._delete)
        for _ in range(count):
            plural = self._one("wholes", "wholes", "wholes", "wholes", "clusters", "twos", "wilds")
            version = self._one("v1", "v1", "v1beta1") if plural == "twos" else "v1"
            place = "" if plural == "clusters" else f"/namespaces/{self._one('default', 'default', 'kube-public')}"
            maker = self._one(*(makers if plural != "wilds" else makers[:7]))
            self._names = (*SPEC, "unknown")
            if plural in ("twos", "wilds"):  # what fits one version only makes upstream fail where it compares owners
                self._names = ("replicas", "e")
            elif maker == self._apply:  # a map or list of which an apply leaves nothing becomes null in upstream
                self._names = _SCALARS
            yield maker(f"/apis/talk.example.com/{version}{place}/{plural}", plural, version)

    def _one(self, *choices: Any) -> Any:
        return self._random.choice(choices)

    def _chance(self, part: float) -> bool:
        return self._random.random() < part

    def _path(self, collection: str) -> str:
        return f"{collection}/{self._one('n1', 'n2', 'n3', 'n4')}"

    def _query(self, *words: str) -> str:
        words = (*words, *([f"fieldValidation={self._one('Strict', 'Warn', 'Ignore', 'Bad')}"] if self._chance(0.3) else []),
                 *(["dryRun=All"] if self._chance(0.05) else []))
        return "?" + "&".join(words) if words else ""

    def _create(self, collection: str, plural: str, version: str) -> Request:
        return Request("POST", collection + self._query(), self._whole(plural, version, self._one("n1", "n2", "n3", "n4")))

    def _update(self, collection: str, plural: str, version: str) -> Request:
        spec, status, label, how = self._spec(), self._status(), self._one("x", "y"), self._random.random()

        def change(obj: dict[str, Any]) -> None:
            if how < 0.6:
                obj["spec"] = {**(obj.get("spec") or {}), **spec}
            elif how < 0.75:
                obj["spec"] = dict(spec)
            elif how < 0.85:
                obj["metadata"]["labels"] = {"l": label}
            elif how < 0.95:
                obj["status"] = status
            else:
                obj["metadata"].pop("resourceVersion")

        part = "/status" if plural == "wholes" and how >= 0.85 and how < 0.95 and status is not None else ""
        return Request("PUT", self._path(collection) + part + self._query(), change=change)

    def _merge(self, collection: str, plural: str, version: str) -> Request:
        part = self._one("", "", "/status", "/scale") if plural == "wholes" else ""
        body: dict[str, Any] = {"status": self._status()} if part == "/status" else {"spec": self._spec()}
        if part == "/scale":
            body = {"spec": {"replicas": self._random.randint(4, 10**6) if self._chance(0.8) else -1}}
        elif self._chance(0.15):
            body["metadata"] = {"labels": {"l": self._one("x", None)}}
        return Request("PATCH", self._path(collection) + part + self._query(), body, MERGE)

    def _json_patch(self, collection: str, plural: str, version: str) -> Request:
        name = self._one(*self._names)
        return Request("PATCH", self._path(collection) + self._query(),
                       [{"op": "add", "path": f"/spec/{name}", "value": self._value(name)}], JSON_PATCH)

    def _apply(self, collection: str, plural: str, version: str) -> Request:
        path = self._path(collection)
        body: dict[str, Any] = {"apiVersion": f"talk.example.com/{version}", "kind": plural[:-1].title(),
                                "metadata": {"name": path.rpartition("/")[2]}, "spec": self._spec(fitting=True)}
        part = "/status" if plural == "wholes" and self._chance(0.15) else ""
        if part:
            body["status"] = self._status()
        if self._chance(0.2):
            body["metadata"]["labels"] = {"l": self._one("x", "y")}
        words = [f"fieldManager={self._one('m1', 'm2', 'm3')}", *(["force=true"] if self._chance(0.4) else [])]
        return Request("PATCH", path + part + self._query(*words), body, APPLY)

    def _look(self, collection: str, plural: str, version: str) -> Request:
        return Request("GET", self._one(self._path(collection), collection), accept=self._one("application/json", TABLE))

    def _list(self, collection: str, plural: str, version: str) -> Request:
        words = self._one("labelSelector=l%3Dx", "labelSelector=l+in+(x,y)", "labelSelector=!l", "fieldSelector=metadata.name%3Dn1",
                          "fieldSelector=spec.s%3Da", "fieldSelector=spec.zz%3D1", "labelSelector=%3D%3D")
        return Request("GET", f"{collection}?{words}")

    def _delete(self, collection: str, plural: str, version: str) -> Request:
        body = self._one(None, {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"},
                         {"preconditions": {"uid": "nope"}})
        return Request("DELETE", self._path(collection), body)

    def _whole(self, plural: str, version: str, name: str) -> dict[str, Any]:
        metadata: dict[str, Any] = {"name": name}
        if self._chance(0.3):
            metadata["labels"] = {"l": self._one("x", "y")}
        if self._chance(0.05):
            metadata |= self._one({"finalizers": ["talk.example.com/f"]}, {"bogus": 1}, {"labels": {"-bad": "x"}})
        found = {"apiVersion": f"talk.example.com/{version}", "kind": plural[:-1].title(), "metadata": metadata,
                 "spec": self._spec(fitting=self._chance(0.6))}
        return found | ({"status": self._status()} if self._chance(0.2) else {})

    def _spec(self, *, fitting: bool = False) -> dict[str, Any]:
        names = self._random.sample(self._names, min(len(self._names), self._random.randint(0, 5)))
        found = {name: self._value(name) for name in names}
        return {name: value for name, value in found.items() if not fitting or (value is not None and name != "unknown")}

    def _status(self) -> Any:
        return self._one({"replicas": 2}, {"sel": "a=b"}, {"ph": "x"}, {"bogus": 1}, {}, {"conditions": [{"type": "Ready"}]},
                         {"conditions": [{"type": "Ready", "status": self._one("True", "False")}]},
                         {"conditions": [{"type": "Ready", "status": "True"}, {"type": "X", "status": "False", "reason": "r"}]})

    def _value(self, name: str) -> Any:
        if len(self._names) == 2:
            return 2 if name == "replicas" else "A"
        if self._chance(0.05):
            return self._one(None, "str", 5, 1.5, True, {}, -1)
        some, pick = self._random.randint, self._one
        rows: dict[str, Callable[[], Any]] = {
            "s": lambda: pick("a", "ab", "zz9", "toolong", "UP", "", "x-y"), "e": lambda: pick("A", "B", "D", ""),
            "num": lambda: pick(1, 2, 50, 95, 101, 0, 2.5), "i32": lambda: pick(1, 2**31, -5, 2**40), "f": lambda: pick(1, 0.5, 0.75, 2.25),
            "b": lambda: pick(True, False), "nul": lambda: pick("x", None), "dnul": lambda: pick("x", None), "ios": lambda: pick(1, "50%"),
            "date": lambda: pick("2020-01-02T03:04:05Z", "2020"), "ip": lambda: pick("1.2.3.4", "::1", "x"), "by": lambda: pick("aGk=", "???"),
            "dur": lambda: pick("5s", "1h2m", "x"), "uuid": lambda: pick("x", "6b0a6a2c-6a6e-4b6f-9d2e-111111111111"),
            "nested": lambda: pick({}, {"r": "x"}, {"q": 2}, {"r": None}, {"q": "x", "zz": 1}),
            "req": lambda: pick({"a": 1, "b": 2}, {"a": 3, "b": 2}, {"a": 1}, {"a": 2, "b": 4}),
            "set": lambda: [*self._random.sample(["a", "b", "c", "d", "e"], some(0, 5)), *(["a"] if self._chance(0.1) else [])],
            "atom": lambda: [some(1, 3) for _ in range(some(0, 3))], "plain": lambda: [{"x": some(0, 2)} for _ in range(some(0, 2))],
            "maps": lambda: [{"k": pick("a", "b", "c"), **pick({}, {"p": "UDP"}, {"v": some(0, 3)}, {"o": {"z": 1}})} for _ in range(some(0, 3))],
            "add": lambda: {pick("p", "q", "r", "s"): some(1, 11) for _ in range(some(0, 4))},
            "addo": lambda: {pick("p", "q"): pick({}, {"y": 1}, {"w": 4}, {"u": 1})}, "atomm": lambda: pick({"m": 1}, {"m": 1, "n": 2}, {}),
            "free": lambda: pick({"known": 1}, {"known": "x"}, {"un": {"a": [1, {"b": 2}]}}, {}),
            "emb": lambda: pick({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x", "labels": {"a": "b"}}}, {"kind": "X"},
                                {"apiVersion": "v1", "kind": "P", "metadata": {"name": "Not/ok"}}),
            "one": lambda: pick({"l": 1}, {"m": 1}, {"l": 1, "m": 1}, {}), "any": lambda: pick({"l": 1}, {"l": 2}, {"l": 3}),
            "not": lambda: pick({"l": 1}, {"l": 3}, {}), "replicas": lambda: some(0, 3)}
        return rows[name]() if name in rows else 1
