"""`netlab up`: a lab from a scenario."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from netlab.cli.options import complete_scenario, lab_name

if TYPE_CHECKING:
    from netlab.lab.plan import IpFamily, Store


@click.command("up")
@click.argument("scenario", required=False, metavar="[SCENARIO]", shell_complete=complete_scenario)
@click.option("-f", "--filename", "files", multiple=True, metavar="FILE",
              help="Kubernetes manifests to apply as well: a file, a folder, or - for standard input. Repeatable.")
@click.option("--nodes", type=int, metavar="N", help="How many nodes, the control-plane node included.")
@click.option("--ip-family", type=click.Choice(("ipv4", "ipv6", "dual")),
              help="Address families of nodes, Pods and Services, whatever the scenario says.")
@click.option("--proxy-mode", metavar="MODE", default="",
              help="How kube-proxy serves Services, whatever the scenario says: iptables, nftables or userspace.")
@click.option("--store", type=click.Choice(("embedded", "etcd", "netlab-etcd", "external")),
              help="Where objects are kept: in the API server's process, in this machine's etcd or netlab's own, each "
                   "as a static Pod, or in an etcd that runs already, which --etcd-servers names.")
@click.option("--store-members", type=click.Choice(("1", "3", "5")), help="How many members that etcd has.")
@click.option("--store-snapshot", metavar="FILE", type=click.Path(), default="",
              help="Begin with what a lab's store held when etcdctl snapshot save wrote this file.")
@click.option("--etcd-servers", metavar="URL,…", default="", help="Keep objects in this etcd, as it is reached from "
              "this machine: http://127.0.0.1:2379. netlab down leaves them there.")
@click.option("--etcd-cafile", metavar="FILE", type=click.Path(), default="", help="The CA of that etcd's certificate.")
@click.option("--etcd-certfile", metavar="FILE", type=click.Path(), default="", help="The certificate to show to it.")
@click.option("--etcd-keyfile", metavar="FILE", type=click.Path(), default="", help="The key of that certificate.")
@click.option("--etcd-prefix", metavar="PATH", default="", help="What the keys in it begin with; else /registry.")
@click.option("--use", "uses", multiple=True, metavar="COMPONENT=PATH",
              help="Run this binary, script or image archive in place of a component or CNI plugin, e.g. "
                   "kube-proxy=/usr/local/bin/kube-proxy. Repeatable.")
@click.option("--no-kubeconfig", is_flag=True, help="Leave ~/.kube/config alone.")
@click.option("--keep", is_flag=True, help="If it does not come up, leave it as it is, to look inside.")
@click.option("--wait", metavar="SECONDS", type=click.FloatRange(min=1),
              help="How long to wait until all Pods are ready; else a minute, and 3 seconds for each node.")
@click.option("--timing", is_flag=True, help="Show how long each step took.")
@click.option("-q", "--quiet", is_flag=True, help="No progress, no summary.")
@lab_name
def command(scenario: str | None, files: tuple[str, ...], nodes: int | None, ip_family: IpFamily | None,
            proxy_mode: str, store: Store | None, store_members: str | None, store_snapshot: str,
            etcd_servers: str, etcd_cafile: str, etcd_certfile: str, etcd_keyfile: str, etcd_prefix: str,
            uses: tuple[str, ...], name: str, *, no_kubeconfig: bool, keep: bool, wait: float | None,
            timing: bool, quiet: bool) -> None:
    """Start a lab: a real cluster, each node and each Pod in network namespaces of its own.

    SCENARIO is the name of one that comes with netlab (netlab scenarios lists them), or a scenario.yaml file. Without
    one the cluster is empty but for what -f adds.

    \b
    netlab up services
    netlab up --nodes 4 -f my-app.yaml --name mine
    netlab up services --etcd-servers http://127.0.0.1:2379
    """
    from netlab.cli import progress as shown
    from netlab.lab import launcher, swap
    from netlab.lab import scenario as scenarios
    from netlab.lab.boot import Limits

    chosen = scenarios.load(scenario) if scenario else scenarios.Scenario("lab")
    if nodes is not None:
        chosen = chosen.with_nodes(nodes)
    if etcd_servers and store not in (None, "external"):
        raise click.UsageError(f"--etcd-servers is about --store external, not {store}")
    chosen = chosen.with_store("external" if etcd_servers else store, int(store_members) if store_members else None)
    chosen = chosen.with_external(etcd_servers, ca=etcd_cafile, certificate=etcd_certfile, key=etcd_keyfile,
                                  prefix=etcd_prefix)
    chosen = chosen.with_networking(family=ip_family, mode=proxy_mode)
    chosen = chosen.with_objects([obj for file in files for obj in scenarios.objects(Path(file))])
    swaps = tuple(map(swap.parse, uses))
    progress = shown.choose(quiet=quiet)
    options = launcher.Options(name or chosen.lab, merge=not no_kubeconfig, keep=keep,
                               limits=Limits(ready=wait or 60 + 3 * chosen.nodes), swaps=swaps, snapshot=store_snapshot)
    try:
        record = launcher.up(chosen, options, progress)
    finally:
        if timing:
            click.echo(shown.waterfall(progress))
    for note in progress.notes:
        click.echo(f"note: {note}", err=True)
    if quiet:
        return
    count = len(record.nodes)
    click.echo(f'lab "{record.name}" is up: {count} node{"s" if count > 1 else ""}, {progress.elapsed():.1f} s'
               + (", rootless" if record.rootless else ""))
    if record.kubeconfig:
        click.echo(f"kubectl's context is now netlab-{record.name}")
    tries = [*(chosen.next or ("netlab kubectl get nodes -o wide", "netlab status")), "netlab down"]
    if _several():
        tries = [f"netlab --name {record.name}{line.removeprefix('netlab')}" for line in tries]
    click.echo("\ntry:\n" + "\n".join(f"  {line}" for line in tries))
    if chosen.name in scenarios.names() and scenario == chosen.name:
        click.echo(f"\nnetlab scenarios {chosen.name}: what to do here, what to see, and why")


def _several() -> bool:
    from netlab.lab import state

    return sum(record.alive() for record in state.all_labs()) > 1
