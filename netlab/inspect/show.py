"""Trees and overviews as text for a terminal, and as plain data for JSON and YAML.

The data of one Service, the schema of `netlab rules svc/NAME -o json`:
{"service", "nodes": [{"node", "backend", "ports": [{"name", "protocol", "endpoints": [{"address", "who",
"sharePercent", "connections", "observedPercent"}], "fairness": {"connections", "remembered", "needed", "p",
"chiSquare", "degreesOfFreedom", "words"} or null, "rules": [RULE]}]}]} with RULE {"table", "chain", "number",
"packets", "bytes", "text", "words", and where they apply "endpoint", "who", "sharePercent", "observedPercent",
"shownAbove", "rules": [RULE]}. Percentages are rounded to two places; observedPercent is null before any packet.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any

from netlab.api.meta import Object
from netlab.inspect.fairness import Fairness, judge
from netlab.inspect.overview import Overview, Row
from netlab.inspect.service import Branch, PortRules

_TEE, _END, _BAR, _GAP = "├─ ", "└─ ", "│  ", "   "


def places(nodes: Sequence[str]) -> str:
    """Return nodes as places: `node/worker1`, or `node/worker1, node/worker2 (alike, counters added up)`."""
    names = ", ".join(f"node/{node}" for node in nodes)
    return f"{names} (alike, counters added up)" if len(nodes) > 1 else names


def tree(nodes: Sequence[str], backend: str, ports: Sequence[PortRules], service: Object | None = None, *,
         wide: bool = False) -> str:
    """Return the rules of a Service, on nodes that have the same, as an indented tree with counters.

    `wide` shows each rule's own text as well.
    """
    lines: list[str] = []
    for port in ports:
        head = f"{port.name} {port.protocol}{_addresses(service)}, {places(nodes)}, {backend or 'iptables'}"
        lines.append(head)
        lines += _endpoints(port, live=backend == "nftables")
        lines.append(f"{'packets':>9}")
        for at, entry in enumerate(port.entries):
            last = at == len(port.entries) - 1
            what = f"rule {entry.number}" if entry.number else "element"
            branches = _branch(entry, _END if last else _TEE, _GAP if last else _BAR,
                               f"{entry.table} {entry.chain} {what}: ", wide)
            lines += [f"{packets:>9}  {text}" for packets, text in branches]
        lines.append("")
    return "\n".join(lines[:-1])


def _addresses(service: Object | None) -> str:
    if service is None:
        return ""
    spec = service.get("spec") or {}
    return f", type {spec.get('type', 'ClusterIP')}"


def _endpoints(port: PortRules, *, live: bool = False) -> Iterator[str]:
    if not port.endpoints:
        aside = any("--to-" in entry.text for entry in port.entries)
        yield ("  the kernel knows no endpoint: kube-proxy itself takes connections and chooses one (userspace mode)"
               if aside else "  no endpoint: what comes is refused")
    total = sum(each.packets for each in port.endpoints)
    for each in port.endpoints:
        observed = "" if each.observed is None else (
            f", {'now' if live else 'so far'} {each.packets} of {_connections(total)}")
        if each.observed:
            observed += f": {each.observed:.1%}"
        who = f"  {each.who}" if each.who else ""
        yield f"  {each.share:6.1%} to {each.address}{who}{observed}"
    fair = fairness_of(port)
    if fair is not None and fair.connections:
        yield f"  {fair.words}"


def fairness_of(port: PortRules) -> Fairness | None:
    """Return whether a port's connections were spread as its shares say; None for fewer than two endpoints."""
    return judge([(each.share, each.fresh) for each in port.endpoints],
                 remembered=sum(each.packets - each.fresh for each in port.endpoints))


def _connections(count: int) -> str:
    return f"{count} connection" + ("s" if count != 1 else "")


def _branch(branch: Branch, mark: str, gap: str, prefix: str = "",
            wide: bool = False) -> Iterator[tuple[int | str, str]]:
    """Yield the lines of a branch with their counters."""
    share = f"{branch.share:.1%}: " if branch.share is not None else ""
    end = f" = {branch.endpoint}" if branch.endpoint and branch.endpoint not in branch.words else ""
    who = f" {branch.who}" if branch.who else ""
    again = " (above)" if branch.repeated and branch.table in ("nat", "kube-proxy") else ""
    text = f"   [{branch.text}]" if wide and branch.text != branch.words else ""
    yield branch.packets if branch.counted else "-", f"{mark}{prefix}{share}{branch.words}{end}{who}{again}{text}"
    for at, inner in enumerate(branch.rules):
        last = at == len(branch.rules) - 1
        for packets, line in _branch(inner, _END if last else _TEE, _GAP if last else _BAR, wide=wide):
            yield packets, gap + line


