"""What the server counts of itself, under upstream's names."""

from __future__ import annotations

import resource
from collections import Counter
from typing import TYPE_CHECKING

from netlab.apiserver import histogram

if TYPE_CHECKING:
    from netlab.apiserver.api import Api

_BUCKETS = (0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0,
            30.0, 45.0, 60.0)

Key = tuple[str, str, str, str]
"""(verb, group, resource, subresource)"""


class Metrics:
    """Counts of requests by verb, resource and code, and how long they took."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[Key, int]] = Counter()
        self.seconds: dict[Key, list[float]] = {}
        self.running: Counter[str] = Counter()

    def count(self, key: Key, code: int, seconds: float) -> None:
        """Record one finished request."""
        self.requests[(key, code)] += 1
        if key[0] == "WATCH":
            return
        row = self.seconds.get(key)
        if row is None:
            row = self.seconds[key] = histogram.empty(_BUCKETS)
        histogram.count(row, _BUCKETS, seconds)

    def text(self, api: Api) -> str:
        """Return all of it in Prometheus' text form."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        lines = [("# HELP apiserver_request_total Counter of apiserver requests broken out for each verb, group, "
                  "resource "
                 "and HTTP response code."), "# TYPE apiserver_request_total counter"]
        for ((verb, group, plural, sub), code), count in sorted(self.requests.items()):
            lines.append(f'apiserver_request_total{{code="{code}",group="{group}",resource="{plural}",'
                         f'subresource="{sub}",verb="{verb}"}} {count}')
        lines += ["# HELP apiserver_request_duration_seconds Response latency distribution in seconds.",
                  "# TYPE apiserver_request_duration_seconds histogram"]
        for (verb, group, plural, sub), row in sorted(self.seconds.items()):
            labels = f'group="{group}",resource="{plural}",subresource="{sub}",verb="{verb}"'
            lines += histogram.lines("apiserver_request_duration_seconds", labels, _BUCKETS, row)
        lines += ["# HELP apiserver_longrunning_requests Gauge of all active long-running apiserver requests.",
                  "# TYPE apiserver_longrunning_requests gauge",
                  f'apiserver_longrunning_requests{{verb="WATCH"}} {len(api.watches)}',
                  "# HELP etcd_current_revision The store's revision.", "# TYPE etcd_current_revision gauge",
                  f"etcd_current_revision {api.store.revision}",
                  "# HELP process_cpu_seconds_total Total user and system CPU time spent in seconds.",
                  "# TYPE process_cpu_seconds_total counter",
                  f"process_cpu_seconds_total {usage.ru_utime + usage.ru_stime:.2f}",
                  "# HELP process_resident_memory_bytes Resident memory size in bytes.",
                  "# TYPE process_resident_memory_bytes gauge",
                  f"process_resident_memory_bytes {_resident()}", *api.flows.metrics()]
        return "\n".join(lines) + "\n"


def _resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()
