"""etcdctl, knowing its server: the real one where it is installed, else the few commands that are here.

In a node's shell no flag is needed: the endpoint and the certificates are those of the node's static Pods. `ls` is a
command of API version 2 only, so it is asked for with that; everything else speaks version 3.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from netlab.errors import NetlabError, UsageError

PKI = Path("/etc/kubernetes/pki/etcd")
ENDPOINT = "https://127.0.0.1:2379"
V2_ONLY = ("ls", "cluster-health", "mk", "mkdir", "rm", "rmdir", "set", "setdir", "update", "updatedir")
_GLOBAL = ("endpoints", "cacert", "cert", "key", "command-timeout", "dial-timeout", "write-out", "user", "password",
           "keepalive-time", "keepalive-timeout", "discovery-srv", "ca-file", "cert-file", "key-file", "output",
           "timeout", "total-timeout", "peers", "endpoint")
_V2_NAMES = {"ca-file": "cacert", "cert-file": "cert", "key-file": "key", "endpoint": "endpoints",
             "peers": "endpoints", "output": "write-out"}


@dataclass(frozen=True)
class Access:
    """How to reach the server; the last three are files, or empty."""

    endpoints: tuple[str, ...]
    cacert: str = ""
    cert: str = ""
    key: str = ""
    timeout: float = 5.0
    output: str = "simple"
    insecure: bool = False
    hex: bool = False


def main(argv: Sequence[str]) -> int:
    """Run etcdctl. Returns the exit code."""
    try:
        command, rest, given = split(argv)
        version = os.environ.get("ETCDCTL_API") or ("2" if command in V2_ONLY else "3")
        if version == "2" and command == "get" and "--prefix" in argv:
            version = "3"
        access = _access(given, os.environ)
        real = _real()
        if real is not None and (version != "2" or _speaks_v2(real)):
            os.execve(real, [real, *argv], environment(access, given, version, os.environ))
        return _builtin(command, rest, access, version)
    except NetlabError as error:
        sys.stderr.write(f"Error: {error}\n" + (f"({error.hint})\n" if error.hint else ""))
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 1


def split(argv: Sequence[str]) -> tuple[str, list[str], dict[str, str]]:
    """Return the command, its words, and the global flags that stand anywhere among them."""
    given: dict[str, str] = {}
    words: list[str] = []
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        if word == "--":
            words += [word, *rest]
            break
        name, equals, value = word.lstrip("-").partition("=")
        name = {"w": "write-out", "o": "write-out"}.get(name, name) if word.startswith("-") else ""
        if name in _GLOBAL and word.startswith("-"):
            if not equals:
                if not rest:
                    raise UsageError(f"flag needs an argument: {word}")
                value = rest.pop(0)
            given[_V2_NAMES.get(name, name)] = value
        elif name in ("insecure-skip-tls-verify", "insecure-transport", "hex", "debug", "no-sync"):
            given[name] = value or "true"
        else:
            words.append(word)
    at = next((n for n, word in enumerate(words) if not word.startswith("-")), len(words))
    return (words[at] if at < len(words) else "", [*words[:at], *words[at + 1:]], given)


def _access(given: Mapping[str, str], env: Mapping[str, str]) -> Access:
    from netlab.flags import parse_duration

    def pick(flag: str, default: str) -> str:
        return given.get(flag) or env.get(f"ETCDCTL_{flag.upper().replace('-', '_')}") or default

    files = {"cacert": PKI / "ca.crt", "cert": PKI / "healthcheck-client.crt", "key": PKI / "healthcheck-client.key"}
    here = all(file.exists() for file in files.values())
    endpoints = pick("endpoints", ENDPOINT if here else "")
    if not endpoints:
        raise UsageError("there are no certificates of the store on this machine",
                         hint="run it on the control-plane node: netlab shell node/control-plane")
    own = endpoints.startswith("https") and here
    found = {name: pick(name, str(file) if own else "") for name, file in files.items()}
    return Access(tuple(endpoints.split(",")), **found, timeout=parse_duration(pick("command-timeout", "5s")),
                  output=pick("write-out", "simple"),
                  insecure=pick("insecure-skip-tls-verify", "") in ("true", "1"), hex=pick("hex", "") in ("true", "1"))


def environment(access: Access, given: Mapping[str, str], version: str, env: Mapping[str, str]) -> dict[str, str]:
    """Return the real program's environment: what no flag says, for it takes no variable beside the flag."""
    found = {**env, "ETCDCTL_API": version}
    names = {"endpoints": "ENDPOINTS", "cacert": "CACERT", "cert": "CERT", "key": "KEY"}
    if version == "2":
        names |= {"cacert": "CA_FILE", "cert": "CERT_FILE", "key": "KEY_FILE"}
    for flag, name in names.items():
        value = ",".join(access.endpoints) if flag == "endpoints" else getattr(access, flag)
        if flag in given:
            found.pop(f"ETCDCTL_{name}", None)
        elif value:
            found[f"ETCDCTL_{name}"] = value
    return found


def _real() -> str | None:
    """Return the real etcdctl: the first on PATH that is not a script such as the one that started this."""
    for folder in os.environ.get("PATH", "").split(":"):
        path = os.path.join(folder, "etcdctl")
        if os.access(path, os.X_OK):
            with open(path, "rb") as file:
                if file.read(4) == b"\x7fELF":
                    return path
    return None


def _speaks_v2(real: str) -> bool:
    """Tell whether an etcdctl still has the commands of API version 2: from 3.6 on it has not, and no `ls`."""
    with open(real, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as program:
        return program.find(b"cluster-health") >= 0


def _builtin(command: str, rest: Sequence[str], access: Access, version: str) -> int:
    if version == "2":
        from netlab.store.etcdctl import v2

        return v2.run(command, rest, access)
    from netlab.store.etcdctl import v3

    if command in ("", "help") or "--help" in rest or "-h" in rest:
        sys.stdout.write(v3.HELP)
        return 0
    if command not in v3.COMMANDS:
        raise UsageError(f'unknown command "{command}" for "etcdctl"',
                         hint="this is netlab's own etcdctl; install etcd-client to have all of it")
    return asyncio.run(v3.run(command, access, rest))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