def ports_data(ports: Sequence[PortRules]) -> list[dict[str, Any]]:
    """Return the rules of a Service as plain data."""
    return [{"name": port.name, "protocol": port.protocol, "fairness": _fairness(fairness_of(port)),
             "endpoints": [{"address": each.address, "who": each.who, "sharePercent": _percent(each.share),
                            "connections": each.packets, "observedPercent": _percent(each.observed)}
                           for each in port.endpoints],
             "rules": [_data(entry) for entry in port.entries]} for port in ports]


def _fairness(found: Fairness | None) -> dict[str, Any] | None:
    return None if found is None else {
        "connections": found.connections, "remembered": found.remembered, "needed": found.needed, "p": found.p,
        "chiSquare": round(found.statistic, 3), "degreesOfFreedom": found.freedom, "words": found.words}


def _data(branch: Branch) -> dict[str, Any]:
    result: dict[str, Any] = {"table": branch.table, "chain": branch.chain, "number": branch.number or None,
                              "packets": branch.packets if branch.counted else None,
                              "bytes": branch.bytes if branch.counted else None, "text": branch.text,
                              "words": branch.words}
    if branch.endpoint:
        result |= {"endpoint": branch.endpoint, "who": branch.who}
    if branch.share is not None:
        result |= {"sharePercent": _percent(branch.share), "observedPercent": _percent(branch.observed)}
    if branch.repeated:
        result["shownAbove"] = True
    if branch.rules:
        result["rules"] = [_data(each) for each in branch.rules]
    return result


def _percent(share: float | None) -> float | None:
    return None if share is None else round(100 * share, 2)


def overview_rows(found: Sequence[Overview], blind: Container[str] = ()) -> list[tuple[object, ...]]:
    """Return a row per node: NODE, BACKEND, SERVICES, PORTS, ENDPOINTS, CHAINS, RULES, OTHER RULES.

    `blind`: nodes whose kernel knows no endpoint (userspace mode).
    """
    return [(each.node, each.backend, each.services, each.ports, "-" if each.node in blind else each.endpoints,
             each.chains, each.rules, len(each.foreign)) for each in found]


def service_rows(rows: Sequence[Row], nodes: Sequence[str], blind: Container[str] = ()) -> list[tuple[object, ...]]:
    """Return a row per Service port: SERVICE, PROTOCOL, ADDRESSES, ENDPOINTS, NOTE; `blind` as of `overview_rows`."""
    result: list[tuple[object, ...]] = []
    for row in rows:
        counts = set(row.endpoints.values())
        text = str(next(iter(counts))) if len(counts) == 1 else " ".join(
            f"{node}:{count}" for node, count in row.endpoints.items())
        chosen = all(node in blind for node in row.endpoints)
        missing = [node for node in nodes if node not in row.endpoints]
        notes = [f"missing on {', '.join(missing)}"] if missing else []
        if row.refused:
            everywhere = len(row.refused) == len(row.endpoints)
            notes.append("refused" if everywhere else f"refused on {', '.join(row.refused)}")
        if chosen:
            notes.append("kube-proxy itself chooses")
        result.append((row.name, row.protocol, ",".join(row.addresses), "-" if chosen else text,
                       "; ".join(notes) or "-"))
    return result


def foreign_lines(found: Sequence[Overview], *, wide: bool = False) -> list[str]:
    """Return one line for each rule that is not kube-proxy's, and for what is odd about kube-proxy's own.

    `wide` adds the rule's own text.
    """
    lines = []
    for each in found:
        lines += [f"node/{each.node}: {rule.table} {rule.chain} {rule.number}: {rule.words} ({rule.packets} pkts)"
                  + (f"  # {rule.comment}" if rule.comment else "") + (f"  [{rule.text}]" if wide else "")
                  for rule in each.foreign]
        lines += [f"node/{each.node}: {chain} drops by its policy" for chain in each.dropping]
        lines += [f"node/{each.node}: no rule jumps to {chain}" for chain in each.unjumped]
    return lines


def overview_data(found: Sequence[Overview], rows: Sequence[Row]) -> Mapping[str, Any]:
    """Return the overview as plain data: {"nodes": [...], "services": [...]}."""
    return {
        "nodes": [{"node": each.node, "backend": each.backend, "services": each.services, "ports": each.ports,
                   "endpoints": each.endpoints, "chains": each.chains, "rules": each.rules,
                   "droppingChains": list(each.dropping), "unreachedChains": list(each.unjumped),
                   "foreignRules": [{"table": rule.table, "chain": rule.chain, "number": rule.number,
                                     "packets": rule.packets, "text": rule.text, "words": rule.words,
                                     "comment": rule.comment}
                                    for rule in each.foreign]} for each in found],
        "services": [{"name": row.name, "protocol": row.protocol, "addresses": list(row.addresses),
                      "endpoints": dict(row.endpoints), "refusedOn": list(row.refused)} for row in rows],
    }
