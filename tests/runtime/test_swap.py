"""A component's binary in place of ours."""

import shutil

import pytest

from netlab.errors import StartRefused
from netlab.kernel import cgroup
from netlab.runtime.cri import Mount
from tests.runtime.conftest import MARK, container, ended, make, pod, started

pytestmark = pytest.mark.root


def test_another_binary_stands_in_for_a_program(tmp_path):
    mark = f"{MARK}-use"
    use = {"agnhost": shutil.which("echo"), "kubelet": shutil.which("sleep")}
    node = make(tmp_path, "worker7", mark=mark, use=use)

    async def body(client):
        for argv in (("agnhost", "from", "elsewhere"), ("/agnhost", "from", "elsewhere")):
            main = await started(client, *argv, image="netlab/agnhost", log_path="/var/log/swap.log")
            assert (await ended(client, main)).exit_code == 0
        box = await client.run_pod_sandbox(pod())
        await client.create_container(box.id, container(image="netlab/agnhost"))

        node.host_path("/opt/upstream").mkdir(parents=True)
        volume = Mount(container_path="/upstream", host_path="/opt/upstream")
        box = await client.run_pod_sandbox(pod())
        lost = await client.create_container(box.id, container("/upstream/agnhost", image="netlab/agnhost", mounts=(volume,)))
        with pytest.raises(StartRefused, match="stat /upstream/agnhost: no such file"):
            await client.start_container(lost)

    node.run(body)
    lines = node.host_path("/var/log/swap.log").read_text().splitlines()
    assert [line.split(" F ")[1] for line in lines] == ["from elsewhere"] * 2
    assert node.host_path("/var/log/kubelet.log").read_text().startswith("kubelet: ")  # sleep, of the flag --v=2
    node.kill()
    cgroup.remove(mark)
