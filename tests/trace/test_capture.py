"""Capture in the kernel: every interface of every namespace, in order of time, with honest counts."""

from __future__ import annotations

import asyncio
import fcntl
import io
import os
import shutil
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from netlab.errors import NotFound, UsageError
from netlab.kernel import frames, link, netns, pcapfilter
from netlab.kernel.frames import WholeFrame
from netlab.kernel.rtnl import Rtnl
from netlab.trace import capture
from netlab.trace.capture import Caught, Recorder, Tally
from netlab.trace.recording import Found, record
from netlab.trace.sinks import Lines, Pcapng
from tests.trace.topology import Network
from tests.trace.views.test_views import blocks, options

pytestmark = pytest.mark.root


class Kept:
    """A sink that keeps."""

    def __init__(self) -> None:
        self.frames: list[Caught] = []
        self.ends: dict[str, Tally] = {}

    def frame(self, caught: Caught) -> None:
        self.frames.append(caught)

    def place_ends(self, place: str, at: int, tally: Tally) -> None:
        self.ends[place] = tally

    def flush(self) -> None:
        pass


def recorder(net: Network, sink: object, expression: str = "udp port 5353", **more: object) -> Recorder:
    made = Recorder(sink, clock=time.time_ns, program=pcapfilter.compile_filter(expression), **more)  # type: ignore[arg-type]
    for place, fd in net.places.items():
        made.add(place, fd, os.fstat(fd).st_ino)
    return made


