"""The runtime's side: configuration files, chains of ours, foreign and shell plugins, and what is kept."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest

from netlab.cni import conflist, invoke
from netlab.cni.invoke import Conflist
from netlab.cni.result import CniError
from netlab.errors import ManifestError, NotFound
from netlab.kernel import netns
from tests.cni.nodes import REFERENCE, Node

pytestmark = pytest.mark.root

T = TypeVar("T")

LOGGER = """#!/bin/sh
input=$(cat)
{ echo "$CNI_COMMAND"; env | grep ^CNI_; echo "$input"; } >> DIRECTORY/log
if [ "$CNI_COMMAND" = ADD ]; then
  echo "$input" | python3 -IS -c 'import json, sys; print(json.dumps(json.load(sys.stdin)["prevResult"]))'
fi
"""


def run(node: Node, what: Coroutine[Any, Any, T]) -> T:
    with netns.inside(node.fd):
        return asyncio.run(what)


def script(node: Node, name: str, text: str) -> None:
    file = node.bin / name
    file.write_text(text.replace("DIRECTORY", str(node.directory)))
    file.chmod(0o755)


def network(node: Node, *plugins: dict[str, Any], version: str = "1.1.0", **more: Any) -> Conflist:
    folder = node.directory / "net.d"
    folder.mkdir(exist_ok=True)
    first = {key: value for key, value in node.config().items() if key not in ("cniVersion", "name")}
    (folder / "10-net.conflist").write_text(json.dumps({"cniVersion": version, "name": "net",
                                                        "plugins": [first, *plugins]} | more))
    return invoke.load_conflist(folder)


def places(node: Node, *dirs: Path) -> dict[str, Any]:
    return {"plugin_dirs": [str(one) for one in dirs or (node.bin,)], "cache_dir": node.directory / "cache"}


def test_a_chain_from_add_to_delete(node: Node) -> None:
    script(node, "logger", LOGGER)
    listed = network(node, {"type": "logger", "capabilities": {"portMappings": True, "bandwidth": False}})
    how = places(node)
    ns = node.pod()

    async def life() -> None:
        asked = {"portMappings": [{"hostPort": 80, "containerPort": 80}], "bandwidth": {"ingressRate": 1}, "mac": "x"}
        result = await invoke.add(listed, container_id="c1", netns=ns, args={"K8S_POD_NAME": "web"}, capability_args=asked,
                                  **how)
        assert [ip.address for ip in result.ips] == ["10.9.0.2/24"]
        assert [interface.name for interface in result.interfaces][::2] == ["cni0", "eth0"]
        assert result.raw["cniVersion"] == "1.1.0"
        await invoke.check(listed, container_id="c1", netns=ns, **how)
        await invoke.status(listed, plugin_dirs=how["plugin_dirs"])
        await invoke.gc(listed, [("c1", "eth0")], **how)
        await invoke.check(listed, container_id="c1", netns=ns, **how)
        for _ in range(2):
            await invoke.delete(listed, container_id="c1", netns=ns, **how)

    run(node, life())
    lines = (node.directory / "log").read_text().splitlines()
    assert [line for line in lines if line in ("ADD", "CHECK", "DEL", "GC", "STATUS")] == \
        ["ADD", "CHECK", "STATUS", "GC", "CHECK", "DEL", "DEL"]
    assert "CNI_ARGS=K8S_POD_NAME=web" in lines
    configs = [json.loads(line) for line in lines if line.startswith("{")]
    assert configs[0]["runtimeConfig"] == {"portMappings": [{"hostPort": 80, "containerPort": 80}]}
    assert configs[0]["name"] == "net"
    assert configs[0]["prevResult"]["ips"][0]["address"] == "10.9.0.2/24"
    assert configs[3]["cni.dev/valid-attachments"] == [{"containerID": "c1", "ifname": "eth0"}]
    assert configs[5]["prevResult"] == configs[0]["prevResult"]
    assert (node.reservations(), node.links()) == (set(), set())


@pytest.mark.usefixtures("reference")
@pytest.mark.parametrize("version", ["0.3.1", "0.4.0", "1.0.0"])
def test_the_reference_plugins_in_the_place_of_ours(node: Node, version: str) -> None:
    listed = network(node, {"type": "portmap", "capabilities": {"portMappings": True}}, version=version)
    how = places(node, REFERENCE)

    async def life() -> None:
        ports = {"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}
        result = await invoke.add(listed, container_id="c1", netns=node.pod(), capability_args=ports, **how)
        assert result.ips[0].address == "10.9.0.2/24"
        assert any("10.9.0.2:80" in rule for rule in node.nat())
        await invoke.delete(listed, container_id="c1", netns="", **how)

    run(node, life())
    assert node.reservations() == set()
    assert not any("CNI-DN-" in rule for rule in node.nat())


def test_ours_and_the_references_mixed(node: Node, reference: None) -> None:
    (node.bin / "host-local").unlink()
    (node.bin / "host-local").symlink_to(REFERENCE / "host-local")
    listed = network(node, version="1.0.0")

    async def life() -> None:
        result = await invoke.add(listed, container_id="c1", netns=node.pod(), **places(node))
        assert result.ips[0].address == "10.9.0.2/24"
        await invoke.delete(listed, container_id="c1", **places(node))

    run(node, life())
    assert (node.reservations(), node.links()) == (set(), set())


@pytest.mark.parametrize(("text", "words"), [
    pytest.param("#!/bin/sh\necho '{\"code\": 107, \"msg\": \"not today\"}'; exit 1\n", "not today", id="says so"),
    pytest.param("#!/bin/sh\n[ $CNI_COMMAND = DEL ] && exit 0\necho oops >&2; exit 3\n", "oops", id="only stderr"),
    pytest.param("#!/bin/sh\n[ $CNI_COMMAND = DEL ] && exit 0\necho nonsense\n", "did not print a JSON object", id="no JSON"),
    pytest.param("#!/bin/sh\n[ $CNI_COMMAND = DEL ] && exit 0\necho '{\"cniVersion\": \"1.1.0\", \"ips\": 7}'\n", "parse",
                 id="no result"),
    pytest.param("#!/does/not/exist\n", "can't run", id="cannot start"),
    pytest.param("#!/bin/sh\nsleep 60\n", "within 0.2 s", id="hangs"),
])
def test_a_failing_plugin_leaves_nothing_behind(node: Node, text: str, words: str) -> None:
    script(node, "bad", text)
    listed = network(node, {"type": "bad"})
    with pytest.raises(CniError, match=words):
        run(node, invoke.add(listed, container_id="c1", netns=node.pod(), timeout=0.2 if "sleep" in text else 5,
                             **places(node)))
    if "DEL" in text:  # the others fail at DEL as well, and the address stays until that is mended
        assert (node.reservations(), node.links()) == (set(), set())


def test_delete_uses_what_add_used(node: Node) -> None:
    script(node, "logger", LOGGER)
    listed = network(node, {"type": "logger", "mine": 1})
    how = places(node)
    run(node, invoke.add(listed, container_id="c1", netns=node.pod(), args={"K8S_POD_NAME": "web"}, **how))
    changed = network(node, {"type": "logger", "mine": 2})
    run(node, invoke.delete(changed, container_id="c1", **how))
    configs = [json.loads(line) for line in (node.directory / "log").read_text().splitlines() if line.startswith("{")]
    assert [config["mine"] for config in configs] == [1, 1]
    assert node.reservations() == set()


def test_delete_without_any_configuration(node: Node) -> None:
    how = places(node)
    run(node, invoke.delete(None, container_id="c1", **how))
    run(node, invoke.add(network(node), container_id="c1", netns=node.pod(), **how))
    run(node, invoke.delete(None, container_id="c1", **how))
    assert (node.reservations(), os.listdir(node.directory / "cache" / "results")) == (set(), [])


def test_an_attachment_is_made_once(node: Node) -> None:
    how, ns = places(node), node.pod()
    run(node, invoke.add(network(node), container_id="c1", netns=ns, **how))
    with pytest.raises(CniError, match="already"):
        run(node, invoke.add(network(node), container_id="c1", netns=ns, **how))
    run(node, invoke.check(network(node), container_id="c1", netns=ns, **how))


def test_gc_frees_attachments_of_a_crash(node: Node) -> None:
    how = places(node)
    listed = network(node)
    for name in ("c1", "c2", "c3"):
        run(node, invoke.add(listed, container_id=name, netns=node.pod(), **how))
    (node.directory / "cache" / "results" / "net-c2-eth0").unlink()  # lost in the crash: the plugins know it still
    run(node, invoke.gc(listed, [("c3", "eth0")], **how))
    assert node.reservations() == {"10.9.0.4"}
    assert len(node.links()) == 1


def test_many_at_once(node: Node) -> None:
    listed, how = network(node), places(node)
    pods = [node.pod() for _ in range(20)]

    async def life() -> None:
        results = await asyncio.gather(*(invoke.add(listed, container_id=f"c{n}", netns=ns, **how)
                                         for n, ns in enumerate(pods)))
        assert len({result.ips[0].address for result in results}) == 20
        await asyncio.gather(*(invoke.delete(listed, container_id=f"c{n}", netns=ns, **how) for n, ns in enumerate(pods)))

    run(node, life())
    assert (node.reservations(), node.links()) == (set(), set())


@pytest.mark.parametrize(("text", "words"), [
    pytest.param("{", ":1: is not JSON", id="no JSON"),
    pytest.param("[]", "not a JSON object", id="no object"),
    pytest.param('{"plugins": []}', "name: missing network name", id="no name"),
    pytest.param('{"name": "net"}', "no plugins in list", id="no plugins"),
    pytest.param('{"name": "net", "plugins": [{}]}', r"plugins\[0\].type", id="no type"),
    pytest.param('{"name": "net", "plugins": {}}', "not a list", id="no list"),
    pytest.param('{"name": "net", "cniVersion": "7", "plugins": [{"type": "x"}]}', "7", id="unknown version"),
    pytest.param('{"name": "net", "disableCheck": 3, "plugins": [{"type": "x"}]}', "disableCheck", id="no boolean"),
])
def test_files_that_are_no_configuration(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "10.conflist").write_text(text)
    with pytest.raises(ManifestError, match=words):
        invoke.load_conflist(tmp_path)


def test_which_file_and_which_version(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="not initialized"):
        invoke.load_conflist(tmp_path)
    (tmp_path / "20.conflist").write_text('{"name": "second", "plugins": [{"type": "x"}]}')
    (tmp_path / "10.conf").write_text('{"name": "first", "type": "bridge", "cniVersion": "0.4.0"}')
    (tmp_path / "00.txt").write_text("no")
    found = invoke.load_conflist(tmp_path)
    assert (found.name, found.version, [plugin["type"] for plugin in found.plugins]) == ("first", "0.4.0", ["bridge"])
    (tmp_path / "05.json").write_text('{"name": "net", "cniVersion": "0.3.1", "cniVersions": ["0.4.0", "1.0.0", "9.9.9"], '
                                      '"plugins": [{"type": "x"}], "disableCheck": "true"}')
    found = invoke.load_conflist(tmp_path)
    assert (found.version, found.disable_check) == ("1.0.0", True)
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "a.conf").write_text('{"type": "beside"}')
    assert [plugin["type"] for plugin in invoke.load_conflist(tmp_path).plugins] == ["x", "beside"]
    assert conflist.parse(found.raw | {"loadOnlyInlinedPlugins": True}).plugins == ({"type": "x"},)
