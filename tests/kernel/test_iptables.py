from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from netlab.errors import KernelError, NetnsGone, RestoreRejected, TemporaryError
from netlab.kernel import iptables, netns, nfacct
from netlab.netfilter import parse

pytestmark = pytest.mark.root


@pytest.fixture
def namespace() -> Iterator[int]:
    fd = netns.new_netns()
    yield fd
    os.close(fd)


@pytest.fixture(params=["nft", "legacy"])
def tool(request) -> iptables.Iptables:
    return iptables.find("IPv4", request.param)


def test_versions_and_backends():
    nft, legacy, auto = (iptables.find("IPv4", each) for each in ("nft", "legacy", "auto"))
    assert (nft.backend, legacy.backend) == ("nft", "legacy")
    assert auto.backend in ("nft", "legacy")
    assert nft.version >= (1, 8)
    assert nft.random_fully


def test_restore_without_flush_keeps_what_it_does_not_name(namespace: int, tool):
    iptables.restore(tool, "*nat\n:MINE - [0:0]\n-A MINE -j RETURN\n-A OUTPUT -j MINE\nCOMMIT\n", netns=namespace)
    iptables.restore(tool, "*nat\n:OTHER - [0:0]\n-A OTHER -p tcp -j RETURN\nCOMMIT\n", netns=namespace)
    text = iptables.save(tool, netns=namespace, tables=["nat"])
    assert all(line in text for line in ("-A MINE -j RETURN", "-A OUTPUT -j MINE", "-A OTHER -p tcp -j RETURN"))
    iptables.restore(tool, "*nat\nCOMMIT\n", netns=namespace, flush=True)
    assert "MINE" not in iptables.save(tool, netns=namespace, tables=["nat"])


@pytest.mark.parametrize(("text", "line"), [
    pytest.param("*filter\n:A - [0:0]\n-A A -j NOWHERE\nCOMMIT\n", 3, id="unknown target"),
    pytest.param("*filter\n-A INPUT -m unheard-of -j DROP\nCOMMIT\n", 2, id="unknown match"),
    pytest.param("*filter\n-A INPUT -j DROP\n-A INPUT -p tcp --dport ninety -j DROP\nCOMMIT\n", 3, id="bad value"),
])
def test_a_refused_line_is_named_and_the_table_stays_as_it_was(namespace: int, tool, text: str, line: int):
    iptables.restore(tool, "*filter\n-A INPUT -s 192.0.2.1 -j ACCEPT\nCOMMIT\n", netns=namespace)
    before = iptables.save(tool, netns=namespace, tables=["filter"]).splitlines()[1:-1]
    with pytest.raises(RestoreRejected) as caught:
        iptables.restore(tool, text, netns=namespace, where="node1")
    assert (caught.value.line, caught.value.text) == (line, text.splitlines()[line - 1])
    assert str(caught.value).startswith(f"node1: iptables refused line {line}: ")
    assert iptables.save(tool, netns=namespace, tables=["filter"]).splitlines()[1:-1] == before


def test_text_comes_in_parts(namespace: int, tool):
    iptables.restore(tool, iter(["*nat\n:A - [0:0]\n-A A -j ", "RETURN\n", "COMMIT\n*filter\n:B - [0:0]\nCOMMIT\n"]), netns=namespace)
    assert iptables.chain_exists(tool, "nat", "A", netns=namespace)
    assert iptables.chain_exists(tool, "filter", "B", netns=namespace)
    with pytest.raises(RestoreRejected) as caught:
        iptables.restore(tool, (part for part in ["*nat\n:C - [0:0]\n", "-A C -j NOWHERE\n", "COMMIT\n"]), netns=namespace)
    assert (caught.value.line, caught.value.text) == (3, "-A C -j NOWHERE")


