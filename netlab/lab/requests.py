"""The requests that a lab's API servers have answered, from their audit logs: who, by which rule, what became of it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from netlab.api.meta import parse_timestamp
from netlab.errors import NotFound
from netlab.lab.state import LabRecord

AUDIT_LOG = "var/log/kubernetes/audit.log"
_CHANGED, _REFUSED, _REVISION = "admission.netlab/changed", "admission.netlab/refused-by", "store.netlab/revision"
_PORTION = 256 * 1024


@dataclass(frozen=True)
class Seen:
    """One request. `took` is in seconds; `changed` maps an admission step to the operations of its JSON patch.

    `user` sent it; `acting` and `acting_groups` are whom he asked to be taken for (kubectl --as), if anybody.
    """

    id: str
    node: str
    at: float
    took: float
    verb: str
    what: str
    user: str
    groups: tuple[str, ...]
    agent: str
    source: str
    uri: str
    code: int
    message: str
    decision: str
    reason: str
    refused_by: str
    changed: dict[str, list[dict[str, Any]]]
    revision: str
    acting: str = ""
    acting_groups: tuple[str, ...] = ()

    def to_object(self) -> dict[str, Any]:
        """Return it for -o json."""
        return {"id": self.id, "node": self.node, "time": self.at, "seconds": self.took, "verb": self.verb,
                "object": self.what, "user": self.user, "groups": list(self.groups),
                "impersonated": {"user": self.acting, "groups": list(self.acting_groups)} if self.acting else None,
                "userAgent": self.agent,
                "source": self.source, "uri": self.uri, "code": self.code, "message": self.message,
                "authorization": {"decision": self.decision, "reason": self.reason},
                "admission": {"changed": self.changed, "refusedBy": self.refused_by}, "revision": self.revision}


def recent(record: LabRecord, *, limit: int = 0) -> list[Seen]:
    """Return the last requests of all API servers, the newest last; `limit` 0 is all that the logs still hold."""
    found: list[Seen] = []
    for node in record.nodes:
        path = record.state_dir / "nodes" / node.name / AUDIT_LOG
        for line in _last_lines(path, limit):
            seen = read(line, node.name)
            if seen is not None:
                found.append(seen)
    found.sort(key=lambda seen: seen.at)
    return found[-limit:] if limit else found


def one(record: LabRecord, identity: str) -> Seen:
    """Return the request whose audit ID begins so.

    Raises:
        NotFound: none does, or several do.
    """
    found = [seen for seen in recent(record) if seen.id.startswith(identity)]
    if not found:
        raise NotFound(f'no request "{identity}" in the audit log', hint="`netlab request` lists the last ones")
    if len({seen.id for seen in found}) > 1:
        raise NotFound(f'{len(found)} requests begin with "{identity}"', hint="give more of the ID")
    return found[-1]


def read(line: bytes, node: str) -> Seen | None:
    """Return what a line of an audit log tells of an ended request; None for other lines."""
    try:
        event = json.loads(line)
        if event.get("stage") != "ResponseComplete":
            return None
        notes, state, user = event.get("annotations") or {}, event.get("responseStatus") or {}, event["user"]
        acting = event.get("impersonatedUser") or {}
        begun = parse_timestamp(event["requestReceivedTimestamp"])
        changed = json.loads(notes[_CHANGED]) if notes.get(_CHANGED) else {}
        return Seen(
            id=event["auditID"], node=node, at=begun, took=parse_timestamp(event["stageTimestamp"]) - begun,
            verb=event["verb"], what=_what(event), user=user.get("username", ""),
            groups=tuple(user.get("groups") or ()),
            agent=event.get("userAgent", ""), source=", ".join(event.get("sourceIPs") or ()), uri=event["requestURI"],
            code=state.get("code", 0), message=state.get("message", ""),
            decision=notes.get("authorization.k8s.io/decision", ""),
            reason=notes.get("authorization.k8s.io/reason", ""), refused_by=notes.get(_REFUSED, ""), changed=changed,
            revision=notes.get(_REVISION, ""),
            acting=acting.get("username", ""), acting_groups=tuple(acting.get("groups") or ()))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None  # a line cut off by the end of the server


def _what(event: dict[str, Any]) -> str:
    about = event.get("objectRef")
    if not about:
        return str(event["requestURI"])
    parts = [about.get("resource", "")]
    if about.get("apiGroup"):
        parts[0] += f".{about['apiGroup']}"
    name = "/".join(text for text in (about.get("namespace", ""), about.get("name", "")) if text)
    if name:
        parts.append(name)
    return " ".join(parts) + (f" ({about['subresource']})" if about.get("subresource") else "")


def _last_lines(path: Path, limit: int) -> Iterator[bytes]:
    """Yield the last lines of a file (two per request, at most), oldest first."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        if limit:
            size = file.seek(0, 2)
            file.seek(max(0, size - max(_PORTION, limit * 4096)))
            if file.tell():
                file.readline()
        yield from file
