"""What is refused of Services, at which field, in which words, and what may change."""

from __future__ import annotations

from typing import Any

import pytest

from netlab.api import names
from netlab.apiserver.validation import networking, services

Object = dict[str, Any]
BOTH = ("IPv4", "IPv6")


def made(**changes: Any) -> Object:
    annotations = changes.pop("annotations", {})
    return {"metadata": {"name": "s", "annotations": annotations}, "spec": {
        "type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
        "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}], **changes}}


def said(**changes: Any) -> list[str]:
    return [str(error) for error in services.service(made(**changes), BOTH)]


def balanced(**changes: Any) -> list[str]:
    return said(**{"type": "LoadBalancer", "externalTrafficPolicy": "Cluster", "allocateLoadBalancerNodePorts": True,
                   **changes})


@pytest.mark.parametrize("good", [
    said(), said(clusterIP="10.0.0.1", clusterIPs=["10.0.0.1", "fd00::1"], ipFamilies=list(BOTH)),
    said(externalIPs=["192.0.2.1"], externalTrafficPolicy="Local"), balanced(loadBalancerSourceRanges=["10.0.0.0/8"]),
    balanced(loadBalancerClass="acme.io/x", externalTrafficPolicy="Local", healthCheckNodePort=30000),
    said(type="ExternalName", ports=[], externalName="example.com."),
    said(ports=[{"port": 80, "protocol": "TCP", "targetPort": "http", "appProtocol": "kubernetes.io/h2c"}]),
    said(trafficDistribution="PreferSameNode")])
def test_good_ones(good: list[str]) -> None:
    assert good == []


@pytest.mark.parametrize(("found", "wanted"), [
    (said(externalIPs=["127.0.0.1"], externalTrafficPolicy="Local"), ('spec.externalIPs[0]: Invalid value: "127.0.0.1": '
     "may not be in the loopback range (127.0.0.0/8, ::1/128)")),
    (said(externalIPs=["010.0.0.1"], externalTrafficPolicy="Local"),
     'spec.externalIPs[0]: Invalid value: "010.0.0.1": must not have leading 0s'),
    (said(loadBalancerSourceRanges=["10.0.0.0/8"]),
     "spec.LoadBalancerSourceRanges: Forbidden: may only be used when `type` is 'LoadBalancer'"),
    (balanced(loadBalancerSourceRanges=["10.0.0.1/8"]), ('spec.LoadBalancerSourceRanges[0]: Invalid value: "10.0.0.1/8": '
     "must not have bits set beyond the prefix length")),
    (balanced(annotations={"service.beta.kubernetes.io/load-balancer-source-ranges": "x"}), (
     'metadata.annotations[service.beta.kubernetes.io/load-balancer-source-ranges]: Invalid value: "x": must be a valid '
     "CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)")),
    (said(allocateLoadBalancerNodePorts=True),
     "spec.allocateLoadBalancerNodePorts: Forbidden: may only be used when `type` is 'LoadBalancer'"),
    (said(loadBalancerClass="x"), "spec.loadBalancerClass: Forbidden: may only be used when `type` is 'LoadBalancer'"),
    (said(healthCheckNodePort=5), ("spec.healthCheckNodePort: Invalid value: 5: may only be set when `type` is "
     "'LoadBalancer' and `externalTrafficPolicy` is 'Local'")),
    (said(sessionAffinityConfig={}),
     "spec.sessionAffinityConfig: Forbidden: must not be set when session affinity is None"),
    (said(sessionAffinity="ClientIP"), ("spec.sessionAffinityConfig.clientIP.timeoutSeconds: Required value: when session "
     "affinity type is ClientIP")),
    (said(clusterIP="10.0.0.1", clusterIPs=["10.0.0.1", "10.0.0.2"]), ('spec.clusterIPs: Invalid value: '
     '["10.0.0.1","10.0.0.2"]: may specify no more than one IP for each IP family')),
    (said(clusterIPs=["10.0.0.1"]), ('spec.clusterIPs: Invalid value: ["10.0.0.1"]: must be empty when `clusterIP` is not '
     "specified")),
    (said(ports=[{"port": 80, "protocol": "TCP", "targetPort": 80, "name": name} for name in "ab"]), (
     'spec.ports[1]: Duplicate value: {"Name":"","Protocol":"TCP","AppProtocol":null,"Port":80,"TargetPort":0,'
     '"NodePort":0}')),
    (said(ports=[{"port": 80, "protocol": "TCP", "targetPort": 80, "nodePort": 30000}]),
     "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"),
    (said(ports=[{"port": 80, "protocol": "TCP", "targetPort": 80, "appProtocol": "a b"}]), (
     'spec.ports[0].appProtocol: Invalid value: "a b": name part must consist of alphanumeric characters, \'-\', \'_\' or '
     "'.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used "
     "for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')")),
    (said(trafficDistribution="X"), ('spec.trafficDistribution: Unsupported value: "X": supported values: "PreferClose", '
     '"PreferSameZone", "PreferSameNode"')),
    (said(annotations={"service.kubernetes.io/topology-mode": "Auto", "service.kubernetes.io/topology-aware-hints": "x"}), (
     'metadata.annotations[service.kubernetes.io/topology-mode]: Invalid value: "Auto": must match '
     "annotations[service.kubernetes.io/topology-aware-hints] when both are specified")),
])
def test_bad_ones(found: list[str], wanted: str) -> None:
    assert wanted in found


@pytest.mark.parametrize(("old", "new", "wanted"), [
    ({"clusterIPs": ["10.0.0.1"]}, {"clusterIPs": ["10.0.0.2"]},
     ['spec.clusterIPs[0]: Invalid value: ["10.0.0.2"]: may not change once set']),
    ({"clusterIPs": ["10.0.0.1", "fd00::1"]}, {"clusterIPs": ["10.0.0.1"], "ipFamilyPolicy": "PreferDualStack"}, [
     ('spec.ipFamilyPolicy: Invalid value: "PreferDualStack": must be set to \'SingleStack\' when releasing the secondary '
      "clusterIP")]),
    ({"clusterIPs": ["10.0.0.1", "fd00::1"]}, {"clusterIPs": ["10.0.0.1"], "ipFamilyPolicy": "SingleStack"}, []),
    ({"type": "LoadBalancer", "loadBalancerClass": "a"}, {"type": "LoadBalancer", "loadBalancerClass": "b"},
     ['spec.loadBalancerClass: Invalid value: "b": may not change once set']),
    ({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 1},
     {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 2},
     ["spec.healthCheckNodePort: Forbidden: field is immutable"]),
    ({"clusterIPs": ["None"]}, {"clusterIPs": ["None"], "ipFamilies": ["IPv6"]}, []),
])
def test_what_may_change(old: Object, new: Object, wanted: list[str]) -> None:
    assert [str(error) for error in services.service_update(new, old)] == wanted


def test_an_address_of_before_may_stay() -> None:
    old = made(externalIPs=["010.0.0.1"], externalTrafficPolicy="Cluster")
    assert services.service(old, BOTH, old) == []


def test_the_status_of_a_load_balancer() -> None:
    def status(*ingress: Object, kind: str = "LoadBalancer") -> list[str]:
        obj = {**made(type=kind), "status": {"loadBalancer": {"ingress": list(ingress)}}}
        return [str(error) for error in services.load_balancer(obj, made(type=kind))]

    path = "status.loadBalancer.ingress"
    assert status({"ip": "192.0.2.1", "ipMode": "VIP"}, {"hostname": "a.example.com"}) == []
    assert status({"ip": "192.0.2.1"}) == [f"{path}[0].ipMode: Required value: must be specified when `ip` is set"]
    assert status({"ip": "192.0.2.1", "ipMode": "X"}) == [
        f'{path}[0].ipMode: Unsupported value: "X": supported values: "Proxy", "VIP"']
    assert status({"hostname": "192.0.2.1"}) == [
        f'{path}[0].hostname: Invalid value: "192.0.2.1": must be a DNS name, not an IP address']
    assert status({"ip": "192.0.2.1", "ipMode": "VIP"}, kind="NodePort") == [
        f"{path}: Forbidden: may only be used when `spec.type` is 'LoadBalancer'"]


@pytest.mark.parametrize(("text", "wanted"), [
    ("10.0.0.1", []), ("fd00::1", []), ("10.0.0.01", ["must not have leading 0s"]),
    ("::ffff:10.0.0.1", ["must not be an IPv4-mapped IPv6 address"]),
    ("10.0.0", ["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"])])
def test_addresses(text: str, wanted: list[str]) -> None:
    assert names.ip_address(text) == wanted


@pytest.mark.parametrize(("text", "wanted"), [
    ("10.0.0.0/8", []), ("fd00::/64", []), ("10.0.0.1/32", []),
    ("10.0.0.00/8", ["must not have leading 0s in IP or prefix length"]),
    ("10.0.0.0/08", ["must not have leading 0s in IP or prefix length"]),
    ("::ffff:10.0.0.0/104", ["must not have an IPv4-mapped IPv6 address"]),
    ("10.0.0.1/8", ["must not have bits set beyond the prefix length"]),
    ("10.0.0.0", ["must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"]),
    ("10.0.0.0/255.0.0.0", ["must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"])])
def test_networks(text: str, wanted: list[str]) -> None:
    assert names.cidr(text) == wanted


def test_a_policy_of_an_untidy_network() -> None:
    spec = {"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.1/16"]}}]}]}
    assert [str(error) for error in networking.network_policy(spec, "spec")] == [
        ('spec.ingress[0].from[0].ipBlock.except[0]: Invalid value: "10.1.0.1/16": must not have bits set beyond the '
         "prefix length")]


def test_what_an_ingress_refers_to() -> None:
    def said(**path: Any) -> list[str]:
        spec = {"rules": [{"http": {"paths": [{"path": "/", "pathType": "Prefix", **path}]}}]}
        return [str(error).removeprefix("spec.rules[0].http.paths[0].") for error in networking.ingress(spec, "spec")]

    assert said(pathType=None) == ["pathType: Required value: pathType must be specified"]
    assert said(backend={"resource": {"apiGroup": "A", "kind": "a/b"}}) == [
        f'backend.resource.apiGroup: Invalid value: "A": {names.dns_subdomain("A")[0]}',
        'backend.resource.kind: Invalid value: "a/b": may not contain \'/\'',
        "backend.resource.name: Required value: name is required"]
    assert [str(error) for error in networking.ingress_class({"controller": "a.b/c", "parameters": {
        "scope": "Cluster", "kind": "K", "name": "a/b"}}, "spec")] == [
        'spec.parameters.name: Invalid value: "a/b": may not contain \'/\'']
