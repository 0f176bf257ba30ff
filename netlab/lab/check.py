"""One check of a scenario, as its file says it: a connection, a step, or a rule that has to be there. Pure."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import Any, Literal, cast

from netlab.errors import ManifestError
from netlab.lab.source import Field
from netlab.proxy.config_table import MODES

CHECK_FIELDS = ("name", "from", "to", "family", "times", "within", "expect", "answeredBy", "seenAs", "says", "dropped",
                "rule", "run", "at", "modes")
PLACE = r"(node/[a-z0-9.-]+|pod/([a-z0-9-]+/)?[a-z0-9.-]+|deploy/([a-z0-9-]+/)?[a-z0-9.-]+|outside|fabric)"
PLACES = r"[a-z*][a-z0-9*/.-]*"
TARGET = r"(http|tcp|udp)://(\[[0-9a-f:]+\]|[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+(?=[:/]|$))?)(:\d{1,5})?(/.*)?"
COMMANDS = ("kubectl", "netlab")
_CONNECTION = ("from", "to", "times", "expect", "answeredBy", "seenAs", "dropped")

Outcome = Literal["reachable", "refused", "unreachable"]


@dataclass(frozen=True)
class Answered:
    """Who has to answer: Pods with these labels, on this node ("" any); each of them, or one and the same each time."""

    labels: str
    every: bool = False
    same: bool = False
    node: str = ""


@dataclass(frozen=True)
class Dropped:
    """Where a packet has to die (`*` stands for anything), and a part of the reason that the trace gives.

    `reason` is a pattern of the kernel's own name for the drop, compared where the tracer may ask for it (BPF, root).
    """

    where: str
    why: str
    reason: str = ""


@dataclass(frozen=True)
class RuleCheck:
    """A rule that has to be in the kernel, or must not be: on which nodes ("" all), table, chain (pattern), texts.

    The table `kube-proxy` is nftables' own; its chains, maps and sets are looked through alike.
    """

    table: str
    chain: str
    contains: tuple[str, ...]
    node: str = ""
    present: bool = True


@dataclass(frozen=True)
class Step:
    """A command, as argv: of kubectl or netlab, or one that runs in the place `at`.

    Where output is asked for it is run again until it says so, else once.
    """

    argv: tuple[str, ...]
    at: str = ""


@dataclass(frozen=True)
class Check:
    """One thing that has to be true of the running lab; it is tried again until it is or `within` seconds are over.

    `family` 4 or 6 chooses among the target's addresses, 0 takes the main one. `says` is a pattern (re.search) that
    every answer, or a step's output, has to hold; `seen_as` the place whose address the other side sees. `modes` are
    the modes of kube-proxy that it is about, () for all.
    """

    name: str
    source: str = ""
    target: str = ""
    times: int = 1
    within: float = 10.0
    expect: Outcome = "reachable"
    answered_by: Answered | None = None
    dropped: Dropped | None = None
    rule: RuleCheck | None = None
    family: int = 0
    seen_as: str = ""
    says: str = ""
    step: Step | None = None
    modes: tuple[str, ...] = ()
    line: int = 0


def parse(item: Field) -> Check:
    """Return one check of a scenario file.

    Raises:
        ManifestError: something is wrong, and where.
    """
    fields = item.fields(CHECK_FIELDS, required=("name",))
    given: dict[str, Any] = {"name": fields["name"].text(), "line": item.line}
    if "rule" in fields:
        _without(item, fields, "a check of a rule", (*_CONNECTION, "says", "run", "at"))
        given["rule"] = _rule(fields["rule"])
    elif "run" in fields:
        _without(item, fields, "a step", (*_CONNECTION, "family"))
        given["step"] = _step(fields["run"], fields.get("at"))
    else:
        item.fields(CHECK_FIELDS, required=("from", "to"))
        _without(item, fields, "a connection", ("at",))
        given |= _connection(fields)
    if "modes" in fields:
        given["modes"] = tuple(item.choice(*MODES) for item in fields["modes"].items())
    if "within" in fields:
        given["within"] = fields["within"].parsed(_seconds, "a time such as 10s or 1m")
    if "family" in fields:
        given["family"] = {"IPv4": 4, "IPv6": 6}[fields["family"].choice("IPv4", "IPv6")]
    if "says" in fields:
        given["says"] = fields["says"].parsed(_pattern, "text, or a pattern of it")
    return Check(**given)


def _without(item: Field, fields: dict[str, Field], what: str, names: tuple[str, ...]) -> None:
    for name in names:
        if name in fields:
            raise ManifestError(f'{what} has no "{name}"', file=item.file, line=fields[name].line, field=item.path)


def _connection(fields: dict[str, Field]) -> dict[str, Any]:
    given: dict[str, Any] = {
        "source": fields["from"].text(PLACE, "a place: pod/NAME, pod/NAMESPACE/NAME, deploy/NAME, node/NAME or "
                                             "outside"),
        "target": fields["to"].text(TARGET, "a target such as http://web/hostname, tcp://web:80, udp://svc/web:80 or "
                                            "tcp://node/worker1:30080")}
    if "times" in fields:
        given["times"] = fields["times"].integer(1, 10_000)
    if "expect" in fields:
        given["expect"] = cast(Outcome, fields["expect"].choice("reachable", "refused", "unreachable"))
    if "answeredBy" in fields:
        parts = fields["answeredBy"].fields(("labels", "every", "same", "node"), required=("labels",))
        given["answered_by"] = Answered(
            parts["labels"].text(words="a label selector such as app=web"),
            every=parts["every"].boolean() if "every" in parts else False,
            same=parts["same"].boolean() if "same" in parts else False,
            node=parts["node"].text(words="a node's name") if "node" in parts else "")
    if "seenAs" in fields:
        given["seen_as"] = fields["seenAs"].text(PLACES, "a place such as node/worker1, or a pattern: node/*")
    if "dropped" in fields:
        parts = fields["dropped"].fields(("where", "why", "reason"), required=("where", "why"))
        given["dropped"] = Dropped(parts["where"].text(PLACES, "a place such as node/worker1, or a pattern: node/*"),
                                   parts["why"].text(), parts["reason"].parsed(
                                       _pattern, "a name such as NETFILTER_DROP, or a pattern of it")
                                   if "reason" in parts else "")
    return given


def _rule(item: Field) -> RuleCheck:
    parts = item.fields(("table", "chain", "contains", "node", "present"), required=("chain",))
    return RuleCheck(
        table=parts["table"].choice("nat", "filter", "mangle", "raw", "kube-proxy") if "table" in parts else "nat",
        chain=parts["chain"].parsed(_pattern, "a chain's name or a pattern of it, such as KUBE-SVC-.*"),
        contains=_texts(parts["contains"]) if "contains" in parts else (),
        node=parts["node"].text(words="a node's name") if "node" in parts else "",
        present=parts["present"].boolean() if "present" in parts else True)


def _texts(field: Field) -> tuple[str, ...]:
    return tuple(item.text() for item in field.items()) if isinstance(field.value, list) else (field.text(),)


def _step(run: Field, at: Field | None) -> Step:
    if at is not None:
        return Step(("sh", "-c", run.text(words="a command")),
                    at.text(PLACE, "a place: pod/NAME, deploy/NAME, node/NAME, outside or fabric"))
    argv = tuple(run.parsed(shlex.split, "a command"))
    if not argv or argv[0] not in COMMANDS:
        raise run.wrong("a command of kubectl or netlab, or one with a place to run it: at: node/worker1")
    return Step(argv)


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(text) from error
    return text


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m)", text)
    if match is None:
        raise ValueError(text)
    return float(match[1]) * {"ms": 0.001, "s": 1.0, "m": 60.0}[match[2]]
