"""The store of a lab on paper, pure: the API server's flags about it, and etcd's static Pods as kubeadm writes them."""

from __future__ import annotations

from typing import Any

from netlab.lab.external import PREFIX, External
from netlab.lab.plan import Lab, Node, bracketed

PKI = "/etc/kubernetes/pki"
_CA, _CERTIFICATE, _KEY = f"{PKI}/etcd/ca.crt", f"{PKI}/apiserver-etcd-client.crt", f"{PKI}/apiserver-etcd-client.key"
PORT = 2379
_STEP = 10
"""Between the ports of two members on one node: 2379, 2389, 2399."""


def client_urls(lab: Lab) -> list[str]:
    """Return where the members answer on the control-plane node itself."""
    return [f"https://127.0.0.1:{PORT + _STEP * member}" for member in range(lab.store_members)]


def inside(etcd: External) -> list[tuple[str, str]]:
    """Return where the files of an external etcd lie on a control-plane node: (path there, path of the original).

    They are the places in kubeadm's guide to clusters with an external etcd.
    """
    return [(path, file) for path, file in ((_CA, etcd.ca), (_CERTIFICATE, etcd.certificate), (_KEY, etcd.key)) if file]


def etcdctl(lab: Lab) -> dict[str, str]:
    """Return the environment that leads etcdctl to an external etcd; to the others it knows the way by itself."""
    if lab.external is None:
        return {}
    names = {_CA: "ETCDCTL_CACERT", _CERTIFICATE: "ETCDCTL_CERT", _KEY: "ETCDCTL_KEY"}
    return {"ETCDCTL_ENDPOINTS": ",".join(lab.external.endpoints),
            **{names[path]: path for path, _ in inside(lab.external)}}


def api_server_flags(lab: Lab, node: Node) -> list[str]:
    """Return the API server's flags about its store; the one in its own process answers etcdctl where an etcd would."""
    if lab.external is not None:
        names = {_CA: "cafile", _CERTIFICATE: "certfile", _KEY: "keyfile"}
        return [*(f"--etcd-{names[path]}={path}" for path, _ in inside(lab.external)),
                *([f"--etcd-prefix={lab.external.prefix}"] if lab.external.prefix != PREFIX else []),
                f"--etcd-servers={','.join(lab.external.endpoints)}"]
    if lab.store != "embedded":
        return [f"--etcd-cafile={_CA}", f"--etcd-certfile={_CERTIFICATE}", f"--etcd-keyfile={_KEY}",
                f"--etcd-servers={','.join(client_urls(lab))}"]
    urls = [f"https://{bracketed(ip)}:{PORT}" for ip in ("127.0.0.1", *node.ips)]
    return ["--data-dir=/var/lib/apiserver", f"--store-cert-file={PKI}/etcd/server.crt",
            f"--store-key-file={PKI}/etcd/server.key", f"--store-listen-client-urls={','.join(urls)}",
            f"--store-trusted-ca-file={PKI}/etcd/ca.crt"]


def static_pods(lab: Lab, node: Node) -> dict[str, Any]:
    """Return the static Pods of the store by file name; none where it is in the API server's process."""
    if lab.store in ("embedded", "external"):
        return {}
    return {f"{_name(member)}.yaml": _pod(lab, node, member) for member in range(lab.store_members)}


def _name(member: int) -> str:
    return f"etcd-{member + 1}" if member else "etcd"


def _member(node: Node, member: int) -> str:
    return f"{node.name}-{member + 1}" if member else node.name


def _url(node: Node, port: int) -> str:
    return f"https://{bracketed(node.ip)}:{port}"


def _pod(lab: Lab, node: Node, member: int) -> dict[str, Any]:
    shift = _STEP * member
    client, peer, health = PORT + shift, PORT + 1 + shift, PORT + 2 + shift
    data = f"/var/lib/{_name(member)}"
    cluster = ",".join(f"{_member(node, one)}={_url(node, PORT + 1 + _STEP * one)}" for one in range(lab.store_members))
    command = [
        "etcd", f"--advertise-client-urls={_url(node, client)}", f"--cert-file={PKI}/etcd/server.crt",
        "--client-cert-auth=true", f"--data-dir={data}", f"--initial-advertise-peer-urls={_url(node, peer)}",
        f"--initial-cluster={cluster}", f"--key-file={PKI}/etcd/server.key",
        f"--listen-client-urls=https://127.0.0.1:{client},{_url(node, client)}",
        f"--listen-metrics-urls=http://127.0.0.1:{health}", f"--listen-peer-urls={_url(node, peer)}",
        f"--name={_member(node, member)}", f"--peer-cert-file={PKI}/etcd/peer.crt", "--peer-client-cert-auth=true",
        f"--peer-key-file={PKI}/etcd/peer.key", f"--peer-trusted-ca-file={PKI}/etcd/ca.crt",
        "--snapshot-count=10000", f"--trusted-ca-file={PKI}/etcd/ca.crt"]
    if lab.store == "etcd":
        command += ["--enable-v2=true", "--experimental-watch-progress-notify-interval=5s"]
    probe = {"httpGet": {"host": "127.0.0.1", "path": "/health", "port": health, "scheme": "HTTP"},
             "timeoutSeconds": 15, "periodSeconds": 1}
    name = _name(member)
    return {
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "kube-system",
                     "annotations": {"kubeadm.kubernetes.io/etcd.advertise-client-urls": _url(node, client)},
                     "labels": {"component": "etcd", "tier": "control-plane"}},
        "spec": {
            "containers": [{
                "name": "etcd", "image": lab.images.get("etcd") or "netlab/etcd", "imagePullPolicy": "IfNotPresent",
                "command": command,
                "startupProbe": {**probe, "failureThreshold": 240}, "readinessProbe": {**probe, "failureThreshold": 3},
                "livenessProbe": {**probe, "failureThreshold": 8, "periodSeconds": 10, "initialDelaySeconds": 10},
                "resources": {"requests": {"cpu": "100m", "memory": "100Mi"}},
                "volumeMounts": [{"name": "etcd-data", "mountPath": data},
                                 {"name": "etcd-certs", "mountPath": f"{PKI}/etcd"}]}],
            "hostNetwork": True, "priority": 2000001000, "priorityClassName": "system-node-critical",
            "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
            "volumes": [{"name": "etcd-certs", "hostPath": {"path": f"{PKI}/etcd", "type": "DirectoryOrCreate"}},
                        {"name": "etcd-data", "hostPath": {"path": data, "type": "DirectoryOrCreate"}}]}}
