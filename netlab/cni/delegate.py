"""Find plugins, and call one by the contract: environment and bytes in, exit code and bytes out.

A file that `netlab.cni.main.install` wrote is netlab's own: it is called inside this process with the same bytes, which
spares the 20 ms that its interpreter takes to start. Everything else is run as a program.
"""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any, Final

from netlab.cni import result as results
from netlab.cni.result import CniError, Result
from netlab.cni.skel import Call, Plugin, respond

OWN: Final = {"bridge": "bridge", "host-local": "host_local", "loopback": "loopback", "portmap": "portmap"}
"""Plugin name: module of this package that has it as PLUGIN."""

MARK: Final = "# A CNI plugin of netlab: "

_looked: dict[tuple[str, int, int], str] = {}  # (path, inode, mtime): own plugin's name, or ""


def find(name: str, path: Sequence[str]) -> str:
    """Return the file of a plugin.

    Raises:
        CniError: code 999, in the words of libcni, when it is in none of the directories.
    """
    if not name or "/" in name:
        raise CniError(results.INVALID_CONFIG, f"invalid plugin name: {name!r}")
    for directory in path:
        file = os.path.join(directory, name)
        if os.path.isfile(file):
            return file
    raise CniError(results.INTERNAL, f'failed to find plugin "{name}" in path [{" ".join(path)}]')


def own(file: str) -> Plugin | None:
    """Return the plugin when the file is a wrapper of netlab's, else None."""
    status = os.stat(file)
    place = (file, status.st_ino, status.st_mtime_ns)
    if place not in _looked:
        with open(file, "rb") as opened:
            lines = opened.read(512).decode(errors="replace").splitlines()
        _looked[place] = next((line[len(MARK):] for line in lines if line.startswith(MARK)), "")
    name = _looked[place]
    return plugin(name) if name in OWN else None


def plugin(name: str) -> Plugin:
    """Return one of netlab's plugins by its name."""
    found: Plugin = importlib.import_module(f"netlab.cni.{OWN[name]}").PLUGIN
    return found


def parse_answer(file: str, code: int, answer: bytes, stderr: bytes = b"") -> dict[str, Any]:
    """Return the JSON that a plugin printed, {} for none.

    Raises:
        CniError: what the plugin said, or that it failed without saying why.
    """
    try:
        raw = json.loads(answer) if answer.strip() else {}
    except ValueError:
        raw = None
    if code != 0:
        if isinstance(raw, dict) and raw.get("msg"):
            raise CniError(int(raw.get("code", results.INTERNAL)), str(raw["msg"]), str(raw.get("details", "")))
        said = (stderr or answer).decode(errors="replace").strip()
        raise CniError(results.INTERNAL, f"netplugin failed: {file} ended with {code}",
                       said[-500:] or "it printed nothing")
    if not isinstance(raw, dict):
        raise CniError(results.DECODING_FAILURE, f"{file} did not print a JSON object",
                       answer[:200].decode(errors="replace"))
    return raw


def add(call: Call, name: str) -> Result:
    """Let another plugin (an IPAM one) serve this ADD, and return its result.

    Raises:
        CniError: it is not there, or what it said. It is not called with DEL then: an address that this attachment
            holds from an earlier ADD would be lost.
    """
    return results.parse(_call(call, name, "ADD"))


def forward(call: Call, name: str) -> None:
    """Let another plugin do the verb of this call too.

    Raises:
        CniError: it is not there, or what it said.
    """
    _call(call, name, call.verb)


def _call(call: Call, name: str, verb: str) -> dict[str, Any]:
    file = find(name, call.path)
    environ: Mapping[str, str] = {**call.environ, "CNI_COMMAND": verb}
    ours = own(file)
    if ours is not None:
        code, answer = respond(ours, environ, call.stdin)
        return parse_answer(file, code, answer)
    from netlab.kernel import process  # 30 ms: only for a foreign plugin
    done = process.run_sync([file], input=call.stdin, env=environ, timeout=60)
    return parse_answer(file, done.code, done.stdout, done.stderr)
