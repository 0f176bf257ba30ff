"""What concerns a whole Pod: names, DNS, gates, claims, annotations."""

from __future__ import annotations

from typing import Any

import pytest

from netlab.apiserver.validation import names
from tests.apiserver.validation.cases import TEMPLATES, a_pod, bad, container, pod, template, texts

SECCOMP, OF = "seccomp.security.alpha.kubernetes.io/pod", "container.seccomp.security.alpha.kubernetes.io/c"
ARMOR = "container.apparmor.security.beta.kubernetes.io/"
COST, MIRROR = "controller.kubernetes.io/pod-deletion-cost", "kubernetes.io/config.mirror"


def dns(policy: str = "ClusterFirst", **config: Any) -> list[str]:
    return [text.removeprefix("spec.dnsConfig.") for text in pod(dnsPolicy=policy, dnsConfig=config)]


def notes(annotations: dict[str, str], **spec: Any) -> list[str]:
    return [text.removeprefix("metadata.annotations") for text in pod({"annotations": annotations}, **spec)]


@pytest.mark.parametrize(("found", "wanted"), [
    (pod(restartPolicy="x"), [
        'spec.restartPolicy: Unsupported value: "x": supported values: "Always", "OnFailure", "Never"']),
    (pod(dnsPolicy="x"), [('spec.dnsPolicy: Unsupported value: "x": supported values: "ClusterFirstWithHostNet", '
                          '"ClusterFirst", "Default", "None"')]),
    (dns("None"), ["nameservers: Required value: must provide at least one DNS nameserver when `dnsPolicy` is None"]),
    (dns(nameservers=["1.1.1.1"] * 4), [
        'nameservers: Invalid value: ["1.1.1.1","1.1.1.1","1.1.1.1","1.1.1.1"]: must not have more than 3 nameservers']),
    (dns(nameservers=["a"]), bad("nameservers[0]", "a", names.ip_address)),
    (dns(searches=["a."] * 32), []),
    (dns(searches=["_a.b_c", "."]), []),
    (dns(searches=["A."]), bad("searches[0]", "A", names.dns_search)),
    (dns(options=[{"name": "", "value": "1"}]), ["options[0]: Required value: must not be empty"]),
    (pod(readinessGates=[{"conditionType": "a b"}]),
     bad("spec.readinessGates[0].conditionType", "a b", names.qualified_name)),
    (pod(schedulingGates=[{"name": "a"}, {"name": "a"}]), ['spec.schedulingGates[1]: Duplicate value: "a"']),
    (pod(schedulingGates=[{"name": "a b"}]), bad("spec.schedulingGates[0]", "a b", names.qualified_name)),
    (pod(schedulingGates=[{"name": "a"}], nodeName="n"),
     ["spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared"]),
    (pod(activeDeadlineSeconds=0), [("spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, "
                                    "inclusive")]),
    *((pod(**{part: "A"}), bad(f"spec.{part}", "A", form)) for part, form in (
        ("serviceAccountName", names.dns_subdomain), ("nodeName", names.dns_subdomain), ("hostname", names.dns_label),
        ("subdomain", names.dns_label), ("priorityClassName", names.dns_subdomain),
        ("runtimeClassName", names.dns_subdomain), ("hostnameOverride", names.dns_subdomain))),
    (pod(runtimeClassName=""), bad("spec.runtimeClassName", "", names.dns_subdomain)),
    (pod(preemptionPolicy="x"), [
        'spec.preemptionPolicy: Unsupported value: "x": supported values: "PreemptLowerPriority", "Never"']),
    (pod(preemptionPolicy=""), ["spec.preemptionPolicy: Required value"]),
    (pod(overhead={"gpu": "1", "cpu": "-1"}), [
        'spec.overhead.limits[gpu]: Invalid value: "gpu": must be a standard resource type or fully qualified',
        'spec.overhead.limits[gpu]: Invalid value: "gpu": must be a standard resource for containers',
        'spec.overhead.limits[cpu]: Invalid value: "-1": must be greater than or equal to 0']),
    (pod(hostAliases=[{"ip": "a", "hostnames": ["A"]}]), [
        *bad("spec.hostAliases[0].ip", "a", names.ip_address),
        *bad("spec.hostAliases[0].hostnames[0]", "A", names.dns_subdomain)]),
    (pod(hostnameOverride="a" * 65), ["spec.hostnameOverride: Too long: may not be more than 64 bytes"]),
    (pod(hostnameOverride="a", setHostnameAsFQDN=True), [
        "spec.hostnameOverride: Forbidden: may not be specified when setHostnameAsFQDN is true"]),
    (pod(hostnameOverride="a", hostNetwork=True), [
        "spec.hostnameOverride: Forbidden: may not be specified when hostNetwork is true"]),
    (pod(ephemeralContainers=[{"name": "e", "image": "i", "terminationMessagePolicy": "File"}]),
     ["spec.ephemeralContainers: Forbidden: cannot be set on create"]),
    (container(image=" i"), ['image: Invalid value: " i": must not have leading or trailing whitespace']),
    (container({"hostNetwork": True}, ports=[{"containerPort": 80, "hostPort": 81}]),
     ["ports[0].hostPort: Invalid value: 81: must match `containerPort` when `hostNetwork` is true"]),
])
def test_pods(found: list[str], wanted: list[str]) -> None:
    assert found == wanted


