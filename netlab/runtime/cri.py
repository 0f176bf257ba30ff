"""The words that kubelet and shim exchange: the Container Runtime Interface's messages as frozen values.

Field names and meanings follow k8s.io/cri-api/pkg/apis/runtime/v1; times are nanoseconds since the Unix epoch (0: not
yet), sizes bytes. On the wire each value is the JSON object of its fields (`to_wire`, `from_wire`).
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

T = TypeVar("T")

SandboxState = Literal["ready", "notready"]
ContainerState = Literal["created", "running", "exited"]


@dataclass(frozen=True, kw_only=True)
class Dns:
    """What goes into a Pod's /etc/resolv.conf."""

    servers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SandboxConfig:
    """A Pod's sandbox. `dns` None leaves the node's resolv.conf; an empty `hostname` is the Pod's name."""

    name: str
    uid: str
    namespace: str
    attempt: int = 0
    hostname: str = ""
    log_directory: str = ""
    dns: Dns | None = None
    host_network: bool = False
    host_pid: bool = False
    host_ipc: bool = False
    share_process_namespace: bool = False
    sysctls: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Mount:
    """A file or directory of the node in the container. `host_path` must exist; `sub_path` is resolved inside it, so
    that a link in the volume can't lead out of it.
    """

    container_path: str
    host_path: str
    readonly: bool = False
    sub_path: str = ""


@dataclass(frozen=True, kw_only=True)
class Security:
    """Who the container runs as. Capability names with or without CAP_; "ALL" is allowed in both lists.

    `run_as_user` None takes the image's user; `run_as_username` is used when the number is None.
    """

    run_as_user: int | None = None
    run_as_group: int | None = None
    run_as_username: str = ""
    supplemental_groups: tuple[int, ...] = ()
    privileged: bool = False
    add_capabilities: tuple[str, ...] = ()
    drop_capabilities: tuple[str, ...] = ()
    readonly_rootfs: bool = False
    no_new_privs: bool = False
    unmasked_proc: bool = False


@dataclass(frozen=True, kw_only=True)
class Resources:
    """Limits for the container's cgroup; 0 is no limit. `cpu_quota` is microseconds per `cpu_period`."""

    memory_limit: int = 0
    cpu_shares: int = 0
    cpu_quota: int = 0
    cpu_period: int = 100_000
    pids_limit: int = 0
    oom_score_adj: int = 0


@dataclass(frozen=True, kw_only=True)
class ContainerConfig:
    """A container of a sandbox. `command` replaces the image's entrypoint, `args` its cmd, as in a Pod.

    `log_path` is absolute in the node; the file is in the CRI log format. Empty: output is kept nowhere.
    `envs` are (name, value) pairs, later ones win, on top of the image's. `target_id` is the container whose PID
    namespace this one joins (namespace mode TARGET, for ephemeral containers); empty: as the sandbox says.
    """

    name: str
    image: str
    attempt: int = 0
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    working_dir: str = ""
    envs: tuple[tuple[str, str], ...] = ()
    mounts: tuple[Mount, ...] = ()
    log_path: str = ""
    stdin: bool = False
    stdin_once: bool = False
    tty: bool = False
    target_id: str = ""
    security: Security = field(default_factory=Security)
    resources: Resources = field(default_factory=Resources)
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Sandbox:
    """A sandbox as it is. `state` is notready once pause is dead. `netns_path` is valid inside the node (for CNI and
    to open sockets in the Pod); of a host-network sandbox it is the node's own.
    """

    id: str
    name: str
    uid: str
    namespace: str
    attempt: int
    state: SandboxState
    created_at: int
    netns_path: str
    netns_inode: int
    pid: int
    host_network: bool
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Container:
    """A container as it is. `reason` of an exited one: Completed, Error, OOMKilled, StartError. `signal` is the number
    that killed it, or 0; `exit_code` is then 128 + signal. `pid` is the node's view, 0 unless running.
    """

    id: str
    sandbox_id: str
    name: str
    attempt: int
    image: str
    image_id: str
    state: ContainerState
    created_at: int
    started_at: int = 0
    finished_at: int = 0
    exit_code: int = 0
    signal: int = 0
    reason: str = ""
    message: str = ""
    pid: int = 0
    log_path: str = ""
    tty: bool = False
    stdin: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ImageInfo:
    """An image of the node. `id` is sha256:...; `size` 0 for a built-in one, which takes no space of its own."""

    id: str
    tags: tuple[str, ...]
    size: int
    user: str = ""
    builtin: bool = False


@dataclass(frozen=True, kw_only=True)
class Stats:
    """What a container uses: CPU time in nanoseconds since its start, memory without reclaimable file pages."""

    id: str
    at: int
    cpu_nanoseconds: int
    memory_working_set: int
    memory_usage: int
    processes: int


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something happened to a container or a sandbox (`container_id` empty)."""

    type: Literal["container_created", "container_started", "container_stopped", "container_removed",
                  "sandbox_ready", "sandbox_stopped", "sandbox_removed"]
    at: int
    sandbox_id: str
    container_id: str = ""
    exit_code: int = 0
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class ExecResult:
    """What a command that ran to its end left behind."""

    exit_code: int
    stdout: bytes
    stderr: bytes


def to_wire(value: Any) -> Any:
    """Return what json can write: dataclasses as objects, tuples as lists, bytes as latin-1 text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_wire(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {k: to_wire(v) for k, v in value.items()}
    if isinstance(value, (tuple, list)):
        return [to_wire(v) for v in value]
    if isinstance(value, bytes):
        return value.decode("latin-1")
    return value


def from_wire(kind: type[T], data: Mapping[str, Any]) -> T:
    """Build a value of `kind` from its JSON object. Unknown fields are ignored, so that versions may differ."""
    readers = _readers(kind)
    return kind(**{name: readers[name](v) for name, v in data.items() if name in readers})


_READERS: dict[Any, dict[str, Any]] = {}


def _readers(kind: type) -> dict[str, Any]:
    if kind not in _READERS:
        _READERS[kind] = {name: _reader(hint) for name, hint in typing.get_type_hints(kind).items()}
    return _READERS[kind]


def _reader(hint: Any) -> Any:
    """Return the function that turns the JSON form of one type back."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return functools.partial(from_wire, hint)
    if origin is tuple:
        inner = _reader(args[0]) if args[-1] is Ellipsis else None
        return (lambda v: tuple(inner(x) for x in v)) if inner else tuple
    if origin in (types.UnionType, typing.Union):
        inner = _reader(next(a for a in args if a is not type(None)))
        return lambda v: None if v is None else inner(v)
    if hint is bytes:
        return lambda v: v.encode("latin-1")
    return lambda v: v
