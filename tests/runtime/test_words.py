"""The runtime's small parts: references, users, the wire, logs, capabilities."""

import asyncio
import contextlib
import os
import random
import socket
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netlab import errors
from netlab.errors import StartRefused, UsageError
from netlab.kernel import capabilities
from netlab.runtime import pause, reference
from netlab.runtime.cri import ContainerConfig, Dns, ExecResult, Mount, SandboxConfig, Security, from_wire, to_wire
from netlab.runtime.sandbox import resolv_conf
from netlab.runtime.streams import MAX_LINE, Feed, Log, stamp
from netlab.runtime.users import User, find_user
from netlab.runtime.wire import Channel, error_from_wire, error_to_wire


@pytest.mark.parametrize(("text", "full"), [
    ("busybox", "docker.io/library/busybox:latest"),
    ("busybox:1.36", "docker.io/library/busybox:1.36"),
    ("netlab/agnhost", "docker.io/netlab/agnhost:latest"),
    ("registry.k8s.io/e2e-test-images/agnhost:2.53", "registry.k8s.io/e2e-test-images/agnhost:2.53"),
    ("localhost/x", "localhost/x:latest"),
    ("host:5000/a/b:t", "host:5000/a/b:t"),
    ("index.docker.io/nginx", "docker.io/library/nginx:latest"),
    ("a@sha256:" + "0" * 64, "docker.io/library/a@sha256:" + "0" * 64),
    ("a:1@sha256:" + "0" * 64, "docker.io/library/a:1@sha256:" + "0" * 64),
])
def test_references(text, full):
    assert str(reference.parse(text)) == full
    assert str(reference.parse(full)) == full


@pytest.mark.parametrize("text", ["", "A", "a b", "a:", "a:b c", "a@sha256:0", "/a", "a//b", "http://a/b", "-a", "a:" + "t" * 129])
def test_what_is_no_reference(text):
    if text == "a:":
        assert str(reference.parse(text)).endswith(":latest")
        return
    with pytest.raises(UsageError, match="invalid reference format"):
        reference.parse(text)


@given(st.text(alphabet=string.printable))
def test_any_text_is_a_reference_or_an_error(text):
    try:
        parsed = reference.parse(text)
    except UsageError:
        return
    assert reference.parse(str(parsed)) == parsed


@pytest.fixture
def accounts(tmp_path):
    (tmp_path / "passwd").write_text("root:x:0:0:r:/root:/bin/sh\nweb:x:33:34:w:/var/www:/bin/sh\nbroken\n9:x:8:7::/n:\n")
    (tmp_path / "group").write_text("root:x:0:\nwww:x:34:\nextra:x:44:web,other\nnums:x:nan:\n")
    return {"passwd": tmp_path / "passwd", "group": tmp_path / "group"}


@pytest.mark.parametrize(("text", "user"), [
    ("", User(0, 0, (0,), "/root")),
    ("web", User(33, 34, (34, 44), "/var/www")),
    ("33", User(33, 34, (34, 44), "/var/www")),
    ("web:root", User(33, 0, (0,), "/var/www")),
    ("1000", User(1000, 0, (0,), "/")),
    ("1000:2000", User(1000, 2000, (2000,), "/")),
    ("1000:extra", User(1000, 44, (44,), "/")),
])
def test_users(accounts, text, user):
    assert find_user(text, **accounts) == user


@pytest.mark.parametrize("text", ["nosuch", "web:nosuch"])
def test_unknown_users(accounts, text):
    with pytest.raises(StartRefused, match=r"unable to find (user|group) nosuch"):
        find_user(text, **accounts)


@pytest.mark.parametrize(("add", "drop", "count"), [
    ((), (), 14), (("ALL",), (), 41), ((), ("ALL",), 0), (("net_admin",), ("all",), 1), (("ALL",), ("CAP_SYS_ADMIN",), 40)])
def test_chosen_capabilities(add, drop, count):
    assert len(capabilities.choose(add, drop)) == count


def test_values_cross_the_wire_unchanged():
    config = ContainerConfig(name="n", image="i", command=("a", "b"), envs=(("k", "v"),), mounts=(
        Mount(container_path="/a", host_path="/b", sub_path="c"),), security=Security(run_as_user=0, add_capabilities=("X",)))
    assert from_wire(ContainerConfig, to_wire(config)) == config
    box = SandboxConfig(name="n", uid="u", namespace="s", dns=Dns(servers=("1",)), labels={"a": "b"})
    assert from_wire(SandboxConfig, {**to_wire(box), "field of the future": 1}) == box
    assert from_wire(SandboxConfig, to_wire(SandboxConfig(name="n", uid="u", namespace="s"))).dns is None
    result = ExecResult(exit_code=1, stdout=bytes(range(256)), stderr=b"")
    assert from_wire(ExecResult, to_wire(result)) == result


