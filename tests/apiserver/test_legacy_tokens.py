"""Tokens without an end, which live in Secrets: as good as their Secret and their account."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from netlab.api import meta
from netlab.apiserver.auth import jwt
from tests.apiserver.conftest import Answer, Client, Pki, Server

WHO = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"
LAST_USED, INVALID_SINCE = "kubernetes.io/legacy-token-last-used", "kubernetes.io/legacy-token-invalid-since"
CLAIM = "kubernetes.io/serviceaccount/"
NOTE = "authentication.k8s.io/legacy-token-"


@pytest.fixture(scope="module")
def audit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("audit") / "audit.log"


@pytest.fixture(scope="module")
def server(pki: Pki, tmp_path_factory: pytest.TempPathFactory, audit: Path):
    running = Server(pki, tmp_path_factory.mktemp("legacy"), f"--audit-log-path={audit}")
    yield running
    assert running.stop() == 0
    assert "Traceback" not in running.log.read_text()


class Holder:
    """A namespace with an account, and Secrets that hold tokens of it."""

    def __init__(self, server: Server, client: Client, ns: str) -> None:
        self.server, self.client, self.ns = server, client, ns
        self.uid = client.get(f"/api/v1/namespaces/{ns}/serviceaccounts/default").json["metadata"]["uid"]

    def claims(self, secret: str, **changes: Any) -> dict[str, Any]:
        return {"iss": "kubernetes/serviceaccount", "sub": f"system:serviceaccount:{self.ns}:default",
                f"{CLAIM}namespace": self.ns, f"{CLAIM}secret.name": secret,
                f"{CLAIM}service-account.name": "default", f"{CLAIM}service-account.uid": self.uid} | changes

    def token(self, secret: str, **changes: Any) -> str:
        claims = self.claims(secret, **changes)
        key = jwt.load_private(self.client.pki.path("sa.key"))
        return key.sign({name: value for name, value in claims.items() if value is not None})

    def store(self, secret: str, token: str, **labels: str) -> str:
        made = self.client.post(f"/api/v1/namespaces/{self.ns}/secrets", {
            "metadata": {"name": secret, "labels": {name.replace("__", "/"): text for name, text in labels.items()},
                         "annotations": {"kubernetes.io/service-account.name": "default"}},
            "type": "kubernetes.io/service-account-token",
            "data": {"token": base64.b64encode(token.encode()).decode()}})
        assert made.status == 201, made.body
        return token

    def labels(self, secret: str) -> dict[str, str]:
        return self.client.get(f"/api/v1/namespaces/{self.ns}/secrets/{secret}").json["metadata"].get("labels", {})

    def who(self, token: str) -> Answer:
        return self.server.client(user=None, token=token).post(WHO, {})

    def complaint(self, token: str) -> str:
        state = self.client.post(REVIEWS, {"spec": {"token": token}}).json["status"]
        assert not state.get("authenticated")
        return state["error"]


@pytest.fixture
def holder(server: Server, client: Client, ns: str) -> Holder:
    return Holder(server, client, ns)


def notes(audit: Path, path: str) -> dict[str, str]:
    lines = [json.loads(line) for line in audit.read_text().splitlines()]
    last = [line for line in lines if line["requestURI"].startswith(path) and line["stage"] == "ResponseComplete"][-1]
    return {name.removeprefix(NOTE): text for name, text in last.get("annotations", {}).items() if name.startswith(NOTE)}


def test_it_stands_for_its_account(holder: Holder, audit: Path) -> None:
    token = holder.store("mine", holder.token("mine"))
    answer = holder.who(token)
    assert answer.status == 201, answer.body
    assert answer.json["status"]["userInfo"] == {
        "username": f"system:serviceaccount:{holder.ns}:default", "uid": holder.uid,
        "groups": ["system:serviceaccounts", f"system:serviceaccounts:{holder.ns}", "system:authenticated"]}
    assert not answer.warnings
    assert holder.labels("mine") == {LAST_USED: meta.timestamp(time.time())[:10]}
    assert notes(audit, WHO) == {"manual-secret": "mine"}


def test_a_review_knows_it_too(holder: Holder) -> None:
    token = holder.store("mine", holder.token("mine"))
    state = holder.client.post(REVIEWS, {"spec": {"token": token}}).json["status"]
    assert state["authenticated"]
    assert state["audiences"] == ["https://kubernetes.default.svc.cluster.local"]
    assert "extra" not in state["user"]
    foreign = holder.client.post(REVIEWS, {"spec": {"token": token, "audiences": ["vault"]}}).json["status"]
    assert "audiences" in foreign["error"]


def test_one_that_was_made_unasked_is_warned_of(holder: Holder, audit: Path) -> None:
    account = f"/api/v1/namespaces/{holder.ns}/serviceaccounts/default"
    assert holder.client.patch(account, {"secrets": [{"name": "mine"}]}).status == 200
    token = holder.store("mine", holder.token("mine"))
    for _ in range(2):  # the second time from what is remembered
        assert "instead of auto-generated secret-based tokens" in holder.who(token).warnings
        assert notes(audit, WHO) == {"autogenerated-secret": "mine"}


def test_one_that_is_marked_invalid_is_refused_and_noted(holder: Holder, audit: Path) -> None:
    token = holder.store("mine", holder.token("mine"), **{INVALID_SINCE.replace("/", "__"): "2026-01-01"})
    assert holder.who(token).status == 401
    assert notes(audit, WHO) == {"invalidated": f"mine/{holder.ns}"}
    assert holder.labels("mine")[LAST_USED] == meta.timestamp(time.time())[:10]
    assert "has been marked invalid" in holder.complaint(token)
    holder.client.patch(f"/api/v1/namespaces/{holder.ns}/secrets/mine", {"metadata": {"labels": {INVALID_SINCE: None}}})
    assert holder.who(token).status == 201


def _deleted(holder: Holder, secret: str) -> None:
    holder.client.delete(f"/api/v1/namespaces/{holder.ns}/secrets/{secret}")


def _changed(holder: Holder, secret: str) -> None:
    path = f"/api/v1/namespaces/{holder.ns}/secrets/{secret}"
    holder.client.patch(path, {"stringData": {"token": holder.token(secret, more="x")}})


def _without_account(holder: Holder, _secret: str) -> None:
    holder.client.delete(f"/api/v1/namespaces/{holder.ns}/serviceaccounts/default")


def _another_account(holder: Holder, secret: str) -> None:
    _without_account(holder, secret)
    holder.client.post(f"/api/v1/namespaces/{holder.ns}/serviceaccounts", {"metadata": {"name": "default"}})


@pytest.mark.parametrize(("change", "said"), [
    (_deleted, "Token has been invalidated"), (_changed, "Token does not match server's copy"),
    (_without_account, 'serviceaccounts "default" not found'), (_another_account, "does not match claim")])
def test_it_ends_with_its_secret_and_its_account(holder: Holder, change: Callable[[Holder, str], None], said: str) -> None:
    token = holder.store("mine", holder.token("mine"))
    change(holder, "mine")
    assert holder.who(token).status == 401
    assert said in holder.complaint(token)


@pytest.mark.parametrize(("changes", "said"), [
    ({"sub": None}, "sub claim is missing"), ({"sub": "system:serviceaccount:kube-system:default"}, "sub claim is invalid"),
    ({f"{CLAIM}namespace": None}, "namespace claim is missing"), ({f"{CLAIM}secret.name": None}, "secretName claim"),
    ({f"{CLAIM}service-account.name": None}, "serviceAccountName claim"),
    ({f"{CLAIM}service-account.uid": None}, "serviceAccountUID claim"),
    ({"iss": "kubernetes.io/serviceaccount"}, "issuer")])
def test_its_claims_are_all_needed(holder: Holder, changes: dict[str, Any], said: str) -> None:
    token = holder.store("mine", holder.token("mine", **changes))
    assert holder.who(token).status == 401
    assert said in holder.complaint(token)


def test_since_when_uses_are_noted_is_told(client: Client) -> None:
    path = "/api/v1/namespaces/kube-system/configmaps/kube-apiserver-legacy-service-account-token-tracking"
    assert client.get(path).json["data"] == {"since": meta.timestamp(time.time())[:10]}
    assert client.get("/readyz/poststarthook/start-legacy-token-tracking-controller").status == 200
