"""What extends the server is not trusted: definitions, rules, webhooks and servers behind it may be slow, huge or wrong."""

from __future__ import annotations

import base64
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.apiserver.conftest import Client, Pki, Server, config_map

DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
SERVICES = "/apis/apiregistration.k8s.io/v1/apiservices"
HOOKS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
MAPS = "/api/v1/namespaces/default/configmaps"
GROUP = "hostile.example.com"
CHUNK = b"10000\r\n" + b"x" * 65536 + b"\r\n"


def definition(plural: str, spec: Any, **version: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": {"spec": spec}}
    return {"kind": "CustomResourceDefinition", "apiVersion": "apiextensions.k8s.io/v1",
            "metadata": {"name": f"{plural}.{GROUP}"}, "spec": {
                "group": GROUP, "scope": "Namespaced", "names": {"plural": plural, "kind": plural.title()}, "versions": [
                    {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}, **version}]}}


def custom(plural: str, spec: Any, name: str = "a") -> dict[str, Any]:
    return {"kind": plural.title(), "apiVersion": f"{GROUP}/v1", "metadata": {"name": name}, "spec": spec}


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def served(client: Client, plural: str, spec: Any, **version: Any) -> str:
    answer = client.post(DEFINITIONS, definition(plural, spec, **version))
    assert answer.status == 201, answer.body
    path = f"/apis/{GROUP}/v1/namespaces/default/{plural}"
    until(lambda: client.get(path).status == 200)
    return path


def test_a_pattern_cannot_backtrack(client: Client) -> None:
    path = served(client, "patterns", {"type": "object", "properties": {"p": {"type": "string", "pattern": "^(a+)+$"}},
                                       "x-kubernetes-validations": [{"rule": "self.p.find('(b*)*c') == ''"}]})
    assert client.post(path, custom("patterns", {"p": "a" * 20000 + "!"})).status == 422
    assert client.post(path, custom("patterns", {"p": "a" * 20000})).status == 201
    assert client.post(path, custom("patterns", {"p": "ac"})).status == 422
    for bad in ("(((a{100}){100}){100})", "(?=a)", r"(a)\1", "("):
        spec = {"type": "object", "properties": {"p": {"type": "string", "pattern": bad}}}
        answer = client.post(DEFINITIONS, definition("bads", spec))
        assert answer.status == 422, answer.body
        assert "must be a valid regular expression" in answer.json["message"]


def test_rules_have_a_budget(client: Client) -> None:
    loop = {"type": "object", "properties": {"l": {"type": "array", "maxItems": 100, "items": {"type": "integer"}}},
            "x-kubernetes-validations": [{"rule": "self.l.all(x, self.l.all(y, self.l.all(z, x + y + z >= 0)))"}]}
    path = served(client, "loops", loop)
    answer = client.post(path, custom("loops", {"l": [1] * 100}))
    assert answer.status == 422
    assert "actual cost limit exceeded" in answer.json["message"]
    assert client.post(path, custom("loops", {"l": [1, 2, 3]})).status == 201
    item = {"type": "object", "properties": {"a": {"type": "string"}},
            "x-kubernetes-validations": [{"rule": f"self.a.size() < {number}"} for number in range(100, 200)]}
    path = served(client, "manies", {"type": "object", "properties": {"r": {"type": "array", "maxItems": 60000, "items": item}}})
    answer = client.post(path, custom("manies", {"r": [{"a": "x"}] * 60000}))
    assert answer.status == 422
    assert "running out of cost budget, no further validation rules will be run" in answer.json["message"]


@pytest.mark.parametrize("spec", [
    5, [], {"type": 5}, {"type": "object", "properties": 5}, {"type": "object", "items": 5},
    {"type": "object", "additionalProperties": 5}, {"type": "object", "x-kubernetes-validations": [5]},
    {"type": "object", "required": 5}, {"type": "object", "allOf": [5]}, {"type": "string", "pattern": 5},
])
def test_bad_schemas(client: Client, spec: Any) -> None:
    answer = client.post(DEFINITIONS, definition("bads", spec))
    assert 400 <= answer.status < 500, answer.body