@pytest.mark.parametrize(("claims", "wanted"), [
    ([{"name": "a", "resourceClaimName": "c"}, {"name": "b", "resourceClaimTemplateName": "t"}], []),
    ([{"name": "", "resourceClaimName": "c"}], ["[0].name: Required value"]),
    ([{"name": "a", "resourceClaimName": "c"}] * 2, ['[1].name: Duplicate value: "a"']),
    ([{"name": "A", "resourceClaimName": "C"}], [
        *bad("[0].name", "A", names.dns_label), *bad("[0].resourceClaimName", "C", names.dns_subdomain)]),
    ([{"name": "a"}], [('[0]: Invalid value: {"Name":"a","ResourceClaimName":null,"ResourceClaimTemplateName":null}: must '
                       "specify one of: `resourceClaimName`, `resourceClaimTemplateName`")]),
    ([{"name": "a", "resourceClaimName": "c", "resourceClaimTemplateName": "t"}], [
        ('[0]: Invalid value: {"Name":"a","ResourceClaimName":"c","ResourceClaimTemplateName":"t"}: at most one of '
        "`resourceClaimName` or `resourceClaimTemplateName` may be specified")]),
])
def test_claims(claims: list[Any], wanted: list[str]) -> None:
    assert [text.removeprefix("spec.resourceClaims") for text in pod(resourceClaims=claims)] == wanted


@pytest.mark.parametrize(("found", "wanted"), [
    (notes({COST: "-7"}), []),
    (notes({COST: "+7"}), [f'[{COST}]: Invalid value: "+7": must be a 32bit integer']),
    (notes({COST: "2147483648"}), [f'[{COST}]: Invalid value: "2147483648": must be a 32bit integer']),
    (notes({MIRROR: ""}), [f'[{MIRROR}]: Invalid value: "": must set spec.nodeName if mirror pod annotation is set']),
    (notes({SECCOMP: "x", OF: "localhost//a"}), [
        f'.{SECCOMP}: Invalid value: "x": must be a valid seccomp profile',
        f'.{OF}: Invalid value: "/a": must be a relative path']),
    (notes({f"{ARMOR}none": "runtime/default"}), [f'[{ARMOR}none]: Invalid value: "none": container not found']),
    (notes({f"{ARMOR}c": "x"}), [
        f'[{ARMOR}c]: Invalid value: "x": invalid AppArmor profile name: "x"']),
    (notes({SECCOMP: "unconfined"}, securityContext={"seccompProfile": {"type": "RuntimeDefault"}}), [
        "spec.securityContext.seccompProfile.type: Forbidden: seccomp type in annotation and field must match"]),
    (notes({SECCOMP: "localhost/a"},
           securityContext={"seccompProfile": {"type": "Localhost", "localhostProfile": "b"}}), [
        ("spec.securityContext.seccompProfile.localhostProfile: Forbidden: seccomp profile in annotation and field must "
        "match")]),
    (notes({f"{ARMOR}c": "unconfined"}, securityContext={"appArmorProfile": {"type": "RuntimeDefault"}}), [
        ("spec.containers[0].securityContext.appArmorProfile.type: Forbidden: apparmor type in annotation and field must "
        "match")]),
    (notes({"scheduler.alpha.kubernetes.io/tolerations": '[{"key":"a","operator":"x"}]'}), [
        (".scheduler.alpha.kubernetes.io/tolerations[0].operator: Unsupported value: \"x\": supported values: \"Equal\", "
        '"Exists"')]),
])
def test_annotations(found: list[str], wanted: list[str]) -> None:
    assert found == wanted


