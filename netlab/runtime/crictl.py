"""crictl in a node's shell: the node's runtime as the kubelet sees it (github.com/kubernetes-sigs/cri-tools)."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from netlab.runtime import console
from netlab.runtime.cri import Container, Sandbox, to_wire
from netlab.runtime.shimclient import ShimClient

_STATE = {"created": "Created", "running": "Running", "exited": "Exited"}
_SHORT = 13


def main(argv: Sequence[str]) -> int:
    """Run crictl."""
    parser = argparse.ArgumentParser("crictl", description="Look at this node's Pods and containers.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, run: console.Command, text: str, *ids: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(run=run)
        for one in ids:
            command.add_argument(one)
        return command

    pods = add("pods", _pods, "List the Pods' sandboxes")
    listing = add("ps", _ps, "List containers")
    images = add("images", _images, "List images")
    for command in (pods, listing, images):
        command.add_argument("-q", "--quiet", action="store_true", help="ids only")
        command.add_argument("-o", "--output", choices=("table", "json"), default="table")
    for command in (pods, listing):
        command.add_argument("--no-trunc", action="store_true", help="whole ids")
        command.add_argument("--name", default="", help="only those of this name")
    listing.add_argument("-a", "--all", action="store_true", help="also what does not run")
    listing.add_argument("-p", "--pod", default="", help="only those of this Pod's sandbox")
    logs = add("logs", _logs, "Print a container's log", "container")
    logs.add_argument("-f", "--follow", action="store_true")
    logs.add_argument("--tail", type=int)
    logs.add_argument("-t", "--timestamps", action="store_true")
    command = add("exec", _exec, "Run a command in a container", "container")
    command.add_argument("-i", "--interactive", action="store_true")
    command.add_argument("-t", "--tty", action="store_true")
    command.add_argument("command", nargs=argparse.REMAINDER)
    add("inspect", _inspect, "Print what is known of a container, as JSON", "container")
    add("inspectp", _inspectp, "Print what is known of a sandbox, as JSON", "sandbox")
    add("stats", _stats, "List what containers use")
    stop = add("stop", _stop, "Stop a container; the kubelet will start another", "container")
    stop.add_argument("-t", "--timeout", type=float, default=0)
    add("rm", _rm, "Remove a container that has ended", "container")
    add("stopp", _stopp, "Stop a sandbox: pause dies, and the kubelet makes a new Pod sandbox", "sandbox")
    add("version", _version, "Print the runtime's version")
    return console.main(parser, argv)


async def _pods(client: ShimClient, args: argparse.Namespace) -> int:
    found = sorted(await client.list_pod_sandboxes(), key=lambda s: -s.created_at)
    found = [s for s in found if args.name in s.name]
    if args.output == "json":
        print(json.dumps({"items": [to_wire(s) for s in found]}, indent=2))
    elif args.quiet:
        print("\n".join(s.id for s in found))
    else:
        console.table([("POD ID", "CREATED", "STATE", "NAME", "NAMESPACE", "ATTEMPT", "RUNTIME"), *(
            (s.id if args.no_trunc else s.id[:_SHORT], f"{console.age(s.created_at)} ago",
             "Ready" if s.state == "ready" else "NotReady", s.name, s.namespace, str(s.attempt), "(default)")
            for s in found)])
    return 0


async def _ps(client: ShimClient, args: argparse.Namespace) -> int:
    pods = {s.id: s for s in await client.list_pod_sandboxes()}
    found = [c for c in sorted(await client.list_containers(), key=lambda c: -c.created_at)
             if (args.all or c.state == "running") and args.name in c.name and c.sandbox_id.startswith(args.pod)]
    if args.output == "json":
        print(json.dumps({"containers": [to_wire(c) for c in found]}, indent=2))
    elif args.quiet:
        print("\n".join(c.id for c in found))
    else:
        def short(text: str) -> str:
            return text if args.no_trunc else text[:_SHORT]

        console.table([("CONTAINER", "IMAGE", "CREATED", "STATE", "NAME", "ATTEMPT", "POD ID", "POD", "NAMESPACE"), *(
            (short(c.id), c.image, f"{console.age(c.created_at)} ago", _STATE[c.state], c.name, str(c.attempt),
             short(c.sandbox_id), pods[c.sandbox_id].name, pods[c.sandbox_id].namespace) for c in found)])
    return 0


async def _images(client: ShimClient, args: argparse.Namespace) -> int:
    found = await client.list_images()
    if args.output == "json":
        print(json.dumps({"images": [to_wire(i) for i in found]}, indent=2))
    elif args.quiet:
        print("\n".join(i.id for i in found))
    else:
        console.table([("IMAGE", "TAG", "IMAGE ID", "SIZE"), *(
            (*console.split_image(tag), i.id.removeprefix("sha256:")[:_SHORT], console.size(i.size, builtin=i.builtin))
            for i in found for tag in i.tags or ("<none>",))])
    return 0


async def _container(client: ShimClient, wanted: str) -> Container:
    found: Container = console.find(await client.list_containers(), wanted)
    return found


async def _sandbox(client: ShimClient, wanted: str) -> Sandbox:
    found: Sandbox = console.find(await client.list_pod_sandboxes(), wanted)
    return found


async def _logs(client: ShimClient, args: argparse.Namespace) -> int:
    found = await _container(client, args.container)

    async def running() -> bool:
        return (await client.container_status(found.id)).state == "running"

    return await console.show_log(found, follow=args.follow, tail=args.tail, timestamps=args.timestamps,
                                  running=running)


async def _exec(client: ShimClient, args: argparse.Namespace) -> int:
    found = await _container(client, args.container)
    return await console.execute(client, found.id, args.command, interactive=args.interactive, terminal=args.tty)


async def _inspect(client: ShimClient, args: argparse.Namespace) -> int:
    print(json.dumps({"status": to_wire(await _container(client, args.container))}, indent=2))
    return 0


async def _inspectp(client: ShimClient, args: argparse.Namespace) -> int:
    print(json.dumps({"status": to_wire(await _sandbox(client, args.sandbox))}, indent=2))
    return 0


async def _stats(client: ShimClient, _args: argparse.Namespace) -> int:
    names = {c.id: c.name for c in await client.list_containers()}
    console.table([("CONTAINER", "NAME", "CPU SECONDS", "MEM", "PROCESSES"), *(
        (s.id[:_SHORT], names.get(s.id, ""), f"{s.cpu_nanoseconds / 1e9:.2f}", console.size(s.memory_working_set),
         str(s.processes)) for s in await client.list_container_stats())])
    return 0


async def _stop(client: ShimClient, args: argparse.Namespace) -> int:
    found = await _container(client, args.container)
    await client.stop_container(found.id, args.timeout)
    print(found.id)
    return 0


async def _rm(client: ShimClient, args: argparse.Namespace) -> int:
    found = await _container(client, args.container)
    await client.remove_container(found.id)
    print(found.id)
    return 0


async def _stopp(client: ShimClient, args: argparse.Namespace) -> int:
    found = await _sandbox(client, args.sandbox)
    await client.stop_pod_sandbox(found.id)
    print(f"Stopped sandbox {found.id}")
    return 0


async def _version(client: ShimClient, _args: argparse.Namespace) -> int:
    version = await client.version()
    print(f"Version:  0.1.0\nRuntimeName:  {version['name']}\nRuntimeVersion:  {version['version']}\n"
          "RuntimeApiVersion:  v1")
    return 0
