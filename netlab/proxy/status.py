"""What kube-proxy tells about itself on its metrics address: numbers, settings, flags, state.

Paths and formats are upstream's (kubernetes: cmd/kube-proxy/app/server.go, component-base zpages); /flagz and /statusz
are for people, unless a program asks for them by `Accept: application/json;g=config.k8s.io;v=v1alpha1;as=Statusz`.
"""

from __future__ import annotations

import os
import platform
import resource
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from aiohttp import web

from netlab import __version__
from netlab.proxy.config import Config
from netlab.proxy.config_table import GATES, ROWS
from netlab.proxy.family import AnyProxier
from netlab.proxy.metrics import Metrics
from netlab.proxy.proxier import count_nfacct

KUBERNETES = "1.36.0"
_FOR_PEOPLE = "Written for people who look for a fault: programs should not rely on its form.\n"
_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
_PLAIN = "text/plain; charset=utf-8"
_STRUCTURED = "config.k8s.io/v1alpha1"
_WANTED = frozenset({"g=config.k8s.io", "v=v1alpha1"})


def application(config: Config, metrics: Metrics, proxiers: Sequence[AnyProxier]) -> web.Application:
    """Return the server of the metrics address."""
    began, pings = time.time(), 0

    def numbers() -> str:
        if config.mode == "iptables":
            count_nfacct(metrics)
        waiting = len(set().union(*(proxier.tracker.changed for proxier in proxiers)))
        for kind in ("service", "endpoint"):
            metrics.put(f"sync_proxy_rules_{kind}_changes_pending", waiting)
        for proxier in proxiers:
            proxier.report()
        return metrics.text() + process_metrics() + gates(config)

    async def healthz(request: web.Request) -> web.Response:
        nonlocal pings
        pings += 1
        return _answer("[+]ping ok\nhealthz check passed\n" if "verbose" in request.query else "ok")

    def state() -> dict[str, Any]:
        return {
            "startTime": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(began)),
            "uptimeSeconds": max(0, int(time.time() - began)),
            "pythonVersion": platform.python_version(),
            "binaryVersion": KUBERNETES,
            "emulationVersion": KUBERNETES.rpartition(".")[0],
            "paths": sorted(paths),
        }

    async def configz(_: web.Request) -> web.Response:
        return web.json_response({"kubeproxy.config.k8s.io": config.nested()})

    paths: dict[str, Callable[[web.Request], Awaitable[web.StreamResponse]]] = {
        "/metrics": _texts(numbers, _PROMETHEUS),
        "/metrics/slis": _texts(lambda: slis(pings), _PROMETHEUS),
        "/proxyMode": _texts(lambda: config.mode),
        "/healthz": healthz,
        "/healthz/ping": healthz,
        "/configz": configz,
        "/flagz": _page("Flagz", lambda: flagz(config.values), lambda: {"flags": flags(config.values)}),
        "/statusz": _page("Statusz", lambda: statusz(began, time.time(), sorted(paths)), state),
    }
    for path, gate in (("/flagz", "ComponentFlagz"), ("/statusz", "ComponentStatusz")):
        if not config.gate(gate):
            del paths[path]
    app = web.Application()
    for path, handler in paths.items():
        app.router.add_get(path, handler)
    return app


def flags(values: Mapping[str, Any]) -> dict[str, str]:
    """Return every flag with what it comes to, the configuration file taken into account; `values` are by field.

    A flag that stands for one field in each mode is there once, as the first says.
    """
    found: dict[str, str] = {}
    for row in ROWS:
        if row.flag:
            found.setdefault(row.flag, _word(values[row.field]))
    return dict(sorted(found.items()))


def flagz(values: Mapping[str, Any]) -> str:
    """Return the same for people."""
    return f"kube-proxy flags\n{_FOR_PEOPLE}\n" + "".join(f"{flag}={value}\n" for flag, value in flags(values).items())


def slis(pings: int) -> str:
    """Return what the checks of /healthz came to, of which there is one; nothing before somebody asked."""
    if not pings:
        return ""
    labels = 'name="ping",type="healthz"'
    return (
        "# HELP kubernetes_healthcheck [STABLE] Whether a check of this process passed, 1 or 0\n"
        f"# TYPE kubernetes_healthcheck gauge\nkubernetes_healthcheck{{{labels}}} 1\n"
        "# HELP kubernetes_healthchecks_total [STABLE] How often checks came out how\n"
        "# TYPE kubernetes_healthchecks_total counter\n"
        f'kubernetes_healthchecks_total{{name="ping",status="success",type="healthz"}} {pings}\n'
    )


