"""Bearer tokens that are no service accounts': fixed ones from a file, and bootstrap tokens."""

from __future__ import annotations

import pytest

from netlab.apiserver.auth.bearers import read
from netlab.errors import UsageError
from tests.apiserver.conftest import Server

WHO = "/apis/authentication.k8s.io/v1/selfsubjectreviews"


def who(server: Server, token: str) -> tuple[int, dict]:
    answer = server.client(user=None, token=token).post(WHO, {})
    return answer.status, answer.json["status"]["userInfo"] if answer.status == 201 else {}


@pytest.fixture(scope="module")
def server(pki, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokens")
    (folder / "tokens.csv").write_text('secret1,jane,7,"devs,ops"\nsecret2,joe,8\n\n')
    running = Server(pki, folder / "server", f"--token-auth-file={folder / 'tokens.csv'}", "--enable-bootstrap-token-auth",
                     "--authorization-mode=RBAC", "--anonymous-auth=false")
    yield running
    assert running.stop() == 0


def test_fixed_tokens(server: Server) -> None:
    assert who(server, "secret1") == (201, {"username": "jane", "uid": "7", "groups": ["devs", "ops", "system:authenticated"]})
    assert who(server, "secret2")[1]["username"] == "joe"
    assert who(server, "nope")[0] == 401
    assert server.client(user=None, token="secret1").get("/api/v1/namespaces/default/secrets").status == 403


def secret(identity: str, **data: str) -> dict:
    values = {"token-id": identity, "token-secret": "0123456789abcdef", "usage-bootstrap-authentication": "true"} | {
        key.replace("_", "-"): value for key, value in data.items()}
    return {"metadata": {"name": f"bootstrap-token-{identity}"}, "type": "bootstrap.kubernetes.io/token", "stringData": values}


@pytest.mark.parametrize(("identity", "data", "status"), [
    ("aaaaaa", {}, 201), ("bbbbbb", {"auth_extra_groups": "system:bootstrappers:worker"}, 201),
    ("cccccc", {"usage_bootstrap_authentication": "false"}, 401), ("dddddd", {"expiration": "2020-01-01T00:00:00Z"}, 401),
    ("eeeeee", {"expiration": "2999-01-01T00:00:00Z"}, 201), ("ffffff", {"auth_extra_groups": "system:masters"}, 401),
    ("gggggg", {"token_secret": "fedcba9876543210"}, 401), ("hhhhhh", {"expiration": "soon"}, 401),
])
def test_bootstrap_tokens(server: Server, identity: str, data: dict, status: int) -> None:
    assert server.client().post("/api/v1/namespaces/kube-system/secrets", secret(identity, **data)).status == 201
    code, user = who(server, f"{identity}.0123456789abcdef")
    assert code == status
    if status == 201:
        assert user["username"] == f"system:bootstrap:{identity}"
        assert "system:bootstrappers" in user["groups"]
        assert ("system:bootstrappers:worker" in user["groups"]) == (identity == "bbbbbb")


def test_a_review_tells_of_them_too(server: Server) -> None:
    answer = server.client().post("/apis/authentication.k8s.io/v1/tokenreviews", {"spec": {"token": "secret1"}})
    assert answer.json["status"]["authenticated"] is True
    assert answer.json["status"]["user"]["username"] == "jane"
    foreign = server.client().post("/apis/authentication.k8s.io/v1/tokenreviews", {"spec": {"token": "secret1", "audiences": ["x"]}})
    assert foreign.json["status"].get("authenticated", False) is False


def test_bad_token_files(tmp_path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("only,two\n")
    with pytest.raises(UsageError, match=r"t\.csv:1: expected at least 3 columns"):
        read(str(path))
    with pytest.raises(UsageError, match="can't read"):
        read(str(tmp_path / "none"))
