"""`netlab kube-proxy --kubeconfig FILE` against an API server that is not ours: what the REST API allows a server to do."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from netlab.kernel import iptables, netns
from netlab.netfilter import parse
from netlab.netfilter.normalise import differences
from netlab.proxy.plan import whole
from netlab.proxy.settings import LocalDetector
from netlab.proxy.tracker import wanted_for
from tests.proxy.api_stub import PATHS, ApiStub
from tests.proxy.builders import a_node, a_service, a_settings, a_slice, an_endpoint
from tests.proxy.test_live import FREE, run, until

pytestmark = pytest.mark.root

TOKEN = "s3cret"
END = "k8s.io/initial-events-end"


class ForeignApi(ApiStub):
    """A server with moods: lists in pages, revisions that are too old, streams that begin with the whole state.

    `page` is how many objects a list holds at most. `watch_list` tells whether it knows sendInitialEvents; one that does
    not refuses it, as servers before v1.27 and some others do. `old` names what it answers once with 410 Gone.
    """

    def __init__(self, *, page: int = 0, watch_list: bool = False, old: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.page, self.watch_list, self.old = page, watch_list, set(old)
        self.asked: list[dict[str, str]] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return status(401, "Unauthorized", "who are you?")
        query = dict(request.query)
        self.asked.append({"path": request.path, **query})
        if query.get("watch") not in ("1", "true"):
            return self.listed(PATHS[request.path], query)
        if "sendInitialEvents" in query and not self.watch_list:
            return status(422, "Invalid", "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled")
        if self.takes("watch") and PATHS[request.path] == "Service":
            return status(410, "Expired", "too old resource version")
        if self.takes("event") and PATHS[request.path] == "Service":
            response = web.StreamResponse(headers={"Content-Type": "application/json"})
            await response.prepare(request)
            gone = json.loads(status(410, "Expired", "too old resource version").body or b"")  # type: ignore[arg-type]
            await response.write(json.dumps({"type": "ERROR", "object": gone}).encode() + b"\n")
            return response
        if query.get("sendInitialEvents") == "true":
            return await self.streamed(request)
        return await super().answer(request)

    def takes(self, mood: str) -> bool:
        if mood in self.old:
            self.old.discard(mood)
            return True
        return False

    def listed(self, kind: str, query: dict[str, str]) -> web.Response:
        only = query.get("fieldSelector", "").removeprefix("metadata.name=")
        items = [each for each in self.objects[kind].values() if only in ("", each["metadata"]["name"])]
        token = query.get("continue", "")
        if token and self.takes("token"):
            return status(410, "Expired", "the provided continue parameter is too old")
        start = int(token or 0)
        size = self.page or len(items) or 1
        rest = len(items) - start - size
        more: dict[str, Any] = {"continue": str(start + size), "remainingItemCount": rest} if rest > 0 else {}
        # As upstream, what is inside a list has neither kind nor apiVersion.
        bare = [{name: value for name, value in each.items() if name not in ("kind", "apiVersion")} for each in items[start:start + size]]
        return web.json_response({"kind": f"{kind}List", "apiVersion": "v1", "items": bare if items else None,
                                  "metadata": {"resourceVersion": str(self.revision), **more}})

    async def streamed(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        kind = PATHS[request.path]
        for each in self.objects[kind].values():
            await response.write(json.dumps({"type": "ADDED", "object": each}).encode() + b"\n")
        mark = {"kind": kind, "metadata": {"resourceVersion": str(self.revision), "annotations": {END: "true"}}}
        await response.write(json.dumps({"type": "BOOKMARK", "object": mark}).encode() + b"\n")
        queue: asyncio.Queue[bytes] = asyncio.Queue()
        self.watchers[kind].append(queue)
        try:
            while line := await queue.get():
                await response.write(line)
        finally:
            self.watchers[kind].remove(queue)
        return response


def status(code: int, reason: str, message: str) -> web.Response:
    return web.json_response({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason,
                              "message": message}, status=code)


def kubeconfig(path: Path, server: str) -> Path:
    path.write_text(yaml.safe_dump({
        "apiVersion": "v1", "kind": "Config", "current-context": "foreign",
        "clusters": [{"name": "foreign", "cluster": {"server": server}}], "users": [{"name": "proxy", "user": {"token": TOKEN}}],
        "contexts": [{"name": "foreign", "context": {"cluster": "foreign", "user": "proxy"}}]}))
    return path


def started(fd: int, flags: tuple[str, ...], home: Path) -> subprocess.Popen[bytes]:
    with netns.inside(fd), (home / "log").open("wb") as log:
        return subprocess.Popen([sys.executable, "-P", "-m", "netlab.cli.main", "kube-proxy", *flags], stderr=log,
                                env={**os.environ, "HOME": str(home)})


@asynccontextmanager
async def proxied(tmp_path: Path, api: ForeignApi, *objects: dict[str, Any], flags: tuple[str, ...] = (),
                  ends: int | None = None) -> AsyncIterator[int]:
    """Run kube-proxy against a server; yield the namespace that it writes into. With `flags` it `ends` by itself."""
    fd = netns.new_netns()
    with netns.inside(fd):
        netns.loopback_up()
    sock = netns.socket_in(fd, socket.AF_INET, socket.SOCK_STREAM)
    sock.bind(("127.0.0.1", 0))
    api.put(a_node(), *objects)
    runner = await api.start(sock)
    config = kubeconfig(tmp_path / "kubeconfig", api.url)
    process = started(fd, flags or (f"--kubeconfig={config}", "--hostname-override=node1", "--cluster-cidr=10.244.0.0/16",
                                    "--iptables-min-sync-period=10ms"), tmp_path)
    try:
        yield fd
    finally:
        if not flags or ends is not None:
            process.send_signal(signal.SIGTERM)
        assert process.wait(20) == (ends if ends is not None else 1 if flags else 0)
        await api.stop(runner)
        os.close(fd)


def apart(fd: int, api: ForeignApi) -> list[str]:
    """Return how the kernel differs from what the server's objects ask for."""
    objects = [each for kind in api.objects.values() for each in kind.values()]
    kernel = parse.parse(iptables.save(iptables.find(), netns=fd))
    counters = frozenset(word for rule in kernel.table("filter").rules() for word in rule.match.split() if word.endswith("_pkts"))
    counters |= frozenset(word for rule in kernel.table("nat").rules() for word in rule.match.split() if word.endswith("_pkts"))
    counters |= {"localhost_nps_accepted_pkts"} if counters else frozenset()
    return differences(whole(wanted_for(objects, a_settings(detector=LocalDetector("-s 10.244.0.0/16"), counters=counters))), kernel, unordered=FREE)


