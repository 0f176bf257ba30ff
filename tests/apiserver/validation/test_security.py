"""Security contexts, kernel settings, operating systems."""

from __future__ import annotations

from typing import Any

import pytest

from netlab.apiserver.validation import names
from tests.apiserver.validation.cases import bad, container, pod

FORM = r"^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$"
RANGE = "must be between 0 and 2147483647, inclusive"


def whole(spec: dict[str, Any] | None = None, **context: Any) -> list[str]:
    return [text.removeprefix("spec.securityContext.") for text in pod(securityContext=context, **(spec or {}))]


def own(spec: dict[str, Any] | None = None, **context: Any) -> list[str]:
    return [text.removeprefix("securityContext.") for text in container(spec, securityContext=context)]


def user(name: str) -> list[str]:
    return [text.partition(": runAsUserName")[2] for text in own(windowsOptions={"runAsUserName": name})]


@pytest.mark.parametrize(("found", "wanted"), [
    (whole(fsGroup=-1), [f"fsGroup: Invalid value: -1: {RANGE}"]),
    (whole(fsGroup=0, runAsUser=1 << 31, runAsGroup=-1, supplementalGroups=[0, -1]), [
        f"runAsUser: Invalid value: 2147483648: {RANGE}", f"runAsGroup: Invalid value: -1: {RANGE}",
        f"supplementalGroups[1]: Invalid value: -1: {RANGE}"]),
    (whole({"shareProcessNamespace": True, "hostPID": True}), [
        "shareProcessNamespace: Invalid value: true: ShareProcessNamespace and HostPID cannot both be enabled"]),
    (whole(fsGroupChangePolicy="x", supplementalGroupsPolicy="y", seLinuxChangePolicy="z"), [
        'fsGroupChangePolicy: Unsupported value: "x": supported values: "Always", "OnRootMismatch"',
        'supplementalGroupsPolicy: Unsupported value: "y": supported values: "Merge", "Strict"',
        'seLinuxChangePolicy: Unsupported value: "z": supported values: "MountOption", "Recursive"']),
    (whole(sysctls=[{"name": "", "value": "1"}]), ["sysctls[0].name: Required value"]),
    (whole(sysctls=[{"name": "Kernel/x", "value": "1"}, {"name": "a" * 254, "value": ""}]), [
        f'sysctls[0].name: Invalid value: "Kernel/x": must have at most 253 characters and match regex {FORM}',
        f'sysctls[1].name: Invalid value: "{"a" * 254}": must have at most 253 characters and match regex {FORM}']),
    (whole(sysctls=[{"name": "net.a", "value": ""}, {"name": "net.a", "value": ""}]),
     ['sysctls[1].name: Duplicate value: "net.a"']),
    (whole({"hostNetwork": True}, sysctls=[{"name": "net/ipv4/conf/a.b/x", "value": ""}]), [
        'sysctls[0].name: Invalid value: "net/ipv4/conf/a.b/x": may not be specified when \'hostNetwork\' is true']),
    (whole({"hostIPC": True}, sysctls=[{"name": "kernel.sem", "value": ""}, {"name": "fs.mqueue.a", "value": ""},
                                       {"name": "kernel.shm_rmid_forced", "value": ""}]), [
        f"sysctls[{at}].name: Invalid value: \"{name}\": may not be specified when 'hostIPC' is true"
        for at, name in enumerate(("kernel.sem", "fs.mqueue.a", "kernel.shm_rmid_forced"))]),
    (whole(sysctls=[{"name": "net.ipv4.conf.enp3s0/200.forwarding", "value": ""}]), []),
    (whole(seccompProfile={}), [
        "seccompProfile.type: Required value: type is required when seccompProfile is set"]),
    (whole(seccompProfile={"type": "x"}), [
        'seccompProfile.type: Unsupported value: "x": supported values: "Localhost", "RuntimeDefault", "Unconfined"']),
    (whole(seccompProfile={"type": "Localhost"}), [
        "seccompProfile.localhostProfile: Required value: must be set when seccomp type is Localhost"]),
    (whole(seccompProfile={"type": "Localhost", "localhostProfile": "/a/../b"}), [
        'seccompProfile.localhostProfile: Invalid value: "/a/../b": must be a relative path',
        'seccompProfile.localhostProfile: Invalid value: "/a/../b": must not contain \'..\'']),
    (whole(seccompProfile={"type": "Unconfined", "localhostProfile": "a"}), [
        ('seccompProfile.localhostProfile: Invalid value: {"Type":"Unconfined","LocalhostProfile":"a"}: can only be set '
        "when seccomp type is Localhost")]),
    (whole(appArmorProfile={}), [
        "appArmorProfile.type: Required value: type is required when appArmorProfile is set"]),
    (whole(appArmorProfile={"type": "Localhost"}), [
        "appArmorProfile.localhostProfile: Required value: must be set when AppArmor type is Localhost"]),
    (whole(appArmorProfile={"type": "Localhost", "localhostProfile": " a"}), [
        'appArmorProfile.localhostProfile: Invalid value: " a": must not be padded with whitespace']),
    (whole(appArmorProfile={"type": "Localhost", "localhostProfile": "a" * 4096}), [
        "appArmorProfile.localhostProfile: Too long: may not be more than 4095 bytes"]),
    (whole(appArmorProfile={"type": "RuntimeDefault", "localhostProfile": "a"}), [
        'appArmorProfile.localhostProfile: Invalid value: "a": can only be set when AppArmor type is Localhost']),
])
def test_pods(found: list[str], wanted: list[str]) -> None:
    assert [text.removeprefix("spec.") for text in found] == wanted


