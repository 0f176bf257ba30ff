"""The audit log: who asked for what, by which rule, what admission changed, which revision was written."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from netlab.apiserver import audit
from netlab.apiserver.auth.authorize import Attributes
from netlab.apiserver.http import User
from netlab.errors import UsageError
from tests.apiserver.conftest import Client, Server, config_map, pod

POLICY = """
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: None, resources: [{group: "", resources: [secrets]}]}
- {level: RequestResponse, resources: [{group: "", resources: [configmaps]}], verbs: [create]}
- {level: Metadata}
"""


@pytest.fixture(scope="module")
def logged(pki, tmp_path_factory) -> Any:
    folder: Path = tmp_path_factory.mktemp("audit")
    (folder / "policy.yaml").write_text(POLICY)
    running = Server(pki, folder / "server", f"--audit-log-path={folder / 'audit.log'}", f"--audit-policy-file={folder / 'policy.yaml'}",
                     "--authorization-mode=RBAC")
    running.audit = folder / "audit.log"
    running.client().post("/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "default"}})
    yield running
    assert running.stop() == 0
    assert "Traceback" not in running.log.read_text()


def events(server: Any, **wanted: Any) -> list[dict]:
    found = [json.loads(line) for line in server.audit.read_text().splitlines()]
    return [event for event in found if all((event.get("objectRef") or {}).get(key) == value for key, value in wanted.items())]


def test_a_write_is_told_whole(logged: Any) -> None:
    made = logged.client().post("/api/v1/namespaces/default/configmaps", config_map("a", k="v"), Audit_ID="my-own-id")
    event = events(logged, resource="configmaps", namespace="default")[-1]
    assert (event["kind"], event["apiVersion"], event["stage"], event["level"]) == ("Event", "audit.k8s.io/v1", "ResponseComplete", "RequestResponse")
    assert event["auditID"] == "my-own-id" == made.headers["Audit-ID"]
    assert event["verb"] == "create"
    assert event["user"]["username"] == "kubernetes-admin"
    assert event["responseStatus"]["code"] == 201
    assert event["requestObject"]["data"] == {"k": "v"}
    assert event["responseObject"]["metadata"]["uid"]
    assert event["annotations"]["authorization.k8s.io/decision"] == "allow"
    assert event["annotations"][audit.REVISION] == made.json["metadata"]["resourceVersion"]


def test_admission_is_told_step_by_step(logged: Any) -> None:
    logged.client().post("/api/v1/namespaces/default/pods", pod("p"))
    changed = json.loads(events(logged, resource="pods")[-1]["annotations"][audit.CHANGED])
    assert {"op": "add", "path": "/spec/serviceAccountName", "value": "default"} in changed["ServiceAccount"]
    assert set(changed) == {"ServiceAccount", "Priority", "DefaultTolerationSeconds"}


def test_who_refused(logged: Any) -> None:
    logged.client().post("/api/v1/namespaces/nowhere/configmaps", config_map("a"))
    event = events(logged, namespace="nowhere")[-1]
    assert event["annotations"][audit.REFUSED] == "NamespaceLifecycle"
    assert event["responseStatus"] == {"metadata": {}, "code": 404, "status": "Failure", "reason": "NotFound",
                                       "message": 'namespaces "nowhere" not found'}
    logged.pki.issue("nobody", "nobody")
    logged.client(user="nobody").get("/api/v1/namespaces/default/pods")
    event = events(logged, resource="pods", namespace="default")[-1]
    assert event["annotations"]["authorization.k8s.io/decision"] == "forbid"
    assert event["responseStatus"]["code"] == 403


def test_who_speaks_for_whom(logged: Any) -> None:
    """The event is the sender's; whom he asks to be taken for stands beside, and a refusal of that is told as well."""
    path = "/api/v1/namespaces/default/limitranges"
    logged.client().get(path, Impersonate_User="jane", Impersonate_Group="system:masters")
    event = events(logged, resource="limitranges")[-1]
    assert (event["user"]["username"], event["responseStatus"]["code"]) == ("kubernetes-admin", 200)
    assert event["impersonatedUser"] == {"username": "jane", "groups": ["system:masters", "system:authenticated"]}
    logged.pki.issue("nobody", "nobody")
    logged.client(user="nobody").get(path, Impersonate_User="jane")
    event = events(logged, resource="limitranges")[-1]
    assert (event["user"]["username"], event["responseStatus"]["code"]) == ("nobody", 403)
    assert "impersonatedUser" not in event
    assert 'cannot impersonate resource "users"' in event["responseStatus"]["message"]


