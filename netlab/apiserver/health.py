"""/healthz, /livez, /readyz with their single checks; componentstatuses; /metrics."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING

import orjson

from netlab.api.meta import Object
from netlab.apiserver import status
from netlab.apiserver.http import Reply, Request

if TYPE_CHECKING:
    from netlab.apiserver.api import Api
    from netlab.apiserver.metrics import Metrics

_TEXT = "text/plain; charset=utf-8"
PAGES = ("healthz", "livez", "readyz")
HOOKS = ("poststarthook/start-system-namespaces-controller", "poststarthook/bootstrap-controller",
         "poststarthook/start-service-ip-repair-controllers")
ROLES_HOOK = "poststarthook/rbac/bootstrap-roles"
"""Only with RBAC."""
_COMPONENTS = (("controller-manager", 10257), ("scheduler", 10259))


def checks(api: Api, page: str) -> dict[str, str]:
    """Return each check's name and its complaint ("" when it passes)."""
    found = {"ping": "", "log": "", "etcd": api.store.trouble}
    if page == "livez":
        found["etcd"] = ""  # a new process would not cure it
    if page == "readyz":
        found |= {"informer-sync": "", "shutdown": "the server is shutting down" if api.stopping else ""}
    found |= {hook: "" if hook in api.ready else "not finished" for hook in HOOKS}
    if api.rbac is not None:
        found[ROLES_HOOK] = "" if ROLES_HOOK in api.ready else "not finished"
    return found


def health(api: Api, request: Request) -> Reply:
    """Answer one of the health pages.

    Raises:
        ApiError: 404 for a check that is not there.
    """
    page, _, name = request.path.strip("/").partition("/")
    found = checks(api, page)
    excluded = set(request.query.get("exclude", []))
    if name:
        if name not in found:
            raise status.no_such_path()
        return _verdict({name: found[name]}, page, verbose=False, single=True)
    unknown = excluded - set(found)
    text = ""
    if unknown:
        text = f"warn: some health checks cannot be excluded: no matches for {', '.join(sorted(unknown))}\n"
    shown = {check: said for check, said in found.items() if check not in excluded}
    reply = _verdict(shown, page, verbose="verbose" in request.query, single=False)
    if excluded and "verbose" in request.query:
        text += "".join(f"[+]{check} excluded: ok\n" for check in sorted(excluded & set(found)))
    return Reply(text.encode() + reply.body, reply.status, _TEXT, reply.headers)


def _verdict(found: dict[str, str], page: str, *, verbose: bool, single: bool) -> Reply:
    failed = any(found.values())
    headers = {"X-Content-Type-Options": "nosniff"}
    if failed or verbose:
        lines = [f"[-]{check} failed: reason withheld" if said else f"[+]{check} ok" for check, said in found.items()]
        body = "\n".join(lines) + f"\n{page} check {'failed' if failed else 'passed'}\n"
        if single and failed:
            body = f"internal server error: {next(iter(found.values()))}\n"
        return Reply(body.encode(), 500 if failed else 200, _TEXT, headers)
    return Reply(b"ok", 200, _TEXT, headers)


async def component_statuses(api: Api) -> list[Object]:
    """Return the ComponentStatus of scheduler, controller manager and store, asked on the local host."""
    parts = await asyncio.gather(*(_probe(port) for _, port in _COMPONENTS))
    answers = [(name, *part) for (name, _), part in zip(_COMPONENTS, parts, strict=True)]
    trouble = "the store is closed" if api.stopping else api.store.trouble
    answers.append(("etcd-0", not trouble, trouble or "ok"))
    found = []
    for name, healthy, said in answers:
        condition = {"type": "Healthy", "status": "True" if healthy else "False", "message": said}
        found.append({"metadata": {"name": name, "creationTimestamp": None}, "conditions": [condition]})
    return found


async def _probe(port: int) -> tuple[bool, str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # the components' certificates are self-signed; only their answer counts
    context.verify_mode = ssl.CERT_NONE
    try:
        async with asyncio.timeout(2):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
            try:
                writer.write(b"GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n")
                answer = await reader.read(64 * 1024)
            finally:
                writer.close()
    except (OSError, TimeoutError) as error:
        return False, f'Get "https://127.0.0.1:{port}/healthz": dial tcp 127.0.0.1:{port}: {_why(error)}'
    head, _, body = answer.partition(b"\r\n\r\n")
    good = b" 200 " in head.split(b"\r\n", 1)[0] + b" "
    return good, body.decode("utf-8", "replace").strip() if good else head.split(b"\r\n", 1)[0].decode("latin-1")


def _why(error: BaseException) -> str:
    text = str(error)
    return "connect: connection refused" if "refused" in text.lower() or isinstance(error, ConnectionRefusedError) \
        else text or "i/o timeout"


def metrics(api: Api, counted: Metrics) -> Reply:
    """Answer /metrics in Prometheus' text form."""
    return Reply(counted.text(api).encode(), 200, "text/plain; version=0.0.4; charset=utf-8")


def version(git_version: str) -> Reply:
    """Answer /version."""
    major, minor = git_version.removeprefix("v").split(".")[:2]
    return Reply(orjson.dumps({
        "major": major, "minor": minor, "emulationMajor": major, "emulationMinor": minor,
        "minCompatibilityMajor": major, "minCompatibilityMinor": str(int(minor) - 1), "gitVersion": git_version,
        "gitCommit": "", "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z", "goVersion": "",
        "compiler": "python", "platform": "linux/amd64"}))
