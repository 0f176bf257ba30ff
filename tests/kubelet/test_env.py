"""A container's environment and the downward API."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from netlab.kubelet import env
from netlab.kubelet.downward import Surroundings, field_text, resource_text
from tests.kubelet.builders import UID, a_container, a_pod

AROUND = Surroundings("worker1", ("172.18.0.3",), ("10.244.1.2", "fd00::2"), {"cpu": "2", "memory": "8Gi"})
OBJECTS = {("configmaps", "settings"): {"kind": "ConfigMap", "data": {"COLOUR": "green", "a=b": "never"}},
           ("secrets", "keys"): {"kind": "Secret", "data": {"TOKEN": base64.b64encode(b"s3cret").decode()}}}
SERVICE = {"metadata": {"name": "my-db", "namespace": "default"},
           "spec": {"clusterIP": "10.96.0.9", "ports": [{"name": "sql", "port": 5432}, {"port": 9000, "protocol": "UDP"}]}}
KUBERNETES = {"metadata": {"name": "kubernetes", "namespace": "default"},
              "spec": {"clusterIP": "10.96.0.1", "ports": [{"name": "https", "port": 443, "protocol": "TCP"}]}}


def made(services: dict[str, str] | None = None, **fields: Any) -> dict[str, str]:
    wanted = a_container(**fields)
    return env.make(a_pod(wanted), wanted, services or {}, lambda kind, name: OBJECTS.get((kind, name)), AROUND)


@pytest.mark.parametrize(("text", "expanded"), [
    ("$(A)", "1"), ("x$(A)y$(B)", "x1y$(B)"), ("$$(A)", "$(A)"), ("$A", "$A"), ("$(A", "$(A"), ("$", "$"), ("$$", "$"),
    ("$()", "$()"), ("$(A)$(A)", "11"),
])
def test_expansion(text: str, expanded: str) -> None:
    assert env.expand(text, {"A": "1"}) == expanded


def test_later_variables_see_earlier_ones_and_services() -> None:
    found = made({"DB_HOST": "10.0.0.1"}, env=[{"name": "A", "value": "1"}, {"name": "B", "value": "$(A)-$(DB_HOST)-$(C)"},
                                               {"name": "C", "value": "3"}, {"name": "EMPTY"}])
    assert found == {"A": "1", "B": "1-10.0.0.1-$(C)", "C": "3", "EMPTY": "", "DB_HOST": "10.0.0.1"}


def test_own_variables_win_over_services_and_sources() -> None:
    found = made({"COLOUR": "service"}, envFrom=[{"configMapRef": {"name": "settings"}}])
    assert found == {"COLOUR": "green"}
    found = made(envFrom=[{"configMapRef": {"name": "settings"}, "prefix": "P_"}, {"secretRef": {"name": "keys"}}],
                 env=[{"name": "TOKEN", "value": "mine"}])
    assert found == {"P_COLOUR": "green", "TOKEN": "mine"}


def test_from_keys_and_fields() -> None:
    found = made(resources={"limits": {"memory": "64Mi"}, "requests": {"cpu": "250m"}}, env=[
        {"name": "S", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "TOKEN"}}},
        {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "IPS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIPs"}}},
        {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        {"name": "M", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
        {"name": "C", "valueFrom": {"resourceFieldRef": {"resource": "requests.cpu", "divisor": "1m"}}},
        {"name": "CL", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
        {"name": "GONE", "valueFrom": {"configMapKeyRef": {"name": "no", "key": "x", "optional": True}}}])
    assert found == {"S": "s3cret", "IP": "10.244.1.2", "IPS": "10.244.1.2,fd00::2", "NODE": "worker1", "M": "64",
                     "C": "250", "CL": "2"}


@pytest.mark.parametrize(("fields", "message"), [
    ({"envFrom": [{"configMapRef": {"name": "no"}}]}, 'configmap "no" not found'),
    ({"env": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "no", "key": "k"}}}]}, 'secret "no" not found'),
    ({"env": [{"name": "X", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "k"}}}]},
     "couldn't find key k in ConfigMap default/settings"),
])
def test_missing(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(env.Missing) as raised:
        made(**fields)
    assert str(raised.value) == message
    assert env.references(a_container(**fields))


def test_services() -> None:
    spaces = {"default": [KUBERNETES, SERVICE], "other": []}
    found = env.services_for(a_pod(), spaces.__getitem__)
    assert found["KUBERNETES_SERVICE_HOST"] == "10.96.0.1"
    assert found["KUBERNETES_PORT_443_TCP"] == "tcp://10.96.0.1:443"
    assert {k: v for k, v in found.items() if k.startswith("MY_DB")} == {
        "MY_DB_SERVICE_HOST": "10.96.0.9", "MY_DB_SERVICE_PORT": "5432", "MY_DB_SERVICE_PORT_SQL": "5432",
        "MY_DB_PORT": "tcp://10.96.0.9:5432", "MY_DB_PORT_5432_TCP": "tcp://10.96.0.9:5432",
        "MY_DB_PORT_5432_TCP_PROTO": "tcp", "MY_DB_PORT_5432_TCP_PORT": "5432", "MY_DB_PORT_5432_TCP_ADDR": "10.96.0.9",
        "MY_DB_PORT_9000_UDP": "udp://10.96.0.9:9000", "MY_DB_PORT_9000_UDP_PROTO": "udp",
        "MY_DB_PORT_9000_UDP_PORT": "9000", "MY_DB_PORT_9000_UDP_ADDR": "10.96.0.9"}
    assert set(env.services_for(a_pod(enableServiceLinks=False), spaces.__getitem__)) == {
        k for k in found if k.startswith("KUBERNETES")}
    assert "KUBERNETES_SERVICE_HOST" in env.services_for(a_pod(namespace="other"), spaces.__getitem__)


def test_headless_services_have_no_variables() -> None:
    assert env.of_services([{**SERVICE, "spec": {**SERVICE["spec"], "clusterIP": "None"}}]) == {}


@pytest.mark.parametrize(("path", "text"), [
    ("metadata.name", "web-1"), ("metadata.uid", UID), ("metadata.labels['app']", "web"), ("metadata.labels['no']", ""),
    ("metadata.labels", 'app="web"\ntier="a\\"b"'), ("status.hostIP", "172.18.0.3"), ("spec.serviceAccountName", "robot"),
])
def test_fields(path: str, text: str) -> None:
    pod = a_pod(metadata={"labels": {"tier": 'a"b', "app": "web"}}, serviceAccountName="robot")
    assert field_text(pod, path, AROUND) == text


def test_fields_and_resources_that_mean_nothing() -> None:
    with pytest.raises(ValueError, match="unsupported fieldPath"):
        field_text(a_pod(), "spec.containers", AROUND)
    with pytest.raises(ValueError, match="container no not found"):
        resource_text(a_pod(), {"containerName": "no", "resource": "limits.cpu"}, AROUND)