def test_who_could_not_be_told(logged: Any) -> None:
    """Whoever knocks with a bad token is in the log, without a name."""
    answer = logged.client(user=None, token="nonsense").get("/api/v1/namespaces/default/limitranges")
    assert answer.status == 401
    event = events(logged, resource="limitranges")[-1]
    assert (event["user"], event["responseStatus"]["code"]) == ({}, 401)
    assert event["responseStatus"]["message"] == "Authentication failed, attempted: bearer"


def test_what_the_policy_leaves_out(logged: Any) -> None:
    logged.client().post("/api/v1/namespaces/default/secrets", {"metadata": {"name": "s"}})
    assert not events(logged, resource="secrets")
    assert "requestObject" not in events(logged, resource="pods")[-1]


ADMISSION = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolic"
MAPS = [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}]


@contextmanager
def policy(client: Client, name: str, *bindings: dict, **spec: Any) -> Iterator[None]:
    """Have a policy with bindings; it is about ConfigMaps whose label `for` is its name."""
    made = [client.post(f"{ADMISSION}ies", {"metadata": {"name": name}, "spec": {"matchConstraints": {
        "resourceRules": MAPS, "objectSelector": {"matchLabels": {"for": name}}}, **spec}})]
    made += [client.post(f"{ADMISSION}ybindings", {"metadata": {"name": f"{name}-{at}"}, "spec": {"policyName": name, **binding}})
             for at, binding in enumerate(bindings)]
    assert [answer.status for answer in made] == [201] * len(made), [answer.json.get("message") for answer in made]
    try:
        yield
    finally:
        client.delete(f"{ADMISSION}ies/{name}")
        for at in range(len(bindings)):
            client.delete(f"{ADMISSION}ybindings/{name}-{at}")


def written(server: Any, name: str, **data: str) -> tuple[Any, dict[str, str]]:
    """Make a ConfigMap; returns the answer and the annotations of its audit event."""
    answer = server.client().post("/api/v1/namespaces/default/configmaps", {
        **config_map(f"m-{time.monotonic_ns()}", **data), "metadata": {"name": f"m-{time.monotonic_ns()}", "labels": {"for": name}}})
    return answer, events(server, resource="configmaps", namespace="default")[-1]["annotations"]


FAILED = "validation.policy.admission.k8s.io/validation_failure"


def test_what_a_policy_finds_is_told_and_passes(logged: Any) -> None:
    checks = [{"expression": "object.data.size() > 0"}, {"expression": "object.data.size() < 2 && 'a' <= 'b'"}, {"expression": "false"}]
    with policy(logged.client(), "told.example.com", {"validationActions": ["Warn", "Audit"]}, validations=checks):
        answer, notes = written(logged, "told.example.com", a="1", b="2")
        assert answer.status == 201
        assert "failed expression: false" in answer.warnings
        assert json.loads(notes[FAILED]) == [{  # the first: as upstream, what is noted once stays
            "message": "failed expression: object.data.size() < 2 && 'a' <= 'b'", "policy": "told.example.com",
            "binding": "told.example.com-0", "expressionIndex": 1, "validationActions": ["Warn", "Audit"]}]
        assert "\\u003c 2 \\u0026\\u0026" in notes[FAILED]


def test_a_refusal_keeps_nobody_from_being_told(logged: Any) -> None:
    two = [{"validationActions": ["Deny"]}, {"validationActions": ["Audit"]}]
    with policy(logged.client(), "both", *two, validations=[{"expression": "false", "message": "no"}]):
        answer, notes = written(logged, "both")
    assert (answer.status, answer.json["message"].rpartition(": ")[2]) == (422, "no")
    assert json.loads(notes[FAILED])[0]["binding"] == "both-1"
    assert notes[audit.REFUSED] == "ValidatingAdmissionPolicy"


def test_annotations_of_policies(logged: Any) -> None:
    client = logged.client()
    for name in ("one", "two", "same"):
        client.post("/api/v1/namespaces/default/configmaps", config_map(name, word="two" if name == "same" else name))
    bindings = [{"validationActions": ["Audit"], "paramRef": {"name": name, "namespace": "default", "parameterNotFoundAction": "Deny"}}
                for name in ("one", "two", "same")]
    with policy(client, "notes", *bindings, paramKind={"apiVersion": "v1", "kind": "ConfigMap"}, auditAnnotations=[
            {"key": "keys", "valueExpression": "' ' + string(object.data.size()) + ' keys '"},
            {"key": "words", "valueExpression": "string(params.data.word)"},
            {"key": "none", "valueExpression": "null"},
            {"key": "empty", "valueExpression": "''"}, {"key": "long", "valueExpression": "string(object.data.long)"}]):
        answer, notes = written(logged, "notes", long="y" * 20_000)
    assert answer.status == 201
    assert {key: value for key, value in notes.items() if key.startswith("notes/")} == {
        "notes/keys": "1 keys", "notes/words": "one, two", "notes/long": "y" * 10_240}


