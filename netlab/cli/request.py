"""`netlab request`: the way of a request through the API server."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import click

from netlab.cli.options import lab_name
from netlab.cli.options import output as output_option

if TYPE_CHECKING:
    from netlab.lab.requests import Seen

_MASTERS = "system:masters"


@click.command("request")
@lab_name
@output_option()
@click.option("--last", default=20, show_default=True, metavar="N", type=click.IntRange(1, 10000),
              help="How many requests to list.")
@click.option("--user", default="", metavar="TEXT", help="Only requests of users whose name holds this text.")
@click.option("--resource", default="", metavar="TEXT", help="Only requests about resources that hold this text.")
@click.option("--failed", is_flag=True, help="Only requests that were refused or failed.")
@click.argument("identity", metavar="[ID]", required=False)
def command(identity: str | None, name: str, output: str, last: int, user: str, resource: str, failed: bool) -> None:
    """Show a request's way: who, authorized by which rule, changed by which admission step, written as which revision.

    Without an ID the last requests are listed. IDs are those of the audit log, and of the header Audit-ID that the API
    server answers with (kubectl -v=8 shows it). Reads by Kubernetes' own components are not in a lab's log.
    """
    from netlab.cli.output import emit, table
    from netlab.lab import requests, state

    record = state.find(name)
    if identity:
        seen = requests.one(record, identity)
        if output:
            emit(seen.to_object(), output)
        else:
            click.echo(_way(seen))
        return
    found = [seen for seen in requests.recent(record)
             if (user in seen.user or user in seen.acting) and resource in seen.what
             and (not failed or seen.code >= 400)][-last:]
    if output:
        emit([seen.to_object() for seen in found], output)
    elif not found:
        click.echo("no such request in the audit log", err=True)
    else:
        click.echo(table(["TIME", "ID", "VERB", "OBJECT", "USER", "CODE", "REVISION"], [
            [_clock(seen.at), seen.id[:8], seen.verb, seen.what, _who(seen), seen.code or "-", seen.revision or "-"]
            for seen in found]))


def _clock(at: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at)) + f".{int(at % 1 * 1000):03}"


def _who(seen: Seen) -> str:
    return f"{seen.user} as {seen.acting}" if seen.acting else seen.user or "-"


def _listed(groups: tuple[str, ...]) -> str:
    return ", ".join(groups)


def _way(seen: Seen) -> str:
    lines = [f"request {seen.id} at {_clock(seen.at)}, {seen.took * 1000:.1f} ms, on {seen.node}",
             f"  asked        {seen.verb} {seen.what}", f"               {seen.uri}",
             f"  who          {f'{seen.user} ({_listed(seen.groups)})' if seen.user else 'could not be told'}",
             *([f"  taken for    {seen.acting} ({_listed(seen.acting_groups)})"] if seen.acting else []),
             f"               from {seen.source or 'the server itself'}, {seen.agent or 'no User-Agent'}"]
    if seen.decision:
        word = "allowed" if seen.decision == "allow" else "forbidden"
        masters = _MASTERS in (seen.acting_groups if seen.acting else seen.groups)
        reason = seen.reason or ("members of system:masters may do everything" if masters else "")
        lines.append(f"  authorized   {word}{f': {reason}' if reason else ''}")
    for step, operations in seen.changed.items():
        lines.append(f"  admission    {step} changed {len(operations)} field{'s' if len(operations) > 1 else ''}")
        lines += [f"               {_operation(operation)}" for operation in operations]
    if seen.refused_by:
        lines.append(f"  admission    refused by {seen.refused_by}")
    elif not seen.changed and seen.decision == "allow" and seen.verb in ("create", "update", "patch"):
        lines.append("  admission    changed nothing")
    if seen.revision:
        lines.append(f"  stored       as revision {seen.revision}")
    lines.append(f"  answered     {seen.code}{f' {seen.message}' if seen.message else ''}")
    return "\n".join(lines)


def _operation(operation: dict[str, Any]) -> str:
    sign = {"add": "+", "remove": "-", "replace": "~"}.get(str(operation.get("op")), "?")
    if "value" not in operation:
        return f"{sign} {operation.get('path')}"
    text = json.dumps(operation["value"], separators=(", ", ": "))
    return f"{sign} {operation.get('path')} {text if len(text) <= 160 else text[:157] + '...'}"
