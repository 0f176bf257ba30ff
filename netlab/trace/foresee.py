"""A prediction beside a trace: what the world read before the packet says of it. Pure."""

from __future__ import annotations

from netlab.netfilter.matching import Packet as Flowing
from netlab.trace import agree
from netlab.trace.agree import Agreement
from netlab.trace.branch import Question
from netlab.trace.event import Trace
from netlab.trace.predict import predict
from netlab.trace.run import Request
from netlab.trace.world import World

PREDICTED = ("tcp", "udp", "icmp", "sctp")


def _followed(request: Request, *, crafted: bool) -> bool:
    """Tell whether a prediction knows such packets: made by hand, only SCTP's INIT as any kernel would send it."""
    craft = request.craft
    if not crafted:
        return request.protocol in PREDICTED
    return (craft is not None and request.protocol == "sctp" and craft.count == 1 and not craft.fragment
            and not craft.size and not request.source_address)


def compared(world: World, request: Request, observed: Trace) -> Agreement:
    """Return whether the trace went as the world says.

    Args:
        world: as it was before the packet.
        request: what was sent.
        observed: what the kernel told of it.
    """
    if not _followed(request, crafted=bool(observed.crafted)):
        return Agreement("skipped", "only ordinary TCP, UDP, ICMP and SCTP's INIT are")
    if request.source not in world.spaces:
        return Agreement("skipped", f"{request.source} could not be read")
    address, port = request.address, request.port
    if observed.request:  # a name was resolved on the way
        address, port = observed.request[0].packet.destination, observed.request[0].packet.dport
    elif any(part.role == "resolution" for part in observed.parts):
        address = ""  # it led nowhere, whatever the API server knows
    if not address:
        return Agreement("skipped", "nothing was sent")
    if request.address and (":" in address) != (":" in request.address):
        return Agreement("skipped", "the name led to an address of the other family")
    protocol = "icmpv6" if request.protocol == "icmp" and ":" in address else request.protocol
    seen = agree.addresses(observed)

    def only(packet: Flowing) -> bool:
        return (packet.dst, packet.dport) in seen

    question = Question(request.source, address, 0 if request.protocol == "icmp" else port, protocol,
                        request.source_address, ttl=(request.craft.ttl if request.craft else 0) or 64)
    return agree.compare(predict(world, question, only=only), observed, world)
