"""A scenario's checks against the lab that runs, asked of the kernel and of real connections."""

from __future__ import annotations

import asyncio
import fnmatch
import os
import re
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import yaml

from netlab.api import meta
from netlab.api.meta import Object
from netlab.client.client import Client
from netlab.errors import ApiError, NetlabError, NotFound
from netlab.kernel import link
from netlab.kernel.rtnl import Rtnl
from netlab.lab import plan, reach, rulecheck, steps, tracing
from netlab.lab.check import Check
from netlab.lab.places import Place, Places, closing, enter_lab
from netlab.lab.reach import Answer, Target
from netlab.lab.state import LabRecord

_PAUSE = 0.1
_TRACE_SECONDS = 1.0


@dataclass(frozen=True)
class Result:
    """How one check went: `seen` says in words what was there, and what was not as asked.

    One that is about other modes of kube-proxy than the lab's is `skipped`, and counts as passed.
    """

    check: Check
    passed: bool
    seen: str
    seconds: float
    skipped: bool = False


async def run(lab: LabRecord, checks: tuple[Check, ...]) -> AsyncIterator[Result]:
    """Yield the result of one check after the other. This process may have to enter the lab's user namespace."""
    places = Places(lab)
    enter_lab(lab)
    for check in checks:
        begun = time.monotonic()
        mode = await _mode(places) if check.modes else ""
        if mode not in (*check.modes, ""):
            yield Result(check, True, f"it is about {', '.join(check.modes)}; kube-proxy's mode is {mode}", 0.0, True)
            continue
        passed, seen = False, ""
        while True:
            try:
                passed, seen = await _once(lab, places, check)
            except NetlabError as error:
                passed, seen = False, str(error)
            if passed or time.monotonic() - begun > check.within or (check.step is not None and not check.says):
                break
            await asyncio.sleep(_PAUSE)
        yield Result(check, passed, seen, time.monotonic() - begun)


async def _mode(places: Places) -> str:
    """Return the mode of kube-proxy as its ConfigMap has it; "" when that cannot be read."""
    try:
        async with places.client() as client:
            found = await client.get("configmaps", "kube-proxy", "kube-system")
        return str(yaml.safe_load(found["data"]["config.conf"]).get("mode") or "iptables")
    except (NetlabError, KeyError, yaml.YAMLError, AttributeError):
        return ""


async def _once(lab: LabRecord, places: Places, check: Check) -> tuple[bool, str]:
    if check.rule is not None:
        return await rulecheck.run(lab, places, check.rule, check.family)
    if check.step is not None:
        return await steps.run(lab, check)
    place = await places.resolve(check.source)
    if check.dropped is not None:
        return await _dropped(lab, check)
    namespace = await places.namespace(place)
    try:
        async with places.client() as client:
            target = await _target(lab, client, namespace.fd, place, check)
            answers = [await reach.ask(namespace.fd, target) for _ in range(check.times)]
            return await _judge(places, client, check, answers)
    finally:
        os.close(namespace.fd)


async def _judge(places: Places, client: Client, check: Check, answers: list[Answer]) -> tuple[bool, str]:
    other = [answer for answer in answers if answer.outcome != check.expect]
    if other:
        return False, f"{len(other)} of {len(answers)}: {other[0].outcome} ({other[0].why or 'it answers'})"
    said = {answer.said for answer in answers}
    unlike = sorted(text for text in said if check.says and not re.search(check.says, text))
    if unlike:
        return False, f"it says {unlike[0]!r}"
    if check.seen_as:
        return await _seen(places, client, check.seen_as, said)
    if check.answered_by is not None:
        return await _answered(client, check, said)
    if check.says:
        return True, f"it says {'; '.join(sorted(said))}"
    return True, check.expect if not answers[0].why else f"{check.expect}: {answers[0].why}"


async def _answered(client: Client, check: Check, said: set[str]) -> tuple[bool, str]:
    wanted = check.answered_by
    assert wanted is not None
    namespace = "default"
    if check.source.startswith("pod/") and check.source.count("/") == 2:
        namespace = check.source.split("/")[1]
    pods, _ = await client.list("pods", namespace, labels=wanted.labels)
    names = {meta.name(pod) for pod in pods if not wanted.node or pod["spec"].get("nodeName") == wanted.node}
    here = f" on {wanted.node}" if wanted.node else ""
    if said - names:
        return False, f"answered by {', '.join(sorted(said - names))}, which is no Pod with {wanted.labels}{here}"
    if wanted.every and names - said:
        return False, f"never answered by {', '.join(sorted(names - said))}"
    if wanted.same and len(said) > 1:
        return False, f"answered by {len(said)} Pods: {', '.join(sorted(said))}"
    return True, f"answered by {', '.join(sorted(said))}"


