"""What kubeadm would write: the control plane's static Pods, the kubelet's configuration, the add-ons' objects.

Pure: plans and names in, objects out. https://kubernetes.io/docs/reference/setup-tools/kubeadm/implementation-details/
"""

from __future__ import annotations

import string
from importlib import resources
from typing import Any

import yaml

from netlab.api.patch import merge as merge_patch
from netlab.errors import NotFound
from netlab.lab import etcd, plan
from netlab.lab.plan import Lab, Node

Object = dict[str, Any]

PKI = "/etc/kubernetes/pki"
ADDONS = ("rbac", "kube-proxy", "netd", "coredns")


AUDIT_LOG, AUDIT_POLICY = "/var/log/kubernetes/audit.log", "/etc/kubernetes/audit-policy.yaml"


def audit_policy() -> Object:
    """Return what a lab's API servers log: what anybody writes, and what people and their Pods read.

    Leases and Events are left out, and so is what Kubernetes' own components read: they are many, and always the same.
    """
    quiet: list[Object] = [
        {"level": "None", "resources": [{"group": "coordination.k8s.io"}, {"group": "", "resources": ["events"]},
                                        {"group": "events.k8s.io"}]},
        {"level": "None", "nonResourceURLs": ["/healthz*", "/livez*", "/readyz*", "/version", "/openapi*", "/api*"]},
        *({"level": "None", "verbs": ["get", "list", "watch"], **who} for who in (
            {"userGroups": ["system:nodes", "system:serviceaccounts:kube-system"]},
            {"users": ["system:kube-controller-manager", "system:kube-scheduler", "system:apiserver"]}))]
    return {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"],
            "rules": [*quiet, {"level": "Metadata"}]}


def dump(obj: Any) -> str:
    """Return one YAML document."""
    return yaml.dump(obj, Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper), sort_keys=False)


def static_pods(lab: Lab, node: Node) -> dict[str, Object]:
    """Return the static Pods of a control-plane node by file name in /etc/kubernetes/manifests."""
    return {**etcd.static_pods(lab, node), "kube-apiserver.yaml": _api_server(lab, node),
            "kube-controller-manager.yaml": _controller_manager(lab),
            "kube-scheduler.yaml": _scheduler(lab)}


def _api_server(lab: Lab, node: Node) -> Object:
    command = [
        "kube-apiserver", f"--advertise-address={node.ip}", "--allow-privileged=true", "--anonymous-auth=false",
        "--audit-log-maxbackup=2", "--audit-log-maxsize=32", f"--audit-log-path={AUDIT_LOG}",
        f"--audit-policy-file={AUDIT_POLICY}",
        "--authorization-mode=Node,RBAC", f"--bind-address={node.ip}", f"--client-ca-file={PKI}/ca.crt",
        "--enable-admission-plugins=NodeRestriction",
        "--enable-bootstrap-token-auth=true",
        f"--kubelet-certificate-authority={PKI}/ca.crt",
        f"--kubelet-client-certificate={PKI}/apiserver-kubelet-client.crt",
        f"--kubelet-client-key={PKI}/apiserver-kubelet-client.key",
        "--kubelet-preferred-address-types=InternalIP,ExternalIP,Hostname",
        f"--proxy-client-cert-file={PKI}/front-proxy-client.crt",
        f"--proxy-client-key-file={PKI}/front-proxy-client.key",
        "--requestheader-allowed-names=front-proxy-client",
        f"--requestheader-client-ca-file={PKI}/front-proxy-ca.crt",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-", "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-username-headers=X-Remote-User",
        *etcd.api_server_flags(lab, node),
        f"--secure-port={plan.API_PORT}", f"--service-account-issuer=https://kubernetes.default.svc.{plan.DOMAIN}",
        f"--service-account-key-file={PKI}/sa.pub", f"--service-account-signing-key-file={PKI}/sa.key",
        f"--service-cluster-ip-range={','.join(lab.service_cidrs)}", "--service-node-port-range=30000-32767",
        f"--tls-cert-file={PKI}/apiserver.crt", f"--tls-private-key-file={PKI}/apiserver.key"]
    pod = _static(lab, "kube-apiserver", command, port=plan.API_PORT, host=node.ip, cpu="250m",
                  volumes=[("k8s-certs", PKI, "DirectoryOrCreate", True),
                           ("data", "/var/lib/apiserver", "DirectoryOrCreate", False),
                           ("audit", AUDIT_LOG.rpartition("/")[0], "DirectoryOrCreate", False),
                           ("audit-policy", AUDIT_POLICY, "File", True)],
                  live="/livez", ready="/readyz", startup="/livez")
    pod["metadata"]["annotations"] = {
        "kubeadm.kubernetes.io/kube-apiserver.advertise-address.endpoint":
            f"{plan.bracketed(node.ip)}:{plan.API_PORT}"}
    return pod


