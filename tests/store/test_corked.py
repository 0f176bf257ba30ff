"""What is written in one step of the loop is one send, in order; nothing is left behind at the end."""

from __future__ import annotations

import asyncio
import socket

from netlab.store.rpc.corked import Corked


async def test_what_is_written_in_one_step_is_sent_at_once() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    theirs.setblocking(False)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
    corked = Corked(transport)
    for turn in range(3):
        for number in range(50):
            corked.write(b"%d.%d " % (turn, number))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert theirs.recv(65536) == b"".join(b"%d.%d " % (turn, number) for number in range(50))
    corked.write(b"the ")
    corked.write(b"end")
    corked.close()
    await asyncio.sleep(0)
    assert theirs.recv(65536) == b"the end"
    assert corked.is_closing()
    theirs.close()


async def test_nothing_is_sent_before_the_step_ends() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    theirs.setblocking(False)
    transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=ours)
    corked = Corked(transport)
    corked.write(b"head")
    try:
        early = theirs.recv(65536)
    except BlockingIOError:
        early = b""
    corked.write(b"body")
    await asyncio.sleep(0.01)
    assert (early, theirs.recv(65536)) == (b"", b"headbody")
    corked.close()
    theirs.close()
