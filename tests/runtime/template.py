"""The process that the tests' nodes are forked from: one thread, whatever other tests have left in pytest's own.

Reads a pickled NodeSpec and program names, with the netns' descriptor, from the socket on descriptor argv[1], and
answers with the shim's pid or the error's words.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import socket
import sys
from dataclasses import replace
from pathlib import Path

from netlab.errors import KernelError
from netlab.runtime.node import start_node


def kubelet(argv: list[str]) -> int:
    """Say that we live, and wait."""
    print("kubelet", *argv, flush=True)
    Path("/run/kubelet.pid").write_text(str(os.getpid()))
    signal.sigwait({signal.SIGTERM})
    return 0


def agnhost(argv: list[str]) -> int:
    """Print the arguments; "pause" waits for SIGTERM, "exit N" gives N, "loop" runs an event loop."""
    print("agnhost", *argv)
    print("to stderr", file=sys.stderr)
    if argv[:1] == ["pause"]:
        stopped = []
        signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
        while not stopped:
            signal.pause()
    if argv[:1] == ["loop"]:
        return asyncio.run(_exit_code())
    if argv[:1] == ["fds"]:
        print(sorted(int(fd) for fd in os.listdir("/proc/self/fd")))
    if argv[:1] == ["exit"]:
        return int(argv[1])
    return 0


async def _exit_code() -> int:
    await asyncio.sleep(0)
    return 7


def main() -> None:
    """Serve until the tests end."""
    programs = {"kubelet": kubelet, "agnhost": agnhost}
    with socket.socket(fileno=int(sys.argv[1])) as sock:
        while True:
            data, fds, _, _ = socket.recv_fds(sock, 1 << 16, 1)
            if not data:
                return
            spec, names = pickle.loads(data)
            try:
                pid = start_node(replace(spec, netns_fd=fds[0]), {name: programs[name] for name in names})
                sock.send(pickle.dumps(pid))
            except KernelError as error:
                sock.send(pickle.dumps(str(error)))
            os.close(fds[0])


if __name__ == "__main__":
    main()
