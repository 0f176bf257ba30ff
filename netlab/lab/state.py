"""What a lab leaves on the host: its folders, its record, its lock; and whether its processes are alive.

RUN (/run/netlab, or $XDG_RUNTIME_DIR/netlab) holds sockets and records and is gone after a reboot; STATE
(/var/lib/netlab, or ~/.local/share/netlab) holds what nodes write. Both are 0700: only the owner talks to a lab.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from netlab.errors import NotFound, UsageError
from netlab.lab.external import External

NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,22}[a-z0-9])?")
"""Names end up in host names, cgroups, /run/netns and socket paths (at most 107 bytes, unix(7))."""


@dataclass(frozen=True)
class Dirs:
    """Where all labs of this user live."""

    run: Path
    state: Path


@dataclass(frozen=True)
class Process:
    """A process of a lab, as the host numbers it. `started` tells it from a later one with the same pid."""

    pid: int = 0
    started: int = 0

    def alive(self) -> bool:
        """Tell whether exactly this process still runs (a zombie does not)."""
        return self.pid > 0 and start_time(self.pid) == self.started != 0


@dataclass(frozen=True)
class NodeRecord:
    """One node: `role` is control-plane or worker, `ips` its addresses on the fabric, `socket` its shim's."""

    name: str
    role: str
    ips: tuple[str, ...]
    socket: str

    @property
    def ip(self) -> str:
        """Return the node's first address."""
        return self.ips[0]


@dataclass(frozen=True)
class LabRecord:
    """lab.json: all that a command needs to find a lab and all that `down` has to remove.

    `port` is the gate's on 127.0.0.1. `links` are the names made in /run/netns, `cgroups` the folders made,
    `fabric` and `outside` are its range and its address, one of each family with a comma between, `dns` is the address
    of the cluster's DNS, `kubeconfig` the user's file that the context was merged into ("" when none). `ready` is false
    while `up` works, which is then the process `launcher`. `external` is the etcd that its objects are in, where
    that is not the lab's own, and `etcd_cluster` that etcd's number for itself.
    """

    name: str
    version: str
    scenario: str
    rootless: bool
    created: float
    launcher: Process = Process()
    holder: Process = Process()
    gate: Process = Process()
    relay: Process = Process()
    port: int = 0
    nodes: tuple[NodeRecord, ...] = ()
    fabric: str = ""
    outside: str = ""
    dns: str = "10.96.0.10"
    links: tuple[str, ...] = ()
    cgroup: str = ""
    kubeconfig: str = ""
    ready: bool = False
    external: External | None = None
    etcd_cluster: str = ""

    @property
    def run_dir(self) -> Path:
        """Return the folder of this lab's sockets and records."""
        return dirs().run / self.name

    @property
    def state_dir(self) -> Path:
        """Return the folder of what this lab's nodes keep."""
        return dirs().state / self.name

    @property
    def admin_conf(self) -> Path:
        """Return the administrator's kubeconfig, which points at the gate."""
        return self.state_dir / "admin.conf"

    @property
    def images(self) -> Path:
        """Return the folder of the images that were loaded into this lab."""
        return self.state_dir / "images"

    def alive(self) -> bool:
        """Tell whether the holder runs: it is pid 1 of the lab, nothing of the lab outlives it."""
        return self.holder.alive()


def phase(record: LabRecord) -> str:
    """Return Running, Starting or Dead."""
    if record.alive():
        return "Running" if record.ready else "Starting"
    return "Starting" if not record.ready and record.launcher.alive() else "Dead"


def dirs() -> Dirs:
    """Return this user's folders; NETLAB_RUN_DIR and NETLAB_STATE_DIR override. Nothing is created."""
    if os.geteuid() == 0:
        run, state = Path("/run/netlab"), Path("/var/lib/netlab")
    else:
        runtime = os.environ.get("XDG_RUNTIME_DIR")
        run = Path(runtime, "netlab") if runtime else Path(f"/tmp/netlab-{os.getuid()}")
        data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
        state = Path(data, "netlab")
    return Dirs(Path(os.environ.get("NETLAB_RUN_DIR") or run), Path(os.environ.get("NETLAB_STATE_DIR") or state))