def test_documents_of_groups_follow_their_definitions(client: Client) -> None:
    served(client, "docs", {"type": "object", "properties": {"first": {"type": "string"}}})
    place = f"/openapi/v3/apis/{GROUP}/v1"
    before = client.get(place)
    assert b'"first"' in before.body
    assert client.get(place).body == before.body
    assert client.patch(f"{DEFINITIONS}/docs.{GROUP}", [{"op": "add", "value": {"type": "string"}, "path":
        "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/second"}], "json").status == 200
    until(lambda: b'"second"' in client.get(place).body)
    index = client.get("/openapi/v3").json["paths"][f"apis/{GROUP}/v1"]["serverRelativeURL"]
    assert client.get(index).status == 200
    client.delete(f"{DEFINITIONS}/docs.{GROUP}")
    until(lambda: b'"second"' not in client.get(place).body)


class Rogue:
    """An HTTPS server that answers the same whatever it is asked: bytes, or piece after piece without end."""

    def __init__(self, pki: Pki, head: bytes, again: bytes = b"") -> None:
        self.head, self.again = head, again
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.context.load_cert_chain(pki.path("kubelet-server.crt"), pki.path("kubelet-server.key"))
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        try:
            while True:
                threading.Thread(target=self._answer, args=(self.listener.accept()[0],), daemon=True).start()
        except OSError:
            return

    def _answer(self, plain: socket.socket) -> None:
        try:
            with self.context.wrap_socket(plain, server_side=True) as found:
                found.recv(65536)
                found.sendall(self.head)
                while self.again:
                    found.sendall(self.again)
                if not self.head:
                    found.recv(1)  # hangs until the other end has had enough
        except OSError:
            return


def whole(body: bytes, status: bytes = b"200 OK", more: bytes = b"") -> bytes:
    return b"HTTP/1.1 %s\r\n%sContent-Length: %d\r\n\r\n%s" % (status, more, len(body), body)


ENDLESS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
ROGUES = {
    "hangs": (b"", b""), "endless": (ENDLESS, CHUNK), "garbage": (b"\x00\xff" * 1000, b""),
    "redirect": (whole(b"", b"302 Found", b"Location: https://127.0.0.1:1/\r\n"), b""), "number": (whole(b"5"), b""),
    "rows": (whole(b'{"kind":"APIResourceList","resources":[5,{"name":7}]}'), b""),
    "verbs": (whole(b'{"kind":"APIResourceList","resources":[{"name":"x","verbs":5}]}'), b""),
    "review": (whole(b'{"kind":"AdmissionReview","response":{"uid":5,"status":7}}'), b""),
}


@pytest.fixture(scope="module")
def rogues(pki: Pki) -> Iterator[dict[str, Rogue]]:
    found = {name: Rogue(pki, *how) for name, how in ROGUES.items()}
    yield found
    for rogue in found.values():
        rogue.listener.close()


@pytest.mark.parametrize("name", ROGUES)
def test_rogue_webhooks(client: Client, pki: Pki, rogues: dict[str, Rogue], name: str) -> None:
    bundle = base64.b64encode((pki.dir / "ca.crt").read_bytes()).decode()
    assert client.post(HOOKS, {"metadata": {"name": "rogue"}, "webhooks": [{
        "name": "rogue.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"], "timeoutSeconds": 1,
        "clientConfig": {"url": f"https://127.0.0.1:{rogues[name].port}/", "caBundle": bundle}, "rules": [{
            "apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"], "resources": ["configmaps"]}]}]}).status == 201
    answer = client.post(MAPS, config_map("asked"))
    client.delete(f"{HOOKS}/rogue")
    assert answer.status == 500  # as upstream: the webhook is the cluster's, and it fails
    assert "failed calling webhook" in answer.json["message"]
    assert client.get(f"{MAPS}/asked").status == 404


def test_rogue_servers_behind_services(client: Client, rogues: dict[str, Rogue]) -> None:
    for name, rogue in rogues.items():
        client.post("/api/v1/namespaces/default/services", {"metadata": {"name": name}, "spec": {
            "type": "ExternalName", "externalName": "127.0.0.1", "ports": [{"port": rogue.port}]}})
        group = f"{name}.example.com"
        assert client.post(SERVICES, {"metadata": {"name": f"v1.{group}"}, "spec": {
            "group": group, "version": "v1", "groupPriorityMinimum": 100, "versionPriority": 10,
            "insecureSkipTLSVerify": True, "service": {"namespace": "default", "name": name, "port": rogue.port},
        }}).status == 201
    for name in rogues:
        def reason(name: str = name) -> str:
            state = client.get(f"{SERVICES}/v1.{name}.example.com").json.get("status") or {}
            return str((state.get("conditions") or [{}])[0].get("reason"))
        until(lambda: reason() == "FailedDiscoveryCheck")
        assert client.get("/apis").status == 200
    found = client.get("/apis", Accept="application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")
    assert "apps" in [item["metadata"]["name"] for item in found.json["items"]]
    for name in rogues:
        client.delete(f"{SERVICES}/v1.{name}.example.com")


