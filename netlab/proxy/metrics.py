"""kube-proxy's metrics under upstream's names (kubernetes: pkg/proxy/metrics/metrics.go), as Prometheus text."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from netlab.client.client import Exchange

_SYNC = tuple(0.001 * 2 ** n for n in range(15))
_PROGRAMMING = (0, 0.25, 0.5, *range(1, 60), *range(60, 120, 5), *range(120, 330, 30))
_FAMILY = ("ip_family",)
_ANSWER = (0.005, 0.025, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60)
_BYTES = (64, 256, 512, 1024, *(4**power for power in range(6, 13)))
_API = "rest_client_"


@dataclass(frozen=True)
class _Kind:
    """One metric: its kind, its help, the names of its labels, and a histogram's upper bounds."""

    type: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = _FAMILY
    bounds: tuple[float, ...] = ()


_PREFIX = "kubeproxy_"
KINDS: Mapping[str, _Kind] = {
    "sync_proxy_rules_duration_seconds": _Kind("histogram", "SyncProxyRules latency in seconds", bounds=_SYNC),
    "sync_full_proxy_rules_duration_seconds": _Kind("histogram", "Latency of full syncs in seconds", bounds=_SYNC),
    "sync_partial_proxy_rules_duration_seconds": _Kind("histogram", "Latency of partial syncs in seconds",
                                                       bounds=_SYNC),
    "sync_proxy_rules_last_timestamp_seconds": _Kind("gauge", "When proxy rules were last written"),
    "sync_proxy_rules_last_queued_timestamp_seconds": _Kind("gauge", "When a sync of proxy rules was last queued"),
    "network_programming_duration_seconds": _Kind("histogram", "From a change of endpoints to its rules, in seconds",
                                                  bounds=_PROGRAMMING),
    "sync_proxy_rules_endpoint_changes_pending": _Kind("gauge", "Changes of endpoints that wait to be written", ()),
    "sync_proxy_rules_endpoint_changes_total": _Kind("counter", "Changes of endpoints seen", ()),
    "sync_proxy_rules_service_changes_pending": _Kind("gauge", "Changes of Services that wait to be written", ()),
    "sync_proxy_rules_service_changes_total": _Kind("counter", "Changes of Services seen", ()),
    "sync_proxy_rules_iptables_total": _Kind("gauge", "iptables rules owned", ("table", "ip_family")),
    "sync_proxy_rules_iptables_last": _Kind("gauge", "iptables rules written by the last sync", ("table", "ip_family")),
    "sync_proxy_rules_iptables_restore_failures_total": _Kind("counter", "Restores that failed"),
    "sync_proxy_rules_iptables_partial_restore_failures_total": _Kind("counter", "Partial restores that failed"),
    "sync_proxy_rules_nftables_sync_failures_total": _Kind("counter", "Transactions that nftables refused"),
    "sync_proxy_rules_nftables_cleanup_failures_total": _Kind("counter", "Deletions that nftables refused"),
    "sync_proxy_rules_no_local_endpoints_total": _Kind("gauge", "Services whose Local policy finds no endpoint here",
                                                       ("traffic_policy", "ip_family")),
    "iptables_ct_state_invalid_dropped_packets_total": _Kind("counter", "Packets dropped as INVALID", ()),
    "iptables_localhost_nodeports_accepted_packets_total": _Kind("counter", "Packets to node ports on localhost", ()),
    "conntrack_reconciler_sync_duration_seconds": _Kind("histogram", "Latency of a conntrack cleanup", bounds=_SYNC),
    "conntrack_reconciler_deleted_entries_total": _Kind("counter", "Conntrack entries deleted"),
    "proxy_healthz_total": _Kind("counter", "Answers of /healthz", ("code",)),
    "proxy_livez_total": _Kind("counter", "Answers of /livez", ("code",)),
    f"{_API}requests_total": _Kind("counter", "Requests to the API server", ("code", "method", "host")),
    f"{_API}request_duration_seconds": _Kind(
        "histogram", "Latency of requests to the API server, watches apart", ("verb", "host"), _ANSWER
    ),
    f"{_API}request_size_bytes": _Kind("histogram", "Bytes of requests to the API server", ("verb", "host"), _BYTES),
    f"{_API}response_size_bytes": _Kind("histogram", "Bytes of the API server's answers", ("verb", "host"), _BYTES),
}


