"""The program: it starts, answers, tells its health, takes a changed Corefile, keeps the old one when that is wrong."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from pathlib import Path
from urllib.request import urlopen

import dnslib
import pytest

from netlab.dns import main


def a_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def ask(port: int, name: str = "a.example") -> dnslib.DNSRecord:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.settimeout(5)
        one.sendto(bytes(dnslib.DNSRecord.question(name).pack()), ("127.0.0.1", port))
        return dnslib.DNSRecord.parse(one.recv(4096))


def get(port: int, path: str) -> str:
    with urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
        return str(answer.read().decode())


async def until(reached: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not reached():  # noqa: ASYNC110 - the program tells it in its log alone
            await asyncio.sleep(0.01)


def test_a_life(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    dns, health, ready, metrics = (a_port() for _ in range(4))
    text = (f".:53 {{\n bind 127.0.0.1\n health 127.0.0.1:{health}\n ready 127.0.0.1:{ready}\n prometheus 127.0.0.1:{metrics}\n"
            " errors\n log\n whoami\n reload 50ms\n}\n")
    file = tmp_path / "Corefile"
    file.write_text(text)
    flags = main.parse("coredns", ["-conf", str(file), f"-dns.port={dns}"], main.FLAGS)

    async def life() -> None:
        stop = asyncio.Event()
        running = asyncio.ensure_future(main.NameServer(flags).run(stop))
        while not running.done():
            with contextlib.suppress(OSError):
                assert await asyncio.to_thread(get, health, "/health") == "OK"
                break
            await asyncio.sleep(0.01)
        assert await asyncio.to_thread(get, ready, "/ready") == "OK"
        answer = await asyncio.to_thread(ask, dns)
        assert str(answer.ar[0].rdata) == "127.0.0.1"
        assert 'proto="udp",type="A"} 1' in await asyncio.to_thread(get, metrics, "/metrics")
        file.write_text(".:53 {\n nonsense\n}\n")
        await until(lambda: "is not used" in caplog.text)
        assert (await asyncio.to_thread(ask, dns)).header.rcode == 0
        file.write_text(text.replace(" whoami\n", ""))
        await until(lambda: "Reloading complete" in caplog.text)
        assert (await asyncio.to_thread(ask, dns)).header.rcode == 5
        stop.set()
        await asyncio.wait_for(running, 10)

    asyncio.run(life())
    with pytest.raises(OSError, match="refused"):
        get(health, "/health")


@pytest.mark.parametrize(("argv", "words"), [(["--nonsense"], "unknown flag"), (["-conf"], "needs an argument")])
def test_wrong_flags_are_one_line(argv: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(argv) == 1
    assert words in capsys.readouterr().err


def test_a_wrong_corefile_ends_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "Corefile").write_text(".:53 {\n nonsense\n}\n")
    for file, words in ((tmp_path / "Corefile", "Corefile:2: unknown directive 'nonsense'"), (tmp_path / "none", "cannot be read")):
        assert main.main(["-conf", str(file)]) == 1
        assert words in capsys.readouterr().err
