"""A plugin's side of the contract: check the environment and the configuration, call the verb, print the answer.

`respond` is the whole plugin as a function from (environment, standard input) to (exit code, standard output); an
executable and a call inside the runtime's process go through it alike. Texts and codes follow containernetworking/cni,
pkg/skel/skel.go.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from netlab.cni import result as results
from netlab.cni.result import CniError, Result
from netlab.errors import NetlabError

_NEEDED: Final = {  # verb: (environment variable, ...) that it must have
    "ADD": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"),
    "CHECK": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"),
    "DEL": ("CNI_CONTAINERID", "CNI_IFNAME", "CNI_PATH"),
    "GC": ("CNI_PATH",),
    "STATUS": ("CNI_PATH",),
    "VERSION": (),
}
_SINCE: Final = {"CHECK": "0.4.0", "GC": "1.1.0", "STATUS": "1.1.0"}
_ID_CHARACTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")


class Call(NamedTuple):
    """One invocation. `config` is the network configuration, `environ` the whole environment it came with."""

    verb: str
    container_id: str
    netns: str
    ifname: str
    args: Mapping[str, str]
    path: tuple[str, ...]
    config: Mapping[str, Any]
    environ: Mapping[str, str]
    stdin: bytes

    @property
    def network(self) -> str:
        """Return the network's name."""
        return str(self.config.get("name", ""))

    @property
    def version(self) -> str:
        """Return the version the configuration is written in; none means 0.1.0."""
        return self.config.get("cniVersion") or "0.1.0"

    @property
    def previous(self) -> Result | None:
        """Return the result of the plugins before this one in the chain."""
        raw = self.config.get("prevResult")
        return results.parse({"cniVersion": self.version, **raw}) if raw else None

    def needed_previous(self) -> Result:
        """Return prevResult.

        Raises:
            CniError: there is none.
        """
        if (previous := self.previous) is None:
            raise CniError(results.INVALID_CONFIG, "Required prevResult missing")
        return previous

    def valid_attachments(self) -> frozenset[tuple[str, str]]:
        """Return what GC is to keep, as (container id, interface name)."""
        listed = self.config.get("cni.dev/valid-attachments", self.config.get("cni.dev/attachments")) or ()
        return frozenset((item["containerID"], item["ifname"]) for item in listed)


class Plugin(NamedTuple):
    """A plugin: its name and one function per verb. `gc` and `status` may be absent: nothing to do, always ready."""

    name: str
    add: Callable[[Call], Result]
    delete: Callable[[Call], None]
    check: Callable[[Call], None]
    gc: Callable[[Call], None] | None = None
    status: Callable[[Call], None] | None = None


def respond(plugin: Plugin, environ: Mapping[str, str], stdin: bytes) -> tuple[int, bytes]:
    """Run one invocation; return the exit code and what goes to standard output."""
    version = results.CURRENT
    try:
        verb = environ.get("CNI_COMMAND", "")
        _check_environment(verb, environ)
        if verb == "VERSION":
            return 0, _json({"cniVersion": results.CURRENT, "supportedVersions": list(results.VERSIONS)})
        config = _config(stdin)
        version = config.get("cniVersion") or "0.1.0"
        _check_version(verb, version)
        call = Call(verb=verb, container_id=environ.get("CNI_CONTAINERID", ""), netns=environ.get("CNI_NETNS", ""),
                    ifname=environ.get("CNI_IFNAME", ""), args=_args(environ.get("CNI_ARGS", "")),
                    path=tuple(filter(None, environ.get("CNI_PATH", "").split(os.pathsep))), config=config,
                    environ=environ, stdin=stdin)
        if verb == "ADD":
            return 0, _json(results.dump(plugin.add(call), version))
        function = {"DEL": plugin.delete, "CHECK": plugin.check, "GC": plugin.gc, "STATUS": plugin.status}[verb]
        if function is not None:
            function(call)
        return 0, b""
    except CniError as error:
        return 1, _failure(version, error.code, error.message, error.details)
    except NetlabError as error:
        return 1, _failure(version, results.INTERNAL, str(error), error.hint)
    except Exception as error:  # noqa: BLE001 - the contract wants every failure as JSON on standard output
        return 1, _failure(version, results.INTERNAL, f"{plugin.name}: {type(error).__name__}: {error}")