def statusz(began: float, now: float, paths: Sequence[str]) -> str:
    """Return the state of the program; times are seconds since the Unix epoch."""
    up = max(0, int(now - began))
    started = time.strftime("%a %b %e %H:%M:%S UTC %Y", time.gmtime(began))
    return (f"kube-proxy statusz\n{_FOR_PEOPLE}\nStarted: {started}\n"
            f"Up: {up // 3600} hr {up // 60 % 60:02d} min {up % 60:02d} sec\n"
            f"Python version: {platform.python_version()}\nBinary version: {KUBERNETES}-netlab.{__version__}\n"
            f"Emulation version: {KUBERNETES.rpartition('.')[0]}\n\nPaths: {' '.join(paths)}\n")


def gates(config: Config) -> str:
    """Return which feature gates are open, of those that mean something here."""
    return "".join(("# HELP kubernetes_feature_enabled [BETA] Whether a feature is on, 1 or 0\n",
                    "# TYPE kubernetes_feature_enabled gauge\n",
                    *(f'kubernetes_feature_enabled{{name="{name}",stage="{stage}"}} {int(config.gate(name))}\n'
                      for name, (stage, _) in GATES.items())))


def process_metrics() -> str:
    """Return what Prometheus' client libraries tell of every process, and which version this is."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    with open("/proc/self/statm", encoding="ascii") as file:
        virtual, resident = (int(word) * resource.getpagesize() for word in file.read().split()[:2])
    with open("/proc/self/stat", encoding="ascii") as file:
        ticks = int(file.read().rpartition(")")[2].split()[19])
    with open("/proc/stat", encoding="ascii") as file:
        booted = next(int(line.split()[1]) for line in file if line.startswith("btime "))
    lines = []
    for name, kind, said, value in (
            ("process_cpu_seconds_total", "counter", "User and system time spent",
             round(usage.ru_utime + usage.ru_stime, 2)),
            ("process_max_fds", "gauge", "Most open descriptors", resource.getrlimit(resource.RLIMIT_NOFILE)[0]),
            ("process_open_fds", "gauge", "Open descriptors", len(os.listdir("/proc/self/fd"))),
            ("process_resident_memory_bytes", "gauge", "Resident memory", resident),
            ("process_start_time_seconds", "gauge", "When the process began",
             round(booted + ticks / os.sysconf("SC_CLK_TCK"), 2)),
            ("process_virtual_memory_bytes", "gauge", "Virtual memory", virtual)):
        lines += [f"# HELP {name} {said}", f"# TYPE {name} {kind}", f"{name} {value}"]
    major, minor, _ = KUBERNETES.split(".")
    labels = (f'compiler="cpython",git_version="v{KUBERNETES}-netlab.{__version__}",major="{major}",minor="{minor}",'
              f'platform="linux/{platform.machine()}"')
    lines += ["# HELP kubernetes_build_info The version, as labels of a constant 1",
              "# TYPE kubernetes_build_info gauge", f"kubernetes_build_info{{{labels}}} 1"]
    return "\n".join(lines) + "\n"


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{','.join(map(str, value))}]"
    if isinstance(value, dict):
        return ",".join(f"{key}={_word(each)}" for key, each in value.items())
    return "" if value is None else str(value)


def _answer(text: str, kind: str = _PLAIN) -> web.Response:
    return web.Response(body=text.encode(), headers={"Content-Type": kind, "X-Content-Type-Options": "nosniff"})


def _texts(text: Callable[[], str], kind: str = _PLAIN) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handler(_: web.Request) -> web.StreamResponse:
        return _answer(text(), kind)

    return handler


def _page(
    kind: str, text: Callable[[], str], fields: Callable[[], dict[str, Any]]
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Serve a page for people, and as an object to who asks for exactly that; JSON as such is not acceptable."""

    async def handler(request: web.Request) -> web.StreamResponse:
        for accepted in request.headers.get("Accept", "").replace(" ", "").split(","):
            media, *parameters = accepted.split(";")
            if media in ("", "*/*", "text/*", "text/plain"):
                return _answer(text())
            if media in ("application/json", "application/*") and {*_WANTED, f"as={kind}"} <= set(parameters):
                return web.json_response(
                    {"kind": kind, "apiVersion": _STRUCTURED, "metadata": {"name": "kube-proxy"}, **fields()},
                    headers={"X-Content-Type-Options": "nosniff"},
                )
        wanted = ";".join(("application/json", *sorted(_WANTED), f"as={kind}"))
        return web.Response(status=406, text=f"want text/plain, or {wanted}\n")

    return handler
