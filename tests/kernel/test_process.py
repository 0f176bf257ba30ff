"""Processes: clean children, tools that are run, titles, capabilities."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from netlab.errors import KernelError, NotFound, TemporaryError
from netlab.kernel import netns, process

ROOT = Path(__file__).parents[2]


def python(code: str) -> str:
    """Run a program in a process of one thread and return what it prints."""
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], cwd=ROOT, capture_output=True, text=True,
                          timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_child_starts_clean_and_ends_with_its_code():
    assert python("""
        import asyncio, os, signal, sys
        from netlab.kernel import process

        async def main():
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, print, "the parent's")
            fd = os.open("/dev/null", os.O_RDONLY)
            kept = os.open("/dev/null", os.O_RDONLY)

            def body():
                assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
                assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()
                assert asyncio._get_running_loop() is None
                print(asyncio.run(asyncio.sleep(0, "a loop of its own")))
                try:
                    os.fstat(fd)
                except OSError:
                    os.fstat(kept)
                    return 7

            print("before")
            return os.waitstatus_to_exitcode(os.waitpid(process.fork(body, keep={kept}), 0)[1])

        print(asyncio.run(main()))
    """) == "before\na loop of its own\n7\n"


def test_a_child_never_comes_back():
    assert python("""
        import os
        from netlab.kernel import process
        codes = []
        for body in (lambda: 1 / 0, lambda: exit(3), lambda: None, lambda: exit("text")):
            codes.append(os.waitstatus_to_exitcode(os.waitpid(process.fork(body), 0)[1]))
        print(codes)
    """) == "[1, 3, 0, 1]\n"


def test_several_threads_are_refused():
    assert "several threads" in python("""
        import threading
        from netlab.kernel import process
        stop = threading.Event()
        threading.Thread(target=stop.wait).start()
        try:
            process.fork(lambda: 0)
        except Exception as error:
            print(error)
        stop.set()
    """)


def test_titles_show_in_proc():
    assert python("""
        from pathlib import Path
        from netlab.kernel import process
        process.set_title(["/usr/local/bin/kube-proxy", "--config=/x", "y" * 5000])
        print(Path("/proc/self/comm").read_text().strip(),
              Path("/proc/self/cmdline").read_bytes() == b"/usr/local/bin/kube-proxy\\0--config=/x\\0" + b"y" * 5000 + b"\\0")
    """) == "kube-proxy True\n"


def test_streams_are_moved_whatever_they_were():
    assert python("""
        import os, sys
        from netlab.kernel import process
        read, write = os.pipe()
        def body():
            process.set_stdio(-1, write, 1)
            print("to the pipe")
            print("to stdout", file=sys.stderr)
            assert sys.stdin.read() == ""
        os.waitpid(process.fork(body), 0)
        print(os.read(read, 100))
    """) == "to stdout\nb'to the pipe\\n'\n"


def both(*argv, **options):
    """Run a tool both ways and return the result, which has to be the same."""
    one = process.run_sync(argv, **options)
    two = asyncio.run(process.run(argv, **options))
    assert one == two
    return one


def test_tools_are_run():
    assert both("cat", input=b"x" * 300_000).stdout == b"x" * 300_000
    assert both("sh", "-c", "echo out; echo err >&2; exit 3") == process.Finished(3, b"out\n", b"err\n")
    assert both("sh", "-c", "kill -9 $$").code == -9
    assert both("env", env={"A": "1"}).stdout == b"A=1\n"
    assert both("pwd", cwd="/").stdout == b"/\n"
    assert both("cat").stdout == b""


def test_a_tool_that_fails_says_so():
    with pytest.raises(KernelError, match="the tool: oops"):
        both("sh", "-c", "echo oops >&2; exit 1").checked("the tool")
    with pytest.raises(KernelError, match="exit code 2"):
        both("sh", "-c", "exit 2").checked("the tool")
    with pytest.raises(NotFound, match="nosuchtool"):
        process.run_sync(["nosuchtool"])
    with pytest.raises(NotFound, match="nosuchtool"):
        asyncio.run(process.run(["nosuchtool"]))


def test_a_tool_that_hangs_is_killed():
    began = time.monotonic()
    with pytest.raises(TemporaryError):
        process.run_sync(["sleep", "100"], timeout=0.05)
    with pytest.raises(TemporaryError):
        asyncio.run(process.run(["sleep", "100"], timeout=0.05))
    assert time.monotonic() - began < 5


def test_many_tools_at_once_leave_no_descriptor():
    async def body():
        before = len(os.listdir("/proc/self/fd"))
        done = await asyncio.gather(*(process.run(["sh", "-c", f"echo {n}"]) for n in range(30)))
        assert [int(d.stdout) for d in done] == list(range(30))
        assert len(os.listdir("/proc/self/fd")) == before

    asyncio.run(body())


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_tool_runs_in_another_network():
    fd = netns.new_netns()
    try:
        shown = both("readlink", "/proc/self/ns/net", network=fd).stdout.decode().strip()
        assert shown == f"net:[{netns.inode(fd)}]"
        assert os.readlink("/proc/self/ns/net") != shown
    finally:
        os.close(fd)


def test_a_process_is_known_by_pid_and_start():
    child = subprocess.Popen(["sleep", "100"])
    started = process.start_time(child.pid)
    assert process.is_alive(child.pid, started)
    assert not process.is_alive(child.pid, started + 1)
    pidfd = process.open_pidfd(child.pid)
    assert process.send(pidfd, signal.SIGKILL)
    child.wait()
    assert not process.send(pidfd, signal.SIGKILL)
    assert not process.is_alive(child.pid, started)
    for call in (process.start_time, process.open_pidfd):
        with pytest.raises(NotFound):
            call(child.pid)
    os.close(pidfd)


@pytest.mark.parametrize(("command", "code"), [("exit 5", (5, 0)), ("kill -15 $$", (143, 15))])
def test_exit_codes(command, code):
    pid = os.posix_spawnp("sh", ["sh", "-c", command], dict(os.environ))
    assert process.exit_code(os.waitpid(pid, 0)[1]) == code