async def _seen(places: Places, client: Client, wanted: str, said: set[str]) -> tuple[bool, str]:
    """Compare the client's addresses that the other side names with those of the place that it should be."""
    pods, _ = await client.list("pods")
    known = await asyncio.to_thread(_addresses, places, pods)
    seen = {urlsplit(f"//{text}").hostname or text for text in said}
    named = {ip: known.get(ip, []) for ip in sorted(seen)}
    words = ", ".join(f"{ip} ({', '.join(owners) or 'nobody'})" for ip, owners in named.items())
    right = all(any(fnmatch.fnmatchcase(owner, _full(wanted)) for owner in owners) for owners in named.values())
    return right, f"the other side sees {words}"


def _addresses(places: Places, pods: Sequence[Object]) -> dict[str, list[str]]:
    """Return which places have an address: nodes with all of their interfaces, Pods of a network of their own."""
    found: dict[str, list[str]] = {}
    with closing(places.own()) as namespaces:
        for entry in namespaces:
            with Rtnl(entry.fd) as sock:
                for address in link.addresses(sock):
                    if not address.ip.startswith(("127.", "::1", "fe80:")):
                        found.setdefault(address.ip, []).append(entry.place)
    for pod in pods:
        if not pod["spec"].get("hostNetwork"):
            for row in (pod.get("status") or {}).get("podIPs") or []:
                found.setdefault(row["ip"], []).append(f"pod/{meta.key(pod)}")
    return found


def _full(place: str) -> str:
    """Return pod/NAME as pod/default/NAME."""
    kind, _, name = place.partition("/")
    return f"pod/default/{name}" if kind == "pod" and name and "/" not in name else place


async def _dropped(lab: LabRecord, check: Check) -> tuple[bool, str]:
    assert check.dropped is not None
    protocol, host, port, _ = reach.split(check.target)
    wish = tracing.Wish(check.source, f"{plan.bracketed(host)}:{port}", "udp" if protocol == "udp" else "tcp",
                        timeout=_TRACE_SECONDS)
    outcome = (await tracing.trace(lab, wish)).trace.outcome
    seen = f"{outcome.status} at {outcome.place or 'no place'}: {outcome.why or 'no reason'}"
    seen += f" ({outcome.reason})" if outcome.reason else ""
    here = fnmatch.fnmatchcase(outcome.place, _full(check.dropped.where))
    named = not check.dropped.reason or not outcome.reason or re.fullmatch(check.dropped.reason, outcome.reason)
    return here and bool(named) and check.dropped.why.lower() in outcome.why.lower(), seen


async def _target(lab: LabRecord, client: Client, netns: int, place: Place, check: Check) -> Target:
    protocol, host, port, path = reach.split(check.target)
    kind, slash, name = host.partition("/")
    if not slash:
        if re.fullmatch(r"[0-9.]+|[0-9a-f:]+", host):
            return Target(protocol, host, port, path)
        parts = place.name.split("/")
        address = await reach.lookup(netns, host, parts[1] if parts[0] == "pod" else "default", server=lab.dns,
                                     family=check.family)
        if not address:
            raise NotFound(f'{check.source} finds no address for the name "{host}"')
        return Target(protocol, address, port, path)
    if kind == "deploy":
        kind, name = "pod", (await Places(lab).resolve(host)).name.rpartition("/")[2]
    addresses = await _of_object(lab, client, kind, name)
    found = next((ip for ip in addresses if check.family in (0, plan.version(ip))), "")
    if not found:
        raise NotFound(f"{host} has no address" + (f" of IPv{check.family}" if check.family else ""))
    return Target(protocol, found, port, path)


async def _of_object(lab: LabRecord, client: Client, kind: str, name: str) -> list[str]:
    if kind == "node":
        for node in lab.nodes:
            if node.name == name:
                return list(node.ips)
        raise NotFound(f'there is no node "{name}"')
    try:
        found = await client.get({"svc": "services", "pod": "pods"}[kind], name, "default")
    except ApiError as error:
        raise NotFound(f"{kind}/{name}: {error}") from None
    if kind == "svc":
        return [ip for ip in found["spec"].get("clusterIPs") or [] if ip != "None"]
    return [row["ip"] for row in (found.get("status") or {}).get("podIPs") or []]
