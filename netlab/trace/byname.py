"""A trace to a name: its resolution first, then the exchange itself, told as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from netlab.trace import resolve, run
from netlab.trace.event import Outcome, Trace
from netlab.trace.listen import Tap
from netlab.trace.send import Answer


def trace(request: run.Request, name: str, conf: resolve.ResolvConf, taps: Sequence[Tap], names: Mapping[str, str], *,
          target: str, ipv6: bool = False) -> Trace:
    """Resolve `name` from the request's source, send to the address found, and return both.

    Args:
        request: what to send; its address does not matter.
        name: the DNS name.
        conf: the sender's resolv.conf.
        taps: every namespace that it might cross.
        names: names by IP address.
        target: what the user called the destination.
        ipv6: ask for an IPv6 address.

    Raises:
        NotFound: the sender has no server to ask; and as of `run.trace`.
    """
    def ask(server: str, question: bytes) -> tuple[Trace, Answer]:
        query = run.Request(request.source, server, 53, "udp", timeout=min(request.timeout, 5.0), payload=question,
                            bpf=request.bpf)
        return run.exchange(query, taps, names, target=names.get(server, ""))

    address, parts = resolve.resolve(name, conf, ask, ipv6=ipv6)
    if not address:
        last = parts[-1].trace.outcome
        silent = last.status not in ("replied", "")
        why = f"{name} could not be resolved: {last.why}" if silent else f"{name} has no address: {parts[-1].words}"
        fix = last.fix if silent else "is the name right, and in the sender's namespace or complete?"
        there = next((part for part in parts if part.words.endswith(resolve.NO_RECORD)), None)
        if there is not None:  # the name exists; what the longer and shorter spellings got says less
            silent, why = False, f"{name} has no {'IPv6' if ipv6 else 'IPv4'} address: {there.words}"
            fix = f"{'leave out --ipv6' if ipv6 else 'try --ipv6'}, or give its Service both ipFamilies"
        end = Outcome("unreachable", place=last.place if silent else request.source, why=why, fix=fix,
                      reason=last.reason)
        return Trace(request.source, target, request.protocol, name, (), (), end, parts=tuple(parts),
                     bpf=parts[-1].trace.bpf)
    told = run.trace(replace(request, address=address), taps, names, target=target)
    return replace(told, parts=(*parts, *told.parts))
