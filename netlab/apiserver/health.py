"""/healthz, /livez, /readyz with their single checks; componentstatuses; /metrics.

The checks have upstream's names, for the parts that are here, and stand in upstream's order. What the pages say is told
at https://kubernetes.io/docs/reference/using-api/health-checks/; k8s:staging/src/k8s.io/apiserver/pkg/server/healthz
"""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING

from netlab.api.meta import Object
from netlab.apiserver import status
from netlab.apiserver.http import Reply, Request

if TYPE_CHECKING:
    from netlab.apiserver.api import Api
    from netlab.apiserver.metrics import Metrics

_TEXT = "text/plain; charset=utf-8"
PAGES = ("healthz", "livez", "readyz")
HOOK = "poststarthook/"
ADMISSION, INFORMERS = "start-apiserver-admission-initializer", (
    "generic-apiserver-start-informers", "start-apiextensions-informers", "apiservice-openapi-controller",
    "apiservice-openapiv3-controller")
"""Upstream's informers and its merging of OpenAPI documents: the loops that follow the store, and run all together."""
NAMESPACES_MADE, ROLES = "start-system-namespaces-controller", "rbac/bootstrap-roles"
TRUST, TRACKING = "start-cluster-authentication-info-controller", "start-legacy-token-tracking-controller"
DEFINITIONS, DEFINITIONS_SYNCED = "start-apiextensions-controllers", "crd-informer-synced"
ADDRESSES, RANGES = "start-service-ip-repair-controllers", "start-kubernetes-service-cidr-controller"
PRIORITIES, OWN_SERVICE = "scheduling/bootstrap-system-priority-classes", "bootstrap-controller"
FLOWS, FLOWS_MADE = "priority-and-fairness-config-consumer", "priority-and-fairness-config-producer"
FILTER, PLAIN, SIZES = "priority-and-fairness-filter", "max-in-flight-filter", "storage-object-count-tracker-hook"
PROXY_CLIENT = "aggregator-reload-proxy-client-cert"
REGISTRATION = ("start-kube-aggregator-informers", "apiservice-status-local-available-controller",
                "apiservice-status-remote-available-controller", "apiservice-registration-controller",
                "apiservice-discovery-controller", "kube-apiserver-autoregistration")
HOOKS = (ADMISSION, INFORMERS[0], FLOWS, FILTER, PLAIN, SIZES, INFORMERS[1], DEFINITIONS,
         DEFINITIONS_SYNCED, NAMESPACES_MADE, TRUST, TRACKING, ADDRESSES, ROLES, PRIORITIES, FLOWS_MADE, OWN_SERVICE,
         RANGES, PROXY_CLIENT, *REGISTRATION, *INFORMERS[2:])
"""What has to be done once after the start; `Api.ready` has the names of what is done."""
_REGISTERED = "autoregister-completion"
_COMPONENTS = (("controller-manager", 10257), ("scheduler", 10259))


def hooks(api: Api) -> list[str]:
    """Return what this server has to do after its start, in order."""
    absent = {PLAIN if api.options.fair else FILTER}
    if api.rbac is None:
        absent.add(ROLES)
    if not api.options.proxy_certificate:
        absent.add(PROXY_CLIENT)
    return [hook for hook in HOOKS if hook not in absent]


def unfinished(api: Api) -> list[str]:
    """Return what is still to be done after the start."""
    return [hook for hook in hooks(api) if hook not in api.ready]


def checks(api: Api, page: str) -> dict[str, str]:
    """Return each check's name and its complaint ("" when it passes)."""
    trouble = "" if page == "livez" else api.store.trouble  # a new process would not cure it
    found = {"ping": "", "log": "", "etcd": trouble}
    if page == "readyz":
        found |= {"etcd-readiness": trouble, "informer-sync": ""}
    for hook in hooks(api):
        found[HOOK + hook] = "" if hook in api.ready else "not finished"
        if hook == REGISTRATION[-1]:
            found[_REGISTERED] = "" if hook in api.ready else "missing APIService"
    if page == "readyz":
        found["shutdown"] = "process is shutting down" if api.stopping else ""
    return found


def health(api: Api, request: Request) -> Reply:
    """Answer one of the health pages.

    Raises:
        ApiError: 404 for a check that is not there.
    """
    page, _, name = request.path.strip("/").partition("/")
    found = checks(api, page)
    if name:
        if name not in found:
            raise status.no_such_path()
        return _text(f"internal server error: {found[name]}\n", 500) if found[name] else _text("ok")
    excluded = set(request.query.get("exclude", []))
    lines = [f"[+]{check} excluded: ok" if check in excluded else f"[-]{check} failed: reason withheld" if said
             else f"[+]{check} ok" for check, said in found.items()]
    if unknown := ", ".join(f'"{check}"' for check in sorted(excluded - set(found))):
        lines.append(f"warn: some health checks cannot be excluded: no matches for {unknown}")
    failed = any(said for check, said in found.items() if check not in excluded)
    if not failed and "verbose" not in request.query:
        return _text("ok")
    return _text("\n".join([*lines, f"{page} check {'failed' if failed else 'passed'}\n"]), 500 if failed else 200)


def _text(text: str, code: int = 200) -> Reply:
    return Reply(text.encode(), code, _TEXT, {"X-Content-Type-Options": "nosniff"})


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
