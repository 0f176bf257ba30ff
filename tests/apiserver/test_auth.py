"""Who gets in: certificates, service account tokens, nobody."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from netlab.apiserver.auth import jwt
from netlab.apiserver.auth.tokens import Rejected, ServiceAccountTokens
from tests.apiserver.conftest import Client, Pki, Server, pod

ISSUER = "https://kubernetes.default.svc.cluster.local"


def token_of(client: Client, ns: str, account: str = "default", **spec: Any) -> str:
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
    answer = client.post(f"/api/v1/namespaces/{ns}/serviceaccounts/{account}/token", body)
    assert answer.status == 201, answer.body
    return answer.json["status"]["token"]


def whoami(client: Client) -> dict[str, Any]:
    return client.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", {}).json["status"]["userInfo"]


def test_a_certificate_names_user_and_groups(client: Client) -> None:
    raw = x509.load_pem_x509_certificate(Path(client.pki.path("admin.crt")).read_bytes())
    assert whoami(client) == {
        "username": "kubernetes-admin", "groups": ["system:masters", "system:authenticated"],
        "extra": {"authentication.kubernetes.io/credential-id": [
            f"X509SHA256={raw.fingerprint(hashes.SHA256()).hex()}"]}}


def test_nobody_sees_only_public_pages(server: Server) -> None:
    nobody = server.client(user=None)
    for path in ("/healthz", "/livez", "/readyz", "/version", "/readyz/ping", "/livez?verbose"):
        assert nobody.get(path).status == 200, path
    for path in ("/api", "/apis", "/api/v1/pods", "/metrics", "/openapi/v3", "/", "/healthzz"):
        answer = nobody.get(path)
        assert answer.status == 401, path
        assert answer.json["message"] == "Unauthorized"
    assert nobody.post("/healthz", {}).status == 401


@pytest.mark.parametrize("token", ["nonsense", "a.b.c", "eyJhbGciOiJub25lIn0.e30.", ""])
def test_a_bad_token_is_401(server: Server, token: str) -> None:
    answer = server.client(user=None).get("/api/v1/pods", Authorization=f"Bearer {token}")
    assert answer.status == 401


def test_a_service_account_token(server: Server, client: Client, ns: str) -> None:
    token = token_of(client, ns)
    user = whoami(server.client(user=None, token=token))
    assert user["username"] == f"system:serviceaccount:{ns}:default"
    assert user["groups"] == ["system:serviceaccounts", f"system:serviceaccounts:{ns}", "system:authenticated"]
    account = client.get(f"/api/v1/namespaces/{ns}/serviceaccounts/default").json
    assert user["uid"] == account["metadata"]["uid"]


def test_a_token_for_others_is_not_for_us(server: Server, client: Client, ns: str) -> None:
    token = token_of(client, ns, audiences=["vault"])
    assert server.client(user=None, token=token).get("/api").status == 401
    review = {"spec": {"token": token, "audiences": ["vault", "x"]}}
    found = client.post("/apis/authentication.k8s.io/v1/tokenreviews", review).json["status"]
    assert found["authenticated"]
    assert found["audiences"] == ["vault"]
    elsewhere = client.post("/apis/authentication.k8s.io/v1/tokenreviews", {"spec": {"token": token}}).json["status"]
    assert not elsewhere.get("authenticated")
    assert "audiences" in elsewhere["error"]


def test_a_bound_token_dies_with_its_pod(server: Server, client: Client, ns: str) -> None:
    path = f"/api/v1/namespaces/{ns}/pods"
    made = client.post(path, pod("p")).json
    reference = {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": made["metadata"]["uid"]}
    token = token_of(client, ns, boundObjectRef=reference)
    info = whoami(server.client(user=None, token=token))
    assert info["extra"]["authentication.kubernetes.io/pod-name"] == ["p"]
    client.delete(f"{path}/p")
    fresh = token.encode().decode()
    review = client.post("/apis/authentication.k8s.io/v1/tokenreviews", {"spec": {"token": fresh, "audiences": [ISSUER, "q"]}})
    assert not review.json["status"].get("authenticated")


def test_a_token_is_not_bound_to_a_stranger(client: Client, ns: str) -> None:
    path = f"/api/v1/namespaces/{ns}/serviceaccounts/default/token"

    def ask(**reference: str) -> int:
        return client.post(path, {"spec": {"boundObjectRef": {"apiVersion": "v1", **reference}}}).status

    assert ask(kind="Pod", name="ghost") == 404
    assert ask(kind="Deployment", name="d") == 400
    client.post(f"/api/v1/namespaces/{ns}/pods", pod("p"))
    assert ask(kind="Pod", name="p", uid="other") == 409
    assert client.post(path, {"spec": {"expirationSeconds": 60}}).status == 422


def test_the_keys_are_published(client: Client, ns: str) -> None:
    head = token_of(client, ns).split(".")[0]
    header = json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))
    keys = client.get("/openid/v1/jwks").json["keys"]
    assert header["kid"] in [key["kid"] for key in keys]
    assert client.get("/.well-known/openid-configuration").json["issuer"] == ISSUER


def test_access_reviews(client: Client) -> None:
    mine = client.post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
                       {"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}})
    assert mine.json["status"]["allowed"] is True
    nobodys = client.post("/apis/authorization.k8s.io/v1/subjectaccessreviews", {
        "spec": {"user": "system:anonymous", "groups": ["system:unauthenticated"],
                 "resourceAttributes": {"verb": "get", "resource": "pods"}}})
    assert nobodys.json["status"]["allowed"] is False
    assert client.post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", {"spec": {}}).status == 400


class TestTokens:
    """The checker alone, with a clock of its own."""

    account: dict[str, Any] = {"metadata": {"name": "sa", "namespace": "ns", "uid": "u1"}}  # noqa: RUF012

    def tokens(self, pki: Pki, present: bool = True) -> ServiceAccountTokens:
        async def lookup(_plural: str, _namespace: str, _name: str) -> dict[str, Any] | None:
            return self.account if present else None

        async def mark(_secret: dict[str, Any], _labels: dict[str, str]) -> None:
            raise AssertionError

        return ServiceAccountTokens(issuers=[ISSUER], audiences=(), signing_key=pki.path("sa.key"),
                                    key_files=[pki.path("sa.pub")], lookup=lookup, mark=mark)

    async def check(self, tokens: ServiceAccountTokens, token: str, now: float) -> str:
        return (await tokens.check(token, now=now)).user.name

    def run(self, coroutine: Any) -> Any:
        import asyncio

        return asyncio.run(coroutine)

    def test_in_its_time_only(self, pki: Pki) -> None:
        tokens = self.tokens(pki)
        token = tokens.mint(account=self.account, audiences=(), seconds=600, now=1000.0)
        assert self.run(self.check(tokens, token, 1100.0)) == "system:serviceaccount:ns:sa"
        with pytest.raises(Rejected, match="expired"):
            self.run(self.check(tokens, token, 1601.0))
        with pytest.raises(Rejected, match="not valid yet"):
            self.run(self.check(self.tokens(pki), token, 900.0))

    def test_gone_with_its_account(self, pki: Pki) -> None:
        token = self.tokens(pki).mint(account=self.account, audiences=(), seconds=600, now=1000.0)
        with pytest.raises(Rejected, match="is gone"):
            self.run(self.check(self.tokens(pki, present=False), token, 1001.0))

    def test_every_changed_byte_is_noticed(self, pki: Pki) -> None:
        tokens = self.tokens(pki)
        token = tokens.mint(account=self.account, audiences=(), seconds=600, now=1000.0)
        for at in range(0, len(token), 7):
            forged = token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1:]
            with pytest.raises(Rejected):
                self.run(self.check(self.tokens(pki), forged, 1001.0))

    def test_rsa_works_too(self, tmp_path: Path) -> None:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import rsa

        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        (tmp_path / "key").write_bytes(key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()))
        private = jwt.load_private(str(tmp_path / "key"))
        token = private.sign({"a": 1})
        assert jwt.verify(token, jwt.load_public(str(tmp_path / "key"))) == {"a": 1}
