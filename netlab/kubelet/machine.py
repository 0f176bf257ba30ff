"""Facts about the machine under a node, read from the kernel."""

from __future__ import annotations

import os
import platform
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from netlab.api import quantity

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "ppc64le": "ppc64le", "s390x": "s390x"}
_EVICTION_MEMORY = 100 << 20
"""Bytes of memory kept back, as upstream's default evictionHard (memory.available<100Mi)."""


@dataclass(frozen=True)
class Machine:
    """What a node is made of. Sizes are bytes."""

    cpus: int
    memory: int
    disk: int
    kernel: str
    os_image: str
    architecture: str
    boot_id: str
    machine_id: str
    max_pods: int = 110

    def capacity(self) -> dict[str, str]:
        """Return all there is, as status.capacity."""
        return {"cpu": str(self.cpus), "ephemeral-storage": f"{self.disk >> 10}Ki", "hugepages-1Gi": "0",
                "hugepages-2Mi": "0", "memory": f"{self.memory >> 10}Ki", "pods": str(self.max_pods)}

    def allocatable(self, reserved: Mapping[str, str]) -> dict[str, str]:
        """Return what Pods may have, as status.allocatable; `reserved` by resource name."""
        left = self.capacity()
        left["memory"] = f"{max(0, self.memory - _EVICTION_MEMORY) >> 10}Ki"
        left["ephemeral-storage"] = str(self.disk * 9 // 10)
        for name, amount in reserved.items():
            if name == "cpu":
                milli = quantity.parse(left["cpu"]).milli() - quantity.parse(amount).milli()
                left["cpu"] = f"{max(0, milli)}m"
            elif name in ("memory", "ephemeral-storage"):
                value = quantity.parse(left[name]).value() - quantity.parse(amount).value()
                left[name] = f"{max(0, value) >> 10}Ki"
        return left


def read(root: Path, node_name: str, max_pods: int) -> Machine:
    """Read the facts. All nodes of one machine show its whole size; ids are a node's own."""
    memory = 0
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemTotal:"):
            memory = int(line.split()[1]) << 10
    where = next(p for p in (root, *root.parents) if p.exists())
    disk = os.statvfs(where)
    return Machine(cpus=len(os.sched_getaffinity(0)), memory=memory, disk=disk.f_blocks * disk.f_frsize,
                   kernel=platform.release(), os_image=_os_image(),
                   architecture=_ARCHITECTURES.get(platform.machine(), platform.machine()),
                   boot_id=_line("/proc/sys/kernel/random/boot_id"),
                   machine_id=uuid.uuid5(uuid.NAMESPACE_DNS, f"{node_name}.{_line('/etc/machine-id')}").hex,
                   max_pods=max_pods)


def available_memory() -> int:
    """Return the bytes of memory that are free for use now."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    return 0


def _os_image() -> str:
    for line in _text("/etc/os-release").splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip().strip('"')
    return "Linux"


def _line(path: str) -> str:
    return _text(path).strip()


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
