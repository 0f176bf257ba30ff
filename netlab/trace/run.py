"""Trace one exchange: open the taps, arm the namespaces, send, listen until it is quiet, and put it all in order."""

from __future__ import annotations

import ipaddress
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Final

from netlab.errors import NotFound, UsageError
from netlab.kernel import counters, link
from netlab.kernel.rtnl import Rtnl
from netlab.kernel.taps import port_filter, protocol_filter
from netlab.trace.craft import Craft, Crafted
from netlab.trace.event import Trace
from netlab.trace.facts import Facts
from netlab.trace.listen import ARM_ALL, Ears, Tap
from netlab.trace.packet import ICMP, ICMPV6, IPV6_FRAGMENT, UDP
from netlab.trace.send import Answer, Protocol, Sender
from netlab.trace.story import Story

__all__ = ["Request", "Tap", "trace"]

CONTROL_PLANE_PORTS: Final = (6443, 10250, 2379, 2380)
"""TCP ports that a lab's own components talk over all the time: only packets that open or end such a connection are
asked about, unless these ports are what is traced. (Whether they are is seen too late, behind a Service's DNAT.)"""

QUIET: Final = 0.03
"""Seconds without an event after the answer, until the trace is over: events come out of order by far less."""
PROXY: Final = 0.5
"""Seconds that a userspace proxy may take until it opens a connection of its own, on a busy machine."""


@dataclass(frozen=True)
class Request:
    """What to send: from `source` (a place among the taps) to an address.

    `payload` is what a connection or packet carries; `source_address` binds an address of the source, or, if the source
    has none such, makes a packet by hand that bears it. `craft` makes a packet by hand in any case. `bpf`: ask the
    kernel for drop reasons; None does so where it is possible. `relay`: the place from which a program at the
    destination is known to pass the connection on.
    """

    source: str
    address: str
    port: int = 0
    protocol: Protocol = "tcp"
    timeout: float = 3.0
    payload: bytes = b""
    source_address: str = ""
    craft: Craft | None = None
    bpf: bool | None = None
    relay: str = ""


def trace(request: Request, taps: Sequence[Tap], names: Mapping[str, str] | None = None, *, target: str = "") -> Trace:
    """Send one exchange and return all that the kernel told about it. Takes as long as the exchange and ~0.1 s.

    Args:
        request: what to send.
        taps: every namespace that it might cross.
        names: names by IP address, for the words of the outcome.
        target: what the user called the destination.

    Raises:
        NotFound: the source is not among the taps.
        UsageError: what is wished for makes no packet.
        Unsupported: this kernel has no such protocol, or no drop reasons although they are insisted on.
        KernelError: the source may not send such a packet at all.
    """
    return exchange(request, taps, names, target=target)[0]


def exchange(request: Request, taps: Sequence[Tap], names: Mapping[str, str] | None = None, *,
             target: str = "") -> tuple[Trace, Answer]:
    """Do as `trace`, and also return what the sender got."""
    by_place = {tap.place: tap.netns_fd for tap in taps}
    if request.source not in by_place:
        raise NotFound(f"no place {request.source} to send from", hint=f"places: {', '.join(sorted(by_place))}")
    _check_source(request)
    if request.craft is None and request.source_address and not _own(by_place[request.source], request.source_address):
        request = replace(request, craft=Craft())
    with ExitStack() as stack:
        sender = _sender(by_place[request.source], request)
        stack.callback(sender.close)
        ears = Ears()
        stack.callback(ears.close)
        before = {tap.place: counters.read(tap.netns_fd) for tap in taps if not tap.place.startswith("pod/")}
        _listen(ears, request, sender, taps)
        bpf = ears.bpf
        open_still = stack.pop_all()
    closing = threading.Thread(target=open_still.close, name="close the taps")
    closing.start()  # which takes a while; meanwhile there is much to be read and sorted
    try:
        facts = Facts(by_place, lambda place: any(hit.legacy for hit in ears.heard.hits.get(place, ())), before)
        story = Story(ears.heard, facts, names or {})
        told = story.tell(request, sender.is_first, sender.answer, target=target, warnings=ears.warnings,
                          relay=request.relay)
    finally:
        closing.join()
    crafted = request.craft.words(request.protocol, request.source_address) if request.craft is not None else ""
    return replace(told, bpf=bpf, crafted=crafted), sender.answer


