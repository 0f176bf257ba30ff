"""The plugin kubernetes: names of the cluster, from what the informers hold."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from netlab.dns import names
from netlab.dns.chain import Next, within
from netlab.dns.message import NOERROR, NXDOMAIN, SERVFAIL, Reply, Request, rr, soa
from netlab.dns.names import Answer, PodMode, Record
from netlab.dns.objects import Cluster

_CNAME_DEPTH = 8


@dataclass(frozen=True)
class Config:
    """The options. `fallthrough` are zones whose unknown names go to the next plugin."""

    zones: tuple[str, ...]
    pods: PodMode = "disabled"
    ttl: int = 5
    fallthrough: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()

    @property
    def domain(self) -> str:
        """Return the cluster's domain: the first zone that is no reverse zone."""
        return next((zone for zone in self.zones if not is_reverse(zone)), "cluster.local")


class Kubernetes:
    """Answers for the cluster's zones with authority."""

    name = "kubernetes"

    def __init__(self, config: Config, cluster: Cluster, *, resolve: Callable[[Request], Awaitable[Reply]],
                 serial: Callable[[], int], server_ips: Sequence[str] = ()) -> None:
        """Make the plugin.

        Args:
            config: the options.
            cluster: what is known.
            resolve: asks this server anew; for names that ExternalName Services point to.
            serial: the SOA's serial now, Unix seconds.
            server_ips: this server's own addresses.
        """
        self._config, self._cluster, self._resolve = config, cluster, resolve
        self._serial, self._ips = serial, tuple(server_ips)

    @property
    def ready(self) -> bool:
        """Tell whether everything has been listed once."""
        return self._cluster.synced

    async def serve(self, request: Request, following: Next) -> Reply:
        """Answer for our zones; others' names, and unknown ones of `fallthrough` zones, go on."""
        zone = max((zone for zone in self._config.zones if within(request.name, zone)), key=len, default=None)
        if zone is None:
            return await following(request)
        if not self._cluster.synced:
            return Reply(SERVFAIL)  # "no such name" would be a lie, and remembered
        apex = self._apex(request, zone) if request.name == zone else None
        if apex is not None:
            return apex
        if is_reverse(zone):
            answer = names.reverse(self._cluster, request.name, request.type_name, self._config.domain)
        else:
            answer = names.lookup(self._cluster, request.name, request.type_name, zone, pods=self._config.pods,
                                  server_ips=self._ips)
        if answer.outcome == "no name" and any(within(request.name, other) for other in self._config.fallthrough):
            return await following(request)
        return await self._reply(request, zone, answer)

    def _apex(self, request: Request, zone: str) -> Reply | None:
        ttl = self._config.ttl
        if request.type_name == "SOA":
            return Reply(answer=(soa(zone, ttl, self._serial()),), authoritative=True)
        if request.type_name == "NS":
            server = Record(f"ns.dns.{zone}", "NS", "")
            extra = [Record(server.name, "AAAA" if ":" in ip else "A", ip) for ip in self._ips]
            return Reply(answer=(rr(Record(zone, "NS", server.name), ttl),), authoritative=True,
                         extra=tuple(rr(record, ttl) for record in extra))
        return None

    async def _reply(self, request: Request, zone: str, answer: Answer) -> Reply:
        ttl = self._config.ttl
        if answer.outcome != "found":
            return Reply(NXDOMAIN if answer.outcome == "no name" else NOERROR, authoritative=True, lasting=True,
                         authority=(soa(zone, ttl, self._serial()),))
        records = [rr(Record(request.written, record.type, record.data), ttl) for record in answer.records]
        extra = tuple(rr(record, ttl) for record in answer.extra)
        if not answer.follow:
            return Reply(answer=tuple(records), extra=extra, authoritative=True, lasting=True)
        if request.depth < _CNAME_DEPTH and answer.follow != request.name:
            found = await self._resolve(request.about(answer.follow))
            records += found.answer
        return Reply(answer=tuple(records), authoritative=True)


def is_reverse(zone: str) -> bool:
    """Tell whether a zone is one of addresses."""
    return zone.endswith((".arpa", "in-addr.arpa", "ip6.arpa"))
