"""A scenario's checks against the lab that runs, asked of the kernel and of real connections."""

from __future__ import annotations

import asyncio
import fnmatch
import os
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from netlab.api import meta
from netlab.client.client import Client
from netlab.errors import ApiError, NetlabError, NotFound
from netlab.kernel import iptables
from netlab.lab import reach, tracing
from netlab.lab.places import Place, Places, enter_lab
from netlab.lab.reach import Answer, Target
from netlab.lab.scenario import Check, RuleCheck
from netlab.lab.state import LabRecord
from netlab.netfilter import parse

_PAUSE = 0.1


@dataclass(frozen=True)
class Result:
    """How one check went: `seen` says in words what was there, and what was not as asked."""

    check: Check
    passed: bool
    seen: str
    seconds: float


async def run(lab: LabRecord, checks: tuple[Check, ...]) -> AsyncIterator[Result]:
    """Yield the result of one check after the other. This process may have to enter the lab's user namespace."""
    places = Places(lab)
    enter_lab(lab)
    for check in checks:
        begun = time.monotonic()
        passed, seen = False, ""
        while True:
            try:
                passed, seen = await _once(lab, places, check)
            except NetlabError as error:
                passed, seen = False, str(error)
            if passed or time.monotonic() - begun > check.within:
                break
            await asyncio.sleep(_PAUSE)
        yield Result(check, passed, seen, time.monotonic() - begun)


async def _once(lab: LabRecord, places: Places, check: Check) -> tuple[bool, str]:
    if check.rule is not None:
        return await _rule(lab, places, check.rule)
    place = await places.resolve(check.source)
    if check.dropped is not None:
        return await _dropped(lab, check)
    namespace = await places.namespace(place)
    try:
        async with places.client() as client:
            target = await _target(lab, client, namespace.fd, place, check)
            answers = [await reach.ask(namespace.fd, target) for _ in range(check.times)]
            return await _judge(client, check, answers)
    finally:
        os.close(namespace.fd)


async def _judge(client: Client, check: Check, answers: list[Answer]) -> tuple[bool, str]:
    other = [answer for answer in answers if answer.outcome != check.expect]
    if other:
        return False, f"{len(other)} of {len(answers)}: {other[0].outcome} ({other[0].why or 'it answers'})"
    if check.answered_by is None:
        return True, check.expect if not answers[0].why else f"{check.expect}: {answers[0].why}"
    namespace = "default"
    if check.source.startswith("pod/") and check.source.count("/") == 2:
        namespace = check.source.split("/")[1]
    pods, _ = await client.list("pods", namespace, labels=check.answered_by.labels)
    wanted = {meta.name(pod) for pod in pods}
    said = {answer.said for answer in answers}
    if said - wanted:
        return False, f"answered by {', '.join(sorted(said - wanted))}, which is no Pod with {check.answered_by.labels}"
    if check.answered_by.every and wanted - said:
        return False, f"never answered by {', '.join(sorted(wanted - said))}"
    return True, f"answered by {', '.join(sorted(said))}"


async def _dropped(lab: LabRecord, check: Check) -> tuple[bool, str]:
    assert check.dropped is not None
    protocol, host, port, _ = reach.split(check.target)
    wish = tracing.Wish(check.source, f"{host}:{port}", "udp" if protocol == "udp" else "tcp")
    outcome = (await tracing.trace(lab, wish)).trace.outcome
    seen = f"{outcome.status} at {outcome.place or 'no place'}: {outcome.why or 'no reason'}"
    here = fnmatch.fnmatchcase(outcome.place, check.dropped.where)
    return here and check.dropped.why.lower() in outcome.why.lower(), seen


async def _rule(lab: LabRecord, places: Places, wanted: RuleCheck) -> tuple[bool, str]:
    nodes = [wanted.node] if wanted.node else [node.name for node in lab.nodes]
    tool = iptables.find()
    found: dict[str, str] = {}
    for node in nodes:
        places.shim(node)  # an unknown name is told as such
        (namespace,) = places.own(f"node/{node}")
        try:
            text = await iptables.save_async(tool, netns=namespace.fd, tables=(wanted.table,))
        finally:
            os.close(namespace.fd)
        for rule in parse.parse(text).table(wanted.table).rules():
            if re.fullmatch(wanted.chain, rule.chain) and wanted.contains in rule.text:
                found.setdefault(node, rule.text)
    missing = [node for node in nodes if node not in found]
    if wanted.present:
        return not missing, f"no such rule on {', '.join(missing)}" if missing else next(iter(found.values()))
    return not found, "; ".join(f"{node}: {text}" for node, text in found.items()) or "no such rule"


async def _target(lab: LabRecord, client: Client, netns: int, place: Place, check: Check) -> Target:
    protocol, host, port, path = reach.split(check.target)
    kind, slash, name = host.partition("/")
    if not slash:
        if re.fullmatch(r"[0-9.]+|[0-9a-f:]+", host):
            return Target(protocol, host, port, path)
        parts = place.name.split("/")
        address = await reach.lookup(netns, host, parts[1] if parts[0] == "pod" else "default",
                                     server=lab.dns)
        if not address:
            raise NotFound(f'{check.source} finds no address for the name "{host}"')
        return Target(protocol, address, port, path)
    if kind == "node":
        for node in lab.nodes:
            if node.name == name:
                return Target(protocol, node.ip, port, path)
        raise NotFound(f'there is no node "{name}"')
    try:
        found = await client.get({"svc": "services", "pod": "pods"}[kind], name, "default")
    except ApiError as error:
        raise NotFound(f"{host}: {error}") from None
    address = found["spec"].get("clusterIP", "") if kind == "svc" else (found.get("status") or {}).get("podIP", "")
    if not address or address == "None":
        raise NotFound(f"{host} has no address")
    return Target(protocol, address, port, path)