def _controller_manager(lab: Lab) -> Object:
    conf = "/etc/kubernetes/controller-manager.conf"
    command = [
        "kube-controller-manager", f"--allocate-node-cidrs={str(not lab.nodes[0].pod_cidrs).lower()}",
        f"--authentication-kubeconfig={conf}",
        f"--authorization-kubeconfig={conf}", "--bind-address=127.0.0.1", f"--client-ca-file={PKI}/ca.crt",
        f"--cluster-cidr={','.join(lab.pod_cidrs)}", f"--cluster-name={lab.name}",
        f"--cluster-signing-cert-file={PKI}/ca.crt", f"--cluster-signing-key-file={PKI}/ca.key",
        "--controllers=*,bootstrapsigner,tokencleaner", f"--kubeconfig={conf}", "--leader-elect=true",
        *_node_masks(lab), f"--requestheader-client-ca-file={PKI}/front-proxy-ca.crt",
        f"--root-ca-file={PKI}/ca.crt", f"--service-account-private-key-file={PKI}/sa.key",
        f"--service-cluster-ip-range={','.join(lab.service_cidrs)}", "--use-service-account-credentials=true"]
    return _static(lab, "kube-controller-manager", command, port=10257, host="127.0.0.1", cpu="200m",
                   volumes=[("k8s-certs", PKI, "DirectoryOrCreate", True), ("kubeconfig", conf, "FileOrCreate", True)],
                   live="/healthz", startup="/healthz")


def _node_masks(lab: Lab) -> list[str]:
    """Return the flags for the size of a node's Pod range: one, or in dual stack one for each family."""
    masks = lab.node_masks()
    if len(masks) == 1:
        return [f"--node-cidr-mask-size={masks[0]}"]
    return [f"--node-cidr-mask-size-ipv{plan.version(cidr)}={mask}"
            for cidr, mask in zip(lab.pod_cidrs, masks, strict=True)]


def _scheduler(lab: Lab) -> Object:
    conf = "/etc/kubernetes/scheduler.conf"
    command = ["kube-scheduler", f"--authentication-kubeconfig={conf}", f"--authorization-kubeconfig={conf}",
               "--bind-address=127.0.0.1", f"--kubeconfig={conf}", "--leader-elect=true"]
    return _static(lab, "kube-scheduler", command, port=10259, host="127.0.0.1", cpu="100m",
                   volumes=[("kubeconfig", conf, "FileOrCreate", True)], live="/livez", ready="/readyz",
                   startup="/livez")


def _static(lab: Lab, name: str, command: list[str], *, port: int, host: str, cpu: str,
            volumes: list[tuple[str, str, str, bool]], live: str, startup: str, ready: str = "") -> Object:
    def probe(path: str, **settings: int) -> Object:
        return {"httpGet": {"host": host, "path": path, "port": port, "scheme": "HTTPS"},
                "timeoutSeconds": 15, **settings}

    container: Object = {
        "name": name, "image": lab.images.get(name) or f"netlab/{name}", "imagePullPolicy": "IfNotPresent",
        "command": command,
        "livenessProbe": probe(live, failureThreshold=8, initialDelaySeconds=10, periodSeconds=10),
        "startupProbe": probe(startup, failureThreshold=240, periodSeconds=1),
        "resources": {"requests": {"cpu": cpu}},
        "volumeMounts": [{"name": volume, "mountPath": path, "readOnly": readonly}
                         for volume, path, _, readonly in volumes]}
    if ready:
        container["readinessProbe"] = probe(ready, failureThreshold=3, periodSeconds=1)
    return {
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "kube-system", "labels": {"component": name, "tier": "control-plane"}},
        "spec": {"containers": [container], "hostNetwork": True, "priority": 2000001000,
                 "priorityClassName": "system-node-critical",
                 "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
                 "volumes": [{"name": volume, "hostPath": {"path": path, "type": kind}}
                             for volume, path, kind, _ in volumes]}}


