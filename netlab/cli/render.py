"""`netlab render`: what kube-proxy would write for some objects, with no lab, no root and no kernel."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from netlab.api.meta import Object
    from netlab.proxy.addresses import Family

_MODES = click.Choice(["ClusterCIDR", "NodeCIDR", "BridgeInterface", "InterfaceNamePrefix"])


@click.command("render", short_help="Print what kube-proxy would write for some objects, without a lab")
@click.option("-f", "--filename", "files", multiple=True, required=True, metavar="FILE",
              help="Services, EndpointSlices and Nodes as YAML or JSON: a file, a folder, or - for standard input. "
                   "Repeatable.")
@click.option("--node", metavar="NAME", default="", help="For which node; needed when the files hold several Nodes.")
@click.option("--mode", type=click.Choice(["iptables", "nftables", "userspace"]), default="iptables", show_default=True,
              help="userspace is for teaching: upstream removed it in v1.26.")
@click.option("--family", type=click.Choice(["ipv4", "ipv6"]), default="ipv4", show_default=True,
              help="For iptables-restore or for ip6tables-restore; in nftables mode, which table.")
@click.option("--cluster-cidr", metavar="CIDR", default="", help="The Pods' network; two of them with a comma.")
@click.option("--detect-local-mode", type=_MODES, default="ClusterCIDR", show_default=True,
              help="How traffic of local Pods is told.")
@click.option("--pod-bridge-interface", metavar="NAME", default="", help="For BridgeInterface.")
@click.option("--pod-interface-name-prefix", metavar="PREFIX", default="", help="For InterfaceNamePrefix.")
@click.option("--masquerade-all", is_flag=True, help="Masquerade all traffic to cluster addresses.")
@click.option("--masquerade-bit", type=click.IntRange(0, 31), default=14, show_default=True)
@click.option("--nodeport-addresses", metavar="CIDRS", default="", help="Where node ports are served.")
@click.option("--localhost-nodeports/--no-localhost-nodeports", default=True, show_default=True)
@click.option("--nfacct", is_flag=True, help="With the nfacct matches of a running kube-proxy; iptables refuses them "
                                             "where nobody made the counters first.")
def command(files: tuple[str, ...], node: str, mode: str, family: str, cluster_cidr: str, nodeport_addresses: str,
            masquerade_bit: int, detect_local_mode: str, pod_bridge_interface: str, pod_interface_name_prefix: str, *,
            masquerade_all: bool, localhost_nodeports: bool, nfacct: bool) -> None:
    """Print the rules that kube-proxy would write on one node, complete: built-in chains, jumps, canaries.

    \b
    kubectl get svc,endpointslices,nodes -A -o yaml | netlab render -f - --node worker1 --cluster-cidr 10.244.0.0/16
    netlab render -f objects.yaml --node worker1 | sudo unshare -n iptables-restore
    netlab render -f objects.yaml --node worker1 --mode nftables | sudo unshare -n nft -c -f -
    netlab render -f objects.yaml --node worker1 --mode userspace
    """
    from netlab.errors import NotFound, UsageError
    from netlab.inspect import offline
    from netlab.netfilter.render import ruleset

    objects = [each for name in files for each in _read(name)]
    names = [each["metadata"]["name"] for each in objects if each["kind"] == "Node"]
    if not node and len(names) == 1:
        node = names[0]
    if not node and names:
        raise UsageError("for which node?", hint=f"--node {names[0]} (the files hold {', '.join(names)})")
    if node and names and node not in names:
        raise NotFound(f'the files hold no node "{node}"', hint=f"they hold {', '.join(names)}")
    flags = [f"--hostname-override={node}", f"--detect-local-mode={detect_local_mode}",
             f"--cluster-cidr={cluster_cidr}", f"--pod-bridge-interface={pod_bridge_interface}",
             f"--pod-interface-name-prefix={pod_interface_name_prefix}", f"--nodeport-addresses={nodeport_addresses}",
             f"--iptables-masquerade-bit={masquerade_bit}", f"--masquerade-all={str(masquerade_all).lower()}",
             f"--iptables-localhost-nodeports={str(localhost_nodeports).lower()}"]
    which: Family = "IPv6" if family == "ipv6" else "IPv4"
    if mode == "nftables":
        table = offline.render_nft(objects, flags, family=which)
        text, warnings = table.text, table.warnings
    elif mode == "userspace":
        made = offline.render_userspace(objects, flags, family=which)
        text, warnings = ruleset(made.rules), made.warnings
    else:
        found = offline.render(objects, flags, family=which, nfacct=nfacct)
        text, warnings = ruleset(found.rules), found.warnings
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)
    click.echo(text, nl=False)


def _read(name: str) -> list[Object]:
    from netlab.errors import ManifestError, NotFound
    from netlab.inspect.objects import read

    if Path(name).is_dir():
        paths = sorted(path for path in Path(name).iterdir() if path.suffix in (".yaml", ".yml", ".json"))
        if not paths:
            raise NotFound(f"there are no manifests in {name}")
        return [obj for path in paths for obj in _read(str(path))]
    try:
        with click.open_file(name, encoding="utf-8") as file:
            return read(file.read(), "standard input" if name == "-" else name)
    except OSError as error:
        raise ManifestError(f"cannot read it: {error.strerror}", file=name) from None
    except UnicodeDecodeError:
        raise ManifestError("it is not UTF-8 text", file=name) from None
