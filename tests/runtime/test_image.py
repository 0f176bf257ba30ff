"""Built-in images: by which names they answer, and what they are made of."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from netlab.errors import ImageNotFound
from netlab.runtime import image as module
from netlab.runtime.image import Images

PROGRAMS = ("kube-proxy", "netd", "agnhost", "bridge", "kubelet")


@pytest.fixture
def images(tmp_path):
    return Images(tmp_path / "images", None, PROGRAMS)


@pytest.mark.parametrize(("name", "tag"), [
    ("netlab/agnhost", "docker.io/netlab/agnhost:latest"),
    ("netlab/agnhost:1.2", "docker.io/netlab/agnhost:latest"),
    ("k8s.gcr.io/e2e-test-images/agnhost:2.21", "docker.io/netlab/agnhost:latest"),
    ("registry.k8s.io/e2e-test-images/agnhost:2.53", "docker.io/netlab/agnhost:latest"),
    ("netlab/kube-proxy", "docker.io/netlab/kube-proxy:latest"),
    ("registry.k8s.io/pause:3.10", "docker.io/netlab/pause:latest"),
    ("netlab/pause", "docker.io/netlab/pause:latest"),
    ("busybox:1.36.1", "docker.io/library/busybox:latest"),
    ("docker.io/library/nginx", "docker.io/library/nginx:latest"),
])
def test_names(images, name, tag):
    if tag.split("/")[1] == "library" and not shutil.which(tag.split("/")[-1].split(":")[0], path=module.PATH):
        pytest.skip("not installed")
    found = images.find(name)
    assert found.tags == (tag,)
    assert found.builtin
    assert images.find(found.id) is found


@pytest.mark.parametrize("name", ["redis", "netlab/bridge", "netlab/nosuch", "other/busybox", "netlab/kubelet",
                                  "netlab/agnhost@sha256:" + "0" * 64])
def test_what_there_is_not(images, name):
    with pytest.raises(ImageNotFound, match="netlab/agnhost, "):
        images.find(name)


def test_a_missing_package_is_named(images, monkeypatch):
    monkeypatch.setattr(module, "PATH", "/nowhere")
    with pytest.raises(ImageNotFound, match="apt install nginx-light"):
        images.find("nginx:1.27")


def test_every_applet_of_busybox_is_a_command(images):
    binary = shutil.which("busybox", path=module.PATH)
    if binary is None:
        pytest.skip("busybox is not installed")
    root = images.find("busybox").root
    applets = subprocess.run([binary, "--list"], capture_output=True, text=True, check=True).stdout.split()
    there = {path.name for directory in ("bin", "opt/busybox") for path in root.glob(f"{directory}/*")}
    assert set(applets) <= there
    assert {"wget", "nslookup", "nc", "sh"} <= there


def test_a_busybox_that_needs_libraries_gets_the_hosts(images, tmp_path, monkeypatch):
    script = tmp_path / "bin/busybox"
    script.parent.mkdir()
    script.write_text("#!/lib/ld-fake\n")
    script.chmod(0o755)
    monkeypatch.setattr(module, "_which", lambda name: str(script))
    monkeypatch.setattr(module.process, "run_sync", lambda argv: module.process.Finished(0, b"sh\nls\n", b""))
    found = images.find("busybox")
    assert (found.root / "opt/busybox/ls").readlink() == script
    assert dict(found.env)["PATH"].startswith("/opt/busybox:")
    assert ("/usr", "/usr") in found.shared


def test_programs_can_be_run_by_path(images):
    found = images.find("netlab/agnhost")
    wrapper = found.root / "agnhost"
    assert str(wrapper.readlink()) == "/opt/netlab/bin/agnhost"
    text = (found.root / "opt/netlab/bin/agnhost").read_text()
    assert "netlab.programs" in text
    compile(text, "wrapper", "exec")


def test_the_host_does_not_show(images):
    root = images.find("netlab/agnhost").root
    assert not (root / "etc/shadow").exists()
    assert not (root / "etc/machine-id").exists()
    assert "root:x:0:0" in (root / "etc/passwd").read_text()
    assert not list((root / "home").iterdir())
