"""Corefiles: what is understood, and that a complaint names the line."""

from __future__ import annotations

from pathlib import Path

import pytest

from netlab.dns import corefile
from netlab.dns.build import build
from netlab.dns.plugins.kubernetes import Config
from netlab.dns.plugins.small import WhoAmI
from netlab.errors import ManifestError

STANDARD = """
# kubeadm's
.:53 {
    errors
    health {
       lameduck 5s
    }
    ready
    kubernetes {$DOMAIN} in-addr.arpa ip6.arpa {
       pods insecure
       fallthrough in-addr.arpa ip6.arpa
       ttl 30
    }
    prometheus :9153
    forward . 192.0.2.1 192.0.2.2:5353 {
       max_concurrent 1000
    }
    cache 30
    loop
    reload
    loadbalance
}
"""


def test_kubeadms_corefile() -> None:
    seen: list[Config] = []

    def make(config: Config) -> WhoAmI:
        seen.append(config)
        return WhoAmI()

    settings = build(corefile.parse(STANDARD, environ={"DOMAIN": "cluster.local"}), "Corefile", make)
    assert seen == [Config(("cluster.local", "in-addr.arpa", "ip6.arpa"), "insecure", 30, ("in-addr.arpa", "ip6.arpa"))]
    assert (settings.health, settings.ready, settings.metrics) == (("", 8080), ("", 8181), ("", 9153))
    assert (settings.lameduck, settings.reload) == (5.0, 30.0)
    names = [plugin.name for plugin in settings.chains[53][0].plugins]
    assert names == ["prometheus", "errors", "loadbalance", "cache", "whoami", "forward"]


def test_a_server_does_not_forward_to_itself(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text("search a.example\nnameserver 127.0.0.1\nnameserver 192.0.2.1\n")
    for port, expected in ((53, [("192.0.2.1", 53)]), (1053, [("127.0.0.1", 53), ("192.0.2.1", 53)])):
        settings = build(corefile.parse(f".:{port} {{\n forward . {file}\n}}\n"), "Corefile", lambda config: WhoAmI())
        assert list(settings.chains[port][0].plugins[0]._config.upstreams) == expected


def test_several_blocks_zones_and_ports() -> None:
    blocks = corefile.parse("(common) {\n errors\n}\na.example, b.example:1053 {\n import common\n}\n"
                            "dns://10.96.0.0/12 {\n whoami\n}\n")
    assert [(block.zones, block.port) for block in blocks[:2]] == [(("a.example",), 53), (("b.example",), 1053)]
    assert blocks[2].zones[0] == "96.10.in-addr.arpa"
    assert len(blocks[2].zones) == 16
    assert blocks[0].plugins[0].name == "errors"


@pytest.mark.parametrize(("text", "line", "words"), [
    pytest.param("", 0, "no server block", id="empty"),
    pytest.param("\n.:53 {\n nonsense\n}\n", 3, "nonsense", id="unknown plugin"),
    pytest.param(".:53 {\n kubernetes {\n  colour red\n }\n}\n", 3, "colour", id="unknown property"),
    pytest.param(".:53 {\n kubernetes {\n  ttl long\n }\n}\n", 3, "ttl", id="not a number"),
    pytest.param(".:53 {\n kubernetes {\n  endpoint https://x\n }\n}\n", 3, "endpoint", id="not supported"),
    pytest.param(".:53 {\n errors\n", 2, "never closed", id="open brace"),
    pytest.param(".:53\nerrors\n", 1, "begins", id="no brace"),
    pytest.param(".:99999 {\n}\n", 1, "99999", id="no port"),
    pytest.param("tls://. {\n}\n", 1, "tls", id="another transport"),
    pytest.param(".:53 {\n}\n.:53 {\n}\n", 3, "twice", id="twice"),
    pytest.param(".:53 {\n forward . nowhere\n}\n", 2, "nowhere", id="upstream is no address"),
    pytest.param(".:53 {\n forward . /does/not/exist\n}\n", 2, "/does/not/exist", id="no such file"),
    pytest.param(".:53 {\n import nothing\n}\n", 2, "nothing", id="no such snippet"),
    pytest.param(".:53 {\n health {\n  lameduck soon\n }\n}\n", 3, "soon", id="not a time"),
])
def test_complaints_name_the_line(text: str, line: int, words: str) -> None:
    with pytest.raises(ManifestError, match=words) as caught:
        build(corefile.parse(text), "Corefile", lambda config: WhoAmI())
    assert caught.value.line == line
