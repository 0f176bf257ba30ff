"""What a Pod finds in /etc/hosts, /etc/resolv.conf and as its host name; pure.

https://kubernetes.io/docs/concepts/services-networking/dns-pod-service/
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from netlab.api import meta
from netlab.api.meta import Object
from netlab.kubelet import spec

MAX_SERVERS, MAX_SEARCHES = 3, 32
"""Limits of libc and of Kubernetes' validation; what is over is left out."""


@dataclass(frozen=True)
class Resolver:
    """A resolv.conf: servers, search path, options such as `ndots:5`."""

    servers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


def parse_resolv_conf(text: str) -> Resolver:
    """Return what a resolv.conf says (resolv.conf(5)); the last search or domain line wins."""
    servers, searches, options = [], [], []
    for line in text.splitlines():
        words = line.split()
        if not words or words[0][0] in "#;":
            continue
        if words[0] == "nameserver" and len(words) > 1:
            servers.append(words[1])
        elif words[0] in ("search", "domain"):
            searches = words[1:]
        elif words[0] == "options":
            options = words[1:]
    return Resolver(tuple(servers), tuple(searches), tuple(options))


def resolver(pod: Object, cluster_dns: Sequence[str], domain: str, host: Resolver) -> Resolver:
    """Return the Pod's resolv.conf by its dnsPolicy and dnsConfig.

    Args:
        pod: the Pod.
        cluster_dns: the cluster's DNS servers; without any, ClusterFirst is as Default.
        domain: the cluster's domain, "" for none.
        host: the node's own.
    """
    policy = spec.spec(pod).get("dnsPolicy") or "ClusterFirst"
    cluster = bool(cluster_dns) and (policy == "ClusterFirstWithHostNet"
                                     or (policy == "ClusterFirst" and not spec.host_network(pod)))
    if policy == "None":
        base = Resolver()
    elif cluster:
        space = meta.namespace(pod)
        own = (f"{space}.svc.{domain}", f"svc.{domain}", domain) if domain else ()
        base = Resolver(tuple(cluster_dns), _unique((*own, *host.searches)), ("ndots:5",))
    else:
        base = Resolver(host.servers or ("127.0.0.1",), host.searches, host.options)
    config = spec.spec(pod).get("dnsConfig") or {}
    return Resolver(_unique((*base.servers, *(config.get("nameservers") or ())))[:MAX_SERVERS],
                    _unique((*base.searches, *(config.get("searches") or ())))[:MAX_SEARCHES],
                    _options(base.options, config.get("options") or []))


def hostname(pod: Object, domain: str) -> tuple[str, str]:
    """Return (host name, full name or ""): what `hostname` prints, and the name with the Pod's subdomain."""
    body = spec.spec(pod)
    override = body.get("hostnameOverride")
    if override:
        return str(override), ""
    short = str(body.get("hostname") or meta.name(pod))[:63].rstrip("-.")
    subdomain = body.get("subdomain")
    full = f"{short}.{subdomain}.{meta.namespace(pod)}.svc.{domain}" if subdomain and domain else ""
    return (full[:64] if full and body.get("setHostnameAsFQDN") else short), full


def hosts(pod: Object, ips: Sequence[str], domain: str, node_hosts: str) -> str:
    """Return the Pod's /etc/hosts. `node_hosts` is the node's, which host-network Pods share."""
    aliases = spec.spec(pod).get("hostAliases") or []
    added = "\n# Entries added by HostAliases.\n" + "".join(
        "\t".join((row["ip"], *(row.get("hostnames") or []))) + "\n" for row in aliases) if aliases else ""
    if spec.host_network(pod):
        return "# Kubernetes-managed hosts file (host network).\n" + node_hosts + added
    short, full = hostname(pod, domain)
    names = f"{full}\t{short}" if full and full != short else short
    return ("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
            "fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n"
            + "".join(f"{ip}\t{names}\n" for ip in ips) + added)


def _unique(rows: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(rows))


def _options(base: Sequence[str], added: Sequence[Object]) -> tuple[str, ...]:
    """Merge dnsConfig's options into the base; the same name is overridden."""
    merged = {text.partition(":")[0]: text for text in base}
    for option in added:
        value = option.get("value")
        merged[option["name"]] = f"{option['name']}:{value}" if value not in (None, "") else option["name"]
    return tuple(merged.values())
