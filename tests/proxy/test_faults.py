"""What goes wrong around a kube-proxy: the rules converge, nothing foreign is lost, and the log says it once."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from netlab.client import client as client_module
from netlab.errors import KernelError
from netlab.kernel import iptables, nfacct, nft_table
from netlab.netfilter.normalise import differences
from tests.proxy.builders import a_service, a_slice, an_endpoint
from tests.proxy.test_live import FREE, live, run, until
from tests.proxy.test_nft_live import machine

pytestmark = pytest.mark.root

FOREIGN = "*nat\n:MINE - [0:0]\n-A MINE -s 203.0.113.7/32 -j RETURN\n-A POSTROUTING -j MINE\nCOMMIT\n"


def nft(netns_fd: int, commands: str) -> str:
    context = nft_table.open_nft(netns_fd)
    try:
        return context.run(commands)
    finally:
        context.close()


def said(caplog: pytest.LogCaptureFixture, words: str, level: int = logging.WARNING) -> list[str]:
    return [record.message for record in caplog.records if words in record.message and record.levelno >= level]


class Lock:
    """The lock of legacy iptables, which another process can be made to hold."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.holder: subprocess.Popen[bytes] | None = None

    def hold(self) -> None:
        self.holder = subprocess.Popen(["flock", str(self.path), "sh", "-c", "echo held; read end"],
                                       stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.holder.stdout.readline() == b"held\n"

    def release(self) -> None:
        if self.holder is not None:
            self.holder.communicate()
            self.holder = None


@pytest.fixture
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lock]:
    made = Lock(tmp_path / "xtables.lock")
    made.path.touch()
    monkeypatch.setenv("XTABLES_LOCKFILE", str(made.path))
    yield made
    made.release()


def test_the_lock_is_held_by_another_process(lock: Lock, caplog):
    caplog.set_level(logging.INFO, "netlab.proxy")

    async def body() -> None:
        async with live(a_service(), a_slice(), backend="legacy") as it:
            await it.settles()
            iptables.restore(it.proxier.tool, FOREIGN, netns=it.netns)
            lock.hold()
            it.proxier.lock_wait = 1
            before = it.kernel()
            it.api.put(a_slice(endpoints=[an_endpoint("10.244.1.6")]))
            await until(lambda: it.metrics.value("sync_proxy_rules_iptables_restore_failures_total", "IPv4") >= 2, 20)
            assert differences(before, it.kernel()) == [], "what stood before stands"
            lock.release()
            await until(lambda: len(differences(it.wanted(), it.kernel(), unordered=FREE)) == 2, 20)
            assert iptables.chain_exists(it.proxier.tool, "nat", "MINE", netns=it.netns)

    run(body)
    assert len(said(caplog, "lock")) == 1
    assert len(said(caplog, "all rules are written again", logging.INFO)) == 1


def test_a_chain_of_ours_that_somebody_made_otherwise(caplog):
    """A base chain by the name of KUBE-SERVICES cannot be jumped to: nothing can be written until it is gone."""
    async def body() -> None:
        async with live(a_service(), backend="nft") as it:
            await it.settles()
            nft(it.netns, "table ip nat {\nchain NATIVE {\nip saddr { 192.0.2.1, 192.0.2.2 } drop\n}\n}")
            iptables.restore(it.proxier.tool, "*nat\n:KUBE-SERVICES - [0:0]\n-D PREROUTING -m comment --comment "
                             '"kubernetes service portals" -j KUBE-SERVICES\n-D OUTPUT -m comment --comment '
                             '"kubernetes service portals" -j KUBE-SERVICES\n-X KUBE-SERVICES\nCOMMIT\n', netns=it.netns)
            nft(it.netns, "add chain ip nat KUBE-SERVICES { type nat hook prerouting priority -90; }")
            it.proxier.full = True
            it.api.put(a_slice())
            await until(lambda: it.metrics.value("sync_proxy_rules_iptables_restore_failures_total", "IPv4") >= 2, 20)
            nft(it.netns, "delete chain ip nat KUBE-SERVICES")
            await until(lambda: any("10.244.1.5:8080" in rule.target for rule in it.kernel().table("nat").rules()), 20)
            await until(lambda: len(differences(it.wanted(), it.kernel(), unordered=FREE)) <= 1, 20)
            assert "192.0.2.1, 192.0.2.2" in nft(it.netns, "list chain ip nat NATIVE"), "nothing foreign is lost"

    run(body)
    assert len(said(caplog, "everything is written again")) == 1


def test_a_kernel_without_the_nfacct_match(monkeypatch: pytest.MonkeyPatch, caplog):
    """The object is said to be there and is not: the match is refused as by a kernel that lacks it."""
    monkeypatch.setattr(nfacct, "ensure", lambda _name, _netns: None)

    async def body() -> None:
        async with live(a_service(), a_slice()) as it:
            await it.settles()
            assert it.proxier.settings.counters == frozenset()
            it.proxier.full = True
            it.api.put(a_service("more", "10.96.0.11"))
            await it.settles()

    run(body)
    assert len(said(caplog, "nfacct")) == 1


