"""Who may ask the kubelet for what: by certificate or token, judged by the API server."""

from __future__ import annotations

import http.client
import ssl
from typing import Any

import pytest

from netlab.kubelet.authorize import asked
from tests.kubelet.conftest import Api, Node, eventually, pod, shell

RBAC = "rbac.authorization.k8s.io"


@pytest.mark.parametrize(("method", "path", "wanted"), [
    ("GET", "/metrics/resource", ("get", ("metrics",))), ("GET", "/stats/summary", ("get", ("stats",))),
    ("GET", "/logs/x", ("get", ("log",))), ("GET", "/pods", ("get", ("pods", "proxy"))),
    ("GET", "/runningpods/", ("get", ("pods", "proxy"))), ("GET", "/healthz/ping", ("get", ("healthz", "proxy"))),
    ("GET", "/configz", ("get", ("configz", "proxy"))), ("POST", "/exec/ns/p/c", ("create", ("proxy",))),
    ("GET", "/containerLogs/ns/p/c", ("get", ("proxy",))), ("GET", "/metricsx", ("get", ("proxy",))),
    ("DELETE", "/x", ("delete", ("proxy",)))])
def test_what_a_request_asks_for(method: str, path: str, wanted: tuple[str, tuple[str, ...]]) -> None:
    assert asked(method, path) == wanted


def get(node: Node, path: str, token: str = "", *, admin: bool = False) -> tuple[int, str]:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if admin:
        pem = node.base / "admin.pem"
        pem.write_bytes(node.keys.admin.certificate + node.keys.admin.key)
        context.load_cert_chain(pem)
    connection = http.client.HTTPSConnection(node.node.ip, 10250, context=context, timeout=10)
    connection.request("GET", path, headers={"Authorization": f"Bearer {token}"} if token else {})
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


@pytest.mark.root
def test_a_token_may_what_its_role_says(node: Node) -> None:
    async def body(api: Api) -> None:
        async def token(name: str, *rules: dict[str, Any]) -> str:
            account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}
            await api.client.create("serviceaccounts", account, "default")
            for rule in rules:
                await api.client.create(f"clusterroles.{RBAC}", {"apiVersion": f"{RBAC}/v1", "kind": "ClusterRole", "metadata": {
                    "name": name}, "rules": [{"apiGroups": [""], "verbs": ["get"], **rule}]})
                await api.client.create(f"clusterrolebindings.{RBAC}", {
                    "apiVersion": f"{RBAC}/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name},
                    "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": name},
                    "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": "default"}]})
            made = await api.client.create("serviceaccounts", {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
                                                               "metadata": {}, "spec": {}}, "default", name=name, subresource="token")
            return str(made["status"]["token"])

        nobody = await token("nobody")
        reader = await token("reader", {"resources": ["nodes/pods", "nodes/metrics"]})

        async def ask(*args: Any, **options: Any) -> tuple[int, str]:
            import asyncio

            from netlab.kernel import netns

            def inside() -> tuple[int, str]:
                with netns.inside(node.netns):
                    return get(node, *args, **options)

            return await asyncio.to_thread(inside)

        assert await ask("/pods") == (401, "Unauthorized\n")
        assert await ask("/pods", "nonsense") == (401, "Unauthorized\n")
        assert (await ask("/pods", admin=True))[0] == 200
        status, said = await ask("/pods", nobody)
        assert status == 403
        assert said == ("Forbidden (user=system:serviceaccount:default:nobody, verb=get, resource=nodes, "
                        "subresource(s)=[pods proxy])\n")
        assert [(await ask(path, reader))[0] for path in ("/pods", "/metrics", "/stats/summary", "/containerLogs/a/b/c")] == [
            200, 200, 403, 403]
        async with pod(api, "says", shell("echo hello; sleep 60")):
            await api.running("says")
            await eventually(lambda: _says(api))

    node.run(body)


async def _says(api: Api) -> bool:
    """The API server itself may read logs: its certificate's group is bound to cluster-admin."""
    status, _, text = await api.client.raw("GET", "/api/v1/namespaces/default/pods/says/log")
    assert status == 200, text
    return await _read(text) == b"hello\n"


async def _read(body: Any) -> bytes:
    return body if isinstance(body, bytes) else await body.read()