def test_a_definitions_group_version_is_not_taken_over(server: Server, client: Client) -> None:
    path = served(client, "mines", {"type": "object"})
    name = f"{SERVICES}/v1.{GROUP}"
    until(lambda: client.get(name).status == 200)
    own = client.get(name).json["spec"]
    changed = client.patch(name, {"spec": {"service": {"namespace": "default", "name": "x"},
                                           "insecureSkipTLSVerify": True}}, "merge")
    assert changed.status == 200, changed.body
    until(lambda: bool(client.get(name).json["spec"] == own))
    assert client.get(path).status == 200
    assert f"v1.{GROUP}: put back" in server.log.read_text()


WILD = ["(" * 5000, "[" * 30 + "]" * 30, "!" * 20000 + "true", "self" + ".a" * 500, "'\\ud800'", "\x00", "'" + "a" * 60000 + "'", "a\nb\n\n==", "true ? " * 40 + "true", "self.all(x, " * 40,
        " || ".join(f"nope{number}(1)" for number in range(2000)), "[1]" + ".map(x, [x, x])" * 25 + " == []", "[1]" + ".map(x, {x: x})" * 25 + " == []", "self.a.matches('(((a{100}){100}){100})')",
        "self.a.matches(self.a + '(((')", "'a'" + ".replace('a', 'aaaaaaaaaa')" * 10 + " == ''", "[0]" + ".map(x, x)" * 30 + " == [0]", "{" * 30 + "}" * 30, "dyn(self).?a[?0].?b.c", "1 in self", "self[self]",
        "type(type(self)) == type", "int(double('1e400')) == 1", "timestamp('9999-12-31T23:59:59Z') + duration('1h') > timestamp(0)", "Object{a: Object.b{c: 1}} == 1", "self.a.format([self]) == ''", "'%s'.format([dyn(self)]) == ''"]


@pytest.mark.parametrize("text", WILD)
def test_expressions_made_to_break_it(client: Client, text: str) -> None:
    admission = "/apis/admissionregistration.k8s.io/v1"
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "x-kubernetes-validations": [{"rule": text, "messageExpression": text, "message": "no"}]}
    answer = client.post(DEFINITIONS, definition("wilds", schema))
    assert answer.status in (201, 422), answer.body
    if answer.status == 201:
        path = f"/apis/{GROUP}/v1/namespaces/default/wilds"
        until(lambda: client.get(path).status == 200)
        for spec in ({"a": "x" * 1000}, {}, {"a": "%s%s%d"}):
            answer = client.post(path, custom("wilds", spec))
            assert answer.status in (201, 409, 422), answer.body
        client.delete(f"{DEFINITIONS}/wilds.{GROUP}")
        until(lambda: client.get(f"{DEFINITIONS}/wilds.{GROUP}").status == 404)
    rules = [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}]
    for kind, said in (("validating", {"validations": [{"expression": f"dyn({text.replace('self', 'object')}) == true", "messageExpression": f"string({text})"}]}),
                       ("mutating", {"reinvocationPolicy": "Never", "mutations": [{"patchType": "JSONPatch", "jsonPatch": {
                           "expression": f"[JSONPatch{{op: 'add', path: '/data', value: {{'a': {text.replace('self', 'object')}}}}}]"}}]})):
        made = client.post(f"{admission}/{kind}admissionpolicies", {"metadata": {"name": "wild"}, "spec": {
            "matchConstraints": {"resourceRules": rules}, "matchConditions": [{"name": "one", "expression": f"dyn({text.replace('self', 'request')}) != 5"}], **said}})
        assert made.status in (201, 422), made.body
        binding = {"policyName": "wild", **({"validationActions": ["Deny"]} if kind == "validating" else {})}
        client.post(f"{admission}/{kind}admissionpolicybindings", {"metadata": {"name": "wild"}, "spec": binding})
        answer = client.post("/api/v1/namespaces/default/configmaps", {"metadata": {"name": "wild"}, "data": {"a": "b"}})
        assert answer.status in (201, 400, 403, 422), answer.body
        for plural in (f"{kind}admissionpolicybindings", f"{kind}admissionpolicies"):
            client.delete(f"{admission}/{plural}/wild")
        client.delete("/api/v1/namespaces/default/configmaps/wild")
