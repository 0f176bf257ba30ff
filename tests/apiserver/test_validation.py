"""What is refused, at which field, in which words."""

from __future__ import annotations

from typing import Any

import pytest

from netlab.apiserver.strategies import pod_defaults
from netlab.apiserver.strategies.pod import qos_class
from netlab.apiserver.validation import apps, endpoints, meta, names, nodes, pods, services
from netlab.apiserver.validation.errors import FieldError, invalid_object, required


def pod(**changes: Any) -> list[str]:
    spec: dict[str, Any] = {"containers": [{"name": "c", "image": "i"}]}
    spec.update(changes)
    pod_defaults.pod_spec(spec)
    return [str(error) for error in pods.pod_spec(spec, "spec", is_pod=True)]


def container(**changes: Any) -> list[str]:
    return pod(containers=[{"name": "c", "image": "i", **changes}])


def test_a_good_pod() -> None:
    assert pod() == []
    assert container(ports=[{"name": "http", "containerPort": 80}], env=[{"name": "A", "value": "b"}],
                     livenessProbe={"httpGet": {"port": "http"}}, resources={"limits": {"cpu": "1", "memory": "1Gi"}}) == []


@pytest.mark.parametrize(("found", "wanted"), [
    (pod(containers=[]), "spec.containers: Required value"),
    (container(name=""), "spec.containers[0].name: Required value"),
    (container(image=""), "spec.containers[0].image: Required value"),
    (container(image=" i"), 'spec.containers[0].image: Invalid value: " i": must not have leading or trailing whitespace'),
    (pod(containers=[{"name": "c", "image": "i"}] * 2), 'spec.containers[1].name: Duplicate value: "c"'),
    (container(imagePullPolicy="Maybe"), ('spec.containers[0].imagePullPolicy: Unsupported value: "Maybe": supported values: '
     '"Always", "IfNotPresent", "Never"')),
    (container(ports=[{"containerPort": 99999}]),
     "spec.containers[0].ports[0].containerPort: Invalid value: 99999: must be between 1 and 65535, inclusive"),
    (container(ports=[{"containerPort": 80, "protocol": "ICMP"}]), ('spec.containers[0].ports[0].protocol: Unsupported value: '
     '"ICMP": supported values: "SCTP", "TCP", "UDP"')),
    (container(volumeMounts=[{"name": "v", "mountPath": "/x"}]), 'spec.containers[0].volumeMounts[0].name: Not found: "v"'),
    (container(resources={"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}),
     'spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1'),
    (container(livenessProbe={"exec": {"command": []}}), "spec.containers[0].livenessProbe.exec.command: Required value"),
    (container(readinessProbe={"periodSeconds": 3}),
     "spec.containers[0].readinessProbe: Required value: must specify a handler type"),
    (container(livenessProbe={"exec": {"command": ["x"]}, "successThreshold": 2}),
     "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1"),
    (pod(restartPolicy="Sometimes"), ('spec.restartPolicy: Unsupported value: "Sometimes": supported values: "Always", '
     '"OnFailure", "Never"')),
    (pod(volumes=[{"name": "v", "hostPath": {"path": "/a/../b"}}]),
     'spec.volumes[0].hostPath.path: Invalid value: "/a/../b": must not contain \'..\''),
    (pod(volumes=[{"name": "v", "emptyDir": {}, "hostPath": {"path": "/"}}]),
     "spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type"),
    (pod(tolerations=[{"key": "a", "operator": "Exists", "value": "b"}]), ("spec.tolerations[0].operator: Invalid value: "
     '"b": value must be empty when `operator` is \'Exists\'')),
    (pod(dnsPolicy="None"), "spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None"),
    (pod(hostNetwork=True, containers=[{"name": "c", "image": "i", "ports": [{"containerPort": 80, "hostPort": 81}]}]),
     "spec.containers[0].ports[0].hostPort: Invalid value: 81: must match `containerPort` when `hostNetwork` is true"),
])
def test_bad_pods(found: list[str], wanted: str) -> None:
    assert wanted in found


def deployment(**changes: Any) -> list[str]:
    spec: dict[str, Any] = {
        "selector": {"matchLabels": {"a": "b"}}, "replicas": 1, "strategy": {"type": "RollingUpdate", "rollingUpdate": {
            "maxSurge": "25%", "maxUnavailable": "25%"}}, "progressDeadlineSeconds": 600,
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}
    spec.update(changes)
    pod_defaults.pod_template(spec["template"])
    return [str(error) for error in apps.deployment(spec, "spec")]


@pytest.mark.parametrize(("found", "wanted"), [
    (deployment(selector=None), "spec.selector: Required value"),
    (deployment(selector={}), "spec.selector: Invalid value: {}: empty selector is invalid for deployment"),
    (deployment(selector={"matchLabels": {"x": "y"}}),
     'spec.template.metadata.labels: Invalid value: {"a":"b"}: `selector` does not match template `labels`'),
    (deployment(replicas=-1), "spec.replicas: Invalid value: -1: must be greater than or equal to 0"),
    (deployment(progressDeadlineSeconds=5, minReadySeconds=10),
     "spec.progressDeadlineSeconds: Invalid value: 5: must be greater than minReadySeconds"),
    (deployment(strategy={"type": "Recreate", "rollingUpdate": {}}) + deployment(strategy={
        "type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}),
     "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0"),
    (deployment(template={"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [], "restartPolicy": "Never"}}),
     'spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"'),
])
def test_bad_deployments(found: list[str], wanted: str) -> None:
    assert wanted in found


def test_a_good_deployment() -> None:
    assert deployment() == []


def service(**spec: Any) -> list[str]:
    whole = {"type": "ClusterIP", "sessionAffinity": "None", "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}], **spec}
    return [str(error) for error in services.service({"metadata": {}, "spec": whole}, ("IPv4",))]


@pytest.mark.parametrize(("found", "wanted"), [
    (service(ports=[]), "spec.ports: Required value"),
    (service(type="Magic"), ('spec.type: Unsupported value: "Magic": supported values: "ClusterIP", "ExternalName", '
     '"LoadBalancer", "NodePort"')),
    (service(ports=[{"port": 0, "protocol": "TCP", "targetPort": 80}]),
     "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive"),
    (service(ports=[{"port": 1, "protocol": "TCP", "targetPort": 1}, {"port": 2, "protocol": "TCP", "targetPort": 2}]),
     "spec.ports[0].name: Required value"),
    (service(ports=[{"name": n, "port": 1, "protocol": "TCP", "targetPort": 1} for n in "ab"]),
     'spec.ports[1]: Duplicate value: {"Name":"","Protocol":"TCP","AppProtocol":null,"Port":1,"TargetPort":0,"NodePort":0}'),
    (service(clusterIP="x", clusterIPs=["x"]), ('spec.clusterIPs[0]: Invalid value: "x": must be a valid IP address, '
     "(e.g. 10.9.8.7 or 2001:db8::ffff)")),
    (service(type="NodePort", clusterIP="None", clusterIPs=["None"], externalTrafficPolicy="Cluster"),
     "spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for NodePort services"),
    (service(type="ExternalName"), "spec.externalName: Required value"),
    (service(sessionAffinity="Sticky"), 'spec.sessionAffinity: Unsupported value: "Sticky": supported values: "ClientIP", "None"'),
    (service(ipFamilies=["IPv6"]), 'spec.ipFamilies[0]: Invalid value: "IPv6": not configured on this cluster'),
    (service(ipFamilyPolicy="RequireDualStack"), ('spec.ipFamilyPolicy: Invalid value: "RequireDualStack": this cluster is '
     "not configured for dual-stack services")),
    (service(externalTrafficPolicy="Local"), ('spec.externalTrafficPolicy: Invalid value: "Local": may only be set for '
     "externally-accessible services")),
])
def test_bad_services(found: list[str], wanted: str) -> None:
    assert wanted in found


@pytest.mark.parametrize(("check", "good", "bad"), [
    (names.dns_label, ["a", "a-1", "1a"], ["", "A", "-a", "a-", "a.b", "a" * 64]),
    (names.dns_subdomain, ["a", "a.b", "1.2"], ["", "A", "a..b", ".a", "a" * 254]),
    (names.dns_1035_label, ["a", "a1"], ["1a", "a.b", "A"]),
    (names.qualified_name, ["a", "A_b.c", "x.org/Name"], ["", "/a", "a/", "a/b/c", "X.org/a", "-a", "a" * 64]),
    (names.label_value, ["", "a", "A.b_c-9"], ["-", "a b", "a" * 64]),
    (names.port_name, ["http", "a-1"], ["", "123", "a--b", "-a", "A", "a" * 16]),
    (names.config_key, ["a", ".a", "A_b-c.d"], ["", ".", "..", "..a", "a b", "a/b", "a" * 254]),
    (names.ip_address, ["10.0.0.1", "::1"], ["", "10.0.0", "1.2.3.256", "x"]),
    (names.cidr, ["10.0.0.0/8", "fd00::/64"], ["10.0.0.1", "10.0.0.0/33", ""]),
    (names.path_segment, ["a:b", "A b"], [".", "..", "a/b", "a%b"]),
])
def test_forms_of_names(check: Any, good: list[str], bad: list[str]) -> None:
    assert [text for text in good if check(text)] == []
    assert [text for text in bad if not check(text)] == []


@pytest.mark.parametrize(("metadata", "wanted"), [
    ({"name": "A", "namespace": "n"}, ("metadata.name: Invalid value: \"A\": a lowercase RFC 1123 subdomain must consist of lower "
     "case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex "
     "used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')")),
    ({"namespace": "n"}, "metadata.name: Required value: name or generateName is required"),
    ({"name": "a"}, "metadata.namespace: Required value"),
    ({"name": "a", "namespace": "n", "labels": {"a b": "c"}}, ("metadata.labels: Invalid value: \"a b\": name part must consist of "
     "alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or "
     "'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')")),
    ({"name": "a", "namespace": "n", "finalizers": ["x"]}, ("metadata.finalizers[0]: Invalid value: \"x\": name is neither a "
     "standard finalizer name nor is it fully qualified")),
])
def test_metadata(metadata: dict[str, Any], wanted: str) -> None:
    assert wanted in [str(error) for error in meta.object_meta(metadata, namespaced=True)]


def test_nodes_keep_their_networks() -> None:
    old = {"metadata": {"name": "n"}, "spec": {"podCIDRs": ["10.244.1.0/24"]}}
    new = {"metadata": {"name": "n"}, "spec": {"podCIDRs": ["10.244.2.0/24"]}}
    assert "podCIDRs" in str(next(nodes.node_update(new, old)))
    assert list(nodes.node_update(old, {"metadata": {"name": "n"}, "spec": {}})) == []


def test_slices_hold_addresses_of_their_type() -> None:
    slice_ = {"addressType": "IPv4", "endpoints": [{"addresses": ["fd00::1"]}, {"addresses": ["127.0.0.1"]}]}
    said = [str(error) for error in endpoints.endpoint_slice(slice_)]
    assert 'endpoints[0].addresses[0]: Invalid value: "fd00::1": must be a valid IPv4 address' in said
    assert any("loopback" in text for text in said)


@pytest.mark.parametrize(("resources", "wanted"), [
    ([{}], "BestEffort"), ([{"requests": {"cpu": "1"}}], "Burstable"),
    ([{"requests": {"cpu": "1", "memory": "1"}, "limits": {"cpu": "1000m", "memory": "1"}}], "Guaranteed"),
    ([{"requests": {"cpu": "1", "memory": "1"}, "limits": {"cpu": "1", "memory": "1"}}, {}], "Burstable"),
    ([{"limits": {"example.com/gpu": "1"}}], "BestEffort"),
])
def test_quality_of_service(resources: list[dict[str, Any]], wanted: str) -> None:
    assert qos_class({"containers": [{"resources": item} for item in resources]}) == wanted


def test_the_status_of_an_invalid_object() -> None:
    from netlab.api import kinds

    errors = [required("spec.a"), FieldError("FieldValueInvalid", "spec.b", "Invalid value: 1: no"), required("spec.a")]
    error = invalid_object(kinds.resource("deployments"), "d", errors)
    assert error.message == 'Deployment.apps "d" is invalid: [spec.a: Required value, spec.b: Invalid value: 1: no]'
    assert error.details["causes"][0] == {"reason": "FieldValueRequired", "message": "Required value", "field": "spec.a"}
    assert (error.code, error.details["group"], error.details["kind"]) == (422, "apps", "Deployment")


@pytest.mark.parametrize(("endpoint", "wanted"), [
    ({"hints": {"forZones": [{"name": "a"}, {"name": "a"}]}},
     'endpoints[0].hints.forZones[1].name: Duplicate value: "a"'),
    ({"hints": {"forNodes": [{"name": "n"}] * 9}}, "endpoints[0].hints.forNodes: Too many: 9: must have at most 8 items"),
    ({"deprecatedTopology": {"topology.kubernetes.io/zone": "z"}}, ("endpoints[0].deprecatedTopology"
     '[topology.kubernetes.io/zone]: Invalid value: "z": use zone field instead')),
    ({"nodeName": "a b"}, 'endpoints[0].nodeName: Invalid value: "a b": ' + names.dns_subdomain("a b")[0]),
    ({"addresses": ["example"], "type": "FQDN"}, ('endpoints[0].addresses[0]: Invalid value: "example": should be a domain '
     "with at least two segments separated by dots")),
])
def test_bad_endpoints(endpoint: dict[str, Any], wanted: str) -> None:
    kind = endpoint.pop("type", "IPv4")
    said = endpoints.endpoint_slice({"addressType": kind, "endpoints": [{"addresses": ["10.0.0.1"], **endpoint}]})
    assert [str(error) for error in said] == [wanted]
