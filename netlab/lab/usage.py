"""What a lab costs: the memory of its processes, each shared page counted once (proportional set size, proc(5))."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from netlab.lab.state import LabRecord


@dataclass(frozen=True)
class Usage:
    """One process of a lab: `name` as ps shows it, `pss` in bytes, `cpu` in seconds since it began."""

    pid: int
    name: str
    pss: int
    cpu: float


def processes(record: LabRecord) -> list[Usage]:
    """Return every process of a lab that this user may look at: the holder, all below it, the gate, the relay."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            fields = _stat(int(path.name))
            if fields:
                children.setdefault(int(fields[1]), []).append(int(path.name))
    found: list[int] = []
    todo = [process.pid for process in (record.gate, record.relay, record.holder) if process.alive()]
    while todo:
        pid = todo.pop()
        found.append(pid)
        todo += children.get(pid, [])
    return [Usage(pid, name, pss(pid), cpu(pid)) for pid in found if (name := _name(pid))]


def cpu(pid: int) -> float:
    """Return the CPU seconds that a process has spent; 0 when it is gone."""
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") if fields else 0.0


def by_name(usages: list[Usage]) -> dict[str, int]:
    """Return bytes by process name, the largest first."""
    sums: dict[str, int] = {}
    for usage in usages:
        sums[usage.name] = sums.get(usage.name, 0) + usage.pss
    return dict(sorted(sums.items(), key=lambda row: -row[1]))


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _name(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return ""
    return os.path.basename(words[0].decode(errors="replace").partition(":")[0])  # `netlab-shim: LAB/NODE`


def gone(pid: int) -> bool:
    """Tell whether a process has ended, also one that nobody has asked for its exit code yet."""
    fields = _stat(pid)
    return not fields or fields[0] == "Z"


def pss(pid: int) -> int:
    """Return the bytes of memory that are a process's, shared pages counted once among all; 0 when it is gone."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        return 0
    return 0
