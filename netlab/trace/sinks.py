"""Where captured frames go: a pcapng stream, or one line each."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, BinaryIO, Final

from netlab import __version__
from netlab.trace import pcapng
from netlab.trace.capture import Caught, Tally
from netlab.trace.packet import TCP, Packet, parse

_ETHERNET: Final = 14
_IP: Final = (b"\x08\x00", b"\x86\xdd")
_KINDS: Final = {0x0806: "arp", 0x88CC: "lldp", 0x8100: "vlan"}


class Pcapng:
    """Writes pcapng as it comes, so that Wireshark can read along."""

    def __init__(self, stream: BinaryIO, *, comments: tuple[str, ...] = (), filter: str = "", snap_length: int = 0,
                 far_ends: Callable[[], Mapping[str, str]] = dict,
                 names: Callable[[], Mapping[str, str]] = dict) -> None:
        """Begin the file.

        Args:
            stream: where to.
            comments: of the whole file.
            filter: its filter in tcpdump's words.
            snap_length: bytes kept of each packet.
            far_ends: gives words for interfaces by `place interface`; asked when one is new.
            names: gives names by address; those that are new are written with the next frames.
        """
        self._names, self._named, self._new = names, dict[str, str](), True
        self._stream, self._filter, self._snap_length, self._far_ends = stream, filter, snap_length, far_ends
        self._numbers: dict[tuple[str, bool], int] = {}
        stream.write(pcapng.section(f"netlab {__version__}", comments=comments))
        stream.flush()

    def frame(self, caught: Caught) -> None:
        """Write a frame, and its interface before it if that is new."""
        if self._new:  # once for each batch, and before its frames: readers go through the file once
            self._new = False
            self._write_names()
        frame = caught.frame
        key = (caught.name, caught.raw)
        if key not in self._numbers:
            self._numbers[key] = len(self._numbers)
            far = self._far_ends().get(f"{caught.place} {frame.interface}", "")
            self._stream.write(pcapng.interface(
                caught.name, link_type=pcapng.RAW_IP if caught.raw else pcapng.ETHERNET, filter=self._filter,
                snap_length=self._snap_length, description=f"to {far}" if far else ""))
        self._stream.write(pcapng.packet(self._numbers[key], frame.at, frame.data, length=frame.length,
                                         way="out" if frame.outgoing else "in"))

    def place_ends(self, place: str, at: int, tally: Tally) -> None:
        """Write the statistics of a place's interfaces.

        The kernel counts losses for the whole namespace: they stand at its first interface, with a comment when there
        are several.
        """
        mine = [(name, number) for (name, _), number in self._numbers.items() if name.startswith(f"{place}:")]
        for index, (name, number) in enumerate(mine):
            lost = tally.lost if index == 0 else 0
            words = f"{lost} frames of {place}, on any of its interfaces, found no room; the kernel does not tell which"
            comments = [words] if lost and len(mine) > 1 else []
            received = tally.interfaces.get(name.removeprefix(f"{place}:"), 0)
            self._stream.write(pcapng.statistics(number, at, started=tally.started, received=received + lost,
                                                 dropped=lost, comments=comments))

    def flush(self) -> None:
        """Hand over what was written."""
        self._stream.flush()
        self._new = True

    def _write_names(self) -> None:
        new = {address: name for address, name in self._names().items() if self._named.get(address) != name}
        if new:
            self._named |= new
            self._stream.write(pcapng.names(new))


class Lines:
    """Writes one line for each frame, for people or as JSON."""

    def __init__(self, write: Callable[[str], None], *, names: Callable[[], Mapping[str, str]] = dict,
                 as_json: bool = False) -> None:
        """Make a listing; `names` gives names by address."""
        self._write, self._all_names, self._json = write, names, as_json
        self._names: Mapping[str, str] = {}
        self._lines: list[str] = []

    def frame(self, caught: Caught) -> None:
        """Take a frame."""
        if not self._lines:
            self._names = self._all_names()
        self._lines.append(json.dumps(as_data(caught, self._names), ensure_ascii=False) if self._json else
                           self._words(caught))

    def place_ends(self, place: str, at: int, tally: Tally) -> None:
        """Say nothing: the command's last words tell of losses."""

    def flush(self) -> None:
        """Write the lines that have gathered."""
        if self._lines:
            self._write("\n".join(self._lines) + "\n")
            self._lines.clear()

    def _words(self, caught: Caught) -> str:
        frame = caught.frame
        seconds, nanos = divmod(frame.at, 1_000_000_000)
        time = f"{datetime.fromtimestamp(seconds):%H:%M:%S}.{nanos // 1000:06d}"
        return f"{time} {caught.name:<34} {'out' if frame.outgoing else 'in ':<3} {self._what(caught)}"

    def _what(self, caught: Caught) -> str:
        packet = packet_of(caught)
        if packet is None:
            kind = caught.frame.protocol
            words = _arp(caught.frame.data) if kind == 0x0806 else _KINDS.get(kind, f"ethertype 0x{kind:04x}")
            return f"{words}, {caught.frame.length} bytes"
        ends = [end + (f" ({name})" if (name := self._names.get(address)) else "")
                for end, address in ((packet.of, packet.source), (packet.to, packet.destination))]
        carried = f", {packet.carried} bytes" if packet.carried else ""
        tunnel = f" in VXLAN {packet.tunnel[2]} {packet.tunnel[0]} → {packet.tunnel[1]}" if packet.tunnel else ""
        kind_words = f"tcp {packet.what}" if packet.protocol == TCP else packet.what
        return f"{ends[0]} → {ends[1]}  {kind_words}{carried}{tunnel}"


def packet_of(caught: Caught) -> Packet | None:
    """Return the IP packet in a frame; None when there is none."""
    data = caught.frame.data
    if caught.raw:
        return parse(data)
    return parse(data[_ETHERNET:]) if data[12:14] in _IP else None


def as_data(caught: Caught, names: Mapping[str, str]) -> dict[str, Any]:
    """Return a frame as the JSON object that `-o json` prints, one a line."""
    frame, packet = caught.frame, packet_of(caught)
    found: dict[str, Any] = {"time": frame.at, "place": caught.place, "interface": frame.interface,
                             "way": "out" if frame.outgoing else "in", "length": frame.length,
                             "protocol": f"0x{frame.protocol:04x}"}
    if packet is not None:
        found |= {"source": packet.of, "destination": packet.to, "what": packet.what, "ttl": packet.ttl}
        for key, address in (("sourceName", packet.source), ("destinationName", packet.destination)):
            if address in names:
                found[key] = names[address]
    return found


def _arp(data: bytes) -> str:
    if len(data) < 42:
        return "arp"
    sender, target = (".".join(str(byte) for byte in data[at:at + 4]) for at in (28, 38))
    if data[20:22] == b"\x00\x01":
        return f"arp who has {target}, asks {sender}"
    return f"arp {sender} is at {':'.join(f'{byte:02x}' for byte in data[22:28])}"