@pytest.mark.parametrize("error", [
    errors.NotFound("x", hint="h"), errors.ImageNotFound("x"), errors.StartRefused("x", exit_code=127),
    errors.Unsupported("x"), errors.UsageError("x"), errors.TemporaryError("x"), errors.KernelError("x", errno=5)])
def test_errors_cross_the_wire(error):
    back = error_from_wire(error_to_wire(error))
    assert type(back) is type(error)
    assert (str(back), back.hint) == (str(error), error.hint)
    assert getattr(back, "exit_code", None) == getattr(error, "exit_code", None)


def test_resolv_conf():
    assert resolv_conf(Dns()) == ""
    assert resolv_conf(Dns(servers=("1", "2"), searches=("a", "b"), options=("ndots:5", "x"))) == (
        "search a b\nnameserver 1\nnameserver 2\noptions ndots:5 x\n")


def test_pause_is_an_executable_of_this_machine():
    code = pause.executable()
    assert code[:4] == b"\x7fELF"
    assert len(code) < 256


def test_stamps():
    assert stamp(1_700_000_000_000_000_007) == "2023-11-14T22:13:20.000000007Z"


@given(st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), st.binary(max_size=40000)), max_size=12))
def test_a_log_gives_back_what_was_written(tmp_path_factory, writes):
    path = tmp_path_factory.mktemp("log") / "sub/0.log"
    log = Log(path)
    for stream, data in writes:
        log.write(stream, data, 0)
    for stream in ("stdout", "stderr"):
        log.flush(stream, 0)
    log.close()
    for stream in ("stdout", "stderr"):
        whole = b"".join(data for name, data in writes if name == stream)
        back = b""
        for line in path.read_bytes().split(b"\n")[:-1]:
            at, name, part, content = line.split(b" ", 3)
            assert len(content) <= MAX_LINE
            assert at.endswith(b"Z")
            if name.decode() == stream:
                back += content + (b"\n" if part == b"F" else b"")
        assert back == whole


def test_a_renamed_log_is_opened_anew(tmp_path):
    log = Log(tmp_path / "0.log")
    log.write("stdout", b"one\n", 0)
    (tmp_path / "0.log").rename(tmp_path / "old.log")
    log.write("stdout", b"two\n", 0)
    log.reopen()
    log.write("stdout", b"three\n", 0)
    log.close()
    assert (tmp_path / "old.log").read_text().count("\n") == 2
    assert "three" in (tmp_path / "0.log").read_text()


def test_a_feed_waits_for_room_and_gives_up_beyond_its_limit():
    async def body():
        read, write = os.pipe2(os.O_NONBLOCK)
        feed = Feed(write, limit=1 << 20)
        feed.write(b"x" * 200_000)
        assert feed.behind > 0
        got = 0
        while got < 200_000:
            await asyncio.sleep(0)
            with contextlib.suppress(BlockingIOError):
                got += len(os.read(read, 1 << 16))
        feed.write(b"y" * (2 << 20))
        assert feed.fd < 0
        os.close(read)

    asyncio.run(asyncio.wait_for(body(), 10))


def test_messages_and_descriptors_stay_together():
    async def body():
        ours, theirs = socket.socketpair()
        got, done = [], asyncio.Event()

        def message(data, fds):
            got.append((data["n"], [os.read(fd, 10) for fd in fds]))
            for fd in fds:
                os.close(fd)
            if len(got) == 300:
                done.set()

        sender = Channel(ours, lambda *_: None, lambda: None)
        receiver = Channel(theirs, message, lambda: None)
        rng = random.Random(1)
        wanted = []
        for n in range(300):
            count = rng.choice([0, 0, 1, 3])
            fds = []
            for k in range(count):
                read, write = os.pipe()
                os.write(write, f"{n}.{k}".encode())
                os.close(write)
                fds.append(read)
            sender.send({"n": n, "filler": "x" * rng.choice([0, 10, 100_000])}, fds)
            for fd in fds:
                os.close(fd)
            wanted.append((n, [f"{n}.{k}".encode() for k in range(count)]))
        await done.wait()
        assert got == wanted
        sender.close()
        receiver.close()

    asyncio.run(asyncio.wait_for(body(), 20))


@pytest.mark.parametrize("noise", [b"\n", b"{}x\n", b"[]\n", b'{"fds": 3}\n', b'{"fds": "x"}\n', b"\xff\xfe\n", b"null\n", b"1\n"])
def test_noise_ends_the_connection_and_nothing_else(noise):
    async def body():
        ours, theirs = socket.socketpair()
        closed = asyncio.Event()
        Channel(theirs, lambda *_: None, closed.set)
        ours.sendall(noise)
        await closed.wait()
        assert ours.recv(10) == b""
        ours.close()

    asyncio.run(asyncio.wait_for(body(), 5))
