"""What a runtime keeps of each attachment, in libcni's format: DIR/results/NETWORK-CONTAINER-IFNAME (cniCacheV1)."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from netlab.cni import conflist as conflists
from netlab.cni import result as results
from netlab.cni.conflist import Conflist
from netlab.cni.result import CniError
from netlab.errors import ManifestError


@dataclass(frozen=True)
class Call:
    """One attachment as a runtime calls plugins for it. `timeout` is in seconds, per plugin."""

    container_id: str
    netns: str
    ifname: str
    args: Mapping[str, str]
    capability_args: Mapping[str, Any]
    plugin_dirs: tuple[str, ...]
    timeout: float


@dataclass(frozen=True)
class Kept:
    """What was kept of an ADD: the configuration it used, the call, and the last plugin's result."""

    conflist: Conflist
    call: Call
    result: Mapping[str, Any]


class Cache:
    """The directory of kept attachments."""

    def __init__(self, directory: str | Path) -> None:
        self._directory = Path(directory) / "results"

    def write(self, conflist: Conflist, call: Call, result: Mapping[str, Any]) -> None:
        """Keep an attachment.

        Raises:
            CniError: code 5, it cannot be written.
        """
        config = {**conflist.raw, "plugins": list(conflist.plugins)}
        raw = {"kind": "cniCacheV1", "containerId": call.container_id,
               "config": base64.b64encode(json.dumps(config).encode()).decode(), "ifName": call.ifname,
               "networkName": conflist.name, "netns": call.netns,
               "cniArgs": [[key, value] for key, value in call.args.items()],
               "capabilityArgs": dict(call.capability_args), "result": dict(result)}
        file = self._file(conflist.name, call.container_id, call.ifname)
        new = file.with_name(f".{file.name}.new")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            new.write_text(json.dumps(raw), encoding="utf-8")
            new.rename(file)
        except OSError as error:
            raise CniError(results.IO_FAILURE, f"cannot keep the result in {file}", error.strerror or "") from None

    def read(self, network: str, container_id: str, ifname: str) -> Kept | None:
        """Return what was kept of an attachment; a network of "" is any. None when nothing, or nothing legible, was."""
        if network:
            return _parse(self._file(network, container_id, ifname))
        return next((kept for kept in self.all("") if (kept.call.container_id, kept.call.ifname)
                     == (container_id, ifname)), None)

    def all(self, network: str) -> Iterator[Kept]:
        """Yield all attachments to a network that were kept; a network of "" is any."""
        try:
            names = sorted(os.listdir(self._directory))
        except OSError:
            return
        for name in names:
            kept = _parse(self._directory / name) if name[0] != "." else None
            if kept is not None and network in ("", kept.conflist.name):
                yield kept

    def remove(self, network: str, container_id: str, ifname: str) -> None:
        """Forget an attachment; fine when it is forgotten."""
        self._file(network, container_id, ifname).unlink(missing_ok=True)

    def _file(self, network: str, container_id: str, ifname: str) -> Path:
        return self._directory / f"{network}-{container_id}-{ifname}"


def _parse(file: Path) -> Kept | None:
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
        listed = json.loads(base64.b64decode(raw["config"]))
        if "plugins" not in listed:
            listed = {"cniVersion": listed.get("cniVersion", ""), "name": listed.get("name", ""), "plugins": [listed]}
        call = Call(raw["containerId"], raw.get("netns", ""), raw["ifName"],
                    dict(raw.get("cniArgs") or ()), raw.get("capabilityArgs") or {}, (), 0.0)
        return Kept(conflists.parse(listed), call, raw["result"])
    except (OSError, ValueError, KeyError, TypeError, ManifestError):
        return None
