"""kube-proxy's flags and its KubeProxyConfiguration file: `config_table` for both, read here.

As upstream, a file given by --config takes the place of the flags, except for those that say where and what to do
(`BESIDE_FILE`), and a field that this version does not have is a warning, while a value of the wrong kind is an error
(kubernetes: cmd/kube-proxy/app/options.go, loadConfig). A scenario's settings are read strictly (`check_document`).
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from netlab.errors import ManifestError, UsageError
from netlab.flags import Flag, Flags, Kind, parse, parse_duration
from netlab.proxy.addresses import Family, family
from netlab.proxy.config_check import TRUE_WORDS, port_range, refuse
from netlab.proxy.config_table import BESIDE_FILE, FLAGS, IGNORED_FIELDS, ROWS, SECTIONS, Row

PROGRAM = "kube-proxy"
_VERSION = "kubeproxy.config.k8s.io/v1alpha1"
_ADDRESSES = (("healthz", "healthzBindAddress", "[::]"), ("metrics", "metricsBindAddress", "[::1]"))
"""Flag prefix, field, and the host that stands for the default one where the node's primary family is IPv6."""


@dataclass(frozen=True)
class Config:
    """What kube-proxy is to do. `values` are the settings by field name of the configuration file."""

    values: Mapping[str, Any]
    master: str = ""
    cleanup: bool = False
    init_only: bool = False
    backend: str = "auto"
    verbosity: int = 0
    write_to: str = ""
    file: str = ""
    unknown: tuple[str, ...] = ()
    """Fields of the file that there are none of, which are passed over."""
    doubled: tuple[str, ...] = ()
    """Fields that the file has twice: the last counts."""

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    def nested(self) -> dict[str, Any]:
        """Return the settings in the shape of the configuration file, durations in words."""
        kinds = {row.field: row.kind for row in ROWS}
        result: dict[str, Any] = {}
        for name, held in self.values.items():
            value = _shown(kinds[name], name, held)
            section, dot, leaf = name.partition(".")
            if dot:
                result.setdefault(section, {})[leaf] = value
            else:
                result[name] = value
        return result

    @property
    def node(self) -> str:
        """Return this node's name, lower case as the API has it."""
        return str(self["hostnameOverride"] or socket.gethostname()).strip().lower()

    def cluster_cidr(self, wanted: Family) -> str:
        """Return the Pods' network of a family, or ""."""
        return next((cidr for cidr in self["clusterCIDR"] if family(cidr) == wanted), "")

    @property
    def mode(self) -> str:
        """Return how Services are served: `iptables`, `nftables` or `userspace`."""
        return str(self["mode"] or "iptables")

    @property
    def section(self) -> str:
        """Return the section of the file that the mode's settings stand in; userspace mode reads that of iptables."""
        return "nftables" if self.mode == "nftables" else "iptables"

    @property
    def detect_mode(self) -> str:
        """Return how local Pods are told."""
        return str(self["detectLocalMode"] or "ClusterCIDR")

    def gate(self, name: str) -> bool:
        """Tell whether a feature gate is open; those that mean something here are unless they are closed."""
        return str(self["featureGates"].get(name, True)).lower() in TRUE_WORDS

    def min_sync_period(self) -> float:
        """Return seconds; 0 means the default, as in upstream's defaulting."""
        return float(self[f"{self.section}.minSyncPeriod"] or 1.0)

    def sync_period(self) -> float:
        """Return seconds."""
        return float(self[f"{self.section}.syncPeriod"] or 30.0)

    def proxy_ports(self) -> range:
        """Return the ports that userspace mode may listen on; an empty range for any."""
        return port_range(str(self["portRange"] or ""))


def read(argv: Sequence[str]) -> tuple[Config, Flags]:
    """Return the settings of a command line, its --config file read.

    Raises:
        UsageError: a flag or a value is wrong; ManifestError: the file is; Unsupported: what is asked for is.
    """
    flags = parse(PROGRAM, argv, FLAGS)
    if flags.args:
        raise UsageError(f"unknown arguments: {' '.join(flags.args)}")
    values = {row.field: flags[row.flag] for row in ROWS}
    found: dict[str, Any] = {}
    unknown: list[str] = []
    doubled: list[str] = []
    if flags["config"]:
        found = read_file(Path(flags["config"]), unknown, doubled)
        values = {row.field: _default(row) for row in ROWS} | found
        values |= {row.field: flags[row.flag] for row in ROWS if row.flag in BESIDE_FILE and row.flag in flags.given}
    else:
        for setting in ("min-sync-period", "sync-period"):  # upstream has one flag for all modes
            if f"iptables-{setting}" in flags.given and f"nftables-{setting}" not in flags.given:
                field = "minSyncPeriod" if setting.startswith("min") else "syncPeriod"
                values[f"nftables.{field}"] = values[f"iptables.{field}"]
    _complete_addresses(values, flags, found)
    config = Config(values, flags["master"], flags["cleanup"], flags["init-only"], flags["iptables-backend"],
                    flags["v"], flags["write-config-to"], flags["config"], tuple(unknown), tuple(doubled))
    refuse(dict(values), config.mode, config.backend)
    return config, flags


