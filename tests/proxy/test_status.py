from __future__ import annotations

import asyncio
import json
import re
import urllib.error
import urllib.request

import pytest
from aiohttp import web

from netlab.proxy import status
from netlab.proxy.config import read
from netlab.proxy.metrics import Metrics


def config(*flags: str):
    found = read(list(flags))
    return found[0] if isinstance(found, tuple) else found


def asked(made, *paths: str, accept: str = "*/*") -> list[tuple[int, str, str]]:
    """Serve on a port of loopback; return status, content type and body of each path."""
    def get(port: int, path: str) -> tuple[int, str, str]:
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"Accept": accept})
        with urllib.request.urlopen(request, timeout=10) as answer:
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
    assert "Paths: /configz /flagz /healthz /healthz/ping /metrics /metrics/slis /proxyMode /statusz" in statusz[2]
    assert metrics[1].startswith("text/plain; version=0.0.4")
    for name in ("process_resident_memory_bytes", "process_start_time_seconds", "process_open_fds", "kubernetes_build_info"):
        assert re.search(rf"^{name}(\{{.*\}})? [1-9]", metrics[2], re.MULTILINE), name


@pytest.mark.parametrize(("kind", "holds"), [("Flagz", "flags"), ("Statusz", "paths")])
def test_a_program_gets_an_object_if_it_asks_for_exactly_that(kind: str, holds: str):
    path = f"/{kind.lower()}"
    wanted = f"application/json;v=v1alpha1;g=config.k8s.io;as={kind}"
    (_, media, body), = asked(config("--cluster-cidr=10.244.0.0/16"), path, accept=wanted)
    found = json.loads(body)
    assert media.startswith("application/json")
    assert (found["kind"], found["apiVersion"], found["metadata"]) == (kind, "config.k8s.io/v1alpha1", {"name": "kube-proxy"})
    assert {"cluster-cidr": "[10.244.0.0/16]"}.items() <= found[holds].items() if kind == "Flagz" else path in found[holds]
    with pytest.raises(urllib.error.HTTPError, match="406"):
        asked(config(), path, accept="application/json")
    assert asked(config(), path, accept=f"application/json, {wanted}, */*;q=0.5")[0][1].startswith("application/json")


def test_a_page_whose_gate_is_closed_is_not_there():
    made = config("--feature-gates=ComponentFlagz=false")
    with pytest.raises(urllib.error.HTTPError, match="404"):
        asked(made, "/flagz")
    (_, _, body), (_, _, numbers) = asked(made, "/statusz", "/metrics")
    assert "/flagz" not in body
    assert 'kubernetes_feature_enabled{name="ComponentFlagz",stage="BETA"} 0\n' in numbers
    assert 'kubernetes_feature_enabled{name="ComponentStatusz",stage="BETA"} 1\n' in numbers


def test_what_the_check_of_its_own_health_came_to():
    before, plain, verbose, one, after = asked(config(), "/metrics/slis", "/healthz", "/healthz?verbose", "/healthz/ping",
                                               "/metrics/slis")
    assert (before[2], plain[2], verbose[2], one[2]) == ("", "ok", "[+]ping ok\nhealthz check passed\n", "ok")
    assert 'kubernetes_healthcheck{name="ping",type="healthz"} 1\n' in after[2]
    assert 'kubernetes_healthchecks_total{name="ping",status="success",type="healthz"} 3\n' in after[2]


def test_how_long_it_has_been_up_is_told_by_the_clock_that_is_given():
    assert "Started: Tue Nov 14 22:13:20 UTC 2023\nUp: 25 hr 01 min 05 sec" in status.statusz(
        1_700_000_000, 1_700_000_000 + 25 * 3600 + 65, ["/metrics"])
    assert "Up: 0 hr 00 min 00 sec" in status.statusz(1_700_000_000, 1_600_000_000, []), "a clock that was set back"
