"""`netlab trace`: one real packet, every hop and rule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from netlab.cli import complete, trace_follow, trace_predict, trace_views
from netlab.cli.options import attach as attach_options
from netlab.cli.options import lab_name

if TYPE_CHECKING:
    from netlab.trace.craft import Craft


@click.command("trace", cls=trace_predict.WithChange,
               short_help="Send one connection and show every interface and rule that it crosses")
@click.argument("source", metavar="FROM", required=False, default="", shell_complete=complete.places)
@click.argument("target", metavar="TO[:PORT]", required=False, default="", shell_complete=complete.destinations)
@click.option("-p", "--protocol", type=click.Choice(["tcp", "udp", "sctp", "icmp"]),
              help="What to send: by default tcp. With --follow: only this.")
@click.option("-6", "--ipv6", is_flag=True, help="To the IPv6 address of what has both.")
@click.option("--timeout", type=click.FloatRange(0.1, 60), default=3.5, show_default=True, metavar="SECONDS",
              help="How long to wait for an answer. An unanswered ARP request takes the kernel 3 seconds.")
@click.option("--data", metavar="TEXT", help="What is sent: over TCP once connected (\\r \\n are escapes); "
              "by default a request to ports of HTTP, and nothing to others.")
@click.option("--no-data", is_flag=True, help="Over TCP only open and close the connection.")
@click.option("--source", "source_address", metavar="IP", default="",
              help="The source address: one of FROM's, or any other, for a packet made by hand.")
@click.option("--flags", metavar="LETTERS", help="By hand: TCP flags of F S R P A U E C, such as SA; \"\" for none.")
@click.option("--ttl", type=click.IntRange(1, 255), metavar="N", help="By hand: the time to live (hop limit).")
@click.option("--df", is_flag=True, help="By hand: don't fragment.")
@click.option("--size", type=click.IntRange(0, 65000), metavar="BYTES", help="By hand: the length of the payload.")
@click.option("--fragment", type=click.IntRange(8, 65000), metavar="BYTES",
              help="By hand: in pieces of so many bytes.")
@click.option("--source-port", type=click.IntRange(1, 65535), metavar="N", help="By hand: the source port.")
@click.option("--count", type=click.IntRange(1, 1000), metavar="N",
              help="By hand: send it N times. With --follow: stop after N flows.")
@click.option("--bpf/--no-bpf", default=None, help="Insist on the kernel's drop reasons, or do without. "
              "By default they are shown where this kernel and user may have them (netlab doctor).")
@click.option("--policies", is_flag=True, help="Also show the chain policies that let the packet pass.")
@trace_follow.options
@trace_predict.options
@trace_views.options
@attach_options
@lab_name
def command(source: str, target: str, protocol: str | None, timeout: float, data: str | None, source_address: str,
            flags: str | None, ttl: int | None, size: int | None, fragment: int | None, source_port: int | None,
            count: int | None, color: str, output: str, save: tuple[str, ...], write: str, from_json: str,
            attach: tuple[str, ...], kubeconfig: str, objects: str, name: str, *, ipv6: bool, no_data: bool,
            df: bool, bpf: bool | None, policies: bool, follow: bool, predict: bool | None,
            **following: Any) -> int:
    """Send one real packet, or open one connection, and show every interface and rule it crosses, both ways.

    \b
    netlab trace pod/client svc/web              a Service, from a Pod
    netlab trace pod/client web.default          by name: its resolution is traced first
    netlab trace outside node/worker1:30080      a node port, from beyond the cluster
    netlab trace pod/client pod/web-1 -p icmp    a ping from Pod to Pod
    netlab trace node/worker1 10.96.0.10:53 -p udp --data hello
    netlab trace host svc/kubernetes             as kubectl goes: by the gate to the API server
    netlab trace pod/client svc/web --flags SF --ttl 2      a packet made by hand
    netlab trace pod/client svc/web --save a.json --save a.svg --save a.html -w a.pcapng
    netlab trace --from-json a.json -o mermaid
    netlab trace --attach auto --kubeconfig FILE pod/client svc/web     on a real node, or where kind runs
    netlab trace pod/client svc/web --if -f change.yaml         what a change would do to it; nothing is sent
    netlab trace --predict --rules saved.txt --from 10.244.1.9 10.96.0.10:80       by a node's iptables-save text
    netlab trace --predict -f cluster.yaml pod/a svc/web        by kubectl get svc,endpointslices,nodes,pods -A -o yaml
    netlab trace --follow svc/web --drops-only   live traffic, flow by flow, until Ctrl-C

    FROM is node/NAME, pod/NAME, pod/NAMESPACE/NAME, deploy/NAME, outside or host, a bare NAME a Pod as in kubectl
    exec, or a node; TO is one of these, svc/NAME, lb/NAME, externalip/NAME or nodeport/NAME (the other addresses of a
    Service), a DNS name (as a bare NAME is) or an address. PORT is a number, or of Services and Pods its name
    (svc/web:http). No tool inside the Pod is needed. Exits with 0 when there was an answer, with 1 when not.
    """
    import asyncio

    from netlab.errors import UsageError
    from netlab.lab import state, tracing
    from netlab.trace.views import Subject

    if follow and (from_json or save or write or output not in ("", "json")):
        raise UsageError("--follow tells flows as they end: as lines, or with -o json",
                         hint="leave out --save, -w and other formats; netlab capture writes packets")
    if follow:
        return trace_follow.run(None if attach else state.find(name), tuple(filter(None, (source, target))), {
            **following, "attach": attach, "kubeconfig": kubeconfig, "objects": objects, "protocol": protocol,
            "count": count, "bpf": bpf, "color": color, "output": output, "policies": policies})
    protocol = protocol or "tcp"
    foretold = trace_predict.asked([each for each in (source, target) if each], following, predict=predict,
                                   protocol=protocol, source_address=source_address, ipv6=ipv6)
    if foretold is not None:
        return trace_predict.run(foretold, name=name, output=output, color=trace_views.colored(color))
    trace_views.check(save, source, target, from_json)
    if from_json:
        return trace_views.show(trace_views.load(from_json), output=output, save=save, write=write, color=color,
                                policies=policies)
    wishes = {"flags": flags, "ttl": ttl, "df": df or None, "size": size, "fragment": fragment,
              "source_port": source_port, "count": count}
    if flags is not None and protocol != "tcp":
        raise UsageError("--flags: only TCP has flags", hint="choose --protocol tcp")
    payload = b"" if no_data else None if data is None else _unescaped(data)
    if attach:
        from netlab.trace import attach as attaching
        from netlab.trace.run import Request

        request = Request(source, "", 0, protocol, timeout, payload or b"", source_address, _craft(wishes), bpf)  # type: ignore[arg-type]
        found = asyncio.run(attaching.trace(attach, request, target, kubeconfig=kubeconfig, file=objects, ipv6=ipv6,
                                           predict=predict is not False))
        return trace_views.show(found, output=output, save=save, write=write, color=color, policies=policies)
    if kubeconfig or objects:
        raise UsageError("--kubeconfig and --objects go with --attach", hint="a lab has its own API server")
    wish = tracing.Wish(source, target, protocol, timeout, payload, source_address, _craft(wishes), bpf,  # type: ignore[arg-type]
                        ipv6, predict=predict is not False)
    traced = asyncio.run(tracing.trace(state.find(name), wish))
    return trace_views.show(Subject(traced.trace, traced.nodes, traced.links, traced.agreement), output=output,
                            save=save, write=write, color=color, policies=policies)


def _craft(wishes: dict[str, object]) -> Craft | None:
    """Return what was wished for a packet made by hand; None when nothing was."""
    from netlab.trace.craft import Craft

    given = {key: value for key, value in wishes.items() if value is not None}
    return Craft(**given) if given else None  # type: ignore[arg-type]


def _unescaped(text: str) -> bytes:
    return text.replace("\\r", "\r").replace("\\n", "\n").encode()
