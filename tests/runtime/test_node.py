"""Nodes and sandboxes: what a node is made of, what survives what, and that nothing is left behind."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from netlab.errors import KernelError, TemporaryError
from netlab.kernel import cgroup, netns, process
from tests.runtime.conftest import (
    MARK,
    ROOTLESS,
    container,
    eventually,
    make,
    output,
    pod,
    read_all,
    started,
)

pytestmark = pytest.mark.root


async def in_node(client, *argv: str) -> str:
    streams = await client.exec("node", argv)
    text = (await read_all(streams.stdout)).decode()
    assert await streams.wait() == 0, text
    streams.close()
    return text


def test_a_node_is_a_machine_of_its_own(node):
    async def body(client):
        assert await in_node(client, "hostname") == "worker1\n"
        seen = await in_node(client, "ps", "-eo", "pid,args")
        assert "    1 netlab-shim: test/worker1" in seen
        assert "kubelet --v=2" in seen
        mounts = await in_node(client, "cat", "/proc/mounts")
        assert "/usr" in mounts
        assert not [line for line in mounts.splitlines() if line.split()[1].startswith(("/home", "/boot"))]
        assert (await in_node(client, "ls", "/run/netlab/shim.sock")).strip()
        await in_node(client, "sh", "-c", "echo kept > /etc/kept; echo kept > /var/lib/kept; echo kept > /root/kept")
        assert node.host_path("/etc/kept").read_text() == "kept\n"
        await in_node(client, "sh", "-c", "! touch /usr/x 2>/dev/null")
        assert (await client.version())["node"] == "worker1"

    node.run(body)
    assert "kubelet --v=2" in node.host_path("/var/log/kubelet.log").read_text()


def test_sandboxes_share_their_namespaces_and_not_the_nodes(node):
    async def body(client):
        box = await client.run_pod_sandbox(pod(labels={"app": "web", "x": "y"}))
        assert box.state == "ready"
        ids = [await client.create_container(box.id, container("sleep", "1000", name=name)) for name in ("a", "b")]
        for main in ids:
            await client.start_container(main)
        links = [await output(client, main, "sh", "-c", "for n in net uts ipc pid mnt; do readlink /proc/self/ns/$n; done")
                 for main in ids]
        one, two = (text.split() for text in links)
        assert one[:3] == two[:3]
        assert one[3:] != two[3:]
        assert one[0] == f"net:[{box.netns_inode}]"
        assert await in_node(client, "stat", "-Lc", "%i", box.netns_path) == f"{box.netns_inode}\n"
        await output(client, ids[0], "touch", "/dev/shm/shared")
        await output(client, ids[1], "ls", "/dev/shm/shared")
        assert [s.id for s in await client.list_pod_sandboxes({"app": "web"})] == [box.id]
        await client.remove_pod_sandbox(box.id)
        assert await client.list_pod_sandboxes({"app": "web"}) == []
        assert await client.list_containers(box.id) == []

    node.run(body)


def test_host_network_is_the_nodes(node):
    async def body(client):
        box = await client.run_pod_sandbox(pod(host_network=True, host_pid=True))
        assert box.host_network
        main = await client.create_container(box.id, container("sleep", "1000"))
        await client.start_container(main)
        own = (await in_node(client, "readlink", "/proc/self/ns/net")).strip()
        assert (await output(client, main, "readlink", "/proc/self/ns/net")).strip() == own
        assert "netlab-shim" in await output(client, main, "ps")
        assert (await output(client, main, "hostname")) == "worker1\n"
        await client.remove_pod_sandbox(box.id)

    node.run(body)


def test_a_dead_pause_is_a_dead_sandbox(node):
    async def body(client):
        events = []
        stopped = asyncio.Event()

        async def listen():
            async for event in client.events():
                events.append(event)
                if event.type == "sandbox_stopped":
                    stopped.set()

        listener = asyncio.create_task(listen())
        await client.version()
        box = await client.run_pod_sandbox(pod())
        assert "/pause" in await in_node(client, "ps", "-o", "args=", "-p", str(box.pid))
        main = await client.create_container(box.id, container("sleep", "1000"))
        await client.start_container(main)
        await in_node(client, "kill", str(box.pid))  # SIGTERM: pause ends by itself
        await asyncio.wait_for(stopped.wait(), 5)
        assert (await client.pod_sandbox_status(box.id)).state == "notready"
        assert (await client.container_status(main)).state == "running"
        again = await client.create_container(box.id, container("true", name="b"))
        with pytest.raises(TemporaryError, match="not ready"):
            await client.start_container(again)
        await client.remove_pod_sandbox(box.id)
        mine = [(e.type, e.container_id != "") for e in events if e.sandbox_id == box.id]
        assert mine[:4] == [("sandbox_ready", False), ("container_created", True), ("container_started", True),
                            ("sandbox_stopped", False)]
        listener.cancel()

    node.run(body)


def test_the_kubelet_comes_back_and_finds_what_runs(node):
    async def body(client):
        main = await started(client, "sleep", "1000")
        before = await in_node(client, "cat", "/run/kubelet.pid")
        await in_node(client, "sh", "-c", f"kill -9 {before}; : > /run/kubelet.pid")
        now = await in_node(client, "sh", "-c", "until [ -s /run/kubelet.pid ]; do :; done; cat /run/kubelet.pid")
        assert (await client.container_status(main)).state == "running"
        assert f"\n{int(now):7d} kubelet" in await in_node(client, "ps", "-eo", "pid,args")

    node.run(body)


def test_places_are_handed_out_by_descriptor(node):
    async def body(client):
        box = await client.run_pod_sandbox(pod(name="traced"))
        entries = await client.netns_fds()
        by_place = {entry.place: entry for entry in entries}
        assert netns.inode(by_place["pod/default/traced"].fd) == box.netns_inode
        assert by_place["pod/default/traced"].info["sandbox_id"] == box.id
        assert by_place["node/worker1"].info["inode"] == netns.inode(by_place["node/worker1"].fd)
        for entry in entries:
            os.close(entry.fd)
        for place in ("node", "node/worker1", "pod/traced", "pod/default/traced"):
            pidfd = await client.open_place(place)
            assert process.send(pidfd, 0)
            os.close(pidfd)
        await client.remove_pod_sandbox(box.id)

    node.run(body)


def test_killing_the_shim_leaves_nothing(tmp_path):
    def marked() -> list[int]:
        found = []
        for entry in Path("/proc").glob("[0-9]*/mountinfo"):
            try:
                if str(tmp_path) in entry.read_text():
                    found.append(int(entry.parent.name))
            except OSError:
                continue
        return found

    node = make(tmp_path, "worker9", mark=f"{MARK}-9")

    async def body(client):
        for _ in range(3):
            await started(client, "sh", "-c", "sleep 1000 & sleep 1000", log_path="/var/log/x.log")

    node.run(body)
    assert len(marked()) > 3
    node.kill()
    eventually(lambda: not marked())
    if not ROOTLESS:
        assert list(Path("/sys/fs/cgroup").glob(f"**/{MARK}-9/worker9"))
        cgroup.remove(f"{MARK}-9")
        assert not list(Path("/sys/fs/cgroup").glob(f"**/{MARK}-9"))
    node = make(tmp_path, "worker9", mark=f"{MARK}-9")  # in the same place again
    node.kill()
    cgroup.remove(f"{MARK}-9")


def test_sigterm_shuts_a_node_down(tmp_path):
    node = make(tmp_path, "worker8", mark=f"{MARK}-8")

    async def body(client):
        main = await started(client, image="netlab/agnhost", log_path="/var/log/agnhost.log")
        process.send(node.pidfd, signal.SIGTERM)
        with pytest.raises(TemporaryError):
            while True:
                await client.container_status(main)

    node.run(body)
    node.kill()
    cgroup.remove(f"{MARK}-8")


def test_a_node_that_can_not_start_says_why(tmp_path):
    with pytest.raises(KernelError, match=r"node bad did not start: .*No such file"):
        make(tmp_path, "bad", mark=f"{MARK}-bad", use={"kube-proxy": "/nosuch/binary"})
    cgroup.remove(f"{MARK}-bad")


def test_many_sandboxes_at_once(node):
    async def body(client):
        boxes = await asyncio.gather(*(client.run_pod_sandbox(pod()) for _ in range(20)))
        ids = await asyncio.gather(*(client.create_container(b.id, container("sleep", "1000")) for b in boxes))
        await asyncio.gather(*(client.start_container(main) for main in ids))
        assert len({b.netns_inode for b in boxes}) == 20
        assert all(s.state == "running" for s in await asyncio.gather(*(client.container_status(i) for i in ids)))
        await asyncio.gather(*(client.remove_pod_sandbox(b.id) for b in boxes))
        left = await in_node(client, "ls", "/run/netlab/sandboxes")
        assert not {b.id[:12] for b in boxes} & set(left.split())

    node.run(body)


def test_a_sandbox_that_can_not_be_made_leaves_nothing(node):
    async def body(client):
        async def counts():
            text = await in_node(
                client, "sh", "-c", "ls /proc/1/fd | wc -l; pgrep -c pause; ls /run/netlab/sandboxes | wc -l")
            return [int(word) for word in text.split()]

        home, before = await in_node(client, "readlink", "/proc/1/ns/net"), await counts()
        for _ in range(20):
            with pytest.raises(KernelError, match=r"can't set the sysctl net.nosuch=1"):
                await client.run_pod_sandbox(pod(sysctls={"net.ipv4.ip_forward": "1", "net.nosuch": "1"}))
        assert await in_node(client, "readlink", "/proc/1/ns/net") == home
        assert all(now < then + 10 for now, then in zip(await counts(), before, strict=True))  # others come and go
        box = await client.run_pod_sandbox(pod(sysctls={"net.ipv4.ip_unprivileged_port_start": "7"}))
        main = await client.create_container(box.id, container("sleep", "1000"))
        await client.start_container(main)
        assert await output(client, main, "cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start") == "7\n"
        await client.remove_pod_sandbox(box.id)

    node.run(body)


def test_orphans_of_a_shared_process_namespace_are_reaped_by_pause(node):
    async def body(client):
        box = await client.run_pod_sandbox(pod(share_process_namespace=True))
        main = await client.create_container(box.id, container("sleep", "1000"))
        await client.start_container(main)
        await output(client, main, "sh", "-c", "(sleep 0.01 &)")
        assert "Z" not in await output(
            client, main, "sh", "-c", "while pgrep -f '[s]leep 0.01' >/dev/null; do :; done; ps -o stat")
        await client.remove_pod_sandbox(box.id)

    node.run(body)