def main(plugin: Plugin) -> int:
    """Be the executable: environment and standard input of this process, answer to standard output."""
    if not os.environ.get("CNI_COMMAND"):
        sys.stderr.write(f"CNI {plugin.name} plugin of netlab\n"
                         f"CNI protocol versions supported: {', '.join(results.VERSIONS)}\n")
        return 0
    stdin = b"" if os.environ["CNI_COMMAND"] == "VERSION" else sys.stdin.buffer.read()
    code, answer = respond(plugin, os.environ, stdin)
    sys.stdout.buffer.write(answer)
    sys.stdout.buffer.flush()
    return code


def _json(raw: Mapping[str, Any]) -> bytes:
    return json.dumps(raw).encode()  # compact: with an indent Python's encoder is not the one in C


def _failure(version: str, code: int, message: str, details: str = "") -> bytes:
    said = {"cniVersion": version if version in results.VERSIONS else results.CURRENT, "code": code, "msg": message}
    return _json(said | ({"details": details} if details else {}))


def _check_environment(verb: str, environ: Mapping[str, str]) -> None:
    bad = results.INVALID_ENVIRONMENT
    if verb not in _NEEDED:
        raise CniError(bad, f"unknown CNI_COMMAND: {verb}")
    missing = [name for name in _NEEDED[verb] if not environ.get(name)]
    if missing:
        raise CniError(bad, f"required env variables [{','.join(missing)}] missing")
    if "CNI_CONTAINERID" in _NEEDED[verb]:
        check_container_id(environ["CNI_CONTAINERID"])
        check_interface_name(environ["CNI_IFNAME"])


def check_container_id(text: str) -> None:
    """Raise CniError (code 4) when the text is no container id."""
    if not text:
        raise CniError(results.INVALID_ENVIRONMENT, "missing containerID")
    if not _ID_CHARACTERS.issuperset(text) or text[0] in "_.-":
        raise CniError(results.INVALID_ENVIRONMENT, "invalid characters in containerID", text)


def check_interface_name(text: str) -> None:
    """Raise CniError (code 4) when the kernel would not take this name."""
    bad = results.INVALID_ENVIRONMENT
    if not text:
        raise CniError(bad, "interface name is empty")
    if len(text.encode()) > 15:
        raise CniError(bad, "interface name is too long", "interface name should be less than 16 characters")
    if text in (".", ".."):
        raise CniError(bad, "interface name is . or ..")
    if any(character in "/:" or character.isspace() for character in text):
        raise CniError(bad, "interface name contains / or : or whitespace characters")


def check_network_name(text: str) -> None:
    """Raise CniError (code 7) when the text is no network name."""
    if not text:
        raise CniError(results.INVALID_CONFIG, "missing network name")
    if not _ID_CHARACTERS.issuperset(text) or text[0] in "_.-":
        raise CniError(results.INVALID_CONFIG, "invalid characters found in network name", text)


def _config(stdin: bytes) -> dict[str, Any]:
    try:
        config = json.loads(stdin)
    except ValueError as error:
        raise CniError(results.DECODING_FAILURE, f"error unmarshall network config: {error}") from None
    if not isinstance(config, dict):
        raise CniError(results.DECODING_FAILURE, "error unmarshall network config: not a JSON object")
    name = config.get("name")
    check_network_name(name if isinstance(name, str) else "")
    return config


def _check_version(verb: str, version: str) -> None:
    if version not in results.VERSIONS:
        supported = " ".join(f'"{item}"' for item in results.VERSIONS)
        raise CniError(results.INCOMPATIBLE_VERSION, "incompatible CNI versions",
                       f'config is "{version}", plugin supports [{supported}]')
    since = _SINCE.get(verb)
    if since is not None and results.VERSIONS.index(version) < results.VERSIONS.index(since):
        raise CniError(results.INCOMPATIBLE_VERSION, f"config version does not allow {verb}")


def _args(text: str) -> dict[str, str]:
    args = {}
    for pair in filter(None, text.split(";")):
        key, equals, value = pair.partition("=")
        if not equals:
            raise CniError(results.INVALID_ENVIRONMENT, f'invalid CNI_ARGS pair "{pair}"')
        args[key] = value
    return args