def kubelet_config(lab: Lab, node: Node) -> Object:
    """Return /var/lib/kubelet/config.yaml: kubeadm's, with certificates in files instead of by bootstrap.

    A control plane that is the only node is not tainted, or nothing could run. As kind's, it serves on every address
    of a cluster of IPv6 alone.
    """
    config: Object = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
        "authentication": {"anonymous": {"enabled": False}, "webhook": {"cacheTTL": "0s", "enabled": True},
                           "x509": {"clientCAFile": f"{PKI}/ca.crt"}},
        "authorization": {"mode": "Webhook", "webhook": {"cacheAuthorizedTTL": "0s", "cacheUnauthorizedTTL": "0s"}},
        "cgroupDriver": "cgroupfs", "clusterDNS": [lab.dns_service], "clusterDomain": plan.DOMAIN,
        "containerRuntimeEndpoint": "unix:///run/netlab/shim.sock", "fileCheckFrequency": "1s",
        "healthzBindAddress": "127.0.0.1", "healthzPort": 10248, "rotateCertificates": False,
        "staticPodPath": "/etc/kubernetes/manifests",
        "tlsCertFile": "/var/lib/kubelet/pki/kubelet.crt", "tlsPrivateKeyFile": "/var/lib/kubelet/pki/kubelet.key"}
    if lab.families == (6,):
        config |= {"address": "::", "healthzBindAddress": "::1"}
    taints = node.taints
    if taints is None and node.control and len(lab.nodes) > 1:
        taints = (plan.Taint("node-role.kubernetes.io/control-plane", "NoSchedule"),)
    if taints:
        config["registerWithTaints"] = [{"key": taint.key, "effect": taint.effect}
                                        | ({"value": taint.value} if taint.value else {}) for taint in taints]
    return config


def addons(lab: Lab) -> list[Object]:
    """Return the objects of the add-ons, in the order in which they are to be applied."""
    values = {"cluster_cidr": ",".join(lab.pod_cidrs), "api_url": lab.api_url, "dns_ip": lab.dns_service,
              "domain": plan.DOMAIN, "backend": lab.backend, "any": "'::'" if lab.families[0] == 6 else "0.0.0.0",
              "any_host": "[::]" if lab.families[0] == 6 else "0.0.0.0"}
    objects: list[Object] = []
    for name in ADDONS:
        text = string.Template(_addon(name)).substitute(values)
        objects += load_all(text)
    for obj in objects:
        if (obj["kind"], obj["metadata"]["name"]) == ("ConfigMap", "kube-proxy") and lab.kube_proxy:
            data = obj["data"]
            data["config.conf"] = dump(merge_patch.apply(yaml.safe_load(data["config.conf"]), dict(lab.kube_proxy)))
        elif obj["kind"] in ("DaemonSet", "Deployment") and obj["metadata"]["name"] in lab.images:
            for container in obj["spec"]["template"]["spec"]["containers"]:
                container["image"] = lab.images[obj["metadata"]["name"]]
    return objects


def load_all(text: str | bytes) -> list[Object]:
    """Return the objects of a YAML stream; a List is taken apart, empty documents are dropped."""
    objects: list[Object] = []
    for document in yaml.load_all(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        if document and document.get("kind") == "List":
            objects += document.get("items") or []
        elif document:
            objects.append(document)
    return objects


def _addon(name: str) -> str:
    file = resources.files("netlab.lab") / "addons" / f"{name}.yaml"
    if not file.is_file():
        raise NotFound(f'there is no add-on "{name}"', hint="netlab's installation is incomplete")
    return file.read_text()