def _complete_addresses(values: dict[str, Any], flags: Flags, found: Mapping[str, Any]) -> None:
    """Put in what follows from others: the family of the default addresses, and the old flags for ports alone."""
    for name, field, host in _ADDRESSES:
        given = found.get(field) if flags["config"] else f"{name}-bind-address" in flags.given
        if not given and ":" in str(values["bindAddress"]):
            values[field] = f"{host}:{str(values[field]).rpartition(':')[2]}"
        text, port = str(values[field]), flags[f"{name}-port"]
        bare = text.count(":") != 1 and "]:" not in text
        if f"{name}-port" in flags.given and not flags["config"] and (not given or bare):
            host_only = text if bare else text.rpartition(":")[0]
            values[field] = f"{host_only}:{port}" if port else ""
        elif text and bare:
            values[field] = f"[{text}]:{port}" if ":" in text and not text.startswith("[") else f"{text}:{port}"


def read_file(path: Path, unknown: list[str] | None = None, doubled: list[str] | None = None) -> dict[str, Any]:
    """Return the settings that a KubeProxyConfiguration file gives; the last counts of fields that are there twice.

    Fields that there are none of go into `unknown`, those that are there twice into `doubled`.

    Raises:
        ManifestError: it cannot be read, is no such file, has a value of the wrong kind, or, without `unknown`, a field
            that there is none of.
    """
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        text = path.read_text(encoding="utf-8")
        found = yaml.load(text, Loader=loader) or {}
        if doubled is not None:
            doubled += _doubled(yaml.compose(text, Loader=loader))
    except OSError as error:
        raise ManifestError(f"cannot read it: {error.strerror}", file=str(path)) from None
    except UnicodeDecodeError:
        raise ManifestError("not YAML: its bytes are no UTF-8", file=str(path)) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise ManifestError(f"not YAML: {getattr(error, 'problem', error)}", file=str(path),
                            line=mark.line + 1 if mark else 0) from None
    for field, wanted in (("kind", "KubeProxyConfiguration"), ("apiVersion", _VERSION)):
        said = found.get(field) if isinstance(found, dict) else None
        if said != wanted:
            raise ManifestError(f"want {wanted}, got {said!r}" if said else f"it is missing: want {wanted}",
                                file=str(path), field=field, hint=f"write {field}: {wanted}")
    return read_document(found, file=str(path), unknown=unknown)


def _doubled(node: yaml.Node | None, prefix: str = "") -> Iterator[str]:
    seen = set()
    for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
        if key.value in seen:
            yield f"{prefix}{key.value}"
        seen.add(key.value)
        yield from _doubled(value, f"{prefix}{key.value}.")


def read_document(document: Mapping[str, Any], *, file: str, unknown: list[str] | None = None) -> dict[str, Any]:
    """Return the same of a document that has been read; `file` is for errors.

    Raises:
        ManifestError: it has a value of the wrong kind, or, without `unknown`, a field that there is none of.
    """
    rows = {row.field: row for row in ROWS}
    values: dict[str, Any] = {}
    for name, value in _leaves(document):
        row = rows.get(name)
        kind = "map" if name in SECTIONS else row.kind if row else IGNORED_FIELDS.get(name)
        if kind is None:
            if unknown is not None:
                unknown.append(name)
                continue
            raise ManifestError(f"a KubeProxyConfiguration has no field {name}", file=file, field=name)
        if value is not None:
            checked = _value(kind, value, file, name)
            if row is not None:
                values[name] = checked
    return values


def check_document(document: Mapping[str, Any], *, file: str) -> None:
    """Refuse fields of a KubeProxyConfiguration that cannot work, or that there are none of.

    Raises:
        ManifestError: an unknown field, or a value of the wrong kind; UsageError, Unsupported: as `refuse`.
    """
    values = {row.field: _default(row) for row in ROWS} | read_document(document, file=file)
    refuse(values, Config(values).mode, "auto")


def written(config: Config) -> str:
    """Return the settings as a KubeProxyConfiguration file, which `read_file` reads."""
    return yaml.safe_dump({"apiVersion": _VERSION, "kind": "KubeProxyConfiguration", **config.nested()})


def _shown(kind: Kind, name: str, value: Any) -> Any:
    if name == "clusterCIDR":
        return ",".join(value)
    if name == "featureGates":
        return {gate: str(said).lower() in TRUE_WORDS for gate, said in value.items()}
    return f"{int(value) if value == int(value) else value}s" if kind == "duration" else value


def _leaves(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, each in value.items():
        path = f"{prefix}{name}"
        if isinstance(each, Mapping) and path in SECTIONS:
            yield from _leaves(each, f"{path}.")
        else:
            yield path, each


def _default(row: Row) -> Any:
    return parse(PROGRAM, [], [Flag(row.flag, row.kind, row.default)])[row.flag]


_KINDS: Mapping[Kind, tuple[type[Any], ...]] = {
    "string": (str,), "bool": (bool,), "int": (int,), "float": (int, float), "list": (list, str), "map": (dict,),
    "duration": (str, int, float)}


def _value(kind: Kind, value: Any, file: str, field: str) -> Any:
    if not isinstance(value, _KINDS[kind]) or (isinstance(value, bool) and kind != "bool"):
        raise ManifestError(f"want a {kind}, got {value!r}", file=file, field=field)
    if kind == "duration":
        try:
            return parse_duration(value) if isinstance(value, str) else float(value)
        except UsageError as error:
            raise ManifestError(str(error), file=file, field=field) from None
    if kind == "list" and isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value