def test_an_annotation_without_a_value_refuses_unless_failures_are_ignored(logged: Any) -> None:
    notes_ = [{"key": "k", "valueExpression": "string(object.data.nope)"}, {"key": "l", "valueExpression": "'there'"}]
    with policy(logged.client(), "bad", {"validationActions": ["Audit"]}, auditAnnotations=notes_):
        answer, notes = written(logged, "bad", a="b")
    assert (answer.status, notes.get("bad/k"), notes["bad/l"]) == (422, None, "there")
    assert answer.json["message"].endswith("ValidatingAdmissionPolicy 'bad' with binding 'bad-0' denied request: "
                                           "expression 'string(object.data.nope)' resulted in error: no such key: nope")
    with policy(logged.client(), "open", {"validationActions": ["Audit"]}, failurePolicy="Ignore", auditAnnotations=notes_):
        answer, notes = written(logged, "open", a="b")
    assert (answer.status, notes.get("open/k"), notes["open/l"]) == (201, None, "there")


@pytest.mark.parametrize(("rule", "asked", "matches"), [
    ({"users": ["a"]}, {"verb": "get", "resource": "pods"}, True), ({"users": ["b"]}, {"verb": "get", "resource": "pods"}, False),
    ({"userGroups": ["g"]}, {"verb": "get", "resource": "pods"}, True),
    ({"resources": [{"group": "apps"}]}, {"verb": "get", "group": "apps", "resource": "deployments"}, True),
    ({"resources": [{"group": "", "resources": ["pods/log"]}]}, {"verb": "get", "resource": "pods", "subresource": "log"}, True),
    ({"resources": [{"group": "", "resources": ["pods"]}]}, {"verb": "get", "resource": "pods", "subresource": "log"}, False),
    ({"resources": [{"group": "", "resources": ["*/status"]}]}, {"verb": "get", "resource": "pods", "subresource": "status"}, True),
    ({"resources": [{"group": "", "resourceNames": ["x"]}]}, {"verb": "get", "resource": "pods", "name": "y"}, False),
    ({"namespaces": ["n"]}, {"verb": "get", "resource": "pods", "namespace": "n"}, True),
    ({"nonResourceURLs": ["/healthz*"]}, {"verb": "get", "path": "/healthz/ping"}, True),
    ({"nonResourceURLs": ["/healthz"]}, {"verb": "get", "resource": "pods"}, False),
    ({"verbs": ["list"]}, {"verb": "get", "resource": "pods"}, False),
])
def test_rules(rule: dict, asked: dict, matches: bool) -> None:
    policy = audit.Policy(({"level": "Metadata", **rule},))
    level, _ = policy.judge(Attributes(User("a", ("g",)), **asked))
    assert (level == "Metadata") == matches


@pytest.mark.parametrize(("text", "said"), [
    ("{", "can't read"), ("kind: Pod", "want a Policy"), ("kind: Policy\napiVersion: audit.k8s.io/v1", "rules: loaded illegal policy with 0 rules"),
    ("kind: Policy\napiVersion: audit.k8s.io/v1\nrules: [{level: Loud}]", r"rules\[0\]\.level: want one of None, Metadata"),
])
def test_bad_policies(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "p.yaml").write_text(text)
    with pytest.raises(UsageError, match=said):
        audit.read(str(tmp_path / "p.yaml"))


def test_a_full_log_is_changed_for_a_fresh_one(tmp_path: Path) -> None:
    log = audit.Log(str(tmp_path / "audit.log"), limit=200, backups=2)
    for number in range(20):
        log.put({"n": number, "pad": "x" * 80})
    files = sorted(path.name for path in tmp_path.iterdir())
    assert len(files) == 3
    assert files[-1] == "audit.log"
    kept = [json.loads(line)["n"] for name in files for line in (tmp_path / name).read_text().splitlines()]
    assert kept == sorted(kept)
    assert kept[-1] == 19
