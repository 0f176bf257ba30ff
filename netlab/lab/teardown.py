"""The end of a lab, by its record: processes, names in /run/netns, cgroups, the user's kubeconfig, files.

Nothing is found by pattern: only what the record names is removed, and a name in /run/netns only while it still is the
link that we made. Every step may be done twice.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import time
from pathlib import Path

from netlab.kernel import cgroup
from netlab.lab import kubeconfig, state
from netlab.lab.state import LabRecord, Process

NETNS = Path("/run/netns")


def destroy(record: LabRecord) -> None:
    """End a lab and remove all that it made. Its data goes too."""
    kill(record.holder)
    kill(record.gate)
    kill(record.relay)
    unlink(record)
    if record.cgroup:
        cgroup.remove(record.cgroup)
    if record.kubeconfig:
        kubeconfig.remove(Path(record.kubeconfig), record.name, kubeconfig.calling_user())
    remove_files(record)


def sweep() -> list[str]:
    """Remove what dead labs left; return their names. Call with the lock held."""
    gone = []
    for record in state.all_labs():
        if not record.alive() and not record.launcher.alive():
            unlink(record)
            kill(record.gate)
            kill(record.relay)
            if record.cgroup:
                cgroup.remove(record.cgroup)
            if not record.ready:  # an `up` that was killed: nobody can miss its data
                destroy(record)
            gone.append(record.name)
    return gone


def kill(process: Process, seconds: float = 10.0) -> None:
    """Kill a process of ours and wait until it, and with a holder its whole PID namespace, is gone."""
    if not process.alive():
        return
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    try:
        if process.alive():  # checked again: now the descriptor pins the pid
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
            select.select([handle], [], [], seconds)
    finally:
        os.close(handle)


def link(record: LabRecord, descriptors: dict[str, int]) -> tuple[str, ...]:
    """Make /run/netns/LAB-NODE → /proc/HOLDER/fd/N for `ip netns`; return the names. A foreign name is left alone."""
    made = []
    NETNS.mkdir(mode=0o755, exist_ok=True)
    for place, fd in descriptors.items():
        name = f"{record.name}-{place}"
        with contextlib.suppress(FileExistsError):
            (NETNS / name).symlink_to(f"/proc/{record.holder.pid}/fd/{fd}")
            made.append(name)
    return tuple(made)


def unlink(record: LabRecord) -> None:
    """Remove the names in /run/netns that are this lab's links; remove the folder if that leaves it empty."""
    for name in record.links:
        path = NETNS / name
        with contextlib.suppress(OSError):
            if os.readlink(path).startswith(f"/proc/{record.holder.pid}/fd/"):
                path.unlink()


def remove_files(record: LabRecord) -> None:
    """Remove the lab's folders. A mount of a dying namespace may hold on for a moment."""
    deadline = time.monotonic() + 2
    for folder in (record.run_dir, record.state_dir):
        while folder.exists():
            shutil.rmtree(folder, ignore_errors=True)
            if not folder.exists():
                break
            if time.monotonic() > deadline:
                shutil.rmtree(folder)
            time.sleep(0.05)
