"""Containers in a real node: what they see, whom they run as, how they end."""

import asyncio
import os
import re
import signal

import pytest

from netlab.errors import ImageNotFound, NotFound, StartRefused, Unsupported, UsageError
from netlab.kernel.cgroup import version
from netlab.runtime.cri import Dns, Mount, Resources, Security
from tests.runtime.conftest import ROOTLESS, container, ended, output, pod, read_all, read_until, started

pytestmark = pytest.mark.root
needs_uids = pytest.mark.skipif(ROOTLESS, reason="a user namespace of one uid")


def test_a_pod_shows_only_its_own(node):
    async def body(client):
        main = await started(client, "sleep", "1000", sandbox=pod(name="web-1", hostname="web-1"))
        names = re.findall(r"^ *\d+ \S+ +(\S+)", await output(client, main, "ps"), re.MULTILINE)
        assert names == ["sleep", "ps"]
        assert await output(client, main, "hostname") == "web-1\n"
        assert "eth0" not in await output(client, main, "ip", "addr")
        assert set((await output(client, main, "ls", "/")).split()) == {
            "bin", "dev", "etc", "home", "media", "mnt", "opt", "proc", "root", "run", "sbin", "srv", "sys", "tmp",
            "usr", "var"}
        points = [line.split()[2] for line in (await output(client, main, "mount")).splitlines()]
        known = {"/", "/bin/busybox", "/proc", "/sys", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf"}
        assert not [p for p in points if p not in known and not p.startswith(("/dev", "/proc/", "/sys/"))]
        assert (await client.container_status(main)).pid > 2

    node.run(body)


def test_built_in_programs_run_in_the_fork_and_answer_exec(node):
    async def body(client):
        main = await started(client, image="registry.k8s.io/e2e-test-images/agnhost:2.53",
                           log_path="/var/log/pods/x/main/0.log")
        assert (await output(client, main, "agnhost", "netexec")).splitlines()[0] == "agnhost netexec"
        assert (await output(client, main, "/agnhost-2", "netexec")).splitlines()[0] == "agnhost netexec"
        reached = await client.exec_sync(main, ["nc", "-vz", "127.0.0.1", "1"])
        assert reached.exit_code != 127, reached
        assert (await output(client, main, "/agnhost", "fds")).splitlines()[1] == "[0, 1, 2, 3]"
        assert (await client.exec_sync(main, ["agnhost", "loop"])).exit_code == 7
        assert (await client.exec_sync(main, ["agnhost", "exit", "3"])).exit_code == 3
        assert "/agnhost pause" in await output(client, main, "ps", "-ef")
        own = await client.exec_sync(main, ["sh", "-c", "/agnhost --help"])  # an interpreter of its own
        assert own.exit_code == 0, own
        assert b"netexec" in own.stdout + own.stderr
        await client.stop_container(main, 5)
        assert (await client.container_status(main)).exit_code == 0
        lines = node.host_path("/var/log/pods/x/main/0.log").read_text().splitlines()
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z stdout F agnhost pause", lines[0])
        assert any(line.endswith("stderr F to stderr") for line in lines)

    node.run(body)


@pytest.mark.parametrize(("argv", "code", "said"), [
    pytest.param(("nosuch",), 127, 'exec: "nosuch": executable file not found in $PATH', id="not in the path"),
    pytest.param(("/bin/nosuch",), 127, 'exec: "/bin/nosuch": stat /bin/nosuch: no such file', id="no such file"),
    pytest.param(("/etc/passwd",), 126, 'exec: "/etc/passwd": permission denied', id="not executable"),
])
def test_what_can_not_be_started_says_why(node, argv, code, said):
    async def body(client):
        box = await client.run_pod_sandbox(pod())
        main = await client.create_container(box.id, container(*argv))
        with pytest.raises(StartRefused) as error:
            await client.start_container(main)
        assert said in str(error.value)
        assert error.value.exit_code == code
        status = await client.container_status(main)
        assert (status.state, status.reason, status.exit_code) == ("exited", "StartError", 128)
        good = await started(client, "sleep", "1000")
        with pytest.raises(StartRefused, match=re.escape(said)):
            await client.exec_sync(good, argv)

    node.run(body)


def test_exit_codes_and_signals(node):
    async def body(client):
        status = await ended(client, await started(client, "sh", "-c", "exit 3"))
        assert (status.exit_code, status.signal, status.reason) == (3, 0, "Error")
        status = await ended(client, await started(client, "true"))
        assert (status.exit_code, status.reason) == (0, "Completed")
        assert status.created_at <= status.started_at <= status.finished_at
        main = await started(client, "sleep", "1000")
        await client.kill_container(main, signal.SIGKILL)
        status = await ended(client, main)
        assert (status.exit_code, status.signal) == (137, 9)

    node.run(body)


def test_stop_waits_for_the_grace_period_then_kills(node):
    async def body(client):
        polite = await started(client, "sh", "-c", "trap 'exit 5' TERM; while :; do echo ready; sleep 0.01; done")
        streams = await client.attach(polite)
        await read_until(streams.stdout, b"ready\n")
        streams.close()
        await client.stop_container(polite, 10)
        assert (await client.container_status(polite)).exit_code == 5
        deaf = await started(client, "sleep", "1000")  # pid 1 without a handler ignores SIGTERM
        await client.stop_container(deaf, 0.05)
        assert (await client.container_status(deaf)).exit_code == 137
        await client.stop_container(deaf, 1)

    node.run(body)


def test_exec_streams_are_apart_and_stdin_ends(node):
    async def body(client):
        main = await started(client, "sleep", "1000")
        streams = await client.exec(main, ["sh", "-c", "cat; echo oops >&2; exit 4"], stdin=True)
        os.write(streams.stdin, b"hello")
        os.close(streams.stdin)
        streams.stdin = -1
        assert await read_all(streams.stdout) == b"hello"
        assert await read_all(streams.stderr) == b"oops\n"
        assert await streams.wait() == 4
        streams.close()

    node.run(body)


def test_exec_with_a_terminal_and_resize(node):
    async def body(client):
        main = await started(client, "sleep", "1000")
        streams = await client.exec(main, ["sh"], tty=True, stdin=True, width=90, height=20)
        os.write(streams.stdin, b"stty size; tty\n")
        assert b"20 90" in await read_until(streams.stdout, b"/dev/pts/0\r\n")
        await streams.resize(100, 30)
        os.write(streams.stdin, b"stty size; exit 9\n")
        assert b"30 100" in await read_all(streams.stdout)
        assert await streams.wait() == 9
        streams.close()

    node.run(body)


def test_a_terminal_that_is_hung_up_ends_its_shell(node):
    async def body(client):
        main = await started(client, "sleep", "1000")
        streams = await client.exec(main, ["sh"], tty=True, stdin=True)
        os.write(streams.stdin, b"echo here\n")
        await read_until(streams.stdout, b"here\r\n")
        streams.close()
        assert await asyncio.wait_for(streams.wait(), 5) in (0, 129)

    node.run(body)


def test_attach_sees_and_types(node):
    async def body(client):
        main = await started(client, "sh", stdin=True, tty=True, log_path="/var/log/pods/tty/0.log")
        one, two = await client.attach(main, stdin=True), await client.attach(main)
        os.write(one.stdin, b"echo seen-$((40+2))\n")
        assert b"seen-42" in await read_until(one.stdout, b"seen-42")
        assert b"seen-42" in await read_until(two.stdout, b"seen-42")
        await one.resize(77, 11)
        os.write(one.stdin, b"stty size; exit 6\n")
        assert b"11 77" in await read_all(two.stdout)
        assert await one.wait() == 6
        one.close()
        two.close()
        assert "seen-42" in node.host_path("/var/log/pods/tty/0.log").read_text()

    node.run(body)


def test_a_client_that_does_not_read_holds_nobody_up(node):
    async def body(client):
        main = await started(client, "sh", "-c", "head -c 20000000 /dev/zero | tr '\\0' 'x'; echo; echo done",
                           log_path="/var/log/pods/loud/0.log")
        streams = await client.attach(main)
        status = await asyncio.wait_for(ended(client, main), 20)
        assert status.exit_code == 0
        log = node.host_path("/var/log/pods/loud/0.log").read_bytes()
        assert log.endswith(b"stdout F done\n")
        assert log.count(b"x") == 20_000_000
        assert log.count(b" stdout P ") == 20_000_000 // 16384
        streams.close()

    node.run(body)


def test_stdin_once_ends_the_container(node):
    async def body(client):
        main = await started(client, "cat", stdin=True, stdin_once=True)
        streams = await client.attach(main, stdin=True)
        os.write(streams.stdin, b"in and out\n")
        assert await read_until(streams.stdout, b"\n") == b"in and out\n"
        os.close(streams.stdin)
        streams.stdin = -1
        assert await streams.wait() == 0
        streams.close()

    node.run(body)


def test_exec_sync_times_out(node):
    async def body(client):
        from netlab.errors import TemporaryError
        main = await started(client, "sleep", "1000")
        with pytest.raises(TemporaryError, match="timed out after"):
            await client.exec_sync(main, ["sleep", "1000"], timeout=0.05)
        assert "sleep 1000" not in (await output(client, main, "ps")).replace("sleep 1000", "", 1)

    node.run(body)


def test_mounts_readonly_sub_path_and_links_that_lead_out(node):
    volume = node.host_path("/var/volume")
    (volume / "sub").mkdir(parents=True, exist_ok=True)
    (volume / "file").write_text("content")
    (volume / "sub/inner").write_text("inner")
    if not (volume / "evil").is_symlink():
        (volume / "evil").symlink_to("/etc")

    async def body(client):
        main = await started(client, "sleep", "1000", mounts=(
            Mount(container_path="/data", host_path="/var/volume"),
            Mount(container_path="/data/nested", host_path="/var/volume/sub", readonly=True),
            Mount(container_path="/var/run/secrets/token", host_path="/var/volume/file", readonly=True),
            Mount(container_path="/one", host_path="/var/volume", sub_path="sub/inner"),
            Mount(container_path="/etc/hosts", host_path="/var/volume/file")))
        assert await output(client, main, "cat", "/data/nested/inner") == "inner"
        assert await output(client, main, "cat", "/one") == "inner"
        assert await output(client, main, "cat", "/etc/hosts") == "content"
        assert await output(client, main, "cat", "/run/secrets/token") == "content"
        await output(client, main, "touch", "/data/new")
        assert (volume / "new").exists()
        assert "Read-only" in (await client.exec_sync(main, ["touch", "/data/nested/x"])).stderr.decode()
        assert not os.path.exists("/run/secrets/token")
        with pytest.raises(StartRefused, match="subPath"):  # /etc inside the volume, which has none
            await started(client, "true", mounts=(Mount(container_path="/x", host_path="/var/volume",
                                                        sub_path="evil/passwd"),))
        with pytest.raises(Exception, match="No such file"):
            await started(client, "true", mounts=(Mount(container_path="/x", host_path="/nosuch"),))

    node.run(body)


def test_environment_directory_and_files_of_the_pod(node):
    async def body(client):
        main = await started(client, "sleep", "1000", working_dir="/made/on/demand", envs=(("A", "1"), ("A", "2")),
                           sandbox=pod(name="p", hostname="named", dns=Dns(
                               servers=("10.96.0.10",), searches=("a.svc", "svc"), options=("ndots:5",))))
        assert await output(client, main, "sh", "-c", "echo $A $HOSTNAME $HOME $PWD") == "2 named /root /made/on/demand\n"
        assert await output(client, main, "cat", "/etc/resolv.conf") == (
            "search a.svc svc\nnameserver 10.96.0.10\noptions ndots:5\n")
        assert await output(client, main, "cat", "/etc/hostname") == "named\n"

    node.run(body)


def test_a_readonly_root_and_masked_files(node):
    async def body(client):
        main = await started(client, "sleep", "1000", security=Security(readonly_rootfs=True))
        assert "Read-only" in (await client.exec_sync(main, ["touch", "/x"])).stderr.decode()
        assert "Read-only" in (await client.exec_sync(
            main, ["sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward"])).stderr.decode()
        main = await started(client, "sleep", "1000", security=Security(privileged=True))
        await output(client, main, "sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward")

    node.run(body)


def test_capabilities(node):
    async def held(client, **security):
        main = await started(client, "sleep", "1000", security=Security(**security))
        text = await output(client, main, "cat", "/proc/self/status")
        return {name: int(value, 16) for name, value in re.findall(r"Cap(Eff|Bnd):\s+(\w+)", text)}, text

    async def body(client):
        default, _ = await held(client)
        assert default == {"Eff": 0xA80425FB, "Bnd": 0xA80425FB}  # docker's, to the bit
        more, _ = await held(client, add_capabilities=("NET_ADMIN",), drop_capabilities=("CAP_MKNOD",))
        assert more["Eff"] == 0xA80425FB & ~(1 << 27) | 1 << 12
        none, text = await held(client, drop_capabilities=("ALL",), no_new_privs=True)
        assert none == {"Eff": 0, "Bnd": 0}
        assert re.search(r"NoNewPrivs:\s+1", text)
        with pytest.raises(UsageError, match="unknown capability"):
            await held(client, add_capabilities=("FLY",))

    node.run(body)


@needs_uids
def test_users_and_groups(node):
    async def body(client):
        main = await started(client, "sleep", "1000", security=Security(
            run_as_user=1000, run_as_group=2000, supplemental_groups=(3000,)))
        assert await output(client, main, "id") == "uid=1000 gid=2000 groups=2000,3000\n"
        await output(client, main, "sh", "-c", "echo x > /dev/stdout")
        main = await started(client, "sleep", "1000", image="netlab/agnhost",
                           security=Security(run_as_username="www-data"))
        assert (await output(client, main, "id", "-un")).strip() == "www-data"
        assert (await client.exec_sync(main, ["agnhost", "loop"])).exit_code == 7
        with pytest.raises(StartRefused, match="unable to find user nobodyatall"):
            await started(client, "true", security=Security(run_as_username="nobodyatall"))

    node.run(body)


@pytest.mark.skipif(not ROOTLESS, reason="root has every uid")
def test_users_that_do_not_exist_are_refused_by_name(node):
    async def body(client):
        box = await client.run_pod_sandbox(pod())
        with pytest.raises(Unsupported, match="user 1000 does not exist here") as error:
            await client.create_container(box.id, container("true", security=Security(run_as_user=1000)))
        assert "uidmap" in error.value.hint

    node.run(body)


@pytest.mark.skipif(ROOTLESS or version() == "none", reason="no cgroups")
def test_limits_figures_and_the_oom_killer(node):
    async def body(client):
        main = await started(client, "sh", "-c", "x=$(head -c 200000000 /dev/zero | tr '\\0' x); echo $x",
                           resources=Resources(memory_limit=16 << 20))
        status = await ended(client, main)
        assert status.reason == "OOMKilled", status
        assert status.exit_code == 137
        main = await started(client, "sleep", "1000", resources=Resources(pids_limit=3))
        stats = await client.container_stats(main)
        assert 0 < stats.memory_working_set < 64 << 20
        assert stats.processes == 1
        assert (await client.exec_sync(main, ["sh", "-c", "sleep 9 & sleep 9 & sleep 9 & sleep 9 &"])).exit_code != 0

    node.run(body)


def test_processes_are_shared_where_asked(node):
    async def body(client):
        box = await client.run_pod_sandbox(pod(share_process_namespace=True))
        one = await client.create_container(box.id, container("sleep", "1001"))
        two = await client.create_container(box.id, container("sleep", "1002", name="two"))
        await client.start_container(one)
        await client.start_container(two)
        seen = await output(client, two, "ps")
        assert "/pause" in seen
        assert "sleep 1001" in seen
        assert re.search(r"^ *1 root +\S*pause", seen, re.MULTILINE)
        await client.stop_container(one, 5)
        assert "sleep 1001" not in await output(client, two, "ps")

    node.run(body)


def test_one_container_joins_anothers_processes(node):
    async def body(client):
        box = await client.run_pod_sandbox(pod())
        one = await client.create_container(box.id, container("sleep", "1001"))
        two = await client.create_container(box.id, container("sleep", "1002", name="debug", target_id=one))
        with pytest.raises(StartRefused, match="does not run"):
            await client.start_container(two)
        await client.start_container(one)
        three = await client.create_container(box.id, container("sleep", "1003", name="debug", target_id=one))
        await client.start_container(three)
        seen = await output(client, three, "ps")
        assert "sleep 1001" in seen
        assert "sleep 1003" in seen
        await client.remove_pod_sandbox(box.id)

    node.run(body)


def test_images_that_are_not_there(node):
    async def body(client):
        box = await client.run_pod_sandbox(pod())
        for call in (client.pull_image("redis:7"), client.create_container(box.id, container("x", image="redis:7"))):
            with pytest.raises(ImageNotFound, match="netlab image load FILE") as error:
                await call
            assert "netlab/agnhost" in str(error.value)
        with pytest.raises(UsageError, match="invalid reference format"):
            await client.pull_image("Not An Image")
        assert await client.image_status("redis:7") is None
        found = await client.image_status("docker.io/library/busybox:1.36")
        assert found.builtin
        assert await client.pull_image("busybox") == found.id

    node.run(body)


def test_unknown_ids(node):
    async def body(client):
        for call in (client.container_status("x"), client.start_container("x"), client.pod_sandbox_status("x"),
                     client.exec("pod/default/nosuch", ["true"]), client.open_place("pod/x")):
            with pytest.raises(NotFound):
                await call
        await client.remove_container("x")
        await client.stop_pod_sandbox("x")
        with pytest.raises(UsageError, match="no call"):
            await client.call("nosuch")

    node.run(body)
