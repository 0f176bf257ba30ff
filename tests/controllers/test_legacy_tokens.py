"""Long-lived tokens: filled in, used, gone with their account, cleaned away when nobody uses them."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import replace

import pytest

from netlab.client.client import Client
from netlab.controllers.legacy_tokens import INVALID_SINCE, LAST_USED, TYPE, judge
from netlab.errors import ApiError
from tests.controllers.plane import api_server, cluster

NAME, UID = "kubernetes.io/service-account.name", "kubernetes.io/service-account.uid"


def secret(name: str, space: str, account: str, **metadata) -> dict:
    return {"apiVersion": "v1", "kind": "Secret", "type": TYPE,
            "metadata": {"name": name, "namespace": space, "annotations": {NAME: account}, **metadata}}


def account(name: str, space: str, *secrets: str) -> dict:
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": space},
            "secrets": [{"name": one} for one in secrets]}


@pytest.fixture(scope="module")
def plane(tmp_path_factory):
    with api_server(tmp_path_factory.mktemp("tokens")) as running:
        async def before():
            async with cluster(running) as c:
                await c.namespace("old")
                await c.client.create("serviceaccounts", account("auto", "old", "unused", "marked", "mounted", "used"))
                long_ago = {INVALID_SINCE: "2020-01-01"}
                for name, labels in (("unused", {}), ("marked", long_ago), ("mounted", long_ago), ("manual", long_ago),
                                     ("used", {LAST_USED: "2999-01-01"})):
                    await c.client.create("secrets", secret(name, "old", "auto", labels=labels))
                await c.client.create("pods", {
                    "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "old"},
                    "spec": {"serviceAccountName": "auto", "volumes": [{"name": "v", "secret": {"secretName": "mounted"}}],
                             "containers": [{"name": "c", "image": "x"}]}})
                await c.client.patch("configmaps", "kube-apiserver-legacy-service-account-token-tracking",
                                     {"data": {"since": "2020-01-01"}}, "kube-system")
                await asyncio.sleep(1.1)  # creation times have whole seconds

        asyncio.run(before())
        running.manager("--legacy-service-account-token-clean-up-period=1ms")
        yield running


def test_a_secret_gets_a_token_that_the_server_takes(plane):
    async def body():
        async with cluster(plane) as c:
            secrets = await c.see("secrets")
            await c.namespace("life")
            made = await c.client.create("serviceaccounts", account("web", "life"))
            await c.client.create("secrets", secret("web-token", "life", "web"))
            found = await c.until("a token", lambda: (secrets.get("life/web-token") or {}).get("data"))
            data = {key: base64.b64decode(text).decode() for key, text in found.items()}
            assert data["namespace"] == "life"
            assert data["ca.crt"] == (plane.directory / "ca.crt").read_text()
            assert secrets.get("life/web-token")["metadata"]["annotations"] == {NAME: "web", UID: made["metadata"]["uid"]}
            as_web = replace(plane.config, token=data["token"], certificate=b"", key=b"")
            async with Client(as_web, "test") as client:
                review = await client.create("selfsubjectreviews.authentication.k8s.io", {
                    "apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"})
            assert review["status"]["userInfo"]["username"] == "system:serviceaccount:life:web"
            await c.until("the day of the use", lambda: LAST_USED in secrets.get("life/web-token")["metadata"].get("labels", {}))

            await c.client.patch("secrets", "web-token", {"data": {"token": None, "namespace": None, "ca.crt": "Zm9yZ2Vk"}}, "life")
            await c.until("all of it again", lambda: set(secrets.get("life/web-token")["data"]) == {"token", "namespace", "ca.crt"}
                          and secrets.get("life/web-token")["data"]["ca.crt"] == found["ca.crt"])
    asyncio.run(body())


def test_secret_and_account_forget_each_other(plane):
    async def body():
        async with cluster(plane) as c:
            secrets, accounts = await c.see("secrets"), await c.see("serviceaccounts")
            await c.namespace("ends")
            await c.client.create("serviceaccounts", account("web", "ends", "first", "other"))
            for name in ("first", "second"):
                await c.client.create("secrets", secret(name, "ends", "web"))
                await c.until(f"{name} has a token", lambda name=name: (secrets.get(f"ends/{name}") or {}).get("data"))
            await c.client.delete("secrets", "first", "ends")
            await c.until("no word of it", lambda: accounts.get("ends/web")["secrets"] == [{"name": "other"}])
            await c.client.delete("serviceaccounts", "web", "ends")
            await c.until("its token has gone too", lambda: secrets.get("ends/second") is None)
            await c.client.create("secrets", secret("stray", "ends", "nobody"))
            await c.until("a token of nobody goes", lambda: secrets.get("ends/stray") is None)
    asyncio.run(body())


def test_unused_tokens_are_marked_then_deleted(plane):
    async def body():
        async with cluster(plane) as c:
            secrets = await c.see("secrets")
            await c.until("the marked one has gone", lambda: secrets.get("old/marked") is None)
            await c.until("the unused one is marked", lambda: INVALID_SINCE in secrets.get("old/unused")["metadata"].get("labels", {}))
            for name in ("mounted", "manual", "used"):
                assert secrets.get(f"old/{name}") is not None
            assert INVALID_SINCE not in secrets.get("old/used")["metadata"]["labels"]
            with pytest.raises(ApiError) as refused:
                token = base64.b64decode(secrets.get("old/unused")["data"]["token"]).decode()
                async with Client(replace(plane.config, token=token, certificate=b"", key=b""), "test") as client:
                    await client.list("pods", "old")
            assert refused.value.code == 401
    asyncio.run(body())


DAY = 86400.0
NOW = 1_800_000_000.0  # 2027-01-15


@pytest.mark.parametrize(("labels", "created", "verdict"), [
    ({}, "2026-01-01T00:00:00Z", "mark"),
    ({}, "2027-01-10T00:00:00Z", "keep"),
    ({LAST_USED: "2027-01-05"}, "2026-01-01T00:00:00Z", "keep"),
    ({LAST_USED: "2027-01-04"}, "2026-01-01T00:00:00Z", "mark"),
    ({LAST_USED: "lately"}, "2026-01-01T00:00:00Z", "keep"),
    ({INVALID_SINCE: "2027-01-04"}, "2026-01-01T00:00:00Z", "delete"),
    ({INVALID_SINCE: "2027-01-05"}, "2026-01-01T00:00:00Z", "keep"),
    ({INVALID_SINCE: "never"}, "2026-01-01T00:00:00Z", "mark"),
])
def test_when_a_token_is_too_old(labels, created, verdict):
    one = secret("t", "ns", "sa", labels=labels, creationTimestamp=created)
    owner = account("sa", "ns", "t")
    assert judge(one, owner, now=NOW, period=10 * DAY) == verdict
    assert judge(one, account("sa", "ns"), now=NOW, period=10 * DAY) == "keep"
    assert judge(one, None, now=NOW, period=10 * DAY) == "keep"