def test_text_that_does_not_come_whole_is_not_taken(namespace: int, tool):
    def broken() -> Iterator[str]:
        yield "*filter\n:WHOLE - [0:0]\nCOMMIT\n*nat\n:HALF - [0:0]\n"
        raise ValueError("the rest could not be worked out")

    with pytest.raises(ValueError, match="the rest"):
        iptables.restore(tool, broken(), netns=namespace)
    assert not iptables.chain_exists(tool, "nat", "HALF", netns=namespace)


def test_a_program_that_ends_before_its_input_does(namespace: int, tool):
    with pytest.raises(KernelError):
        iptables.restore(tool, ("-A NOWHERE -j RETURN\n" * 1000 for _ in range(500)), netns=namespace)


def test_garbage_is_an_error(namespace: int, tool):
    with pytest.raises(KernelError):
        iptables.restore(tool, "what is this\n", netns=namespace)


def test_no_such_namespace(tool):
    with pytest.raises(NetnsGone):
        iptables.save(tool, netns="/run/netns/there-is-none")


def test_chain_exists(namespace: int, tool):
    iptables.restore(tool, "*nat\n:HERE - [0:0]\nCOMMIT\n", netns=namespace)
    assert iptables.chain_exists(tool, "nat", "HERE", netns=namespace)
    assert not iptables.chain_exists(tool, "nat", "GONE", netns=namespace)


def test_an_outline_of_many_chains_is_what_the_whole_save_says(namespace: int, tool):
    names = [f"KUBE-SVC-{n:016}" for n in range(600)]
    text = "".join(f":{name} - [0:0]\n" for name in names) + "".join(f"-A {name} -j RETURN\n" for name in names)
    iptables.restore(tool, f"*nat\n{text}-A PREROUTING -p tcp -j {names[0]}\n-A OUTPUT -j {names[1]}\nCOMMIT\n"
                           "*filter\n:MINE - [0:0]\n-A INPUT -j MINE\nCOMMIT\n", netns=namespace)
    hooks = {"nat": ("PREROUTING", "OUTPUT", "POSTROUTING"), "filter": ("INPUT",)}
    quick = parse.outline(iptables.outline(tool, hooks, netns=namespace))
    whole = parse.outline(iptables.save(tool, netns=namespace))
    for table, chains in hooks.items():
        for chain in chains:
            assert quick.chain(table, chain).rules == whole.chain(table, chain).rules
    assert set(names) <= set(quick.table("nat").chains)
    assert "MINE" in quick.table("filter").chains


def test_looking_for_legacy_tables_makes_none(namespace: int):
    assert iptables.tables_in_use(namespace) == {"IPv4": [], "IPv6": []}
    iptables.restore(iptables.find("IPv4", "legacy"), "*nat\nCOMMIT\n", netns=namespace)
    assert iptables.tables_in_use(namespace)["IPv4"] == ["nat"]


def test_counters_come_back(namespace: int, tool):
    iptables.restore(tool, "*filter\n[7:700] -A INPUT -j ACCEPT\nCOMMIT\n", netns=namespace)
    assert "[7:700] -A INPUT -j ACCEPT" in iptables.save(tool, netns=namespace, counters=True)


def test_a_held_lock_is_a_matter_of_time(namespace: int, tmp_path, monkeypatch):
    import fcntl

    lock = tmp_path / "xtables.lock"
    monkeypatch.setenv("XTABLES_LOCKFILE", str(lock))
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(TemporaryError, match="lock"):
            iptables.restore(iptables.find("IPv4", "legacy"), "*nat\nCOMMIT\n", netns=namespace, wait=1)
    iptables.restore(iptables.find("IPv4", "legacy"), "*nat\nCOMMIT\n", netns=namespace, wait=1)


def test_nfacct_counters_are_made_once(namespace: int):
    for _ in range(2):
        nfacct.ensure("some_packets", namespace)
    assert nfacct.counters(namespace) == {"some_packets": (0, 0)}
    iptables.restore(iptables.find(), "*filter\n-A INPUT -m nfacct --nfacct-name some_packets\nCOMMIT\n", netns=namespace)
