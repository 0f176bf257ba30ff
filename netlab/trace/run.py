"""Trace one exchange: open the taps, arm the namespaces, send, listen until it is quiet, and put it all in order."""

from __future__ import annotations

import selectors
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from netlab.errors import NotFound
from netlab.kernel.taps import protocol_filter
from netlab.trace.event import Trace
from netlab.trace.listen import ARM_ALL, Ears, Tap
from netlab.trace.packet import ICMP, ICMPV6, UDP
from netlab.trace.send import Protocol, Sender
from netlab.trace.story import Story

__all__ = ["Request", "Tap", "trace"]

CONTROL_PLANE_PORTS: Final = (6443, 10250, 2379, 2380)
"""TCP ports that a lab's own components talk over all the time; left out unless they are what is traced."""

QUIET: Final = 0.03
"""Seconds without an event after the answer, until the trace is over: events come out of order by far less."""


@dataclass(frozen=True)
class Request:
    """What to send: from `source` (a place among the taps) to an address."""

    source: str
    address: str
    port: int = 0
    protocol: Protocol = "tcp"
    timeout: float = 3.0
    payload: bytes = b""
    source_address: str = ""


def trace(request: Request, taps: Sequence[Tap], names: Mapping[str, str] | None = None, *, target: str = "") -> Trace:
    """Send one exchange and return all that the kernel told about it. Takes as long as the exchange and ~50 ms.

    Args:
        request: what to send.
        taps: every namespace that it might cross.
        names: names by IP address, for the words of the outcome.
        target: what the user called the destination.

    Raises:
        NotFound: the source is not among the taps.
        KernelError: the source may not send such a packet at all.
    """
    by_place = {tap.place: tap.netns_fd for tap in taps}
    if request.source not in by_place:
        raise NotFound(f"no place {request.source} to send from", hint=f"places: {', '.join(sorted(by_place))}")
    with ExitStack() as stack:
        sender = Sender(by_place[request.source], request.protocol, request.address, request.port,
                        payload=request.payload, source=request.source_address)
        stack.callback(sender.close)
        ears = _listen(stack, request, sender, taps)
        open_still = stack.pop_all()
    # The kernel takes some 10 ms for each tap and each table that goes; meanwhile there is much to be read and sorted.
    closing = threading.Thread(target=open_still.close, name="close the taps")
    closing.start()
    try:
        story = Story(ears.heard, by_place, names or {})
        return story.tell(request, sender.is_first, sender.answer, target=target, warnings=ears.warnings)
    finally:
        closing.join()


def _listen(stack: ExitStack, request: Request, sender: Sender, taps: Sequence[Tap]) -> Ears:
    """Open everything, send, and read until the answer is in and it has been quiet for a while."""
    loop = stack.enter_context(selectors.DefaultSelector())
    ears = Ears(stack, loop)
    few = len(taps) <= ARM_ALL
    wanted = protocol_filter(sender.number, ICMP, ICMPV6, UDP)
    for tap in taps:
        ears.open(tap, _matches(sender, request), wanted,
                  armed=few or tap.place == request.source or not tap.place.startswith("pod/"))
    sender.start()
    if not sender.answer.status:
        loop.register(sender.fileno(), selectors.EVENT_WRITE if sender.wants_write else selectors.EVENT_READ, None)
    end = time.monotonic() + request.timeout
    quiet_until = time.monotonic() + QUIET
    closed = False
    while True:
        now = time.monotonic()
        answered = bool(sender.answer.status)
        if answered and not closed:  # a TCP connection is closed properly, in view of the taps
            closed = True
            if sender.fileno() in loop.get_map():
                loop.unregister(sender.fileno())
            sender.close_if_connected()
            quiet_until = now + QUIET
        if (answered and now >= quiet_until) or now >= end:
            break
        for key, _ in loop.select(max(min(quiet_until if answered else end, end) - now, 0.001)):
            if key.data is None:
                sender.ready()
            elif ears.take(*key.data):
                quiet_until = time.monotonic() + QUIET
                if ears.heard.dropped(sender.is_first):  # nobody will answer: no need to wait for that
                    end = min(end, time.monotonic() + 2 * QUIET)
    ears.take_all()
    return ears


def _matches(sender: Sender, request: Request) -> list[str]:
    name = {"tcp": "tcp", "udp": "udp", "icmp": "icmp"}[request.protocol]
    errors = ["meta l4proto { icmp, ipv6-icmp }"]
    if name == "icmp":
        return errors
    ports = ", ".join(str(p) for p in CONTROL_PLANE_PORTS if p != request.port)
    if name == "tcp":
        return [f"tcp sport != {{ {ports} }} tcp dport != {{ {ports} }}", *errors]
    return [f"meta l4proto {sender.number}", *errors]
