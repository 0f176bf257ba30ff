"""Container logs: ends, times, followed growth and rotation."""

from __future__ import annotations

import asyncio
import io
import random
from pathlib import Path

import pytest

from netlab.kernel.inotify import Inotify
from netlab.kubelet import logs
from netlab.kubelet.logs import Wish, tail_offset

LINES = (b"2024-01-01T00:00:00.000000001Z stdout F one\n"
         b"2024-01-01T00:00:01.5Z stderr F two\n"
         b"2024-01-01T00:00:02.123456789Z stdout P thr\n"
         b"2024-01-01T00:00:02.123456790Z stdout F ee\n"
         b"2024-01-01T00:00:03Z stdout F \n")


async def text(path: Path, wish: Wish, alive: bool = False) -> bytes:
    inotify = Inotify()
    try:
        return b"".join([piece async for piece in logs.read(path, wish, lambda: alive, inotify)])
    finally:
        inotify.close()


@pytest.mark.parametrize(("wish", "shown"), [
    (Wish(), b"one\ntwo\nthree\n\n"),
    (Wish(tail=0), b""),
    (Wish(tail=1), b"\n"),
    (Wish(tail=3), b"three\n\n"),
    (Wish(tail=99), b"one\ntwo\nthree\n\n"),
    (Wish(limit=5), b"one\nt"),
    (Wish(limit=0), b""),
    (Wish(since=1704067201.5), b"two\nthree\n\n"),
    (Wish(since=1704067203.0), b"\n"),
    (Wish(timestamps=True, tail=1), b"2024-01-01T00:00:03Z \n"),
    (Wish(stream="Stderr"), b"two\n"),
])
def test_parts(tmp_path: Path, wish: Wish, shown: bytes) -> None:
    path = tmp_path / "0.log"
    path.write_bytes(LINES)
    assert asyncio.run(text(path, wish)) == shown


def test_tail_offset_agrees_with_counting() -> None:
    dice = random.Random(7)
    for _ in range(30):
        lines = [b"x" * dice.choice((0, 1, 80, 70_000)) + b"\n" for _ in range(dice.randrange(12))]
        data = b"".join(lines)
        for n in range(14):
            assert data[tail_offset(io.BytesIO(data), n):] == b"".join(lines[-n:] if n else [])


def test_big_and_long_lines_come_whole(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    head = b"2024-01-01T00:00:00Z stdout F "
    bodies = [str(n).encode() * 9000 for n in range(60)]
    path.write_bytes(b"".join(head + body + b"\n" for body in bodies))
    assert asyncio.run(text(path, Wish())) == b"".join(body + b"\n" for body in bodies)


def test_following_ends_with_the_container_and_goes_through_rotation(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    path.write_bytes(b"2024-01-01T00:00:00Z stdout F 0\n")

    async def main() -> list[bytes]:
        alive, inotify, seen = True, Inotify(), []
        pieces = logs.read(path, Wish(follow=True), lambda: alive, inotify)

        async def one() -> bytes:
            async with asyncio.timeout(5):
                return await anext(pieces)

        seen.append(await one())
        with path.open("ab") as file:
            file.write(b"2024-01-01T00:00:01Z stdout F 1\n")
        seen.append(await one())
        with path.open("ab") as file:
            file.write(b"2024-01-01T00:00:02Z stdout F 2\n")
        path.rename(tmp_path / "0.log.old")
        path.write_bytes(b"2024-01-01T00:00:03Z stdout F 3\n")
        seen.append(await one())
        seen.append(await one())
        with path.open("ab") as file:
            file.write(b"2024-01-01T00:00:04Z stdout F 4\n")
        alive = False
        seen += [piece async for piece in pieces]
        inotify.close()
        return seen

    assert asyncio.run(main()) == [b"0\n", b"1\n", b"2\n", b"3\n", b"4\n"]