def _check_source(request: Request) -> None:
    try:
        six = request.source_address and ipaddress.ip_address(request.source_address).version == 6
    except ValueError:
        raise UsageError(f"--source {request.source_address}: no IP address") from None
    if request.source_address and request.address and six != (":" in request.address):
        raise UsageError(f"--source {request.source_address} and the destination {request.address} are of two families",
                         hint="-6 chooses the IPv6 address of what has both")


def _sender(netns: int, request: Request) -> Sender | Crafted:
    if request.craft is not None:
        return Crafted(netns, request.source, request.protocol, request.address, request.port, craft=request.craft,
                       payload=request.payload, source=request.source_address)
    return Sender(netns, request.protocol, request.address, request.port, payload=request.payload,
                  source=request.source_address)


def _own(netns: int, address: str) -> bool:
    with Rtnl(netns) as sock:
        return any(entry.ip == address for entry in link.addresses(sock))


def _listen(ears: Ears, request: Request, sender: Sender | Crafted, taps: Sequence[Tap]) -> None:
    """Open everything, send, and read until the answer is in and it has been quiet for a while."""
    if request.bpf is not False:
        ears.ask_for_drops(taps, insist=bool(request.bpf))
    few = len(taps) <= ARM_ALL
    wanted = protocol_filter(sender.number, ICMP, ICMPV6, UDP, IPV6_FRAGMENT)
    for tap in taps:
        if tap.place == "host":  # the machine's own rules are left alone, and its other traffic too
            ears.open(tap, (), port_filter(sender.number, request.port), armed=False)
            continue
        ears.open(tap, _matches(sender.number, request), wanted,
                  armed=few or tap.place == request.source or not tap.place.startswith("pod/"))
    sender.start()
    loop, waits_for = ears.loop, 0
    end = time.monotonic() + request.timeout
    patience = 0.0
    quiet_until = time.monotonic() + QUIET
    while True:
        if sender.events != waits_for:
            if waits_for:
                loop.unregister(sender)
            waits_for = sender.events
            if waits_for:
                loop.register(sender, waits_for, None)
        now = time.monotonic()
        if sender.answered and now >= quiet_until:
            if not sender.proceed():
                patience = patience or now + PROXY
                if request.protocol != "tcp" or now >= patience or not ears.heard.awaits_a_proxy(sender.is_first):
                    break
            quiet_until = now + QUIET
            continue
        if now >= end:
            break
        for key, _ in loop.select(max(min(quiet_until if sender.answered else end, end) - now, 0.001)):
            if key.data is None:
                was = sender.answered
                sender.ready()
                if sender.answered and not was:
                    quiet_until = time.monotonic() + QUIET
            elif ears.take(*key.data):
                quiet_until = time.monotonic() + QUIET
        if isinstance(sender, Crafted) and not sender.answered:
            sender.observe(ears.heard.seen)
            quiet_until = time.monotonic() + QUIET
        if not sender.answered and ears.heard.dropped(sender.is_first):  # nobody will answer, but for a rule's refusal
            end = min(end, time.monotonic() + 5 * QUIET)
    ears.take_all()
    if not sender.answered and any(key.data is None for key, _ in loop.select(0)):
        sender.ready()  # it came while this process had to wait for a processor
        ears.take_all()


def _matches(number: int, request: Request) -> list[str]:
    errors = [f"meta l4proto {{ {ICMP}, {ICMPV6} }}"]
    if request.protocol == "icmp":
        return errors
    if request.protocol == "tcp":
        ports = ", ".join(str(p) for p in CONTROL_PLANE_PORTS if p != request.port)
        return [f"tcp sport != {{ {ports} }} tcp dport != {{ {ports} }}", "tcp flags & (fin | syn | rst) != 0", *errors]
    return [f"meta l4proto {number}", *errors]
