"""PersistentVolumes and claims for them."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from netlab.api import kinds
from netlab.apiserver.strategies.core import VolumeClaimStrategy, VolumeStrategy
from netlab.apiserver.validation import names
from tests.apiserver.validation.cases import bad, texts

Object = dict[str, Any]
CLAIMS, VOLUMES = VolumeClaimStrategy(kinds.resource("persistentvolumeclaims")), VolumeStrategy(
    kinds.resource("persistentvolumes"))
HOST = {"hostPath": {"path": "/a"}}
AFFINITY = {"required": {"nodeSelectorTerms": [{"matchExpressions": [
    {"key": "failure-domain.beta.kubernetes.io/zone", "operator": "In", "values": ["z"]}]}]}}


def a_claim(status: Object | None = None, **spec: Any) -> Object:
    obj = {"metadata": {"name": "c", "namespace": "n"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, **spec}}
    CLAIMS.default(obj)
    CLAIMS.prepare_create(obj)
    obj["status"] |= status or {}
    return obj


def claim(**spec: Any) -> list[str]:
    return [text.removeprefix("spec.") for text in texts(CLAIMS.validate(a_claim(**spec)))]


def new_claim(old: Object, metadata: Object | None = None, **spec: Any) -> list[str]:
    new = copy.deepcopy(old)
    new["metadata"] |= metadata or {}
    new["spec"] |= spec
    return texts(CLAIMS.validate_update(new, old))


def size(storage: str) -> Object:
    return {"requests": {"storage": storage}}


def a_volume(**spec: Any) -> Object:
    obj = {"metadata": {"name": "v"}, "spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, **spec}}
    VOLUMES.default(obj)
    return obj


def volume(**spec: Any) -> list[str]:
    return [text.removeprefix("spec.") for text in texts(VOLUMES.validate(a_volume(**spec)))]


@pytest.mark.parametrize(("found", "wanted"), [
    (claim(), []),
    (claim(volumeMode="Block", storageClassName="", dataSource={"kind": "PersistentVolumeClaim", "name": "a"}), []),
    (claim(accessModes=[]), ["accessModes: Required value: at least 1 access mode is required"]),
    (claim(accessModes=["x", "ReadWriteOncePod", "ReadWriteMany"]), [
        ('accessModes: Unsupported value: "x": supported values: "ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", '
        '"ReadWriteOncePod"'), "accessModes: Forbidden: may not use ReadWriteOncePod with other access modes"]),
    (claim(resources={}), ["resources[storage]: Required value"]),
    (claim(resources=size("0")), ['resources[storage]: Invalid value: "0": must be greater than zero']),
    (claim(storageClassName="A"), bad("storageClassName", "A", names.dns_subdomain)),
    (claim(volumeMode="x"), ['volumeMode: Unsupported value: "x": supported values: "Block", "Filesystem"']),
    (claim(selector={"matchLabels": {"a": "-"}}), bad("selector.matchLabels", "-", names.label_value)),
    (claim(dataSource={"kind": "Pod", "name": ""}), [
        "dataSource.name: Required value",
        'dataSource: Invalid value: "Pod": must be \'PersistentVolumeClaim\' when referencing the default apiGroup']),
    (claim(volumeAttributesClassName="A"), bad("volumeAttributesClassName", "A", names.dns_subdomain)),
])
def test_claims(found: list[str], wanted: list[str]) -> None:
    assert found == wanted


BOUND = {"phase": "Bound", "capacity": {"storage": "1Gi"}}


@pytest.mark.parametrize(("found", "wanted"), [
    (new_claim(a_claim(), volumeName="v"), []),
    (new_claim(a_claim(BOUND), resources=size("2Gi")), []),
    (new_claim(a_claim(BOUND, resources=size("2Gi")), resources=size("1Gi")), [
        "spec.resources.requests.storage: Forbidden: field can not be less than status.capacity"]),
    (new_claim(a_claim(), resources=size("2Gi")), [
        ("spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for "
        "bound claims\n- resources: {\"requests\":{\"storage\":\"1Gi\"}}\n+ resources: "
        "{\"requests\":{\"storage\":\"2Gi\"}}")]),
    (new_claim(a_claim(), {"annotations": {"volume.beta.kubernetes.io/storage-class": "a"}}), [
        'metadata.annotations.volume.beta.kubernetes.io/storage-class: Invalid value: "a": field is immutable']),
    (new_claim(a_claim({**BOUND, "currentVolumeAttributesClassName": "a"}, volumeAttributesClassName="a"),
               volumeAttributesClassName=""), [
        ("spec.volumeAttributesClassName: Forbidden: update to empty string is forbidden when "
        "status.currentVolumeAttributesClassName is not nil")]),
])
def test_changed_claims(found: list[str], wanted: list[str]) -> None:
    assert found == wanted


def test_a_claims_mode_stays() -> None:
    assert new_claim(a_claim(), volumeMode="Block")[-1] == 'volumeMode: Invalid value: "Block": field is immutable'


@pytest.mark.parametrize(("found", "wanted"), [
    (volume(**HOST), []),
    (volume(csi={"driver": "d", "volumeHandle": "h"}, volumeAttributesClassName="a"), []),
    (volume(local={"path": "/a"}, nodeAffinity=AFFINITY), []),
    (volume(), ["spec: Required value: must specify a volume type"]),
    (volume(**HOST, accessModes=[]), ["accessModes: Required value"]),
    (volume(**HOST, capacity={"cpu": "1"}), ['capacity: Unsupported value: {"cpu":"1"}: supported values: "storage"']),
    (volume(**HOST, capacity={"storage": "-1"}), [
        'capacity[storage]: Invalid value: -1: must be a valid resource quantity',
        'capacity[storage]: Invalid value: "-1": must be greater than zero']),
    (volume(**HOST, persistentVolumeReclaimPolicy="x"), [
        'persistentVolumeReclaimPolicy: Unsupported value: "x": supported values: "Delete", "Recycle", "Retain"']),
    (volume(hostPath={"path": "/a/.."}, persistentVolumeReclaimPolicy="Recycle"), [
        "hostPath.path: Invalid value: \"/a/..\": must not contain '..'",
        "persistentVolumeReclaimPolicy: Forbidden: may not be 'recycle' for a hostPath mount of '/'"]),
    (volume(local={"path": ""}), ["local.path: Required value", ("nodeAffinity: Required value: Local volume requires node "
                                  "affinity")]),
    (volume(**HOST, nodeAffinity={}), ["nodeAffinity.required: Required value: must specify required node constraints"]),
    (volume(**HOST, nfs={"server": "s", "path": "/"}), ["nfs: Forbidden: may not specify more than 1 volume type"]),
    (volume(csi={"driver": "d", "nodeStageSecretRef": {}, "controllerPublishSecretRef": {"name": "A"}}), [
        "csi.volumeHandle: Required value",
        *bad("csi.controllerPublishSecretRef.name", "A", names.dns_subdomain),
        "csi.controllerPublishSecretRef.namespace: Required value"]),
    (volume(iscsi={"targetPortal": "p" * 63, "iqn": "iqn.2015-02.example.com:test", "lun": 0,
                   "initiatorName": "iqn.2015-02.example.com:init"}), [
        (f'iscsi.targetportal: Invalid value: "{"p" * 63}": Total length of <volume name>:<iscsi.targetPortal> must be '
        "under 64 characters if iscsi.initiatorName is specified.")]),
    (volume(cinder={"volumeID": "v", "secretRef": {"name": "s"}}), ["cinder.secretRef.namespace: Required value"]),
    (volume(azureFile={"secretName": "s", "shareName": "h", "secretNamespace": ""}),
     ["azureFile.secretNamespace: Required value"]),
    (volume(**HOST, storageClassName="A", volumeMode="x"), [
        *bad("storageClassName", "A", names.dns_subdomain),
        'volumeMode: Unsupported value: "x": supported values: "Block", "Filesystem"']),
    (volume(**HOST, volumeAttributesClassName=""), [
        "volumeAttributesClassName: Required value: an empty string is disallowed",
        "csi: Required value: has to be specified when using volumeAttributesClassName"]),
])
def test_volumes(found: list[str], wanted: list[str]) -> None:
    assert found == wanted


def new_volume(old: Object, **spec: Any) -> list[str]:
    new = copy.deepcopy(old)
    new["spec"] |= copy.deepcopy(spec)
    return texts(VOLUMES.validate_update(new, old))


def test_changed_volumes() -> None:
    old = a_volume(**HOST, nodeAffinity=AFFINITY)
    assert new_volume(old, capacity={"storage": "2Gi"}) == []
    assert new_volume(old, hostPath={"path": "/b", "type": ""}) == [
        ('spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation\n'
        '- hostPath: {"path":"/a","type":""}\n+ hostPath: {"path":"/b","type":""}')]
    assert new_volume(old, volumeMode="Block") == ['volumeMode: Invalid value: "Block": field is immutable']
    renamed = copy.deepcopy(AFFINITY)
    renamed["required"]["nodeSelectorTerms"][0]["matchExpressions"][0]["key"] = "topology.kubernetes.io/zone"
    assert new_volume(old, nodeAffinity=renamed) == []
    renamed["required"]["nodeSelectorTerms"][0]["matchExpressions"][0]["values"] = ["y"]
    [found] = new_volume(old, nodeAffinity=renamed)
    assert found.endswith("field is immutable, except for updating from beta label to GA")
    csi = a_volume(csi={"driver": "d", "volumeHandle": "h"})
    secret = {"name": "s", "namespace": "n"}
    assert new_volume(csi, csi={"driver": "d", "volumeHandle": "h", "controllerExpandSecretRef": secret}) == []


def test_status_of_claims() -> None:
    old = a_claim()
    new = copy.deepcopy(old)
    new["status"] |= {"capacity": {"storage": "-1"}, "allocatedResources": {"cpu": "1"},
                      "allocatedResourceStatuses": {"storage": "x"}}
    assert texts(CLAIMS.validate_status(new, old)) == [
        'status.capacity[storage]: Invalid value: -1: must be a valid resource quantity',
        ('status.allocatedResourceStatuses: Unsupported value: "storage": supported values: "ControllerResizeInProgress", '
        '"ControllerResizeInfeasible", "NodeResizeInProgress", "NodeResizeInfeasible", "NodeResizePending"'),
        'status.allocatedResources: Unsupported value: "cpu": supported values: "storage"']