@pytest.mark.parametrize(("found", "wanted"), [
    (own(runAsUser=-1, runAsGroup=1 << 31), [
        f"runAsUser: Invalid value: -1: {RANGE}", f"runAsGroup: Invalid value: 2147483648: {RANGE}"]),
    (own(procMount="x"), ['procMount: Unsupported value: "x": supported values: "Default", "Unmasked"']),
    (own(procMount="Unmasked"), [
        'procMount: Invalid value: "Unmasked": `hostUsers` must be false to use `Unmasked`']),
    (own({"hostUsers": False}, procMount="Unmasked"), []),
    (own(seccompProfile={"type": "x"}), [
        'seccompProfile.type: Unsupported value: "x": supported values: "Localhost", "RuntimeDefault", "Unconfined"']),
    (own(allowPrivilegeEscalation=False, capabilities={"add": ["NET_ADMIN"]}), []),
    (own(windowsOptions={"gmsaCredentialSpecName": "A", "gmsaCredentialSpec": "", "runAsUserName": ""}), [
        *bad("windowsOptions.gmsaCredentialSpecName", "A", names.dns_subdomain),
        'windowsOptions.gmsaCredentialSpec: Invalid value: "": gmsaCredentialSpec cannot be an empty string',
        'windowsOptions.runAsUserName: Invalid value: "": runAsUserName cannot be an empty string']),
    (user("a\x01"), [" cannot contain control characters"]),
    (user("a\\b\\c"), [" cannot contain more than one backslash"]),
    (user("d" * 256 + "\\u"), ["'s Domain length must be under 256 characters",
                               "'s Domain doesn't match the NetBios nor the DNS format"]),
    (user(".a\\u"), ["'s Domain doesn't match the NetBios nor the DNS format"]),
    (user("domain\\"), ["'s User cannot be empty"]),
    (user("u" * 105), ["'s User length must not be longer than 104 characters"]),
    (user(".. "), ["'s User cannot contain only periods or spaces"]),
    (user("a[b"), ["'s User cannot contain the following characters: \"/\\:;|=,+*?<>@[]"]),
    (user("example.com\\u"), []),
])
def test_containers(found: list[str], wanted: list[str]) -> None:
    assert found == wanted


def test_escalation() -> None:
    for text, context in (
        ("cannot set `allowPrivilegeEscalation` to false and `privileged` to true", {"privileged": True}),
        ("cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN",
         {"capabilities": {"add": ["CAP_SYS_ADMIN"]}}),
    ):
        [found] = own(allowPrivilegeEscalation=False, **context)
        assert found.startswith('securityContext: Invalid value: {"Capabilities":')
        assert found.endswith(text)


@pytest.mark.parametrize(("found", "wanted"), [
    (pod(os={"name": ""}), ["spec.os.name: Required value: cannot be empty"]),
    (pod(os={"name": "linuxx"}), ['spec.os: Unsupported value: "linuxx": supported values: "linux", "windows"']),
    (pod(os={"name": "linux"}, securityContext={"windowsOptions": {}}), [
        "spec.securityContext.windowsOptions: Forbidden: windows options cannot be set for a linux pod"]),
    (pod(os={"name": "windows"}, securityContext={"fsGroup": 1, "sysctls": []}, shareProcessNamespace=False), [
        "spec.securityContext.fsGroup: Forbidden: cannot be set for a windows pod",
        "spec.shareProcessNamespace: Forbidden: cannot be set for a windows pod"]),
    (container({"os": {"name": "windows"}}, securityContext={"privileged": False, "runAsUser": 1}), [
        "securityContext.privileged: Forbidden: cannot be set for a windows pod",
        "securityContext.runAsUser: Forbidden: cannot be set for a windows pod"]),
    (pod(securityContext={"windowsOptions": {"hostProcess": True}}), [
        "spec.hostNetwork: Invalid value: false: hostNetwork must be true if pod contains any hostProcess containers"]),
    (container({"hostNetwork": True, "initContainers": [{"name": "i", "image": "i"}]},
               securityContext={"windowsOptions": {"hostProcess": True}}), [
        ('spec: Invalid value: "": If pod contains any hostProcess containers then all containers must be HostProcess '
        "containers")]),
    (container({"securityContext": {"windowsOptions": {"hostProcess": False}}, "hostNetwork": True},
               securityContext={"windowsOptions": {"hostProcess": True}}), [
        ("securityContext.windowsOptions.hostProcess: Invalid value: true: pod hostProcess value must be identical if both "
        "are specified, was false")]),
    (pod(hostUsers=False, hostPID=True, hostIPC=True, hostNetwork=True), [
        f"spec.{part}: Forbidden: when `hostUsers` is false" for part in ("hostNetwork", "HostPID", "HostIPC")]),
])
def test_systems(found: list[str], wanted: list[str]) -> None:
    assert found == wanted
