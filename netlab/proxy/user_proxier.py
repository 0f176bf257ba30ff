"""One address family of one node in userspace mode: rules that turn traffic aside, a relay for each Service port."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass

from netlab.kernel import iptables
from netlab.netfilter import normalise, parse
from netlab.netfilter.model import Rule, Ruleset
from netlab.proxy import host, user_rules
from netlab.proxy.balancer import Balancer
from netlab.proxy.family import FamilyProxier
from netlab.proxy.metrics import Metrics
from netlab.proxy.relay import Relay
from netlab.proxy.rules import TableChain
from netlab.proxy.services import ServicePort
from netlab.proxy.settings import Settings

log = logging.getLogger(__name__)

LABEL = ("mode userspace is for teaching: every byte of every Service goes through this process; upstream removed the "
         "mode in v1.26")
_TRIES, _SHOWN = 50, 8
_HOOKS = {"filter": ("INPUT",), "nat": ("PREROUTING", "OUTPUT")}


@dataclass(frozen=True)
class Change:
    """What a sync wrote: all chains of the mode, {} when they were right."""

    chains: Mapping[TableChain, tuple[Rule, ...]]

    def __bool__(self) -> bool:
        return bool(self.chains)


class UserProxier(FamilyProxier[Change]):
    """The relays and the rules of one address family."""

    def __init__(self, settings: Settings, tool: iptables.Iptables, metrics: Metrics, *, netns: int | None = None,
                 listens: str = "", ports: range = range(0)) -> None:
        """Make it.

        Args:
            settings: the node's.
            tool: what writes the rules.
            metrics: where syncs are counted.
            netns: the node's network namespace, None for this process's.
            listens: the address that relays listen on; all of the family when empty.
            ports: the ports that they may listen on; any when empty.
        """
        super().__init__(settings, metrics, netns=netns)
        self.tool = tool
        self.listens = listens or ("::" if self.family == "IPv6" else "0.0.0.0")
        self.relays: dict[tuple[str, str], tuple[ServicePort, Relay]] = {}
        self._ports = ports
        self._written: Mapping[TableChain, tuple[Rule, ...]] = {}
        self._ending: list[Relay] = []
        self._refused: set[str] = set()

    async def flushed(self) -> bool:
        """Tell whether a chain or a jump of ours is gone; clients that were idle for long are forgotten by the way."""
        for _, relay in self.relays.values():
            relay.balancer.forget_idle(time.monotonic())
        kernel = await self._kernel()
        here = all(chain in kernel.table(table).chains for table, chain in user_rules.CHAINS)
        if here and not any(_lacking(kernel)):
            return False
        log.warning("%s: chains of userspace mode are gone: somebody flushed them", self.family)
        self.full = True
        return True

    def report(self) -> None:
        """Put into the metrics what is counted only when somebody asks."""
        for table in ("filter", "nat"):
            count = sum(len(rules) for (owner, _), rules in self._written.items() if owner == table)
            self._metrics.put("sync_proxy_rules_iptables_total", count, table, self.family)

    async def close(self) -> None:
        """End all relays. Their connections end too, which is said."""
        self._ending += [relay for _, relay in self.relays.values()]
        self.relays.clear()
        for relay in self._ending:
            ended = await relay.abort()
            if ended:
                more = f" and {len(ended) - _SHOWN} more" if len(ended) > _SHOWN else ""
                log.warning("%s: %d connections end with this process, which carried them; clients have to connect "
                            "again: %s%s", relay.name, len(ended), ", ".join(ended[:_SHOWN]), more)
        self._ending.clear()

    async def _full(self, large: bool) -> Change:  # noqa: ARG002 - all is written in any case
        self.tracker.take_changed()
        await self._listen()
        wanted = self._wanted()
        tops, ends = _lacking(await self._kernel())
        await self._restore(user_rules.text(wanted, tops, ends))
        self._written = wanted
        log.info("%s: wrote all rules of %d Service ports (userspace, %s)", self.family, len(self.relays), self.tool)
        return Change(wanted)

    async def _partial(self) -> Change:
        self.tracker.take_changed()
        await self._listen()
        wanted = self._wanted()
        if wanted == self._written:
            return Change({})
        await self._restore(user_rules.text(wanted))
        self._written = wanted
        return Change(wanted)

    async def _listen(self) -> None:
        """Have a relay for each port of a Service, with its ready endpoints."""
        every = [port for service in self.tracker.services() for port in self.tracker.ports(service)]
        wanted = {(port.name, port.protocol): port for port in every if user_rules.served(port)}
        for port in every:
            if not user_rules.served(port):
                self._say_once(port, f"userspace mode speaks no {port.protocol.upper()}")
        for key in [key for key in self.relays if key not in wanted]:
            _, relay = self.relays.pop(key)
            await relay.close()
            if relay.connections:
                self._ending.append(relay)  # its connections go on until they end by themselves
        self._ending = [relay for relay in self._ending if relay.connections]
        for key, port in wanted.items():
            here = self.relays[key][1] if key in self.relays else self._open(port)
            if here is None:
                continue
            self.relays[key] = port, here
            here.balancer.update([each.text for each in self.tracker.endpoints(port) if each.ready],
                                 port.affinity_seconds)
            here.drop_gone()

    def _open(self, port: ServicePort) -> Relay | None:
        relay = Relay(port.name, port.protocol, Balancer(), self.netns, self.family == "IPv6")
        trouble = ""
        tries = random.sample(self._ports, min(_TRIES, len(self._ports))) if self._ports else [0]
        for number in tries:
            try:
                relay.open(self.listens, number)
            except OSError as error:
                trouble = f"nowhere to listen: {error.strerror or error}"
                continue
            self._refused.discard(port.name)
            return relay
        self._say_once(port, trouble)
        return None

    def _say_once(self, port: ServicePort, trouble: str) -> None:
        if port.name not in self._refused:
            log.error("%s: %s: %s; the port is not served", self.family, port.name, trouble)
            self._refused.add(port.name)

    def _wanted(self) -> dict[TableChain, tuple[Rule, ...]]:
        ports = [(port, relay.port) for _, (port, relay) in sorted(self.relays.items())]
        return user_rules.chains(ports, self.listens, self._host_ip())

    def _host_ip(self) -> str:
        """Return an address of the node that is no loopback one: its Node object's, or one that it has; "" for none."""
        if self.settings.node_ip:
            return self.settings.node_ip
        own = [ip for ip in host.own_addresses(self.netns) if (":" in ip) == (self.family == "IPv6")]
        return next((ip for ip in own if not ip.startswith(("127.", "::1", "fe80:"))), "")

    async def _kernel(self) -> Ruleset:
        return parse.outline(await asyncio.to_thread(iptables.outline, self.tool, _HOOKS, netns=self.netns))

    async def _restore(self, text: str) -> None:
        await asyncio.to_thread(iptables.restore, self.tool, text, netns=self.netns, where=self.settings.node)

    def _count_failure(self, *, partial: bool) -> None:  # noqa: ARG002 - one counter for both
        self._metrics.add("sync_proxy_rules_iptables_restore_failures_total", self.family)

    def _count_written(self, change: Change) -> None:
        for table in ("filter", "nat"):
            count = sum(len(rules) for (owner, _), rules in change.chains.items() if owner == table)
            self._metrics.put("sync_proxy_rules_iptables_last", count, table, self.family)


def _lacking(kernel: Ruleset) -> tuple[list[TableChain], list[TableChain]]:
    """Return where jumps are missing, of those that come first and of those that come last."""
    def lacks(place: TableChain, jump: Rule) -> bool:
        return not any(normalise.same(jump, rule) for rule in kernel.chain(*place).rules)

    return ([place for place, jump in user_rules.FIRST_JUMPS.items() if lacks(place, jump)],
            [place for place, jump in user_rules.LAST_JUMPS.items() if lacks(place, jump)])
