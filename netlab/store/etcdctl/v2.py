"""The commands of API version 2 that read: ls, get, member list, cluster-health."""

from __future__ import annotations

import http.client
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from netlab.errors import NetlabError, TemporaryError, UsageError
from netlab.store.rpc import paths
from netlab.store.rpc.tls import tls

if TYPE_CHECKING:
    from netlab.store.etcdctl.main import Access


class _Refused(NetlabError):
    """The server answered with an error of its own."""


def run(command: str, rest: Sequence[str], access: Access) -> int:
    """Run one command. Returns the exit code; 4 when the server refuses, as etcdctl has it."""
    flags = {word.lstrip("-") for word in rest if word.startswith("-")}
    words = [word for word in rest if not word.startswith("-")]
    try:
        if command == "ls":
            return _ls(access, words[0] if words else "/", flags)
        if command == "get" and words:
            return _get(access, words[0])
        if command == "member" and words[:1] == ["list"]:
            return _members(access)
        if command == "cluster-health":
            return _health(access)
    except _Refused as error:
        sys.stderr.write(f"Error:  {error}\n")
        return 4
    raise UsageError(f"etcdctl {command}: API version 2 has only what reads: ls, get, member list, cluster-health",
                     hint="ETCDCTL_API=3 writes")


def _ls(access: Access, path: str, flags: set[str]) -> int:
    recursive = bool(flags & {"recursive", "r"})
    query = "?sorted=true" + ("&recursive=true" if recursive else "")
    node = _ask(access, f"/v2/keys{quote(paths.clean(path))}{query}")["node"]
    if not node.get("dir"):
        print(node["key"])
    _print(node, slash="p" in flags)
    return 0


def _print(node: dict[str, Any], *, slash: bool) -> None:
    for child in node.get("nodes") or []:
        print(child["key"] + ("/" if slash and child.get("dir") else ""))
        _print(child, slash=slash)


def _get(access: Access, path: str) -> int:
    node = _ask(access, f"/v2/keys{quote(paths.clean(path))}")["node"]
    if node.get("dir"):
        raise _Refused(f"{node.get('key', '/')}: is a directory")
    print(node.get("value", ""))
    return 0


def _members(access: Access) -> int:
    leader = _ask(access, "/v2/members/leader")["id"]
    for row in _ask(access, "/v2/members")["members"]:
        print(f"{row['id']}: name={row['name']} peerURLs={','.join(row['peerURLs'])} "
              f"clientURLs={','.join(row['clientURLs'])} isLeader={'true' if row['id'] == leader else 'false'}")
    return 0


def _health(access: Access) -> int:
    good = _ask(access, "/health").get("health") in ("true", True)
    print(f"cluster is {'healthy' if good else 'unhealthy'}")
    return 0 if good else 5


def _ask(access: Access, path: str) -> Any:
    said: object = ""
    for endpoint in access.endpoints:
        try:
            status, body = _fetch(access, endpoint, path)
        except (OSError, http.client.HTTPException) as error:
            said = error
            continue
        try:
            value = json.loads(body)
        except ValueError:
            raise _Refused(f"{endpoint} answers {status} {body[:200].decode(errors='replace').strip()}") from None
        if status >= 400 and "errorCode" in value:
            raise _Refused(f"{value['errorCode']}: {value['message']} ({value.get('cause', '')}) [{value['index']}]")
        return value
    raise TemporaryError(f"client: etcd cluster is unavailable or misconfigured: {said}")


def _fetch(access: Access, endpoint: str, path: str) -> tuple[int, bytes]:
    parts = urlsplit(endpoint)
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        context = tls(ca=access.cacert, certificate=access.cert, key=access.key,
                                      insecure=access.insecure)
        context.set_alpn_protocols(["http/1.1"])
        connection = http.client.HTTPSConnection(parts.hostname or "", parts.port or 2379, timeout=access.timeout,
                                                 context=context)
    else:
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 2379, timeout=access.timeout)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()
