"""Who else writes rules on a node: netlab's netd, CNI plugins, and programs known by their chains. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from netlab.netfilter.model import Rule
from netlab.netfilter.terms import comment, terms

_KNOWN: tuple[tuple[str, str, str], ...] = (
    ("NETLAB-MASQ", "netd", "netd keeps it: what leaves the cluster is masqueraded (from --cluster-cidr and Nodes)"),
    ("NETLAB-FORWARD", "netd", "netd keeps it: what goes to and from Pods is let through (from --cluster-cidr)"),
    ("CNI-HOSTPORT-DNAT", "cni", "the CNI plugin portmap keeps it: host ports of Pods begin here"),
    ("CNI-HOSTPORT-SETMARK", "cni", "the CNI plugin portmap keeps it: it marks what is to be masqueraded"),
    ("CNI-HOSTPORT-MASQ", "cni", "the CNI plugin portmap keeps it: it masquerades what was marked"),
    ("CNI-DN-", "cni", "the CNI plugin portmap made it for the host ports of one container"),
    ("CNI-", "cni", "a CNI plugin with ipMasq made it for one container"),
    ("FLANNEL-", "flannel", "flannel made it"), ("cali", "calico", "Calico made it"),
    ("CILIUM_", "cilium", "Cilium made it"), ("WEAVE", "weave", "Weave Net made it"),
    ("KUBE-ROUTER", "kube-router", "kube-router made it"), ("KUBE-POD-FW-", "kube-router", "kube-router made it"),
    ("KUBE-NWPLCY-", "kube-router", "kube-router made it for a NetworkPolicy"),
    ("IP-MASQ", "ip-masq-agent", "ip-masq-agent made it"), ("DOCKER", "docker", "Docker made it"),
    ("LIBVIRT_", "libvirt", "libvirt made it"), ("ufw", "ufw", "ufw made it"), ("f2b-", "fail2ban", "fail2ban made it"),
)
_CONTAINER = re.compile(r'name: "([^"]+)" id: "([^"]+)"')


@dataclass(frozen=True)
class Maker:
    """A known writer. `name` is netd, cni or a program's; `said` tells what for; `address` is a Pod's, "" for none."""

    name: str
    said: str
    address: str = ""


def of_chain(chain: str) -> Maker | None:
    """Return who makes chains of this name."""
    return next((Maker(name, said) for prefix, name, said in _KNOWN if chain.startswith(prefix)), None)


def of_rule(rule: Rule) -> Maker | None:
    """Return who wrote a rule that is not kube-proxy's: by the chain it stands in or leads to, or by its comment."""
    found = of_chain(rule.chain) or of_chain(rule.jump)
    container = _CONTAINER.search(comment(rule.match).replace('\\"', '"'))
    if container:
        said = (f"a CNI plugin wrote it: network {container[1]}, container {container[2][:13]}")
        return Maker("cni", said, _address(rule))
    return Maker(found.name, found.said, _address(rule)) if found else None


def _address(rule: Rule) -> str:
    for term in (*terms(rule.match), *terms(rule.target.partition(" ")[2])):
        if term.option in ("-s", "-d", "--to-destination") and term.value:
            ip = term.value.partition("/")[0]
            if term.option == "--to-destination":
                ip = ip.rpartition(":")[0].strip("[]") or ip
            if term.option == "--to-destination" or term.value.endswith(("/32", "/128")):
                return ip
    return ""