@pytest.mark.parametrize(("found", "wanted"), [
    (template(), []),
    (template({"labels": {"a": "-"}}), bad("template.labels", "-", names.label_value)),
    (template({"annotations": {COST: "x"}}), [
        f'template.annotations[{COST}]: Invalid value: "x": must be a 32bit integer']),
    (template(containers=[]), ["template.spec.containers: Required value"]),
    (template(os={"name": "x"}), ['template.spec.os: Unsupported value: "x": supported values: "linux", "windows"']),
    (template(ephemeralContainers=[{"name": "e", "image": "i"}]), [
        "template.spec.ephemeralContainers: Forbidden: ephemeral containers not allowed in pod template"]),
    (template(containers=[{"name": "c", "image": " i"}]), []),
])
def test_templates(found: list[str], wanted: list[str]) -> None:
    assert found == wanted


def test_defaults_of_a_pod() -> None:
    made = a_pod(containers=[{"name": "c", "image": "i", "ports": [{"containerPort": 1}], "livenessProbe": {
        "httpGet": {"port": 1}}, "resources": {"limits": {"cpu": "0.1234567"}}}], schedulingGates=[{"name": "g"}])
    assert made["spec"] == {
        "containers": [{
            "name": "c", "image": "i", "imagePullPolicy": "Always", "ports": [{"containerPort": 1, "protocol": "TCP"}],
            "livenessProbe": {"httpGet": {"port": 1, "path": "/", "scheme": "HTTP"}, "timeoutSeconds": 1,
                              "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3},
            "resources": {"limits": {"cpu": "124m"}, "requests": {"cpu": "124m"}},
            "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"}],
        "serviceAccountName": "a", "serviceAccount": "a", "schedulingGates": [{"name": "g"}],
        "restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "schedulerName": "default-scheduler",
        "terminationGracePeriodSeconds": 30, "securityContext": {}, "enableServiceLinks": True}
    [condition] = made["status"]["conditions"]
    assert (condition["type"], condition["reason"]) == ("PodScheduled", "SchedulingGated")


def test_defaults_of_a_template() -> None:
    obj: dict[str, Any] = {"metadata": {"name": "t", "namespace": "n"}, "template": {"spec": {"hostNetwork": True, "containers": [
        {"name": "c", "image": "i:1", "ports": [{"containerPort": 1}], "resources": {"limits": {"cpu": "1"}}}]}}}
    TEMPLATES.default(obj)
    assert texts(TEMPLATES.validate(obj)) == []
    spec = obj["template"]["spec"]
    assert "enableServiceLinks" not in spec
    assert spec["containers"][0]["ports"] == [{"containerPort": 1, "protocol": "TCP"}]
    assert spec["containers"][0]["resources"] == {"limits": {"cpu": "1"}}
    assert spec["containers"][0]["imagePullPolicy"] == "IfNotPresent"


@pytest.mark.parametrize(("image", "policy"), [
    ("i", "Always"), ("i:latest", "Always"), ("i:1", "IfNotPresent"), ("host:5000/a/b", "Always"), ("Host/a", "Always"),
    (f"i@sha256:{'0' * 64}", "IfNotPresent"), ("A", "IfNotPresent"), ("", "IfNotPresent"), ("a b", "IfNotPresent"),
])
def test_which_images_are_always_pulled(image: str, policy: str) -> None:
    assert a_pod(containers=[{"name": "c", "image": image}])["spec"]["containers"][0]["imagePullPolicy"] == policy
