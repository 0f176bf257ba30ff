"""Network configuration files, as a runtime loads them from /etc/cni/net.d (libcni/conf.go).

The first file in lexical order that ends in .conf, .conflist or .json is the network, as containerd and CRI-O take it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from netlab.cni import result as results
from netlab.cni import skel
from netlab.cni.result import CniError
from netlab.errors import ManifestError, NotFound


@dataclass(frozen=True)
class Conflist:
    """A network: the plugins to call for each container, in order. `plugins` are their configurations as written."""

    name: str
    version: str
    plugins: tuple[Mapping[str, Any], ...]
    disable_check: bool = False
    disable_gc: bool = False
    path: str = ""
    raw: Mapping[str, Any] = field(default_factory=dict)


def load_conflist(directory: str | Path) -> Conflist:
    """Return the network that a directory configures.

    Raises:
        NotFound: no configuration file in it, in the words kubelets and their users know.
        ManifestError: the first file is no network configuration; names the line or the field.
    """
    folder = Path(directory)
    try:
        files = sorted(file for file in folder.iterdir() if file.suffix in (".conf", ".conflist", ".json"))
    except OSError:
        files = []
    if not files:
        raise NotFound(f"cni plugin not initialized: no network configuration in {folder}",
                       hint="the node's network agent writes it once the node has its Pod range")
    return load_file(files[0])


def load_file(file: Path) -> Conflist:
    """Read one file: a list of plugins, or a single plugin, which is a list of one.

    Raises:
        ManifestError: it is no network configuration.
    """
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ManifestError(f"cannot be read: {error.strerror}", file=str(file)) from None
    except UnicodeDecodeError:
        raise ManifestError("is not UTF-8 text", file=str(file)) from None
    except json.JSONDecodeError as error:
        raise ManifestError(f"is not JSON: {error.msg}", file=str(file), line=error.lineno) from None
    if not isinstance(raw, dict):
        raise ManifestError("is not a JSON object", file=str(file))
    if "plugins" not in raw and "type" in raw:
        raw = {"cniVersion": raw.get("cniVersion", ""), "name": raw.get("name", ""), "plugins": [raw]}
    return parse(raw, str(file), lambda: _beside(file, str(raw.get("name", ""))))


def parse(raw: Mapping[str, Any], path: str = "", beside: Any = None) -> Conflist:
    """Check a list's content. `beside` returns plugin configurations from files of their own (spec 1.1).

    Raises:
        ManifestError: a field is missing or of the wrong kind.
    """
    def bad(field: str, message: str) -> ManifestError:
        return ManifestError(message, file=path or "network configuration", field=field)

    name = raw.get("name")
    try:
        skel.check_network_name(name if isinstance(name, str) else "")
    except CniError as error:
        raise bad("name", str(error)) from None
    plugins = raw.get("plugins", [])
    if not isinstance(plugins, list):
        raise bad("plugins", "is not a list")
    if beside is not None and not _flag(raw, "loadOnlyInlinedPlugins", bad):
        plugins = [*plugins, *beside()]
    if not plugins:
        raise bad("plugins", "no plugins in list")
    for number, plugin in enumerate(plugins):
        if not isinstance(plugin, dict) or not isinstance(plugin.get("type"), str) or not plugin["type"]:
            raise bad(f"plugins[{number}].type", "every plugin needs a type, the name of its executable")
        if not isinstance(plugin.get("capabilities") or {}, dict):
            raise bad(f"plugins[{number}].capabilities", "is not an object of booleans")
    return Conflist(name=str(name), version=_version(raw, bad), plugins=tuple(plugins),
                    disable_check=_flag(raw, "disableCheck", bad), disable_gc=_flag(raw, "disableGC", bad), path=path,
                    raw=raw)


def _version(raw: Mapping[str, Any], bad: Any) -> str:
    """Return the highest version of `cniVersions` and `cniVersion` that we speak; none at all means 0.1.0."""
    offered = [raw.get("cniVersion") or "", *(raw.get("cniVersions") or ())]
    known = [version for version in results.VERSIONS if version in offered]
    if known:
        return known[-1]
    if any(offered):
        raise bad("cniVersion", f'"{offered[0] or offered[1]}" is none of {", ".join(results.VERSIONS)}')
    return "0.1.0"


def _flag(raw: Mapping[str, Any], name: str, bad: Any) -> bool:
    value = raw.get(name, False)
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if not isinstance(value, bool):
        raise bad(name, f"is not a boolean: {value!r}")
    return value


def _beside(file: Path, name: str) -> Sequence[Mapping[str, Any]]:
    """Return the plugins in `DIRECTORY/NETWORK/*.conf` (spec 1.1), in lexical order."""
    found = []
    for one in sorted((file.parent / name).glob("*.conf")) if name and "/" not in name else ():
        try:
            found.append(json.loads(one.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise ManifestError(f"is no plugin configuration: {error}", file=str(one)) from None
    return found
