"""The contract's server side: what is checked before a plugin is called, and with which codes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from netlab.cni import result as results
from netlab.cni.result import IP, CniError, Interface, Result, Route
from netlab.cni.skel import Call, Plugin, respond
from netlab.errors import KernelError

ENVIRONMENT = {"CNI_COMMAND": "ADD", "CNI_CONTAINERID": "c1", "CNI_NETNS": "/x", "CNI_IFNAME": "eth0", "CNI_PATH": "/bin"}
RESULT = Result((Interface("eth0", "02:00:00:00:00:01", 1500, "/x"),),
                (IP("10.9.0.2/24", "10.9.0.1", 0), IP("fd09::2/64", "fd09::1", 0)),
                (Route("0.0.0.0/0", "10.9.0.1", mtu=1400, priority=0), Route("::/0")), {"nameservers": ["10.96.0.10"]})


def answers(seen: list[Call] | None = None) -> Plugin:
    def note(call: Call) -> None:
        if seen is not None:
            seen.append(call)

    def add(call: Call) -> Result:
        note(call)
        return RESULT

    return Plugin("test", add, note, note, note, note)


def run(config: Any, plugin: Plugin | None = None, **environ: str) -> tuple[int, Any]:
    body = config if isinstance(config, bytes) else json.dumps(config).encode()
    code, out = respond(plugin or answers(), {key: value for key, value in (ENVIRONMENT | environ).items() if value}, body)
    return code, json.loads(out) if out else {}


CONFIG = {"cniVersion": "1.1.0", "name": "net", "type": "test"}


@pytest.mark.parametrize(("config", "environ", "code", "words"), [
    pytest.param(CONFIG, {"CNI_COMMAND": "FOO"}, 4, "unknown CNI_COMMAND: FOO", id="unknown verb"),
    pytest.param(CONFIG, {"CNI_NETNS": "", "CNI_IFNAME": ""}, 4, "[CNI_NETNS,CNI_IFNAME] missing", id="all missing"),
    pytest.param(CONFIG, {"CNI_CONTAINERID": "/x"}, 4, "invalid characters in containerID", id="container id"),
    pytest.param(CONFIG, {"CNI_CONTAINERID": "-x"}, 4, "invalid characters in containerID", id="container id's begin"),
    pytest.param(CONFIG, {"CNI_IFNAME": "a" * 16}, 4, "interface name is too long", id="long name"),
    pytest.param(CONFIG, {"CNI_IFNAME": "a b"}, 4, "contains / or :", id="space"),
    pytest.param(CONFIG, {"CNI_IFNAME": ".."}, 4, ". or ..", id="dots"),
    pytest.param(CONFIG, {"CNI_ARGS": "a"}, 4, "CNI_ARGS", id="arguments"),
    pytest.param(b"{", {}, 6, "unmarshall", id="no JSON"),
    pytest.param(b"[]", {}, 6, "unmarshall", id="no object"),
    pytest.param(b"\xff", {}, 6, "unmarshall", id="no text"),
    pytest.param({"cniVersion": "1.0.0"}, {}, 7, "missing network name", id="no name"),
    pytest.param({"cniVersion": "1.0.0", "name": "a/b"}, {}, 7, "network name", id="bad name"),
    pytest.param({"cniVersion": "9.0.0", "name": "net"}, {}, 1, "incompatible", id="future version"),
    pytest.param({"cniVersion": "0.3.1", "name": "net"}, {"CNI_COMMAND": "CHECK"}, 1, "does not allow CHECK", id="CHECK"),
    pytest.param({"cniVersion": "1.0.0", "name": "net"}, {"CNI_COMMAND": "GC"}, 1, "does not allow GC", id="GC"),
    pytest.param({"cniVersion": "1.0.0", "name": "net"}, {"CNI_COMMAND": "STATUS"}, 1, "does not allow STATUS", id="STATUS"),
])
def test_refused_with_the_code_of_the_table(config: Any, environ: dict[str, str], code: int, words: str) -> None:
    exit_code, answer = run(config, **environ)
    assert exit_code == 1
    assert answer["code"] == code
    assert words in answer["msg"]
    assert answer["cniVersion"] in results.VERSIONS


def test_version_needs_neither_input_nor_environment() -> None:
    code, out = respond(answers(), {"CNI_COMMAND": "VERSION"}, b"")
    assert code == 0
    assert json.loads(out) == {"cniVersion": "1.1.0", "supportedVersions": list(results.VERSIONS)}


def test_what_the_plugin_gets() -> None:
    seen: list[Call] = []
    assert run(CONFIG | {"prevResult": {"ips": [{"address": "10.9.0.2/24"}]}}, answers(seen), CNI_COMMAND="DEL",
               CNI_NETNS="", CNI_ARGS="IgnoreUnknown=1;K8S_POD_NAME=web") == (0, {})
    call = seen[0]
    assert (call.container_id, call.netns, call.ifname, call.network) == ("c1", "", "eth0", "net")
    assert call.args == {"IgnoreUnknown": "1", "K8S_POD_NAME": "web"}
    assert call.needed_previous().ips == (IP("10.9.0.2/24"),)


def test_every_failure_is_json() -> None:
    def fail(error: Exception) -> Plugin:
        def add(call: Call) -> Result:
            raise error
        return answers()._replace(add=add)

    assert run(CONFIG, fail(CniError(11, "later", "why")))[1] == {"cniVersion": "1.1.0", "code": 11, "msg": "later",
                                                                "details": "why"}
    assert run(CONFIG, fail(KernelError("no")))[1]["code"] == 999
    assert "KeyError" in run(CONFIG, fail(KeyError("x")))[1]["msg"]


@pytest.mark.parametrize("version", results.VERSIONS)
def test_results_survive_the_way_there_and_back(version: str) -> None:
    raw = json.loads(json.dumps(results.dump(RESULT, version)))
    back = results.parse(raw)
    assert raw["cniVersion"] == version
    assert [ip.address for ip in back.ips] == ["10.9.0.2/24", "fd09::2/64"]
    assert [ip.gateway for ip in back.ips] == ["10.9.0.1", "fd09::1"]
    assert {route.dst for route in back.routes} == {"0.0.0.0/0", "::/0"}
    assert back.dns == RESULT.dns
    if version == "1.1.0":
        assert (back.interfaces, back.ips, back.routes) == (RESULT.interfaces, RESULT.ips, RESULT.routes)
    elif version >= "0.3.0":
        assert back.interfaces == (RESULT.interfaces[0]._replace(mtu=0),)
        assert ("version" in raw["ips"][0]) == (version < "1.0.0")


@pytest.mark.parametrize("raw", [{"cniVersion": "1.0.0", "ips": [{}]}, {"cniVersion": "1.0.0", "interfaces": "x"},
                                 {"cniVersion": "7"}, {"cniVersion": "1.0.0", "routes": [1]}])
def test_results_of_another_shape_are_refused(raw: Any) -> None:
    with pytest.raises(CniError):
        results.parse(raw)
