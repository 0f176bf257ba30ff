"""docker in a node's shell, to look with: Pods as dockershim named them, the pause container of each Pod first."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from netlab.errors import UsageError
from netlab.runtime import console
from netlab.runtime.cri import Container, Sandbox
from netlab.runtime.shimclient import ShimClient


@dataclass(frozen=True)
class Row:
    """A container as docker lists it; `container` None is a Pod's pause."""

    id: str
    name: str
    image: str
    command: str
    created_at: int
    running: bool
    pid: int
    exit_code: int
    sandbox: Sandbox
    container: Container | None


def main(argv: Sequence[str]) -> int:
    """Run docker."""
    parser = argparse.ArgumentParser("docker", description="Look at this node's containers.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    listing = commands.add_parser("ps", help="List containers, a Pod's pause first")
    listing.add_argument("-a", "--all", action="store_true")
    listing.add_argument("-q", "--quiet", action="store_true")
    listing.add_argument("--no-trunc", action="store_true")
    listing.set_defaults(run=_ps)
    images = commands.add_parser("images", help="List images")
    images.add_argument("-q", "--quiet", action="store_true")
    images.set_defaults(run=_images)
    logs = commands.add_parser("logs", help="Print a container's log")
    logs.add_argument("-f", "--follow", action="store_true")
    logs.add_argument("-n", "--tail", default="all")
    logs.add_argument("-t", "--timestamps", action="store_true")
    logs.add_argument("container")
    logs.set_defaults(run=_logs)
    command = commands.add_parser("exec", help="Run a command in a container")
    command.add_argument("-i", "--interactive", action="store_true")
    command.add_argument("-t", "--tty", action="store_true")
    command.add_argument("container")
    command.add_argument("command", nargs=argparse.REMAINDER)
    command.set_defaults(run=_exec)
    inspect = commands.add_parser("inspect", help="Print what is known of containers, as JSON")
    inspect.add_argument("-f", "--format", default="", help="'{{.State.Pid}}', '{{.Id}}', '{{.Name}}'")
    inspect.add_argument("container", nargs="+")
    inspect.set_defaults(run=_inspect)
    return console.main(parser, argv)


async def rows(client: ShimClient) -> list[Row]:
    """Return every container, Pod by Pod, the newest Pod first and pause first in each."""
    found: list[Row] = []
    for sandbox, containers in reversed(await console.pods_first(client)):
        pod = f"{sandbox.name}_{sandbox.namespace}_{sandbox.uid}_"
        found.append(Row(sandbox.id, f"k8s_POD_{pod}{sandbox.attempt}", "registry.k8s.io/pause", "/pause",
                         sandbox.created_at, sandbox.state == "ready", sandbox.pid, 0, sandbox, None))
        found += [Row(c.id, f"k8s_{c.name}_{pod}{c.attempt}", c.image, " ".join(_command(c.pid)), c.created_at,
                      c.state == "running", c.pid, c.exit_code, sandbox, c) for c in containers]
    return found


def _command(pid: int) -> list[str]:
    try:
        with open(f"/proc/{pid}/cmdline") as file:
            return file.read().rstrip("\0").split("\0")
    except OSError:
        return []


async def _ps(client: ShimClient, args: argparse.Namespace) -> int:
    found = [row for row in await rows(client) if row.running or args.all]
    ids = [row.id if args.no_trunc else row.id[:12] for row in found]
    if args.quiet:
        print("\n".join(ids))
        return 0
    out = [("CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "NAMES")]
    for short, row in zip(ids, found, strict=True):
        command = row.command if args.no_trunc or len(row.command) <= 20 else f"{row.command[:19]}…"
        ended = console.age(row.container.finished_at if row.container else row.created_at)
        status = f"Up {console.age(row.created_at)}" if row.running else f"Exited ({row.exit_code}) {ended} ago"
        out.append((short, row.image, f'"{command}"', f"{console.age(row.created_at)} ago", status, row.name))
    console.table(out)
    return 0


async def _images(client: ShimClient, args: argparse.Namespace) -> int:
    found = await client.list_images()
    if args.quiet:
        print("\n".join(i.id.removeprefix("sha256:")[:12] for i in found))
        return 0
    console.table([("REPOSITORY", "TAG", "IMAGE ID", "SIZE"), *(
        (repository.removeprefix("docker.io/library/").removeprefix("docker.io/"), tag,
         i.id.removeprefix("sha256:")[:12], console.size(i.size, builtin=i.builtin))
        for i in found for repository, tag in [console.split_image(name) for name in i.tags or ("<none>",)])])
    return 0


async def _find(client: ShimClient, wanted: str) -> Row:
    found: Row = console.find(await rows(client), wanted, lambda row: row.name)
    return found


async def _own(client: ShimClient, wanted: str) -> Container:
    row = await _find(client, wanted)
    if row.container is None:
        raise UsageError("pause has neither a log nor a shell; it only holds the Pod's namespaces: try "
                         f"nsenter -t {row.pid} -n ip addr")
    return row.container


async def _logs(client: ShimClient, args: argparse.Namespace) -> int:
    found = await _own(client, args.container)

    async def running() -> bool:
        return (await client.container_status(found.id)).state == "running"

    tail = int(args.tail) if args.tail.isdigit() else None
    return await console.show_log(found, follow=args.follow, tail=tail, timestamps=args.timestamps, running=running)


async def _exec(client: ShimClient, args: argparse.Namespace) -> int:
    found = await _own(client, args.container)
    return await console.execute(client, found.id, args.command, interactive=args.interactive, terminal=args.tty)


async def _inspect(client: ShimClient, args: argparse.Namespace) -> int:
    found = [_describe(await _find(client, wanted)) for wanted in args.container]
    if not args.format:
        print(json.dumps(found, indent=4))
        return 0
    for data in found:
        value: object = data
        for word in args.format.strip("{} ").strip(".").split("."):
            value = value.get(word, "<no value>") if isinstance(value, dict) else "<no value>"
        print(value if isinstance(value, (str, int)) else json.dumps(value))
    return 0


def _describe(row: Row) -> dict[str, object]:
    c = row.container
    created = datetime.fromtimestamp(row.created_at / 1e9, UTC).isoformat()
    return {"Id": row.id, "Created": created, "Name": f"/{row.name}", "Path": row.command.split(" ")[0],
            "State": {"Status": "running" if row.running else "exited", "Running": row.running, "Pid": row.pid,
                      "ExitCode": row.exit_code, "OOMKilled": bool(c and c.reason == "OOMKilled")},
            "Config": {"Image": row.image, "Labels": dict(c.labels if c else row.sandbox.labels)},
            "LogPath": c.log_path if c else "",
            "NetworkSettings": {"SandboxID": row.sandbox.id, "SandboxKey": row.sandbox.netns_path}}