MOODS = [pytest.param({}, id="plain"), pytest.param({"watch_list": True}, id="knows WatchList"), pytest.param({"page": 2}, id="in pages"),
         pytest.param({"page": 2, "old": ("token",)}, id="a page's token is too old"), pytest.param({"old": ("watch",)}, id="the revision is too old"),
         pytest.param({"old": ("event",), "page": 3}, id="the stream says that it is too old")]


@pytest.mark.parametrize("moods", MOODS)
def test_it_follows_a_foreign_server(tmp_path: Path, moods: dict[str, Any]):
    async def body() -> None:
        api = ForeignApi(**moods)
        many = [each for n in range(1, 6) for each in (a_service(f"s{n}", ip=f"10.96.0.{n}"), a_slice(f"s{n}", [an_endpoint(f"10.244.1.{n}")]))]
        async with proxied(tmp_path, api, *many) as fd:
            await until(lambda: not apart(fd, api), 20, lambda: (apart(fd, api), (tmp_path / "log").read_text()))
            assert not api.old, "every mood was met"
            api.put(a_slice("s3", [an_endpoint("10.244.1.77")]))
            api.remove("Service", "default/s4")
            api.put(a_service("s9", ip="10.96.0.9"), a_slice("s9"))
            await until(lambda: not apart(fd, api), 20, lambda: (apart(fd, api), (tmp_path / "log").read_text()))
        selectors = {each["path"]: each.get("labelSelector") for each in api.asked}
        assert selectors["/api/v1/services"] == "!service.kubernetes.io/service-proxy-name"
        assert selectors["/apis/discovery.k8s.io/v1/endpointslices"] == "!service.kubernetes.io/headless"
        assert {each.get("fieldSelector") for each in api.asked if each["path"] == "/api/v1/nodes"} == {"metadata.name=node1"}
        watches = [each for each in api.asked if each.get("watch")]
        assert all(each.get("allowWatchBookmarks") == "true" and each.get("resourceVersion") for each in watches)
        assert "Traceback" not in (tmp_path / "log").read_text()

    run(body)


def test_external_addresses_are_left_out_where_their_gate_is_closed(tmp_path: Path):
    async def body() -> None:
        api = ForeignApi()
        config = tmp_path / "kubeconfig"
        service = a_service(externalIPs=["203.0.113.7"], externalTrafficPolicy="Local")
        flags = (f"--kubeconfig={config}", "--hostname-override=node1", "--feature-gates=AllowServiceExternalIPs=false")
        async with proxied(tmp_path, api, service, a_slice(), flags=flags, ends=0) as fd:
            await until(lambda: "-d 10.96.0.10/32" in (saved := iptables.save(iptables.find(), netns=fd)) and "203.0.113.7" not in saved, 20)

    run(body)


def test_it_ends_when_its_configuration_is_edited(tmp_path: Path):
    async def body() -> None:
        api = ForeignApi()
        file = tmp_path / "config.yaml"
        file.write_text("apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nhostnameOverride: node1\nclusterCIDR: 10.244.0.0/16\n"
                        f"clientConnection: {{kubeconfig: {tmp_path / 'kubeconfig'}}}\n")
        async with proxied(tmp_path, api, a_service(), a_slice(), flags=(f"--config={file}",)) as fd:
            await until(lambda: not apart(fd, api), 20, lambda: (apart(fd, api), (tmp_path / "log").read_text()))
            file.write_text(file.read_text() + "mode: nftables\n")
            await until(lambda: "ending, so that it is read anew" in (tmp_path / "log").read_text(), 20)

    run(body)
