"""What a real kubectl sends and reads: protobuf bodies, OpenAPI documents."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from netlab.api import pack, protobuf, validate
from netlab.api.patch import strategic
from netlab.api.schema import table

from .capture import capturing
from .oracle import KUBECTL, kubectl

COMMANDS = (
    "create deployment web --image=nginx --replicas=0 --port=80",
    "create namespace x",
    "create configmap c --from-literal=a=b --from-literal=e= --from-literal=u=ü",
    "create secret generic s --from-literal=p=q",
    "create secret docker-registry d --docker-username=u --docker-password=p --docker-server=s",
    "create service nodeport w --tcp=80:8080 --node-port=30080",
    "create service clusterip h --clusterip=None",
    "create service externalname e --external-name=a.b",
    "create serviceaccount sa",
    "create role r --verb=get,list --resource=pods --resource-name=x",
    "create clusterrole cr --verb=get --non-resource-url=/healthz",
    "create clusterrole ag --aggregation-rule=a=b",
    "create rolebinding rb --role=r --serviceaccount=default:sa",
    "create clusterrolebinding crb --clusterrole=cr --user=u --group=g",
    "create quota q --hard=cpu=1500m,memory=1Gi --scopes=Terminating",
    "create job j --image=busybox -- date +%s",
    "create cronjob cj --image=busybox --schedule='*/5 * * * *' -- date",
    "create ingress i --rule=foo.com/=svc:8080,tls=sec --rule=bar.com/x*=s:http --class=c --annotation=a=b",
    "create poddisruptionbudget p --selector=a=b --min-available=50%",
    "create poddisruptionbudget p --selector=a=b --max-unavailable=0",
    "create priorityclass pc --value=-5 --description=d --global-default=false",
)


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("home")


def without_absent(value: Any) -> Any:
    """JSON's null and an absent field are one."""
    if isinstance(value, dict):
        return {key: without_absent(inner) for key, inner in value.items() if inner is not None}
    return [without_absent(inner) for inner in value] if isinstance(value, list) else value


def test_protobuf_bodies_are_the_objects_that_kubectl_prints(home):
    with capturing() as server:
        for command in COMMANDS:
            words = shlex.split(command)
            end = words.index("--") if "--" in words else len(words)
            printed = kubectl("--server", server.url, *words[:end], "--dry-run=client", "-o", "json", *words[end:], home=home)
            assert printed.returncode == 0, printed.stderr
            kubectl("--server", server.url, *words, home=home)
            method, _, kind, body = server.requests[-1]
            assert (method, kind) == ("POST", protobuf.CONTENT_TYPE), command
            decoded, wanted = protobuf.decode(body), without_absent(json.loads(printed.stdout))
            assert pack.encode(decoded) == body, command
            wanted["metadata"].pop("namespace", None)
            assert bool(decoded.pop("status", None)) <= bool(wanted.pop("status", None))  # zeros, of which some stay
            assert decoded == wanted, command
            assert validate.handle(b"", decoded, decoded["apiVersion"], decoded["kind"], "Strict") == ()


def test_other_protobuf_bodies(home):
    with capturing() as server:
        kubectl("--server", server.url, "create", "token", "sa", "--duration=10m", "--audience=x", "--bound-object-kind=Pod",
                "--bound-object-name=p", "--bound-object-uid=u", home=home)
        assert protobuf.decode(server.requests[-1][3]) == {
            "kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "metadata": {}, "status": {},
            "spec": {"audiences": ["x"], "expirationSeconds": 600,
                     "boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": "u"}}}
        kubectl("--server", server.url, "auth", "can-i", "list", "pods", home=home)
        assert protobuf.decode(server.requests[-1][3])["spec"]["resourceAttributes"] == {
            "namespace": "default", "verb": "list", "resource": "pods"}


def deployment(**spec: Any) -> Any:
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "app", "namespace": "default"},
            "spec": {"selector": {"matchLabels": {"a": "b"}}, **spec}}


def pods(*images: str) -> Any:
    return {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [
        {"name": f"c{at}", "image": image} for at, image in enumerate(images)]}}


@pytest.mark.parametrize("serves_v3", [True, False], ids=["OpenAPI v3", "OpenAPI v2"])
def test_explain_names_fields_and_types(home, serves_v3):
    with capturing() as server:
        server.serves_v3 = serves_v3
        for path, words in {"deployment.spec": ["replicas", "<integer>", "template", "-required-"],
                            "pod.spec.containers.ports": ["containerPort", "protocol", "<string>"],
                            "service.spec.type": ["<string>"], "networkpolicies.spec.ingress": ["from"]}.items():
            done = kubectl("--server", server.url, "explain", path, home=home)
            assert done.returncode == 0, done.stderr
            assert all(word in done.stdout for word in words), done.stdout
        assert kubectl("--server", server.url, "explain", "pod.spec.nothing", home=home).returncode != 0


@pytest.mark.parametrize("serves_v3", [True, False], ids=["OpenAPI v3", "OpenAPI v2"])
def test_apply_makes_a_strategic_patch_from_our_merge_keys(home, serves_v3):
    before, after = deployment(replicas=1, template=pods("1", "2")), deployment(template=pods("1", "9", "3"))
    live = before | {"metadata": before["metadata"] | {"resourceVersion": "1", "uid": "u", "annotations": {
        "kubectl.kubernetes.io/last-applied-configuration": json.dumps(before)}}}
    with capturing() as server:
        server.serves_v3 = serves_v3
        server.objects["/apis/apps/v1/namespaces/default/deployments/app"] = live
        done = kubectl("--server", server.url, "apply", "-f", "-", stdin=json.dumps(after), home=home)
        assert done.returncode == 0, done.stderr
        method, path, kind, body = server.requests[-1]
        assert (method, kind) == ("PATCH", "application/strategic-merge-patch+json")
        assert "fieldValidation=Strict" in path
        patch = json.loads(body)
        assert patch["spec"]["template"]["spec"]["$setElementOrder/containers"] == [
            {"name": "c0"}, {"name": "c1"}, {"name": "c2"}]
        result = strategic.apply(live, patch, table().kind("apps/v1", "Deployment"))
        assert result["spec"] == after["spec"]
        done = kubectl("--server", server.url, "apply", "--server-side", "-f", "-", stdin=json.dumps(after), home=home)
        assert done.returncode == 0, done.stderr
        assert any(one[2] == "application/apply-patch+yaml" for one in server.requests)
        done = kubectl("--server", server.url, "create", "--dry-run=server", "-f", "-", stdin=json.dumps(after), home=home)
        assert "dryRun=All" in server.requests[-1][1]


TAG = re.compile(rb'json:"([^",]+)[^"]*"(?: \w+:"[^"]*")* protobuf:"\w+,(\d+),')
ABSENT = ("apiextensions", "apiregistration")
"""Packages that a kubectl has nothing of."""


def test_field_numbers_are_those_in_kubectls_own_tags():
    """Go keeps `json:"replicas,omitempty" protobuf:"varint,1,opt,name=replicas"` with every field."""
    tags = {(name.decode(), int(number)) for name, number in TAG.findall(Path(KUBECTL).read_bytes())}
    assert len(tags) > 1000
    compared, missing = 0, []
    for name, struct in ((name, table().struct(name)) for name in table()._raw):
        for field in struct.fields.values():
            if field.number and not any(part in name for part in ABSENT) and not struct.wire_only:
                compared += 1
                if (field.name, field.number) not in tags:
                    missing.append((name, field.name, field.number))
    assert missing == []
    assert compared > 1500
