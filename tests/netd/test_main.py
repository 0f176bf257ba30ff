"""The program: flags, and one node brought up from objects that change."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from netlab.client.informer import Informer
from netlab.errors import TemporaryError
from netlab.kernel import link, netns, route
from netlab.kernel.rtnl import Rtnl
from netlab.netd import main
from netlab.netd.node import PROTOCOL
from tests.dns.builders import Api, metadata


def a_node(name: str, ip: str, cidr: str = "") -> dict[str, Any]:
    return {"metadata": metadata(name), "spec": {"podCIDRs": [cidr]} if cidr else {},
            "status": {"addresses": [{"type": "InternalIP", "address": ip}]}}


@pytest.mark.parametrize(("argv", "words"), [
    (["--cluster-cidr=10.244.0.0/16"], "--node-name"), (["--node-name=a"], "--cluster-cidr"),
    (["--node-name=a", "--cluster-cidr=x"], "--cluster-cidr"), (["--nonsense"], "unknown flag"),
    (["--node-name=a", "--cluster-cidr=10.0.0.0/8", "--backend=magic"], "magic"),
])
def test_wrong_flags_are_one_line(argv: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(argv) == 1
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["--help"]) == 0
    assert "--backend" in capsys.readouterr().out


class Recording(Api):
    """Also takes the patch that reports the node's network; the first one fails."""

    def __init__(self, **objects: Any) -> None:
        super().__init__(**objects)
        self.patches: list[Any] = []
        self.patched = asyncio.Event()

    async def patch(self, resource: str, name: str, body: Any, **how: Any) -> None:
        self.patches.append((resource, name, body["status"]["conditions"][0]["type"], how["subresource"]))
        if len(self.patches) == 1:
            raise TemporaryError("not now")
        self.patched.set()


@pytest.mark.root
def test_a_node_comes_up_as_soon_as_it_has_its_range(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main, "_LOOK_SECONDS", 0.2)
    flags = main.parse("netd", ["--node-name=one", "--cluster-cidr=10.244.0.0/16", f"--cni-conf-dir={tmp_path}/net.d",
                                f"--cni-bin-dir={tmp_path}/bin", f"--cni-state-dir={tmp_path}/state"], main.FLAGS)
    here = netns.new_netns()
    with Rtnl(here) as sock:
        link.add_bridge(sock, "eth0")
        link.add_address(sock, "eth0", "172.18.0.2/16")

    async def life() -> None:
        api, stop = Recording(nodes=[a_node("one", "172.18.0.2"), a_node("two", "172.18.0.3", "10.244.1.0/24")]), asyncio.Event()
        client: Any = api
        nodes = Informer(client, "nodes")
        netd = main.Netd(flags, nodes, client)
        nodes.add_handler(netd.node_changed)
        tasks = [asyncio.ensure_future(nodes.run(stop)), asyncio.ensure_future(netd.run())]
        await nodes.synced.wait()
        assert not (tmp_path / "net.d").exists()
        api.put("nodes", a_node("one", "172.18.0.2", "10.244.0.0/24"))
        await asyncio.wait_for(api.patched.wait(), 10)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert api.patches[-1] == ("nodes", "one", "NetworkUnavailable", "status")

    with netns.inside(here):
        asyncio.run(life())
    written = json.loads((tmp_path / "net.d" / "10-netlab.conflist").read_text())
    assert written["plugins"][0]["ipam"]["ranges"] == [[{"subnet": "10.244.0.0/24"}]]
    assert (tmp_path / "bin" / "bridge").exists()
    with Rtnl(here) as sock:
        assert [found.gateway for found in route.routes(sock) if found.protocol == PROTOCOL] == ["172.18.0.3"]
    os.close(here)
