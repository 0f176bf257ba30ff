"""The audit log: one line of JSON (audit.k8s.io/v1 Event) per request, as a policy asks for it.

https://kubernetes.io/docs/tasks/debug/debug-cluster/audit/. Annotations of our own tell the rest of a request's way:
which admission step changed what (`admission.netlab/changed`), who refused it (`admission.netlab/refused-by`), and the
revision that was written (`store.netlab/revision`).
"""

from __future__ import annotations

import contextlib
import logging
import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from netlab.api import meta, protobuf
from netlab.api.meta import Object
from netlab.apiserver.auth.authorize import Attributes
from netlab.apiserver.http import Reply, Request, Response, User
from netlab.errors import ApiError, UsageError

log = logging.getLogger(__name__)

LEVELS = ("None", "Metadata", "Request", "RequestResponse")
_STAGES = ("RequestReceived", "ResponseStarted", "ResponseComplete", "Panic")
CHANGED, REFUSED, REVISION = "admission.netlab/changed", "admission.netlab/refused-by", "store.netlab/revision"
DECISION, REASON = "authorization.k8s.io/decision", "authorization.k8s.io/reason"


@dataclass(frozen=True)
class Policy:
    """The rules, the first that matches counts; what none matches is not logged."""

    rules: Sequence[Mapping[str, Any]] = ({"level": "Metadata"},)
    omitted: frozenset[str] = frozenset()

    def judge(self, asked: Attributes) -> tuple[str, frozenset[str]]:
        """Return a request's level, and the stages that are left out for it."""
        for rule in self.rules:
            if _matches(rule, asked):
                return str(rule["level"]), self.omitted | frozenset(rule.get("omitStages") or ())
        return "None", frozenset()


def read(path: str) -> Policy:
    """Return the policy in a file.

    Raises:
        UsageError: it is none; the text names the field.
    """
    import yaml  # most servers have no policy

    try:
        found = yaml.load(Path(path).read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"--audit-policy-file: can't read {path}: {error}") from None
    if not isinstance(found, dict) or found.get("kind") != "Policy" or not str(found.get("apiVersion")).startswith(
            "audit.k8s.io/"):
        raise UsageError(f"--audit-policy-file: {path}: want a Policy of audit.k8s.io/v1")
    rules = found.get("rules")
    if not isinstance(rules, list) or not rules:
        raise UsageError(f"--audit-policy-file: {path}: rules: loaded illegal policy with 0 rules")
    for at, rule in enumerate(rules):
        if not isinstance(rule, dict) or rule.get("level") not in LEVELS:
            raise UsageError(f"--audit-policy-file: {path}: rules[{at}].level: want one of {', '.join(LEVELS)}")
    omitted = found.get("omitStages") or []
    if not isinstance(omitted, list) or not set(omitted) <= set(_STAGES):
        raise UsageError(f"--audit-policy-file: {path}: omitStages: want some of {', '.join(_STAGES)}")
    return Policy(rules, frozenset(omitted))


def _matches(rule: Mapping[str, Any], asked: Attributes) -> bool:
    user = asked.user
    if rule.get("users") and user.name not in rule["users"]:
        return False
    if rule.get("userGroups") and not set(rule["userGroups"]) & set(user.groups):
        return False
    if rule.get("verbs") and asked.verb not in rule["verbs"]:
        return False
    if asked.path:
        return not rule.get("resources") and not rule.get("namespaces") and (
            not rule.get("nonResourceURLs") or any(_path(one, asked.path) for one in rule["nonResourceURLs"]))
    if rule.get("nonResourceURLs"):
        return False
    if rule.get("namespaces") and asked.namespace not in rule["namespaces"]:
        return False
    groups = rule.get("resources")
    return not groups or any(_resource(group, asked) for group in groups)


def _path(wanted: str, path: str) -> bool:
    return wanted in ("*", path) or (wanted.endswith("*") and path.startswith(wanted[:-1]))


def _resource(group: Mapping[str, Any], asked: Attributes) -> bool:
    if group.get("group", "") not in (asked.group, "*"):
        return False
    names = group.get("resourceNames") or ()
    if names and asked.name not in names:
        return False
    resources = group.get("resources") or ()
    whole = f"{asked.resource}/{asked.subresource}" if asked.subresource else asked.resource
    return not resources or any(word in (whole, "*") or (word.startswith("*/") and word[2:] == asked.subresource)
                                or (word.endswith("/*") and word[:-2] == asked.resource) for word in resources)