def test_a_match_that_the_kernel_lacks_leaves_the_old_rules_and_is_tried_until_it_is_there(monkeypatch, caplog):
    async def body() -> None:
        async with live(a_service(), a_slice()) as it:
            await it.settles()
            before = it.kernel()
            real, broken = iptables.restore, []

            def lacking(tool, text, **options):
                text = text if broken else text.replace("-m statistic", "-m statistic-of-tomorrow")
                real(tool, text, **options)

            monkeypatch.setattr(iptables, "restore", lacking)
            it.api.put(a_slice(endpoints=[an_endpoint("10.244.1.5"), an_endpoint("10.244.1.6")]))
            await until(lambda: it.metrics.value("sync_proxy_rules_iptables_restore_failures_total", "IPv4") >= 2, 20)
            assert it.metrics.value("sync_proxy_rules_iptables_partial_restore_failures_total", "IPv4") == 1
            assert [each for each in differences(before, it.kernel()) if "KUBE-SVC" in each] == []
            broken.append("no longer")
            await it.settles(20)

    run(body)
    assert len(said(caplog, "statistic-of-tomorrow")) <= 2, "once as a part, once as a whole"


@pytest.mark.parametrize("how", ["refuses", "hangs"])
def test_the_api_server_is_gone(monkeypatch: pytest.MonkeyPatch, caplog, how: str):
    monkeypatch.setattr(client_module, "_QUIET_SECONDS", 0.3)

    async def body() -> None:
        async with live(a_service("a", "10.96.0.1"), a_slice("a"), a_service("b", "10.96.0.2"), a_slice("b")) as it:
            await it.settles()
            before = it.kernel()
            if how == "hangs":
                it.api.hang()
            else:
                await it.api.close()
            await until(lambda: len(said(caplog, "services: ")) == 1, 10)
            it.api.remove("Service", "default/b")  # nobody hears of it
            it.api.put(a_slice("a", [an_endpoint("10.244.1.8")]), a_service("c", "10.96.0.3"), a_slice("c"))
            await asyncio.sleep(0.5)
            assert differences(before, it.kernel()) == [], "Services work on without an API server"
            assert it.health.healthy(1e9), "what waits unheard does not make it ill"
            if how == "hangs":
                it.api.wake()
            else:
                await it.api.open()
            await it.settles(15)

    run(body)
    for kind in ("services", "endpointslices.discovery.k8s.io", "nodes"):
        assert len([each for each in said(caplog, f"{kind}: ") if each.startswith(kind)]) <= 1, "once, not each retry"


@pytest.mark.parametrize("backend", ["nft", "legacy"])
def test_a_flush_by_somebody_else(caplog, backend: iptables.Backend):
    async def body() -> None:
        async with live(a_service(), a_slice(), backend=backend, look_every=0.1) as it:
            await it.settles()
            iptables.restore(it.proxier.tool, "*nat\nCOMMIT\n*filter\nCOMMIT\n*mangle\nCOMMIT\n", netns=it.netns, flush=True)
            iptables.restore(it.proxier.tool, FOREIGN, netns=it.netns)
            await until(lambda: len(differences(it.wanted(), it.kernel(), unordered=FREE)) == 2)
            assert iptables.chain_exists(it.proxier.tool, "nat", "MINE", netns=it.netns)

    run(body)
    assert len(said(caplog, "somebody flushed it")) == 1


@pytest.mark.parametrize(("mode", "flags"), [("iptables", ("--iptables-backend=nft",)),
                                             ("iptables", ("--iptables-backend=legacy",)), ("nftables", ())],
                         ids=["nft", "legacy", "nftables"])
def test_kill_9_in_the_middle_of_a_sync(mode: str, flags: tuple[str, ...]):
    many = [each for n in range(1, 601) for each in (a_service(f"s{n}", f"10.96.{n // 250}.{n % 250 + 1}"), a_slice(f"s{n}"))]

    async def body() -> None:
        async with machine(*many) as it:
            tool = iptables.find("IPv4", "legacy" if "--iptables-backend=legacy" in flags else "nft")
            iptables.restore(tool, FOREIGN, netns=it.fd)
            for _ in range(2):
                it.start(mode, *flags)
                await until(lambda: busy(it.fd, mode, it.process.pid), 20)
                it.process.kill()
                assert it.process.wait(10) == -9
                it.process = None
            it.api.put(a_service("last", "10.96.9.9"), a_slice("last"))  # which only the one that lives can write
            it.start(mode, *flags)
            if mode == "nftables":
                await until(lambda: it.table() == it.wanted(), 30)
            else:
                await until(lambda: iptables.save(tool, netns=it.fd).count("cluster IP\" -m tcp --dport 80 -j KUBE-SVC") == 601, 30)
            assert iptables.chain_exists(tool, "nat", "MINE", netns=it.fd)

    run(body)


def busy(fd: int, mode: str, pid: int) -> bool:
    """Tell whether a kube-proxy has begun to write: in nftables mode by what is there, else by the tool it started."""
    if mode == "nftables":
        with contextlib.suppress(KernelError):
            return bool(nft_table.held(socket.AF_INET, "kube-proxy", fd))
        return False
    for children in Path(f"/proc/{pid}/task").glob("*/children"):  # a child belongs to the thread that made it
        with contextlib.suppress(OSError):
            if any(b"restore" in Path(f"/proc/{child}/cmdline").read_bytes() for child in children.read_text().split()):
                return True
    return False
