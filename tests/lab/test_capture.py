"""`netlab capture` in a lab: Pods of a selector are followed while they come and go."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest

from tests.lab.labs import Netlab, eventually
from tests.trace.views.test_views import blocks, options

pytestmark = pytest.mark.lab


def names(data: bytes) -> list[str]:
    return [dict(options(body[8:]))[2].decode() for kind, body in blocks(data) if kind == 1]


def test_pods_that_start_and_end_meanwhile_are_in_the_file(netlab: Netlab, services: tuple[str, object], tmp_path) -> None:
    lab, path = services[0], tmp_path / "a.pcapng"
    netlab("kubectl", "--name", lab, "run", "early", "--image=busybox", "--labels=job=talk", "--restart=Never", "--", "sleep", "600")
    netlab("kubectl", "--name", lab, "wait", "--for=condition=Ready", "pod/early", "--timeout=60s")
    process = netlab.start("capture", "--name", lab, "-l", "job=talk", "-w", str(path), "-f", "udp port 53 or arp or tcp")
    try:
        eventually(lambda: path.exists() and path.stat().st_size > 0, "it began")
        netlab("exec", "--name", lab, "pod/early", "--", "wget", "-qO-", "web/hostname")
        # its first question comes right after the start: the capture has to be there by then
        netlab("kubectl", "--name", lab, "run", "late", "--image=busybox", "--labels=job=talk", "--restart=Never", "--",
               "sh", "-c", "wget -qO- web/hostname; sleep 600")
        netlab("kubectl", "--name", lab, "wait", "--for=condition=Ready", "pod/late", "--timeout=60s")
        eventually(lambda: b"pod/default/late:eth0" in path.read_bytes(), "the late Pod was listened in")
        netlab("kubectl", "--name", lab, "delete", "pod", "early", "--now")
        eventually(lambda: any(kind == 5 for kind, _ in whole(path.read_bytes())), "the early Pod's statistics")
    finally:
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=30)[0].decode()
        netlab("kubectl", "--name", lab, "delete", "pod", "early", "late", "--now", "--ignore-not-found")
    assert process.returncode == 0, said
    assert "none dropped" in said
    assert {"pod/default/early:eth0", "pod/default/late:eth0"} <= set(names(path.read_bytes()))


def whole(data: bytes) -> list[tuple[int, bytes]]:
    """Return the blocks of a file that is still being written."""
    while data:
        try:
            return blocks(data)
        except Exception:  # noqa: BLE001 - its last block is not there yet
            data = data[:-4]
    return []


def test_lines_of_a_node_by_count(netlab: Netlab, services: tuple[str, object]) -> None:
    done = netlab("capture", "--name", services[0], "node/control-plane", "-i", "lo,eth0", "-c", "5", "-o", "json", "-f", "tcp")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == 5
    assert {line["place"] for line in lines} == {"node/control-plane"}
    assert done.stderr.startswith("listening in 1 place; Ctrl-C ends\n5 packets, ")


def test_a_trace_is_saved_shown_again_and_read_by_wireshark(netlab: Netlab, services: tuple[str, object], tmp_path) -> None:
    files = {end: str(tmp_path / f"a.{end}") for end in ("json", "svg", "html", "mmd", "pcapng")}
    done = netlab("trace", "--name", services[0], "outside", "node/worker1:30080", "-o", "json",
                  *(word for file in files.values() for word in ("--save", file)))
    assert json.loads(done.stdout) == json.loads((tmp_path / "a.json").read_text())
    for end, form in (("svg", "svg"), ("html", "html"), ("mmd", "mermaid")):
        assert netlab("trace", "--from-json", files["json"], "-o", form).stdout == (tmp_path / f"a.{end}").read_text()
    data = (tmp_path / "a.pcapng").read_bytes()
    assert {"outside:eth0", "fabric:outside", "fabric:worker1", "node/worker1:eth0"} <= set(names(data))
    comments = [value.decode() for kind, body in blocks(data) if kind == 6
                for code, value in options(body[20 + -(-int.from_bytes(body[12:16], sys.byteorder) // 4) * 4:]) if code == 1]
    assert any(text.startswith("=> DNAT ") for text in comments)
    assert any("KUBE-NODEPORTS" in text for text in comments)


def test_a_service_without_pods_is_waited_for(netlab: Netlab, services: tuple[str, object]) -> None:
    done = netlab("capture", "--name", services[0], "svc/nobody", "--duration", "0.3")
    assert done.stderr.startswith("no such Pod runs yet: waiting for one; Ctrl-C ends\n0 packets, ")


@pytest.mark.parametrize(("words", "says"), [
    ((), "want a place or a selector"), (("pod/nobody",), 'no pod "nobody"'), (("svc/none",), "there is no svc/none"),
    (("nonsense",), '"nonsense" is no place'), (("-l", "a=b=c"), "-l a=b=c"), (("all", "-f", "tcp prt 1"), "is not understood"),
    (("pod/client", "-i", "eth0,eht1"), "no interface there is called eht1\nhint: pod/default/client has lo, eth0"),
    (("all", "-w", "/nowhere/x"), "can't write /nowhere/x"), (("all", "--kubeconfig", "x"), "give names to --attach"),
])
def test_errors(netlab: Netlab, services: tuple[str, object], words: tuple[str, ...], says: str) -> None:
    done = netlab("capture", "--name", services[0], *words, check=False)
    assert done.returncode != 0
    assert says in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("words", "offered"), [
    ("netlab trace --name {lab} pod/cl", {"pod/client"}), ("netlab trace --name {lab} pod/client svc/we", {"svc/web"}),
    ("netlab capture --name {lab} node/w", {"node/worker1", "node/worker2"}), ("netlab exec --name {lab} out", {"outside"}),
    ("netlab trace --name nowhere pod/cl", set()),
])
def test_places_are_completed(netlab: Netlab, services: tuple[str, object], words: str, offered: set[str]) -> None:
    line = words.format(lab=services[0])
    env = netlab.env | {"_NETLAB_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split()) - 1)}
    script = "from netlab.cli.main import netlab; netlab(prog_name='netlab')"
    done = subprocess.run([sys.executable, "-P", "-c", script], env=env, capture_output=True, text=True, check=False)
    assert {each.partition(",")[2] for each in done.stdout.split()} == offered