def send(net: Network, count: int = 1, size: int = 20, pod: str = "pod/default/client") -> None:
    with netns.socket_in(net.places[pod], socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        for n in range(count):
            sock.sendto(bytes([n & 255]) * size, ("10.244.2.3", 5353))
            sock.recvfrom(4096)


def test_a_packet_shows_on_every_interface_in_order(network: Network) -> None:
    network.serve("pod/default/web-2", 5353, socket.SOCK_DGRAM)
    sink = Kept()
    made = recorder(network, sink)
    send(network)
    total = made.finish()
    there = [caught.name for caught in sink.frames if caught.frame.data[-1:] == b"\0" and caught.frame.data[36:38] == b"\x14\xe9"]
    assert there == ["pod/default/client:eth0", "node/node1:v-client", "node/node1:cni0", "node/node1:eth0", "fabric:node1",
                     "fabric:node2", "node/node2:eth0", "node/node2:cni0", "node/node2:v-web-2", "pod/default/web-2:eth0"]
    assert [caught.frame.at for caught in sink.frames] == sorted(caught.frame.at for caught in sink.frames)
    assert (total.frames, total.lost, total.places) == (20, 0, 6)
    assert sink.ends["fabric"].interfaces == {"node1": 2, "node2": 2}
    assert sink.ends["fabric"].passed == 4


def test_filter_interfaces_length_and_count(network: Network) -> None:
    network.serve("pod/default/web-2", 5353, socket.SOCK_DGRAM)
    sink = Kept()
    made = recorder(network, sink, "udp dst port 5353", interfaces=("v-*", "br0"), snap_length=60, most=3)
    send(network, 4, size=300)
    total = made.finish()
    assert [caught.name for caught in sink.frames] == ["node/node1:v-client", "node/node2:v-web-2", "node/node1:v-client"]
    assert {(len(caught.frame.data), caught.frame.length) for caught in sink.frames} == {(60, 342)}
    assert total.frames == 3
    assert made.full


def test_what_found_no_room_is_counted(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "BUFFER", 4096)
    sink = Kept()
    fd = network.places["pod/default/client"]
    made = Recorder(sink, clock=time.time_ns, program=pcapfilter.compile_filter("udp"))
    made.add("pod", fd, os.fstat(fd).st_ino)
    with netns.socket_in(fd, socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for _ in range(300):
            sock.sendto(b"x" * 100, ("10.244.1.3", 9))
    total = made.finish()
    assert total.lost > 0
    assert sink.ends["pod"].passed == 300 == total.frames + total.lost


def test_the_file_is_read_by_others(network: Network, tmp_path) -> None:
    network.serve("pod/default/web-2", 5353, socket.SOCK_DGRAM)
    stream = io.BytesIO()
    made = recorder(network, Pcapng(stream, filter="udp port 5353", far_ends=lambda: {"fabric node1": "node/node1"},
                                    names=lambda: {"10.244.2.3": "pod/default/web-2", "fd00::3": "six"}))
    send(network)
    made.finish()
    found = blocks(stream.getvalue())
    names = [dict(options(body[8:]))[2].decode() for kind, body in found if kind == 1]
    assert len(names) == len(set(names)) == 10
    statistics = {struct.unpack_from("=I", body)[0]: dict(options(body[12:])) for kind, body in found if kind == 5}
    assert sorted(statistics) == list(range(10))
    assert all(struct.unpack("=Q", each[4])[0] == 2 and struct.unpack("=Q", each[5])[0] == 0 for each in statistics.values())
    (names_block,) = [body for kind, body in found if kind == 4]
    assert names_block.startswith(struct.pack("=HH", 1, 22) + bytes([10, 244, 2, 3]) + b"pod/default/web-2\0")
    path = tmp_path / "a.pcapng"
    path.write_bytes(stream.getvalue())
    program = ("import sys\nfrom scapy.utils import PcapNgReader\nimport scapy.layers.inet\n"
               "print(sum(1 for p in PcapNgReader(sys.argv[1]) if 'UDP' in p and 5353 in (p['UDP'].sport, p['UDP'].dport)))")
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "20"
    if shutil.which("tshark"):
        fields = ("frame.interface_name", "frame.interface_description", "udp.dstport")
        done = subprocess.run(["tshark", "-r", str(path), "-T", "fields", *(word for name in fields for word in ("-e", name))],
                              capture_output=True, text=True, check=True)
        lines = done.stdout.splitlines()
        assert len(lines) == 20
        assert "fabric:node1\tto node/node1\t5353" in lines
        done = subprocess.run(["tshark", "-N", "n", "-r", str(path)], capture_output=True, text=True, check=True)
        assert "pod/default/web-2" in done.stdout


def test_ip_without_a_link_layer_is_filtered_and_marked_as_such() -> None:
    fd = netns.new_netns()
    try:
        with Rtnl(fd) as sock:
            link.set_up(sock, "lo")
        try:
            with netns.inside(fd):
                tun = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
                fcntl.ioctl(tun, 0x400454CA, struct.pack("16sH22x", b"t0", 0x1001))  # TUNSETIFF, IFF_TUN | IFF_NO_PI
        except OSError as error:
            pytest.skip(f"no tun devices here: {error}")
        with Rtnl(fd) as sock:
            link.add_address(sock, "t0", "10.9.0.1/24")
            link.set_up(sock, "t0")
        stream = io.BytesIO()
        one = Recorder(Pcapng(stream), clock=time.time_ns, program=pcapfilter.compile_filter("udp port 9 and host 10.9.0.2"),
                       interfaces=("t0",))
        one.add("pod", fd, os.fstat(fd).st_ino)
        with netns.socket_in(fd, socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"hello", ("10.9.0.2", 9))
            sock.sendto(b"hello", ("10.9.0.2", 10))
        one.finish()
        found = blocks(stream.getvalue())
        assert [struct.unpack_from("=H", body)[0] for kind, body in found if kind == 1] == [101]
        (packet,) = [body for kind, body in found if kind == 6]
        assert packet[20] == 0x45
        os.close(tun)
    finally:
        os.close(fd)


class Script:
    """A source whose answers are set by the test."""

    def __init__(self) -> None:
        self.now: dict[str, int] = {}
        self.event = asyncio.Event()

    def set(self, **now: int) -> None:
        self.now = now
        self.event.set()

    async def changed(self) -> None:
        await self.event.wait()
        self.event.clear()

    async def look(self) -> tuple[list[Found], bool]:
        return [Found(place, os.dup(fd)) for place, fd in self.now.items()], False


async def eventually(true: Callable[[], object]) -> None:
    for _ in range(2000):
        if true():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("not within 20 s")


def loopback() -> int:
    fd = netns.new_netns()
    with Rtnl(fd) as sock:
        link.set_up(sock, "lo")
    return fd


def speak(fd: int, text: bytes) -> None:
    with netns.socket_in(fd, socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(text, ("127.0.0.1", 9))


def test_namespaces_that_come_go_and_come_anew_are_followed() -> None:
    async def main() -> tuple[Kept, dict[str, int]]:
        sink, source, stop = Kept(), Script(), asyncio.Event()
        first, second, third = loopback(), loopback(), loopback()
        made = Recorder(sink, clock=time.time_ns, program=pcapfilter.compile_filter("udp and inbound"))
        source.now = {"a": first}
        running = asyncio.ensure_future(record(made, source, stop))

        async def until(**want: int) -> None:
            inodes = {place: os.fstat(fd).st_ino for place, fd in want.items()}
            await eventually(lambda: dict(made.places) == inodes)

        await until(a=first)
        speak(first, b"one")
        source.set(a=first, b=second)
        await until(a=first, b=second)
        speak(second, b"two")
        source.set(a=third, b=second, c=second)  # a is another namespace now; c is b by another name
        await until(a=third, b=second)
        speak(first, b"nobody listens there any more")
        speak(third, b"three")
        stop.set()
        total = await running
        for fd in (first, second, third):
            os.close(fd)
        assert total.places == 3
        return sink, {caught.frame.data[42:].decode(): caught.place for caught in sink.frames}  # type: ignore[misc]

    _, said = asyncio.run(main())
    assert said == {"one": "a", "two": "b", "three": "a"}


def test_a_namespace_is_let_go_when_its_place_has_gone() -> None:
    async def main() -> None:
        pod, node = netns.new_netns(), netns.new_netns()
        with Rtnl(node) as sock:
            link.add_veth(sock, "veth0", "eth0", peer_netns=pod)
        source, stop = Script(), asyncio.Event()
        source.now = {"pod": pod}
        made = Recorder(Kept(), clock=time.time_ns)
        running = asyncio.ensure_future(record(made, source, stop))
        async with asyncio.timeout(20):
            await eventually(lambda: made.places)
            source.set()
            os.close(pod)
            while True:  # the other end of the cable goes with the namespace
                with Rtnl(node) as sock:
                    if link.find(sock, "veth0") is None:
                        break
                await asyncio.sleep(0.05)
            stop.set()
            await running
        os.close(node)

    asyncio.run(main())


def test_it_ends_by_time_and_by_count() -> None:
    async def main() -> None:
        fd, source = loopback(), Script()
        source.now = {"a": fd}
        total = await record(Recorder(Kept(), clock=time.time_ns), source, asyncio.Event(), duration=0.2)
        assert total.frames == 0
        made = Recorder(Kept(), clock=time.time_ns, most=2)
        running = asyncio.ensure_future(record(made, source, asyncio.Event()))
        async with asyncio.timeout(20):
            while not running.done():
                speak(fd, b"x")
                await asyncio.sleep(0.02)
        assert running.result().frames == 2
        os.close(fd)

    asyncio.run(main())


def test_lines() -> None:
    written: list[str] = []
    lines = Lines(written.append, names=lambda: {"10.244.2.3": "pod/default/web"})
    udp = bytes.fromhex("0200000000010200000000020800450000200000000040110000070707070af4020300350050000c0000") + b"abcd"
    arp = bytes.fromhex("ffffffffffff02000000000208060001080006040001020000000002070707070000000000000af40203")
    for protocol, data in ((0x800, udp), (0x806, arp), (0x88CC, b"\0" * 14)):
        lines.frame(Caught("node/w1", WholeFrame(1_700_000_000_000_001_000, "cni0", 1, True, protocol, len(data), data)))
    lines.flush()
    first, second, third = "".join(written).splitlines()
    assert first[8:].startswith(".000001 node/w1:cni0 ")
    assert first.endswith("out 7.7.7.7:53 → 10.244.2.3:80 (pod/default/web)  udp, 4 bytes")
    assert second.endswith("arp who has 10.244.2.3, asks 7.7.7.7, 42 bytes")
    assert third.endswith("lldp, 14 bytes")


@pytest.mark.parametrize("text", ["tcp prt 80", "host", "and", "port 99999999", "((tcp"])
def test_filters_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match="is not understood"):
        pcapfilter.compile_filter(text)


@pytest.mark.skipif(shutil.which("tcpdump") is None, reason="no tcpdump")
@pytest.mark.parametrize("text", ["tcp port 80", "icmp or arp", "host 10.0.0.1 and not port 22", "ip6 and tcp port 1"])
def test_libpcap_and_tcpdump_compile_alike(text: str) -> None:
    for kind in (pcapfilter.ETHERNET, pcapfilter.RAW):
        if (kind, text) != (pcapfilter.RAW, "icmp or arp"):
            assert pcapfilter._compiler()(text, kind) == pcapfilter._tcpdump(text, kind)


def test_patterns() -> None:
    assert capture.patterns(["eth0,veth*", "cni0"]) == ("eth0", "veth*", "cni0")


def test_when_nothing_can_be_found_any_more_it_ends_and_keeps_what_it_has() -> None:
    class Gone(Script):
        async def changed(self) -> None:
            await super().changed()
            raise NotFound("the lab is down")

    async def main() -> None:
        fd, source, sink = loopback(), Gone(), Kept()
        source.now = {"a": fd}
        made = Recorder(sink, clock=time.time_ns, program=pcapfilter.compile_filter("udp and inbound"))
        running = asyncio.ensure_future(record(made, source, asyncio.Event()))
        await eventually(lambda: made.places)
        speak(fd, b"last words")
        source.event.set()
        total = await asyncio.wait_for(running, 20)
        assert (total.why, total.frames) == ("the lab is down", 1)
        os.close(fd)

    asyncio.run(main())
