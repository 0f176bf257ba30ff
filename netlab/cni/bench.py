"""What a Pod's network costs, beside its peers, in one run: `measure`, and `run` for the command line."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from netlab.cni import delegate, main, skel
from netlab.kernel import link, netns, podnet, process, scratch
from netlab.kernel.route import Route
from netlab.kernel.rtnl import Rtnl

REFERENCE: Final = "/usr/lib/cni"
_EXECUTABLES: Final = 30  # a run of executables is bounded: they cost tens of milliseconds


def run(*, repeat: int = 3, count: int = 100) -> Iterator[dict[str, Any]]:
    """Measure `repeat` times with `count` containers.

    Yields:
        Rows of {"what", "value", "unit", "note"}: the best of the repeated medians, and ratios to the peers.
    """
    results = [measure(count) for _ in range(repeat)]
    best: dict[str, dict[str, float]] = {}
    for way in results[0]["ways"]:
        best[way] = {verb: min(result["ways"][way][verb] for result in results) for verb in ("add", "delete")}
        for verb, cost in best[way].items():
            yield {"what": f"{way}: {verb}", "value": round(cost, 2), "unit": "ms", "note": f"{count} containers"}
    for pair, ratio in _ratios(best).items():
        yield {"what": pair, "value": ratio, "unit": "x", "note": "add"}


def measure(count: int = 100) -> dict[str, Any]:
    """Set up and tear down the networks of `count` containers in every way; needs root.

    Returns, in milliseconds per container (medians of the single calls; of `ip -batch` and of bulk deletion the mean):
    {"count", "ways": {way: {"add", "delete"}}, "ratios": {...}}. Ways: "raw netlink" (the hot path alone), "plugin, in
    process" (bridge and host-local through the contract, as the kubelet calls them), "plugin, executable",
    "ip -batch", and where installed "reference plugin" (the Go one, executable). Namespaces are made beforehand.
    """
    ways: dict[str, dict[str, float]] = {}
    with scratch.folder("netlab-bench-") as made:
        folder = str(made)
        programs = os.path.join(folder, "bin")
        main.install(programs)
        ways["raw netlink"] = _raw(count)
        ways["plugin, in process"] = _plugin(count, folder, _in_process(programs))
        ways["plugin, executable"] = _plugin(min(count, _EXECUTABLES), folder, _executable(programs))
        if shutil.which("ip"):
            ways["ip -batch"] = _ip_batch(count)
        if os.path.exists(f"{REFERENCE}/bridge"):
            ways["reference plugin"] = _plugin(min(count, _EXECUTABLES), folder, _executable(REFERENCE))
    return {"count": count, "ways": ways, "ratios": _ratios(ways)}


@contextlib.contextmanager
def _namespaces(count: int) -> Iterator[tuple[int, list[int]]]:
    """Make a node and its containers, with a bridge that has the first address."""
    node = netns.new_netns()
    pods = [netns.new_netns() for _ in range(count)]
    try:
        with Rtnl(node) as sock:
            link.add_bridge(sock, "cni0")
            link.add_address(sock, "cni0", "10.244.0.1/16")
        yield node, pods
    finally:
        for fd in (*pods, node):
            os.close(fd)


def _address(number: int) -> str:
    return f"10.244.{(number + 2) // 256}.{(number + 2) % 256}"


def _raw(count: int) -> dict[str, float]:
    with _namespaces(count) as (node, pods), Rtnl(node) as sock:
        bridge = link.get(sock, "cni0").ifindex
        gateway = (Route("0.0.0.0/0", "10.244.0.1", 0),)

        def add(number: int) -> None:
            with Rtnl(pods[number]) as pod:
                podnet.attach(sock, pod, pods[number], podnet.Plug(
                    "eth0", f"veth{number}", bridge, addresses=(f"{_address(number)}/16",), routes=gateway))

        times = [_timed(lambda number=number: add(number)) for number in range(count)]  # type: ignore[misc]
        gone = _timed(lambda: podnet.delete_all(sock, [f"veth{number}" for number in range(count)], 1))
    return {"add": _median(times), "delete": round(gone / count, 3)}


Caller = Callable[[dict[str, str], bytes], tuple[int, bytes]]


def _in_process(directory: str) -> Caller:
    def call(environ: dict[str, str], stdin: bytes) -> tuple[int, bytes]:
        return skel.respond(delegate.plugin("bridge"), environ | {"CNI_PATH": directory}, stdin)
    return call


def _executable(directory: str) -> Caller:
    def call(environ: dict[str, str], stdin: bytes) -> tuple[int, bytes]:
        done = process.run_sync([f"{directory}/bridge"], input=stdin, timeout=60,
                                env={"PATH": os.environ.get("PATH", ""), **environ, "CNI_PATH": directory})
        return done.code, done.stdout
    return call


def _plugin(count: int, folder: str, call: Caller) -> dict[str, float]:
    with _namespaces(count) as (node, pods), tempfile.TemporaryDirectory(dir=folder) as data:
        config = {"cniVersion": "1.0.0", "name": "bench", "type": "bridge", "bridge": "cni0", "isGateway": True,
                  "ipam": {"type": "host-local", "dataDir": data, "ranges": [[{"subnet": "10.244.0.0/16"}]],
                           "routes": [{"dst": "0.0.0.0/0"}]}}
        stdin = json.dumps(config).encode()
        times: dict[str, list[float]] = {"ADD": [], "DEL": []}
        with netns.inside(node):
            for verb, spent in times.items():
                for number, fd in enumerate(pods):
                    environ = {"CNI_COMMAND": verb, "CNI_CONTAINERID": f"c{number}", "CNI_IFNAME": "eth0",
                               "CNI_NETNS": f"/proc/{os.getpid()}/fd/{fd}"}
                    spent.append(_timed(lambda environ=environ: _checked(call(environ, stdin))))  # type: ignore[misc]
    return {"add": _median(times["ADD"]), "delete": _median(times["DEL"])}


def _checked(answer: tuple[int, bytes]) -> None:
    if answer[0]:
        delegate.parse_answer("bridge", *answer)


def _ip_batch(count: int) -> dict[str, float]:
    """Let one `ip -batch` do a container's node side, and one its own side."""
    with _namespaces(count) as (node, pods):
        def add(number: int) -> None:
            place = f"/proc/{os.getpid()}/fd/{pods[number]}"
            _ip(node, f"link add veth{number} type veth peer name eth0 netns {place}\n"
                      f"link set veth{number} master cni0 up\n")
            _ip(pods[number], f"addr add {_address(number)}/16 dev eth0\nlink set eth0 up\n"
                              "route add default via 10.244.0.1\n")

        times = [_timed(lambda number=number: add(number)) for number in range(count)]  # type: ignore[misc]
        lines = "".join(f"link set veth{number} group 1\n" for number in range(count)) + "link del group 1\n"
        gone = _timed(lambda: _ip(node, lines))
    return {"add": _median(times), "delete": round(gone / count, 3)}


def _ip(place: int, lines: str) -> None:
    process.run_sync(["ip", "-batch", "-"], input=lines.encode(), network=place, timeout=60).checked("ip -batch")


def _timed(action: Callable[[], None]) -> float:
    began = time.perf_counter()
    action()
    return (time.perf_counter() - began) * 1000


def _median(times: list[float]) -> float:
    return round(statistics.median(times), 3)



def _ratios(ways: dict[str, dict[str, float]]) -> dict[str, float]:
    """Return how much of a peer's time ours take."""
    pairs = (("raw netlink", "ip -batch"), ("plugin, in process", "ip -batch"),
             ("plugin, in process", "reference plugin"), ("plugin, executable", "reference plugin"))
    return {f"{way} / {other}": round(ways[way]["add"] / ways[other]["add"], 2)
            for way, other in pairs if other in ways}
