"""Foreign programs in the place of ours: a binary, an image, a CNI plugin; and what can't be one."""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
import tarfile
from pathlib import Path

import pytest

from netlab.errors import UsageError
from netlab.lab import swap
from tests.lab.labs import ROOT

PROXY = f"""#!/bin/sh
# A foreign kube-proxy, as far as a lab can tell: it tells its arguments and is another process image.
echo "stand-in kube-proxy $*"
PYTHONPATH={ROOT} exec {sys.executable} -s -P -m netlab.programs kube-proxy "$@"
"""
PLUGIN = f"""#!/bin/sh
echo "$CNI_COMMAND $CNI_IFNAME" >> /var/lib/cni/stand-in
PYTHONPATH={ROOT} exec {sys.executable} -s -P -m netlab.programs bridge
"""
DNS = """#!/bin/busybox sh
echo "stand-in coredns $*"
/bin/busybox httpd -p 8080 -h /www
/bin/busybox httpd -p 8181 -h /www
exec /bin/busybox nc -l -p 53
"""


def script(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


def dns_image(folder: Path) -> Path:
    """Write an image that is ready where CoreDNS is, and no more: busybox and a script, no program of ours."""
    layer = folder / "layer.tar"
    with tarfile.open(layer, "w") as tar:
        tar.add("/bin/busybox", "bin/busybox")
        for name, text, mode in (("coredns", DNS, 0o755), ("www/ready", "OK", 0o644), ("www/health", "OK", 0o644)):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(text), mode
            tar.addfile(entry, io.BytesIO(text.encode()))
    digest = hashlib.sha256(layer.read_bytes()).hexdigest()
    config = {"architecture": {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine], "os": "linux",
              "config": {"Entrypoint": ["/coredns"]}, "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "manifest.json").write_text(json.dumps(
        [{"Config": "config.json", "RepoTags": ["example.org/dns:1"], "Layers": ["layer.tar"]}]))
    with tarfile.open(folder / "dns.tar", "w") as tar:
        for name in ("config.json", "manifest.json", "layer.tar"):
            tar.add(folder / name, name)
    return folder / "dns.tar"


@pytest.mark.lab
@pytest.mark.root
def test_foreign_programs_take_their_places(netlab, tmp_path):
    name = f"u{os.getpid() % 100000}"
    netlab("up", "services", "--name", name, "--nodes", "2", "--no-kubeconfig", "-q",
           "--use", f"kube-proxy={script(tmp_path / 'proxy', PROXY)}", "--use", f"coredns={dns_image(tmp_path)}",
           "--use", f"bridge={script(tmp_path / 'bridge', PLUGIN)}")

    def said(*words: str) -> str:
        return netlab("--name", name, *words).stdout

    try:
        logs = said("kubectl", "-n", "kube-system", "logs", "-l", "k8s-app=kube-proxy", "--tail=20")
        for node in ("control-plane", "worker1"):  # the same DaemonSet, the same flags
            assert f"stand-in kube-proxy --config=/var/lib/kube-proxy/config.conf --hostname-override={node}" in logs
        assert "KUBE-SVC-" in said("exec", "node/worker1", "--", "iptables-save", "-t", "nat")
        pod = json.loads(said("kubectl", "-n", "kube-system", "get", "pods", "-l", "k8s-app=kube-dns", "-o", "json"))
        assert pod["items"][0]["spec"]["containers"][0]["image"] == "example.org/dns:1"
        assert "stand-in coredns -conf /etc/coredns/Corefile" in said("kubectl", "-n", "kube-system", "logs",
                                                                      "deployment/coredns")
        assert "ADD eth0" in said("exec", "node/worker1", "--", "cat", "/var/lib/cni/stand-in")
        assert "web-" in said("exec", "node/worker1", "--", "sh", "-c", "curl -s -m 3 127.0.0.1:30080/hostname")
    finally:
        netlab("down", "--name", name)
    assert netlab.leftovers(name) == []


@pytest.mark.parametrize(("text", "expected"), [
    ("kube-proxy", "want COMPONENT=PATH"),
    ("kube-proxi=/bin/sh", 'there is no component "kube-proxi"'),
    ("kube-proxy=/nowhere", "there is no file /nowhere"),
    ("kube-proxy={folder}/plain", "neither an image archive nor executable"),
    ("kubelet={folder}/empty.tar", "kubelet is swapped by a binary"),
])
def test_what_cannot_stand_in(tmp_path, text, expected):
    (tmp_path / "plain").write_text("x")
    tarfile.open(tmp_path / "empty.tar", "w").close()
    with pytest.raises(UsageError, match=expected):
        swap.parse(text.format(folder=tmp_path))


def test_kinds():
    assert swap.parse("kube-proxy=/bin/sh").kind == "binary"
    assert swap.parse("bridge=/bin/sh").kind == "plugin"
