"""The files that a node finds at its first boot: what `kubeadm init` and `kubeadm join` leave behind."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from netlab.lab import etcd, kubeconfig, manifests, plan
from netlab.lab.pki import Authority, KeyPair, Pair, new_key_pair
from netlab.lab.plan import Lab, Node


@dataclass(frozen=True)
class Keys:
    """The keys that all nodes' files are made from, and the administrator's own."""

    ca: Authority
    front_proxy: Authority
    etcd: Authority
    service_accounts: KeyPair
    admin: Pair


def make_keys(*, now: float) -> Keys:
    """Make a new lab's keys; `now` is Unix seconds."""
    ca = Authority("kubernetes", now=now)
    return Keys(ca, Authority("front-proxy-ca", now=now), Authority("etcd-ca", now=now), new_key_pair(),
                ca.client("kubernetes-admin", "system:masters"))


def write(root: Path, lab: Lab, node: Node, keys: Keys) -> None:
    """Write one node's files below `root`, the folder that holds its etc/, var/, root/ and opt/."""
    files: dict[str, bytes | str] = {
        "etc/hostname": node.name + "\n", "etc/hosts": _hosts(lab), "etc/resolv.conf": "options ndots:0\n",
        "etc/kubernetes/pki/ca.crt": keys.ca.pair.certificate,
        "etc/kubernetes/kubelet.conf": kubeconfig.text(kubeconfig.document(
            server=lab.api_url, ca=keys.ca.pair.certificate, name=lab.name, user=f"system:node:{node.name}",
            certificate_file="/var/lib/kubelet/pki/kubelet-client-current.pem")),
        "var/lib/kubelet/config.yaml": manifests.dump(manifests.kubelet_config(lab, node))}
    client = keys.ca.client(f"system:node:{node.name}", "system:nodes")
    files["var/lib/kubelet/pki/kubelet-client-current.pem"] = client.certificate + client.key
    _pair(files, "var/lib/kubelet/pki/kubelet",
          keys.ca.server(f"system:node:{node.name}", names=[node.name, *node.ips]))
    if node.control:
        _control_plane(files, lab, node, keys)
    for folder in ("etc/kubernetes/manifests", "etc/cni/net.d", "opt/cni/bin", "var/lib/cni", "var/log/pods", "root"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        _write(root / name, content)


def kubelet_argv(node: Node) -> tuple[str, ...]:
    """Return the kubelet's flags, as kubeadm's systemd unit has them."""
    labels = ",".join(f"{key}={value}" for key, value in node.own_labels.items())
    return ("--kubeconfig=/etc/kubernetes/kubelet.conf", "--config=/var/lib/kubelet/config.yaml",
            f"--node-ip={','.join(node.ips)}", f"--hostname-override={node.name}",
            *([f"--node-labels={labels}"] if labels else []))


def environment(lab: Lab, node: Node) -> dict[str, str]:
    """Return the environment of the kubelet and of shells in a node: kubectl is found, and finds the API server.

    First comes what the node's runtime brings: `crictl` and `docker` there speak of this node, not of the host.
    """
    folders = ["/run/netlab/bin", str(Path(sys.executable).parent), "/usr/local/sbin", "/usr/local/bin", "/usr/sbin",
               "/usr/bin", "/sbin", "/bin", "/opt/cni/bin"]  # last: `bridge` is iproute2's, not the plugin
    conf = "admin.conf" if node.control else "kubelet.conf"
    return {"PATH": ":".join(folders), "KUBECONFIG": f"/etc/kubernetes/{conf}", "LANG": "C.UTF-8",
            **(etcd.etcdctl(lab) if node.control else {})}


def _control_plane(files: dict[str, bytes | str], lab: Lab, node: Node, keys: Keys) -> None:
    ca = keys.ca
    folder = "etc/kubernetes/pki"
    names = [node.name, "kubernetes", "kubernetes.default", "kubernetes.default.svc",
             f"kubernetes.default.svc.{plan.DOMAIN}", "localhost", *lab.api_services, *node.ips, "127.0.0.1", "::1"]
    _pair(files, f"{folder}/ca", ca.pair)
    _pair(files, f"{folder}/apiserver", ca.server("kube-apiserver", names=names))
    _pair(files, f"{folder}/apiserver-kubelet-client",
          ca.client("kube-apiserver-kubelet-client", "kubeadm:cluster-admins"))
    _pair(files, f"{folder}/front-proxy-ca", keys.front_proxy.pair)
    _pair(files, f"{folder}/front-proxy-client", keys.front_proxy.client("front-proxy-client"))
    if lab.external is not None:
        for place, file in etcd.inside(lab.external):
            files[place.lstrip("/")] = Path(file).read_bytes()
    else:
        _etcd(files, folder, node, keys)
    files[f"{folder}/sa.key"] = keys.service_accounts.private
    files[f"{folder}/sa.pub"] = keys.service_accounts.public
    for name, user, pair in (
            ("admin", "kubernetes-admin", keys.admin),
            ("controller-manager", "system:kube-controller-manager", ca.client("system:kube-controller-manager")),
            ("scheduler", "system:kube-scheduler", ca.client("system:kube-scheduler"))):
        files[f"etc/kubernetes/{name}.conf"] = kubeconfig.text(kubeconfig.document(
            server=lab.api_url, ca=ca.pair.certificate, name=lab.name, user=user, pair=pair))
    files[manifests.AUDIT_POLICY.lstrip("/")] = manifests.dump(manifests.audit_policy())
    for name, pod in manifests.static_pods(lab, node).items():
        files[f"etc/kubernetes/manifests/{name}"] = manifests.dump(pod)


def _etcd(files: dict[str, bytes | str], folder: str, node: Node, keys: Keys) -> None:
    members = [node.name, "localhost", *node.ips, "127.0.0.1", "::1"]
    _pair(files, f"{folder}/etcd/ca", keys.etcd.pair)
    _pair(files, f"{folder}/etcd/server", keys.etcd.peer(node.name, names=members))
    _pair(files, f"{folder}/etcd/peer", keys.etcd.peer(node.name, names=members))
    _pair(files, f"{folder}/etcd/healthcheck-client", keys.etcd.client("kube-etcd-healthcheck-client"))
    _pair(files, f"{folder}/apiserver-etcd-client", keys.etcd.client("kube-apiserver-etcd-client"))


def _pair(files: dict[str, bytes | str], stem: str, pair: Pair) -> None:
    files[f"{stem}.crt"], files[f"{stem}.key"] = pair.certificate, pair.key


def _hosts(lab: Lab) -> str:
    lines = ["127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost ip6-loopback"]
    lines += [f"{ip}\t{node.name}" for node in lab.nodes for ip in node.ips]
    lines += [f"{way.address}\t{way.host}" for way in lab.ways if way.named]
    return "\n".join([*lines, *(f"{numbers.outside}\toutside" for numbers in lab.numbers)]) + "\n"


def _write(path: Path, content: bytes | str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    private = path.suffix in (".key", ".conf", ".pem") and path.name != "resolv.conf"
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600 if private else 0o644)
    with os.fdopen(handle, "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
