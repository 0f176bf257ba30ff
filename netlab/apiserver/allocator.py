"""Addresses and ports that Services hold, each once. Kept in memory; filled from the stored Services at start."""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Iterable
from itertools import chain

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Taken(ValueError):
    """Somebody holds it."""


class OutOfRange(ValueError):
    """It is not in the range."""


class Full(ValueError):
    """Nothing is left."""


class Numbers:
    """Whole numbers from 0 to size - 1, of which the first `static` are handed out last (KEP-3070).

    Whoever wants a certain number rather asks for a low one, and should find it free.
    """

    def __init__(self, size: int, static: int) -> None:
        self.size, self._static = size, static
        self._held: set[int] = set()

    def __len__(self) -> int:
        return len(self._held)

    def take(self, number: int) -> None:
        """Hold a certain number.

        Raises:
            Taken, OutOfRange: it cannot be held.
        """
        if not 0 <= number < self.size:
            raise OutOfRange(number)
        if number in self._held:
            raise Taken(number)
        self._held.add(number)

    def pick(self) -> int:
        """Hold a free number, chosen at random.

        Raises:
            Full: there is none.
        """
        for low, high in ((self._static, self.size), (0, self._static)):
            number = self._free(low, high)
            if number is not None:
                self._held.add(number)
                return number
        raise Full("range is full")

    def give_back(self, number: int) -> None:
        """Let go of a number; twice is fine."""
        self._held.discard(number)

    def _free(self, low: int, high: int) -> int | None:
        if low >= high:
            return None
        start = random.randrange(low, high)
        from_there = chain(range(start, high), range(low, start))
        return next((number for number in from_there if number not in self._held), None)


class Addresses:
    """The addresses of one service network, without its first (and for IPv4 its last)."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.family = "IPv4" if network.version == 4 else "IPv6"
        size = min(network.num_addresses, 1 << 16 if network.version == 6 else 1 << 24)
        usable = size - (2 if network.version == 4 else 1)
        self._numbers = Numbers(max(usable, 0), min(max(16, usable // 16), 256) if usable > 16 else 0)

    def take(self, text: str) -> None:
        """Hold a certain address.

        Raises:
            Taken, OutOfRange: it cannot be held.
        """
        self._numbers.take(self._number(text))

    def pick(self) -> str:
        """Hold a free address.

        Raises:
            Full: there is none.
        """
        return str(self.network.network_address + 1 + self._numbers.pick())

    def give_back(self, text: str) -> None:
        """Let go of an address; one that is not of this network is left alone."""
        try:
            self._numbers.give_back(self._number(text))
        except OutOfRange:
            return

    def first(self) -> str:
        """Return the first address, which is the API server's own."""
        return str(self.network.network_address + 1)

    def __contains__(self, text: str) -> bool:
        try:
            return 0 <= self._number(text) < self._numbers.size
        except OutOfRange:
            return False

    def _number(self, text: str) -> int:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            raise OutOfRange(text) from None
        if address.version != self.network.version or address not in self.network:
            raise OutOfRange(text)
        return int(address) - int(self.network.network_address) - 1


class Pool:
    """The addresses of one family: of the server's own network first, then of those that were added."""

    def __init__(self, first: Addresses) -> None:
        self.first, self._others = first, list[Addresses]()
        self._withdrawn = False

    @property
    def network(self) -> Network:
        """Return the server's own network."""
        return self.first.network

    @property
    def _pools(self) -> list[Addresses]:
        return [*([] if self._withdrawn else [self.first]), *self._others]

    def add(self, pool: Addresses) -> bool:
        """Hand out addresses of another network as well; tell whether that is new."""
        if pool.network == self.first.network:
            self._withdrawn = False
            return False
        if any(other.network == pool.network for other in self._others):
            return False
        self._others.append(pool)
        return True

    def drop(self, network: Network) -> None:
        """Hand out none of a network any more; who has one keeps it."""
        if network == self.first.network:
            self._withdrawn = True
        self._others = [pool for pool in self._others if pool.network != network]

    def take(self, text: str) -> None:
        """Hold a certain address, of whichever network has it.

        Raises:
            Taken, OutOfRange: it cannot be held.
        """
        homes = [pool for pool in self._pools if text in pool]
        if not homes:
            raise OutOfRange(text)
        for at, pool in enumerate(homes):
            try:
                pool.take(text)
            except Taken:
                for other in homes[:at]:
                    other.give_back(text)
                raise

    def pick(self) -> str:
        """Hold a free address.

        Raises:
            Full: there is none.
        """
        for pool in self._pools:
            while True:
                try:
                    found = pool.pick()
                except Full:
                    break
                held = [other for other in self._pools if other is not pool and found in other]
                try:
                    for other in held:  # networks may overlap: an address is one all the same
                        other.take(found)
                except Taken:
                    continue  # stays held here, as it is there
                return found
        raise Full("range is full")

    def give_back(self, text: str) -> None:
        """Let go of an address; one of no network is left alone."""
        for pool in (self.first, *self._others):
            pool.give_back(text)

    def first_address(self) -> str:
        """Return the first address of the server's own network: the API server's."""
        return self.first.first()

    def __contains__(self, text: str) -> bool:
        return any(text in pool for pool in self._pools)


class Ports:
    """Node ports from `low` to `high`, both included."""

    def __init__(self, low: int, high: int) -> None:
        self.low, self.high = low, high
        size = high - low + 1
        self._numbers = Numbers(size, min(max(16, size // 32), 128) if size > 16 else 0)

    def take(self, port: int) -> None:
        """Hold a certain port.

        Raises:
            Taken, OutOfRange: it cannot be held.
        """
        self._numbers.take(port - self.low)

    def pick(self) -> int:
        """Hold a free port.

        Raises:
            Full: there is none.
        """
        return self._numbers.pick() + self.low

    def give_back(self, port: int) -> None:
        """Let go of a port; twice is fine."""
        self._numbers.give_back(port - self.low)


class ServiceStock:
    """All that Services draw from: one network per address family (the first is the default one), and node ports."""

    def __init__(self, networks: Iterable[Network], ports: tuple[int, int]) -> None:
        pools = [Addresses(network) for network in networks]
        self.networks = tuple(pools)
        self.addresses = {pool.family: Pool(pool) for pool in pools}
        self.families = tuple(self.addresses)
        self.ports = Ports(*ports)
