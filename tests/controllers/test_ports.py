"""The ports of the controller manager and of the scheduler: health is everybody's, the rest is for who may see it."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import ssl
import time

import pytest

from netlab.lab import pki
from tests.controllers.plane import api_server, cluster

RBAC = "rbac.authorization.k8s.io"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


@pytest.fixture(scope="module")
def plane(tmp_path_factory):
    directory, proxies = tmp_path_factory.mktemp("plane"), pki.Authority("front-proxy", now=time.time())
    (directory / "proxies.crt").write_bytes(proxies.pair.certificate)
    with api_server(directory, "--authorization-mode=RBAC", f"--requestheader-client-ca-file={directory / 'proxies.crt'}",
                    "--requestheader-allowed-names=front-proxy-client", "--requestheader-username-headers=X-Remote-User",
                    "--requestheader-group-headers=X-Remote-Group", "--requestheader-extra-headers-prefix=X-Remote-Extra-") as running:
        running.ports, running.proxies = {}, proxies
        with_tokens = [f"--{what}-kubeconfig={running.directory / 'kubeconfig'}" for what in (
            "authentication", "authorization")]
        for program, *argv in (("kube-scheduler", *with_tokens), ("kube-controller-manager", *with_tokens, "--controllers=serviceaccount",
                                                                  f"--client-ca-file={running.directory / 'ca.crt'}")):
            running.ports[program] = free_port()
            running.component(program, f"--secure-port={running.ports[program]}", "--bind-address=127.0.0.1", *argv)
        yield running


def get(port, path, *, token="", pem=None, **headers):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if pem:
        context.load_cert_chain(pem)
    connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=10)
    sent = {"Authorization": f"Bearer {token}"} if token else {}
    connection.request("GET", path, headers=sent | {name.replace("_", "-"): text for name, text in headers.items()})
    answer = connection.getresponse()
    return answer.status, answer.read()


def pem_of(authority, path, *subject):
    made = authority.client(*subject)
    path.write_bytes(made.certificate + made.key)
    return path


def until(wanted, ask, seconds=20):
    end = time.monotonic() + seconds
    while True:
        try:
            found = ask()
        except OSError:
            found = None
        if found == wanted:
            return
        assert time.monotonic() < end, found
        time.sleep(0.1)


async def token_of(client, name, *paths):
    await client.create("serviceaccounts", {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}, "default")
    if paths:
        await client.create(f"clusterroles.{RBAC}", {"apiVersion": f"{RBAC}/v1", "kind": "ClusterRole", "metadata": {"name": name},
                                                     "rules": [{"nonResourceURLs": list(paths), "verbs": ["get"]}]})
        await client.create(f"clusterrolebindings.{RBAC}", {
            "apiVersion": f"{RBAC}/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name},
            "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": "default"}]})
    made = await client.create("serviceaccounts", {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
                                                   "metadata": {}, "spec": {}}, "default", name=name, subresource="token")
    return made["status"]["token"]


@pytest.fixture(scope="module")
def tokens(plane):
    async def body():
        async with cluster(plane) as c:
            return await token_of(c.client, "reader", "/metrics"), await token_of(c.client, "nobody")
    return asyncio.run(body())


@pytest.mark.parametrize("program", ["kube-scheduler", "kube-controller-manager"])
def test_health_is_open_and_numbers_are_for_who_may_see_them(plane, tokens, program, tmp_path):
    port, (reader, nobody) = plane.ports[program], tokens
    for path in ("/healthz", "/livez", "/readyz"):
        until((200, b"ok"), lambda path=path: get(port, path))
    status, body = get(port, "/metrics")
    assert (status, json.loads(body)) == (403, {
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "Forbidden", "details": {},
        "message": 'forbidden: User "system:anonymous" cannot get path "/metrics"', "code": 403})
    status, body = get(port, "/metrics", token="nonsense")
    assert (status, json.loads(body)) == (401, {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                                                "message": "Unauthorized", "reason": "Unauthorized", "code": 401})
    assert get(port, "/healthz", token="nonsense")[0] == 401, "who one is comes before what one may"
    status, body = get(port, "/metrics", token=nobody)
    assert status == 403
    assert b'User \\"system:serviceaccount:default:nobody\\" cannot get path' in body
    status, body = get(port, "/metrics", token=reader)
    assert status == 200
    assert b"leader_election_master_status" in body
    assert get(port, "/debug", token=reader)[0] == 403
    until(200, lambda: get(port, "/metrics", pem=plane.directory / "admin.pem")[0])
    assert get(port, "/debug", pem=plane.directory / "admin.pem")[0] == 404
    stranger = pem_of(pki.Authority("kubernetes", now=time.time()), tmp_path / "stranger.pem", "kubernetes-admin", "system:masters")
    status, body = get(port, "/metrics", pem=stranger)
    assert (status, json.loads(body)["reason"]) == (401, "Unauthorized")
    assert "certificate signed by unknown authority" in plane.log(program)
    assert get(port, "/metrics", pem=stranger, token=reader)[0] == 200, "what is good counts"


@pytest.mark.parametrize("program", ["kube-scheduler", "kube-controller-manager"])
def test_a_proxy_tells_who_asks(plane, program, tmp_path):
    port, proxy = plane.ports[program], pem_of(plane.proxies, tmp_path / "proxy.pem", "front-proxy-client")
    until(200, lambda: get(port, "/metrics", pem=proxy, X_Remote_User="me", X_Remote_Group="system:masters")[0])
    assert b'User \\"me\\" cannot get' in get(port, "/metrics", pem=proxy, X_Remote_User="me")[1]
    assert get(port, "/metrics", pem=proxy)[0] == 401, "it is no client, and tells of nobody"
    other = pem_of(plane.proxies, tmp_path / "other.pem", "somebody")
    assert get(port, "/metrics", pem=other, X_Remote_User="me", X_Remote_Group="system:masters")[0] == 401
    admin = plane.directory / "admin.pem"
    assert get(port, "/metrics", pem=admin, X_Remote_User="nobody")[0] == 200, "his own name counts"


def test_what_the_cluster_says_of_authorities_may_change(plane, tmp_path):
    name, port = "extension-apiserver-authentication", plane.ports["kube-scheduler"]
    another = pki.Authority("another", now=time.time())
    stranger = pem_of(another, tmp_path / "stranger.pem", "x", "system:masters")
    until(401, lambda: get(port, "/metrics", pem=stranger)[0])

    both = (plane.directory / "ca.crt").read_text() + another.pair.certificate.decode()

    async def add():
        async with cluster(plane) as c:
            await c.client.patch("configmaps", name, {"data": {"client-ca-file": both}}, "kube-system")

    def seen():  # the API server puts back what it says itself, now and then
        asyncio.run(add())
        return get(port, "/metrics", pem=stranger)[0]

    until(200, seen)


def test_without_an_api_server_to_ask_only_masters_get_in(plane, tokens):
    plane.stop("kube-scheduler")
    port = free_port()
    (plane.directory / "second").write_text((plane.directory / "kubeconfig").read_text())
    plane.start("kube-scheduler", f"--kubeconfig={plane.directory / 'second'}", f"--secure-port={port}", "--bind-address=127.0.0.1",
                f"--client-ca-file={plane.directory / 'ca.crt'}", "--leader-elect=false", "--authorization-always-allow-paths=/he*")
    until((200, b"ok"), lambda: get(port, "/healthz"))
    assert get(port, "/readyz")[0] == 403
    assert get(port, "/metrics", token=tokens[0])[0] == 403
    assert get(port, "/metrics", pem=plane.directory / "admin.pem")[0] == 200
