"""What this kernel can do, found out by doing it in namespaces that vanish with the asking process.

Every probe runs in a child that has its own network and mount namespaces (and is root there), returns words for what it
found, and raises OSError or KernelError with the kernel's reason when it is refused.
"""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path

from netlab.errors import KernelError, NotFound
from netlab.kernel import libc, link
from netlab.kernel.drops import DropTrace
from netlab.kernel.process import run_sync
from netlab.kernel.rtnl import Rtnl


def enter() -> None:
    """Give this process namespaces of its own, and a private tmpfs on /tmp and /run."""
    libc.unshare(libc.CLONE_NEWNS | libc.CLONE_NEWNET | libc.CLONE_NEWPID | libc.CLONE_NEWIPC | libc.CLONE_NEWUTS)
    libc.mount("none", "/", "", libc.MS_REC | libc.MS_PRIVATE)
    for place in ("/tmp", "/run"):  # iptables keeps a lock in /run
        libc.mount("tmpfs", place, "tmpfs", 0)


def cables() -> str:
    """Make a bridge with a cable in it."""
    with Rtnl() as sock:
        link.add_bridge(sock, "br0")
        link.add_veth(sock, "v0", "v1", master="br0")
    return "veth, bridge"


def bridge_netfilter() -> str:
    """See that bridged packets can be shown to iptables (br_netfilter)."""
    file = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
    if not file.exists():
        raise KernelError("br_netfilter is not loaded")
    file.write_text("1")
    return "bridge-nf-call-iptables"


def vxlan() -> str:
    """Make a vxlan device."""
    with Rtnl() as sock:
        link.add(sock, "vx0", "vxlan", {"IFLA_VXLAN_ID": 1, "IFLA_VXLAN_PORT": 8472})
    return "vxlan devices"


def netem() -> str:
    """Put a delay on an interface."""
    with Rtnl() as sock:
        link.set_up(sock, "lo")
    run_sync(["tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms"]).checked("tc netem")
    return "delay and loss on a cable"


def iptables(backend: str) -> str:
    """Write the kinds of rules that kube-proxy writes, with `iptables-nft` or `iptables-legacy`."""
    rules = ("*nat\n:KUBE-T - [0:0]\n-A KUBE-T -m comment --comment x -m statistic --mode random --probability 0.5 "
             "-j MARK --set-xmark 0x4000/0x4000\n"
             "-A KUBE-T -m addrtype --dst-type LOCAL -j RETURN\n"
             "-A KUBE-T -m recent --name x --rcheck --seconds 10 --reap -j RETURN\n"
             "-A KUBE-T -p tcp -m tcp -j DNAT --to-destination 10.0.0.1:80\n"
             "-A POSTROUTING -j MASQUERADE --random-fully\nCOMMIT\n"
             "*filter\n-A FORWARD -m conntrack --ctstate INVALID -j DROP\n"
             "-A FORWARD -p tcp -j REJECT --reject-with icmp-port-unreachable\nCOMMIT\n")
    run_sync([f"iptables-{backend}-restore", "--noflush"], input=rules.encode(), timeout=20).checked(
        f"iptables-{backend}")
    return "statistic, recent, addrtype, DNAT, MASQUERADE, REJECT"


def nft_trace() -> str:
    """Arm tracing by a private nft table."""
    text = b"table inet t { chain c { type filter hook prerouting priority -350; meta nftrace set 1; }; }\n"
    run_sync(["nft", "-f", "-"], input=text, timeout=20).checked("nft")
    return "meta nftrace"


def legacy_trace() -> str:
    """Arm the TRACE target of iptables-legacy, and its way to us."""
    rules = b"*raw\n-A PREROUTING -j TRACE\nCOMMIT\n"
    run_sync(["iptables-legacy-restore", "--noflush"], input=rules, timeout=20).checked("TRACE")
    setting = Path("/proc/sys/net/netfilter/nf_log/2")
    setting.write_text("nfnetlink_log")
    return "TRACE through nfnetlink_log"


def conntrack() -> str:
    """Read the connection table."""
    run_sync(["conntrack", "-L"], timeout=20).checked("conntrack")
    return "conntrack -L"


def overlay() -> str:
    """Mount an overlay over /usr, as a container's root has it."""
    for name in ("up", "work", "merged"):
        os.mkdir(f"/tmp/{name}")
    extra = "" if _init_user_namespace() else ",userxattr"
    libc.mount("overlay", "/tmp/merged", "overlay", 0, f"lowerdir=/usr,upperdir=/tmp/up,workdir=/tmp/work{extra}")
    Path("/tmp/merged/netlab").write_text("x")
    return "copy-on-write root file systems"


def packet_socket() -> str:
    """Open the kind of socket that the tracer listens with."""
    socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3)).close()
    return "AF_PACKET"


def bpf_drop_reasons() -> str:
    """Load the program that tells why packets are dropped, and attach it for a moment."""
    DropTrace(()).close()
    return "skb:kfree_skb with a reason, by BPF"


def cgroups(hierarchy: Path) -> str:
    """Make a cgroup and remove it again."""
    group = hierarchy / f"netlab-probe-{os.getpid()}"
    group.mkdir()
    group.rmdir()
    return f"limits and statistics under {hierarchy}"


def tool(name: str) -> str:
    """Return where a tool is.

    Raises:
        NotFound: nowhere on PATH.
    """
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin:/usr/bin:/bin")
    if found is None:
        raise NotFound(f"{name} is not installed")
    return found


def _init_user_namespace() -> bool:
    return Path("/proc/self/uid_map").read_text().split() == ["0", "0", "4294967295"]