def make_private(path: Path) -> Path:
    """Make a folder that only we may enter, parents included, and check that nobody else made it.

    Raises:
        UsageError: it can't be made, or it is a link or somebody else's.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o700)
        info = path.lstat()
    except OSError as error:
        raise UsageError(f"cannot make the folder {path}: {error.strerror}",
                         hint="NETLAB_RUN_DIR and NETLAB_STATE_DIR say where netlab keeps its things") from None
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.geteuid():
        raise UsageError(f"{path} is not a folder of this user's", hint="remove it, or set NETLAB_RUN_DIR elsewhere")
    if stat.S_IMODE(info.st_mode) & 0o077:
        path.chmod(0o700)
    return path


def check_name(name: str) -> str:
    """Return the name.

    Raises:
        UsageError: it cannot name a lab.
    """
    if not NAME.fullmatch(name):
        raise UsageError(f'"{name}" cannot name a lab: at most 24 lower-case letters, digits and dashes')
    return name


def start_time(pid: int) -> int:
    """Return when a process started, in clock ticks since boot (proc(5), field 22); 0 when it is gone or a zombie."""
    # not by kernel.process, which brings asyncio along: `netlab ls` and completion have to be quick
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    fields = text.rpartition(")")[2].split()
    return 0 if fields[0] in "ZX" else int(fields[19])


def process(pid: int) -> Process:
    """Return the record of a process that runs now."""
    return Process(pid, start_time(pid))


def save(record: LabRecord) -> None:
    """Write lab.json in one step, readable by the owner only."""
    write_private(record.run_dir / "lab.json", json.dumps(asdict(record), indent=1))


def write_private(path: Path, text: str) -> None:
    """Replace a file in one step; mode 0600."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(text)
    temporary.replace(path)


def load(name: str) -> LabRecord | None:
    """Return the record of one lab, alive or dead; None when there is none."""
    try:
        raw: dict[str, Any] = json.loads((dirs().run / name / "lab.json").read_text())
    except (OSError, ValueError):
        return None
    known = {key: value for key, value in raw.items() if key in LabRecord.__dataclass_fields__}
    record = LabRecord(**known)
    return replace(record, launcher=Process(**raw["launcher"]), holder=Process(**raw["holder"]),
                   gate=Process(**raw["gate"]), relay=Process(**raw.get("relay", {})),
                   external=_external(raw.get("external")),
                   nodes=tuple(NodeRecord(**{**node, "ips": tuple(node["ips"])}) for node in raw["nodes"]),
                   links=tuple(raw["links"]))


def _external(raw: dict[str, Any] | None) -> External | None:
    return External(**{**raw, "endpoints": tuple(raw["endpoints"])}) if raw else None


def all_labs() -> list[LabRecord]:
    """Return every recorded lab of this user, oldest first, dead ones included."""
    try:
        names = sorted(path.name for path in dirs().run.iterdir() if path.is_dir())
    except OSError:
        return []
    found = [record for name in names if (record := load(name)) is not None]
    return sorted(found, key=lambda record: record.created)


def find(name: str = "") -> LabRecord:
    """Return the running lab of that name, or the only one that runs.

    Raises:
        NotFound: no such lab, it has died, or several run and none was named.
    """
    alive = [record for record in all_labs() if record.alive()]
    if name:
        check_name(name)
        for record in alive:
            if record.name == name:
                return record
        if load(name) is not None:
            raise NotFound(f'lab "{name}" has died', hint=f"netlab down --name {name} clears it away")
        raise NotFound(f'no lab is called "{name}"', hint=_where_else([record.name for record in alive]))
    if len(alive) == 1:
        return alive[0]
    if not alive:
        dead = [record.name for record in all_labs() if phase(record) == "Dead"]
        raise NotFound("no lab runs", hint=f'lab "{dead[0]}" has died: netlab down --name {dead[0]} clears it away'
                       if dead else _where_else([]))
    names = ", ".join(record.name for record in alive)
    raise NotFound(f"several labs run: {names}", hint="choose one by --name LAB, or by NETLAB_NAME in the environment")


def has_ipv4(name: str = "") -> bool:
    """Tell whether a lab's nodes have IPv4 addresses; of one that is not to be found somebody else complains."""
    try:
        return any(":" not in ip for node in find(name).nodes for ip in node.ips)
    except (NotFound, UsageError):
        return True


def _where_else(names: list[str]) -> str:
    if names:
        return f"these run: {', '.join(names)}"
    if os.geteuid() != 0 and os.path.isdir("/run/netlab"):
        return "labs made with sudo are root's: try again with sudo, or start your own with `netlab up services`"
    return "start one with `netlab up services`"


@contextlib.contextmanager
def locked() -> Iterator[None]:
    """Hold this user's lock: one command at a time makes or removes records."""
    run = make_private(dirs().run)
    handle = os.open(run / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
