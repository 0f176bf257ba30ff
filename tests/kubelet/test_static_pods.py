"""Static Pods from a directory, and their mirrors."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import ClassVar

import pytest
import yaml

from netlab.api import meta
from netlab.errors import ManifestError
from netlab.kernel.inotify import Inotify
from netlab.kubelet import mirrors, spec
from netlab.kubelet.static_pods import StaticPods, read
from tests.kubelet.builders import a_container

MANIFEST = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "etcd", "namespace": "kube-system"},
            "spec": {"hostNetwork": True, "containers": [a_container("etcd")]}}
TEXT = yaml.safe_dump(MANIFEST)


def test_a_manifest_becomes_this_nodes_pod() -> None:
    pod = read("/m/etcd.yaml", TEXT.encode(), "node1", 1.5)
    assert (meta.name(pod), meta.namespace(pod), pod["spec"]["nodeName"]) == ("etcd-node1", "kube-system", "node1")
    assert meta.annotations(pod)[spec.CONFIG_HASH] == meta.uid(pod)
    assert meta.annotations(pod)[spec.CONFIG_SOURCE] == "file"
    assert {"effect": "NoExecute", "operator": "Exists"} in pod["spec"]["tolerations"]
    assert spec.is_static(pod)
    assert not spec.is_mirror(pod)


def test_the_uid_tells_files_nodes_and_contents_apart_but_not_times() -> None:
    uids = {meta.uid(read(file, text.encode(), node, 1.0)) for file in ("/a", "/b") for node in ("n1", "n2")
            for text in (TEXT, TEXT.replace("etcd:1", "etcd:2"))}
    assert len(uids) == 8
    assert meta.uid(read("/a", TEXT.encode(), "n1", 1.0)) == meta.uid(read("/a", TEXT.encode(), "n1", 2.0))


@pytest.mark.parametrize(("text", "words"), [
    ("{", "not YAML"), ("[]", "not a v1 Pod"), ("kind: Pod", "not a v1 Pod"),
    ("{apiVersion: v1, kind: Pod, metadata: {}}", "needs a name"),
    ("{apiVersion: v1, kind: Pod, metadata: {name: x}}", "needs a spec"),
    ("{apiVersion: v1, kind: Pod, metadata: {name: x}, spec: {containers: [{name: x}]}}", "a name and an image"),
    ("{apiVersion: v1, kind: Pod, metadata: {name: x}, spec: {containers: [{name: x, image: x, resources: {requests: {cpu: many}}}]}}",
     "not a valid Pod"),
])
def test_no_pod(text: str, words: str) -> None:
    with pytest.raises(ManifestError, match=words):
        read("/m/x.yaml", text.encode(), "node1", 0)


def test_the_directory_is_followed(tmp_path: Path) -> None:
    """Files come, change in place, are broken for a while, move out and back; each is noticed well under a second."""
    async def main() -> None:
        changes: asyncio.Queue[list[str]] = asyncio.Queue()
        directory = tmp_path / "manifests"
        pods = StaticPods(directory, "node1", lambda: changes.put_nowait(sorted(meta.name(p) for p in pods.pods.values())))
        stop, inotify = asyncio.Event(), Inotify()
        task = asyncio.create_task(pods.run(stop, inotify))
        await pods.read.wait()
        directory.mkdir()
        (directory / "etcd.yaml").write_text(TEXT)
        (directory / ".hidden.yaml").write_text(TEXT)
        async with asyncio.timeout(3):
            assert await changes.get() == ["etcd-node1"]  # the directory itself is new: seen within a second
        first = next(iter(pods.pods))
        began = asyncio.get_running_loop().time()
        (directory / "etcd.yaml").write_text(TEXT.replace("etcd:1", "etcd:2"))
        assert await changes.get() == ["etcd-node1"]
        assert first not in pods.pods
        (directory / "etcd.yaml").write_text("{")
        (directory / "two.yaml").write_text(TEXT.replace("name: etcd\n  namespace", "name: two\n  namespace"))
        assert await changes.get() == ["etcd-node1", "two-node1"]
        (directory / "two.yaml").rename(tmp_path / "two.yaml")
        assert await changes.get() == ["etcd-node1"]
        (tmp_path / "two.yaml").rename(directory / "two.yaml")
        assert await changes.get() == ["etcd-node1", "two-node1"]
        (directory / "etcd.yaml").unlink()
        assert await changes.get() == ["two-node1"]
        assert asyncio.get_running_loop().time() - began < 0.5
        task.cancel()
        inotify.close()

    asyncio.run(main())


class TestMirrors:
    pod = read("/m/etcd.yaml", TEXT.encode(), "node1", 1.5)
    node: ClassVar = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node1", "uid": "n-uid"}}

    def mirror(self, **metadata: object) -> dict[str, object]:
        made = mirrors.mirror_of(self.pod, self.node)
        made["metadata"] |= {"uid": "m-uid", **metadata}
        return made

    def test_it_shows_the_pod_and_belongs_to_the_node(self) -> None:
        made = mirrors.mirror_of(self.pod, self.node)
        assert "uid" not in made["metadata"]
        assert meta.annotations(made)[spec.CONFIG_MIRROR] == meta.uid(self.pod)
        assert made["metadata"]["ownerReferences"] == [
            {"apiVersion": "v1", "kind": "Node", "name": "node1", "uid": "n-uid", "controller": True}]
        assert "uid" in self.pod["metadata"]

    def test_missing(self) -> None:
        assert mirrors.plan([self.pod], [], set()) == mirrors.Plan(create=(self.pod,))

    def test_there(self) -> None:
        assert mirrors.plan([self.pod], [self.mirror()], set()) == mirrors.Plan()

    def test_deleted_by_someone(self) -> None:
        mirror = self.mirror(deletionTimestamp="2024-01-01T00:00:00Z")
        assert mirrors.plan([self.pod], [mirror], set()) == mirrors.Plan((mirror,), (self.pod,))

    def test_of_another_file(self) -> None:
        other = read("/m/etcd.yaml", TEXT.replace("etcd:1", "etcd:2").encode(), "node1", 1.5)
        assert mirrors.plan([other], [self.mirror()], set()) == mirrors.Plan((self.mirror(),), (other,))

    def test_the_file_is_gone(self) -> None:
        assert mirrors.plan([], [self.mirror()], {meta.uid(self.pod)}) == mirrors.Plan()
        assert mirrors.plan([], [self.mirror()], set()) == mirrors.Plan((self.mirror(),))
