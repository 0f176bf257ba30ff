from __future__ import annotations

import asyncio
import json
import re
import urllib.request

from aiohttp import web

from netlab.proxy import status
from netlab.proxy.config import read
from netlab.proxy.metrics import Metrics


def config(*flags: str):
    found = read(list(flags))
    return found[0] if isinstance(found, tuple) else found


def asked(made, *paths: str) -> list[tuple[int, str, str]]:
    """Serve on a port of loopback; return status, content type and body of each path."""
    def get(port: int, path: str) -> tuple[int, str, str]:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            assert answer.headers["X-Content-Type-Options"] == "nosniff" or path == "/configz"
            return answer.status, answer.headers["Content-Type"], answer.read().decode()

    async def body():
        runner = web.AppRunner(status.application(made, Metrics(made.mode), []))
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            return [await asyncio.to_thread(get, runner.addresses[0][1], path) for path in paths]
        finally:
            await runner.cleanup()

    return asyncio.run(body())


def test_each_path_of_the_metrics_address():
    made = config("--cluster-cidr=10.244.0.0/16", "--proxy-mode=nftables")
    mode, healthz, configz, flagz, statusz, metrics = asked(made, "/proxyMode", "/healthz", "/configz", "/flagz", "/statusz",
                                                            "/metrics")
    assert mode == (200, "text/plain; charset=utf-8", "nftables")
    assert healthz[2] == "ok"
    assert json.loads(configz[2])["kubeproxy.config.k8s.io"]["mode"] == "nftables"
    assert flagz[2].startswith("kube-proxy flags\n")
    assert {"proxy-mode=nftables", "cluster-cidr=[10.244.0.0/16]", "masquerade-all=false"} <= set(flagz[2].splitlines())
    assert statusz[2].startswith("kube-proxy statusz\n")
    assert "Paths: /configz /flagz /healthz /metrics /proxyMode /statusz" in statusz[2]
    assert metrics[1].startswith("text/plain; version=0.0.4")
    for name in ("process_resident_memory_bytes", "process_start_time_seconds", "process_open_fds", "kubernetes_build_info"):
        assert re.search(rf"^{name}(\{{.*\}})? [1-9]", metrics[2], re.MULTILINE), name


def test_how_long_it_has_been_up_is_told_by_the_clock_that_is_given():
    assert "Started: Tue Nov 14 22:13:20 UTC 2023\nUp: 25 hr 01 min 05 sec" in status.statusz(
        1_700_000_000, 1_700_000_000 + 25 * 3600 + 65, ["/metrics"])
    assert "Up: 0 hr 00 min 00 sec" in status.statusz(1_700_000_000, 1_600_000_000, []), "a clock that was set back"
