"""Address ranges of the host-local plugin: read, check, and walk them round robin. Pure.

A range set is a list of ranges of one family; each set gives a container one address, so two sets make a dual-stack
container (containernetworking/plugins, plugins/ipam/host-local/backend/allocator).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, NamedTuple, TypeAlias

from netlab.cni.result import INVALID_CONFIG, CniError

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network


class Range(NamedTuple):
    """Addresses `start` to `end`, both included, of a subnet; the gateway is never given out."""

    subnet: Network
    start: Address
    end: Address
    gateway: Address

    def __str__(self) -> str:
        """Return `10.1.0.1-10.1.0.254`, as messages name it."""
        return f"{self.start}-{self.end}"

    def holds(self, ip: Address) -> bool:
        """Tell whether the address may be given out, the gateway aside."""
        return ip.version == self.subnet.version and int(self.start) <= int(ip) <= int(self.end)


class RangeSet(NamedTuple):
    """Ranges of one family that together give one address."""

    ranges: tuple[Range, ...]

    def __str__(self) -> str:
        """Return the ranges with commas, as messages name them."""
        return ",".join(str(item) for item in self.ranges)

    def range_of(self, ip: Address) -> Range | None:
        """Return the range that holds an address."""
        return next((item for item in self.ranges if item.holds(ip)), None)

    def walk(self, last: Address | None) -> Iterator[tuple[Address, Range]]:
        """Yield every address once, in order and around, beginning behind `last`, leaving out gateways."""
        spans = [(item, int(item.start), int(item.end)) for item in self.ranges]
        at = next((place for place, item in enumerate(self.ranges) if last is not None and item.holds(last)), None)
        if at is not None and last is not None:
            item, low, high = spans[at]
            spans = [(item, int(last) + 1, high), *spans[at + 1:], *spans[:at], (item, low, int(last))]
        for item, low, high in spans:
            for number in range(low, high + 1):
                ip = type(item.start)(number)
                if ip != item.gateway:
                    yield ip, item


def parse_sets(ipam: Mapping[str, Any], extra: Sequence[Any] = ()) -> tuple[RangeSet, ...]:
    """Return the range sets of an ipam section; `extra` ones (capability ipRanges) come first.

    `subnet`, `rangeStart`, `rangeEnd` and `gateway` right in the section are a set of one range, as before version 0.7.

    Raises:
        CniError: code 7, with the reference plugin's words.
    """
    listed = [*extra, *(ipam.get("ranges") or ())]
    if ipam.get("subnet"):
        listed.insert(0, [ipam])
    if not listed:
        raise CniError(INVALID_CONFIG, "no IP ranges specified")
    sets = tuple(_parse_set(raw, place) for place, raw in enumerate(listed))
    for place, one in enumerate(sets):
        for later, other in enumerate(sets[place + 1:], place + 1):
            if any(_overlap(a, b) for a in one.ranges for b in other.ranges):
                raise CniError(INVALID_CONFIG, f"range set {place} overlaps with {later}")
    return sets


def _parse_set(raw: Any, place: int) -> RangeSet:
    wrong = f"invalid range set {place}"
    if not isinstance(raw, list) or not raw or not all(isinstance(item, dict) for item in raw):
        raise CniError(INVALID_CONFIG, f"{wrong}: empty range set")
    ranges = tuple(_parse_range(item, wrong) for item in raw)
    if len({item.subnet.version for item in ranges}) > 1:
        raise CniError(INVALID_CONFIG, f"{wrong}: mixed address families")
    for number, one in enumerate(ranges):
        for other in ranges[:number]:
            if _overlap(one, other):
                raise CniError(INVALID_CONFIG, f"{wrong}: subnets {other.subnet} and {one.subnet} overlap")
    return RangeSet(ranges)


def _parse_range(raw: Mapping[str, Any], wrong: str) -> Range:
    try:
        subnet = ip_network(raw.get("subnet", ""), strict=False)
        if str(subnet.network_address) != str(ip_address(str(raw["subnet"]).partition("/")[0])):
            raise CniError(INVALID_CONFIG, f"{wrong}: Network has host bits set. For a subnet mask of length "
                                           f"{subnet.prefixlen} the network address is {subnet.network_address}")
        if subnet.num_addresses < 4:
            raise CniError(INVALID_CONFIG, f"{wrong}: Network {subnet} too small to allocate from")
        first, last = subnet.network_address + 1, subnet.broadcast_address
        start = ip_address(raw["rangeStart"]) if raw.get("rangeStart") else first
        end = ip_address(raw["rangeEnd"]) if raw.get("rangeEnd") else last - 1 if subnet.version == 4 else last
        gateway = ip_address(raw["gateway"]) if raw.get("gateway") else first
    except (ValueError, KeyError) as error:
        raise CniError(INVALID_CONFIG, f"{wrong}: {error}") from None
    for key, ip in (("RangeStart", start), ("RangeEnd", end)):
        if ip not in subnet:
            raise CniError(INVALID_CONFIG, f"{wrong}: {key} {ip} not in network {subnet}")
    if int(start) > int(end):
        raise CniError(INVALID_CONFIG, f"{wrong}: RangeStart {start} is behind RangeEnd {end}")
    return Range(subnet, start, end, gateway)


def _overlap(one: Range, other: Range) -> bool:
    return one.subnet.version == other.subnet.version and (one.holds(other.start) or other.holds(one.start))