@dataclass
class Log:
    """Where the lines go: a file that is changed for a fresh one when it has grown, or standard output (`-`).

    `limit` is in bytes, 0 for none; `backups` old files are kept, 0 keeps all.
    """

    path: str
    policy: Policy = field(default_factory=Policy)
    limit: int = 100 << 20
    backups: int = 0
    _fd: int = -1
    _size: int = 0

    def start(self, request: Request, asked: Attributes, *, now: float) -> Record | None:
        """Return the record of a request that is to be logged; its first stage is written."""
        level, omitted = self.policy.judge(asked)
        if level == "None":
            return None
        record = Record(self, request, asked, level, omitted, now,
                        request.headers.get("Audit-ID", "")[:64] or str(uuid.uuid4()))
        request.notes = record.notes
        record.notes.update(request.identified)
        record.write("RequestReceived", now)
        return record

    def put(self, event: Object) -> None:
        """Write one line; trouble is logged, and the request goes on."""
        line = orjson.dumps(event) + b"\n"
        try:
            if self._fd < 0:
                self._open()
            if self.limit and self._size and self._size + len(line) > self.limit:
                self._rotate()
            os.write(self._fd, line)
            self._size += len(line)
        except OSError as error:
            log.error("audit log %s: %s", self.path, error.strerror)

    def _open(self) -> None:
        if self.path == "-":
            self._fd = 1
            self.limit = 0
            return
        Path(self.path).parent.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(self._fd).st_size

    def _rotate(self) -> None:
        os.close(self._fd)
        self._fd = -1
        path = Path(self.path)
        old = sorted(path.parent.glob(f"{path.stem}-*{path.suffix}"))
        number = int(old[-1].stem.rpartition("-")[2]) + 1 if old and old[-1].stem.rpartition("-")[2].isdigit() else 1
        path.rename(path.with_name(f"{path.stem}-{number:08}{path.suffix}"))
        for extra in old[:len(old) + 1 - self.backups] if self.backups else ():
            with contextlib.suppress(FileNotFoundError):
                extra.unlink()
        self._open()


@dataclass
class Record:
    """One request on its way. `notes` become its annotations.

    It is judged and told as its sender's, whomever he asks to be taken for: that is `impersonated`. `words` stand for
    the answer's message.
    """

    log: Log
    request: Request
    asked: Attributes
    level: str
    omitted: frozenset[str]
    received: float
    audit_id: str
    notes: dict[str, str] = field(default_factory=dict)
    sent: bytes = b""
    impersonated: User | None = None
    words: str = ""

    def finish(self, response: Response | None, code: int, error: ApiError | None, *, now: float) -> None:
        """Write the last stage."""
        state: Object = {"metadata": {}, "code": code}
        if error is not None:
            state |= {"status": "Failure", "message": self.words or str(error), "reason": error.reason}
        body = response.whole() if isinstance(response, Reply) and self.level == "RequestResponse" else b""
        self.write("ResponseComplete", now, state, body)

    def write(self, stage: str, now: float, state: Object | None = None, answer: bytes = b"") -> None:
        """Write one stage unless the policy leaves it out."""
        if stage in self.omitted:
            return
        asked, request = self.asked, self.request
        query = f"?{request.raw_query}" if request.raw_query else ""
        event: Object = {
            "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": self.level, "auditID": self.audit_id,
            "stage": stage, "requestURI": f"{request.path}{query}", "verb": asked.verb, "user": _user(asked.user),
            "sourceIPs": [request.peer.rpartition(":")[0].strip("[]") or request.peer] if request.peer else [],
            "userAgent": request.headers.get("User-Agent", "")}
        if self.impersonated is not None and stage != "RequestReceived":
            event["impersonatedUser"] = _user(self.impersonated)
        if not asked.path:
            event["objectRef"] = _reference(asked, request.object_name)
        if state is not None:
            event["responseStatus"] = state
        if self.level in ("Request", "RequestResponse") and stage != "RequestReceived":
            event |= _objects(self.sent, answer)
        event |= {"requestReceivedTimestamp": meta.micro_timestamp(self.received),
                  "stageTimestamp": meta.micro_timestamp(now)}
        if self.notes and stage != "RequestReceived":
            event["annotations"] = dict(self.notes)
        self.log.put(event)


def _user(user: User) -> Object:
    if not user.name:
        return {}
    found: Object = {"username": user.name, "groups": list(user.groups)}
    if user.uid:
        found["uid"] = user.uid
    if user.extra:
        found["extra"] = {key: list(values) for key, values in user.extra.items()}
    return found


def _reference(asked: Attributes, made: str) -> Object:
    pairs = (("resource", asked.resource), ("namespace", asked.namespace), ("name", asked.name or made),
             ("apiGroup", asked.group), ("apiVersion", asked.version), ("subresource", asked.subresource))
    return {key: value for key, value in pairs if value}


def _objects(sent: bytes, answer: bytes) -> Object:
    found: Object = {}
    for key, raw in (("requestObject", sent), ("responseObject", answer)):
        with contextlib.suppress(orjson.JSONDecodeError, ApiError):
            if protobuf.is_protobuf(raw):
                found[key] = protobuf.decode(raw)
            elif raw[:1] == b"{":
                found[key] = orjson.loads(raw)
    return found


def changes(before: Any, after: Any, path: str = "") -> list[Object]:
    """Return what an admission step changed, as the operations of a JSON patch (values that went are only named)."""
    if isinstance(before, dict) and isinstance(after, dict):
        found: list[Object] = []
        for name in dict.fromkeys([*before, *after]):
            place = f"{path}/{str(name).replace('~', '~0').replace('/', '~1')}"
            if name not in after:
                found.append({"op": "remove", "path": place})
            elif name not in before:
                found.append({"op": "add", "path": place, "value": after[name]})
            else:
                found += changes(before[name], after[name], place)
        return found
    if isinstance(before, list) and isinstance(after, list) and len(after) >= len(before):
        found = []
        for at, item in enumerate(after):
            place = f"{path}/{at}"
            found += changes(before[at], item, place) if at < len(before) else [
                {"op": "add", "path": place, "value": item}]
        return found
    return [] if before == after else [{"op": "replace", "path": path or "/", "value": after}]