@dataclass
class Metrics:
    """The numbers of this process. `mode` is what kube-proxy runs in; other modes' metrics are not told of."""

    mode: str = "iptables"
    _values: dict[tuple[str, tuple[str, ...]], float] = field(default_factory=dict)
    _buckets: dict[tuple[str, tuple[str, ...]], list[int]] = field(default_factory=dict)

    def add(self, name: str, *labels: str, by: float = 1) -> None:
        """Count."""
        self._values[name, labels] = self._values.get((name, labels), 0) + by

    def put(self, name: str, value: float, *labels: str) -> None:
        """Set a gauge, or a counter that somebody else counts."""
        self._values[name, labels] = value

    def observe(self, name: str, value: float, *labels: str) -> None:
        """Put a duration in seconds, or a size, into a histogram."""
        bounds = KINDS[name].bounds
        buckets = self._buckets.setdefault((name, labels), [0] * (len(bounds) + 1))
        buckets[bisect_left(bounds, value)] += 1
        self.add(name, *labels, by=value)

    def exchanges(self, host: str) -> Callable[[Exchange], None]:
        """Return what counts requests to one API server, as client-go does (component-base: prometheus/restclient)."""

        def told(each: Exchange) -> None:
            self.add(f"{_API}requests_total", str(each.code or "<error>"), each.method, host)
            if each.watch:
                return
            self.observe(f"{_API}request_duration_seconds", each.seconds, each.method, host)
            self.observe(f"{_API}request_size_bytes", each.sent, each.method, host)
            if each.code:
                self.observe(f"{_API}response_size_bytes", each.received, each.method, host)

        return told

    def value(self, name: str, *labels: str) -> float:
        """Return a number; for a histogram the sum of what it observed."""
        return self._values.get((name, labels), 0)

    def text(self) -> str:
        """Return everything in the Prometheus text format."""
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        for name, kind in KINDS.items():
            if ("iptables" if self.mode == "nftables" else "nftables") in name:
                continue
            series = sorted(labels for owner, labels in self._values if owner == name)
            if not series and kind.labels:
                continue
            full = name if name.startswith(_API) else _PREFIX + name
            yield f"# HELP {full} [ALPHA] {kind.help}"
            yield f"# TYPE {full} {kind.type}"
            for labels in series or [()]:
                if kind.type == "histogram":
                    yield from self._histogram(name, full, labels)
                else:
                    yield f"{full}{_labels(kind.labels, labels)} {_number(self.value(name, *labels))}"

    def _histogram(self, name: str, full: str, labels: tuple[str, ...]) -> Iterator[str]:
        kind, total = KINDS[name], 0
        for bound, count in zip((*map(_number, kind.bounds), "+Inf"), self._buckets[name, labels], strict=True):
            total += count
            yield f"{full}_bucket{_labels((*kind.labels, 'le'), (*labels, bound))} {total}"
        yield f"{full}_sum{_labels(kind.labels, labels)} {_number(self.value(name, *labels))}"
        yield f"{full}_count{_labels(kind.labels, labels)} {total}"


def _labels(names: Sequence[str], values: Sequence[str]) -> str:
    """Return labels in the order of client libraries: by name, a bucket's bound last."""
    found = sorted(zip(names, values, strict=True), key=lambda pair: (pair[0] == "le", pair))
    return "{" + ",".join(f'{name}="{value}"' for name, value in found) + "}" if names else ""


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(round(value, 9))
