"""Volumes of every source."""

from __future__ import annotations

from typing import Any

import pytest

from netlab.apiserver.validation import names
from tests.apiserver.validation.cases import a_pod, bad, pod, template

CLAIM = {"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}
MODE = "must be a number between 0 and 0777 (octal), both inclusive"
LONG = ("Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is "
        "specified.")


def volume(name: str = "v", **source: Any) -> list[str]:
    return [text.removeprefix("spec.volumes[0].") for text in pod(volumes=[{"name": name, **source}])]


def projected(*sources: dict[str, Any], **more: Any) -> list[str]:
    found = volume(projected={"sources": list(sources), **more})
    return [text.removeprefix("projected.") for text in found]


@pytest.mark.parametrize("source", [
    {"emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}},
    {"hostPath": {"path": "/a..b", "type": "Directory"}},
    {"gitRepo": {"repository": "r", "directory": "a/b"}},
    {"gcePersistentDisk": {"pdName": "d", "partition": 255}},
    {"awsElasticBlockStore": {"volumeID": "d"}},
    {"secret": {"secretName": "s", "items": [{"key": "a", "path": "b/c", "mode": 0o400}]}},
    {"nfs": {"server": "s", "path": "/"}},
    {"iscsi": {"targetPortal": "1.2.3.4", "iqn": "iqn.2015-02.example.com:test", "lun": 1}},
    {"iscsi": {"targetPortal": "1.2.3.4", "iqn": "eui.0123456789ABCDEF", "lun": 1}},
    {"iscsi": {"targetPortal": "1.2.3.4", "iqn": "naa.62004567BA64678D0123456789ABCDEF", "lun": 1}},
    {"glusterfs": {"endpoints": "e", "path": "p"}},
    {"flocker": {"datasetName": "d"}},
    {"persistentVolumeClaim": {"claimName": "c"}},
    {"rbd": {"monitors": ["m"], "image": "i"}},
    {"cinder": {"volumeID": "v", "secretRef": {"name": "s"}}},
    {"cephfs": {"monitors": ["m"]}},
    {"quobyte": {"registry": "a:1,[::1]:2", "volume": "v"}},
    {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels['a/b']"}}]}},
    {"fc": {"targetWWNs": ["w"], "lun": 0}},
    {"fc": {"wwids": ["w"]}},
    {"flexVolume": {"driver": "d", "options": {"example.com/a": "b"}}},
    {"configMap": {"name": "c", "optional": True}},
    {"azureFile": {"secretName": "s", "shareName": "h"}},
    {"vsphereVolume": {"volumePath": "p"}},
    {"photonPersistentDisk": {"pdID": "p"}},
    {"portworxVolume": {"volumeID": "p"}},
    {"azureDisk": {"diskName": "n", "diskURI": "https://a/b.vhd"}},
    {"azureDisk": {"diskName": "n", "diskURI": "/subscriptions/a", "kind": "Managed"}},
    {"storageos": {"volumeName": "v"}},
    {"scaleIO": {"gateway": "g", "system": "s", "volumeName": "v"}},
    {"csi": {"driver": "Example.com", "nodePublishSecretRef": {"name": "s"}}},
    {"ephemeral": {"volumeClaimTemplate": CLAIM}},
    {"image": {"reference": "i", "pullPolicy": "Never"}},
    {"projected": {"sources": [{"serviceAccountToken": {"path": "token"}}, {"secret": {"name": "s"}},
                               {"clusterTrustBundle": {"name": "a.b:c", "path": "ca"}},
                               {"clusterTrustBundle": {"signerName": "a.b/c", "path": "cb", "labelSelector": {}}},
                               {"podCertificate": {"signerName": "a.b/c", "keyType": "ED25519", "keyPath": "k"}}]}},
])
def test_every_source(source: dict[str, Any]) -> None:
    assert volume(**source) == []


@pytest.mark.parametrize(("found", "wanted"), [
    (volume(""), ["name: Required value"]),
    (volume("A"), bad("name", "A", names.dns_label)),
    (volume("a.b"), bad("name", "a.b", names.dns_label)),
    (pod(volumes=[{"name": "v"}, {"name": "v"}]), ['spec.volumes[1].name: Duplicate value: "v"']),
    (volume(hostPath={"path": "a"}, emptyDir={}, secret={}), [
        "hostPath: Forbidden: may not specify more than 1 volume type",
        "secret: Forbidden: may not specify more than 1 volume type"]),
    (volume(emptyDir={"sizeLimit": "-1"}),
     ["emptyDir.sizeLimit: Forbidden: SizeLimit field must be a valid resource quantity"]),
    (volume(hostPath={"path": ""}), ["hostPath.path: Required value"]),
    (volume(hostPath={"path": "/a", "type": "Dir"}), [
        ('hostPath.type: Unsupported value: "Dir": supported values: "", "BlockDevice", "CharDevice", "Directory", '
        '"DirectoryOrCreate", "File", "FileOrCreate", "Socket"')]),
    (volume(gitRepo={"repository": ""}), ["gitRepo.repository: Required value"]),
    (volume(gitRepo={"repository": "r", "directory": "/a/.."}), [
        'gitRepo.directory: Invalid value: "/a/..": must be a relative path',
        'gitRepo.directory: Invalid value: "/a/..": must not contain \'..\'']),
    (volume(gcePersistentDisk={"pdName": "", "partition": 256}), [
        "persistentDisk.pdName: Required value",
        "persistentDisk.partition: Invalid value: 256: must be between 1 and 255, inclusive"]),
    (volume(awsElasticBlockStore={"volumeID": "", "partition": -1}), [
        "awsElasticBlockStore.volumeID: Required value",
        "awsElasticBlockStore.partition: Invalid value: -1: must be between 1 and 255, inclusive"]),
    (volume(secret={"secretName": "", "defaultMode": 0o1000}), [
        "secret.secretName: Required value", f"secret.defaultMode: Invalid value: 512: {MODE}"]),
    (volume(secret={"secretName": "s", "items": [{"key": "", "path": "..a", "mode": -1}]}), [
        "secret.items[0].key: Required value",
        'secret.items[0].path: Invalid value: "..a": must not start with \'..\'',
        f"secret.items[0].mode: Invalid value: -1: {MODE}"]),
    (volume(configMap={"name": "", "items": [{"key": "a", "path": ""}]}), [
        "configMap.name: Required value", "configMap.items[0].path: Required value"]),
    (volume(configMap={"name": "c", "items": [{"key": "a", "path": "../b"}]}),
     ['configMap.items[0].path: Invalid value: "../b": must not contain \'..\'']),
    (volume(nfs={"server": "", "path": "p"}), [
        "nfs.server: Required value", 'nfs.path: Invalid value: "p": must be an absolute path']),
    (volume(iscsi={"targetPortal": "", "iqn": "", "lun": 256}), [
        "iscsi.targetPortal: Required value", "iscsi.iqn: Required value",
        "iscsi.lun: Invalid value: 256: must be between 0 and 255, inclusive"]),
    (volume(iscsi={"targetPortal": "p", "iqn": "abc", "lun": 0}),
     ['iscsi.iqn: Invalid value: "abc": must be valid format starting with iqn, eui, or naa']),
    (volume(iscsi={"targetPortal": "p", "iqn": "iqn.2015-02.x", "lun": 0, "chapAuthSession": True}), [
        'iscsi.iqn: Invalid value: "iqn.2015-02.x": must be valid format', "iscsi.secretRef: Required value"]),
    (volume(iscsi={"targetPortal": "p" * 63, "iqn": "eui.0123456789ABCDEF", "lun": 0, "initiatorName": "x"}), [
        'iscsi.initiatorname: Invalid value: "x": must be valid format starting with iqn, eui, or naa',
        f'name: Invalid value: "v": {LONG}']),
    (volume(glusterfs={"endpoints": "", "path": ""}), [
        "glusterfs.endpoints: Required value", "glusterfs.path: Required value"]),
    (volume(flocker={}), ["flocker: Required value: one of datasetName and datasetUUID is required"]),
    (volume(flocker={"datasetName": "a/b", "datasetUUID": "u"}), [
        'flocker: Invalid value: "resource": datasetName and datasetUUID can not be specified simultaneously',
        'flocker.datasetName: Invalid value: "a/b": must not contain \'/\'']),
    (volume(persistentVolumeClaim={"claimName": ""}), ["persistentVolumeClaim.claimName: Required value"]),
    (volume(rbd={"monitors": [], "image": ""}), ["rbd.monitors: Required value", "rbd.image: Required value"]),
    (volume(cinder={"volumeID": "", "secretRef": {}}), [
        "cinder.volumeID: Required value", "cinder.secretRef.name: Required value"]),
    (volume(cephfs={"monitors": []}), ["cephfs.monitors: Required value"]),
    (volume(quobyte={"registry": "", "volume": ""}), [
        "quobyte.registry: Required value: must be a host:port pair or multiple pairs separated by commas",
        "quobyte.volume: Required value"]),
    (volume(quobyte={"registry": "a", "volume": "v"}), [
        'quobyte.registry: Invalid value: "a": must be a host:port pair or multiple pairs separated by commas']),
    (volume(quobyte={"registry": "a:1", "volume": "v", "tenant": "t" * 65}), [
        "quobyte.tenant: Required value: must be a UUID and may not exceed a length of 64 characters"]),
    (volume(fc={}), ["fc.targetWWNs: Required value: must specify either targetWWNs or wwids, but not both"]),
    (volume(fc={"targetWWNs": ["a"]}), ["fc.lun: Required value: lun is required if targetWWNs is specified"]),
    (volume(fc={"targetWWNs": ["a"], "wwids": ["b"], "lun": 256}), [
        'fc.targetWWNs: Invalid value: ["a"]: targetWWNs and wwids can not be specified simultaneously',
        "fc.lun: Invalid value: 256: must be between 0 and 255, inclusive"]),
    (volume(flexVolume={"driver": "", "options": {"a.k8s.io/b": ""}}), [
        "flexVolume.driver: Required value",
        'flexVolume.options[a.k8s.io/b]: Invalid value: "a.k8s.io/b": kubernetes.io and k8s.io namespaces are reserved']),
    (volume(azureFile={"secretName": "", "shareName": ""}), [
        "azureFile.secretName: Required value", "azureFile.shareName: Required value"]),
    (volume(vsphereVolume={"volumePath": ""}), ["vsphereVolume.volumePath: Required value"]),
    (volume(photonPersistentDisk={"pdID": ""}), ["photonPersistentDisk.pdID: Required value"]),
    (volume(portworxVolume={"volumeID": ""}), ["portworxVolume.volumeID: Required value"]),
    (volume(azureDisk={"diskName": "d", "diskURI": "/subscriptions/a", "cachingMode": "x"}), [
        'azureDisk.cachingMode: Unsupported value: "x": supported values: "None", "ReadOnly", "ReadWrite"',
        ('azureDisk.diskURI: Unsupported value: "/subscriptions/a": supported values: '
        '"https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd"')]),
    (volume(azureDisk={"diskName": "", "diskURI": "https://a", "kind": "Managed"}), [
        "azureDisk.diskName: Required value",
        ('azureDisk.diskURI: Unsupported value: "https://a": supported values: "/subscriptions/{sub-id}/resourcegroups/'
        '{group-name}/providers/microsoft.compute/disks/{disk-id}"')]),
    (volume(storageos={"volumeName": "", "volumeNamespace": "A", "secretRef": {}}), [
        "storageos.volumeName: Required value", *bad("storageos.volumeNamespace", "A", names.dns_label),
        "storageos.secretRef.name: Required value"]),
    (volume(scaleIO={"gateway": "", "system": "", "volumeName": ""}), [
        f"scaleIO.{part}: Required value" for part in ("gateway", "system", "volumeName")]),
    (volume(csi={"driver": "", "nodePublishSecretRef": {}}), [
        "csi.driver: Required value", *bad("csi.driver", "", names.dns_subdomain),
        "csi.nodePublishSecretRef.name: Required value"]),
    (volume(csi={"driver": "d" * 64}), ["csi.driver: Too long: may not be more than 63 bytes"]),
    (volume(ephemeral={}), ["ephemeral.volumeClaimTemplate: Required value"]),
    (volume(ephemeral={"volumeClaimTemplate": {"metadata": {"name": "n"}, "spec": {}}}), [
        "ephemeral.volumeClaimTemplate.metadata.name: Forbidden: cannot be set",
        "ephemeral.volumeClaimTemplate.spec.accessModes: Required value: at least 1 access mode is required",
        "ephemeral.volumeClaimTemplate.spec.resources[storage]: Required value"]),
    (pod(volumes=[{"name": "e", "ephemeral": {"volumeClaimTemplate": CLAIM}},
                  {"name": "c", "persistentVolumeClaim": {"claimName": "p-e"}}]), [
        ('spec.volumes[1].persistentVolumeClaim.claimName: Invalid value: "p-e": must not reference a PVC that gets '
        "created for an ephemeral volume")]),
    (volume(image={}), ["image.reference: Required value"]),
    (volume(image={"reference": "i", "pullPolicy": "x"}), [
        'image.pullPolicy: Unsupported value: "x": supported values: "Always", "IfNotPresent", "Never"']),
    (template(volumes=[{"name": "v", "image": {}}]), []),
    (volume(downwardAPI={"items": [{"path": ""}]}), [
        "downwardAPI.path: Required value",
        "downwardAPI: Required value: one of fieldRef and resourceFieldRef is required"]),
    (volume(downwardAPI={"items": [{"path": "/a", "mode": 512, "fieldRef": {"fieldPath": "status.podIP"}}]}), [
        'downwardAPI.path: Invalid value: "/a": must be a relative path',
        ('downwardAPI.fieldRef.fieldPath: Unsupported value: "status.podIP": supported values: "metadata.annotations", '
        '"metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"'),
        f"downwardAPI.mode: Invalid value: 512: {MODE}"]),
    (volume(downwardAPI={"items": [{"path": "a", "resourceFieldRef": {"resource": "limits.cpu"}}]}),
     ["downwardAPI.resourceFieldRef.containerName: Required value"]),
])
def test_what_a_source_lacks(found: list[str], wanted: list[str]) -> None:
    assert found == wanted


@pytest.mark.parametrize(("found", "wanted"), [
    (projected({"secret": {}, "configMap": {"name": "c"}}, defaultMode=-1), [
        f"defaultMode: Invalid value: -1: {MODE}", "sources[0].secret.name: Required value",
        "sources[0]: Forbidden: may not specify more than 1 volume type per source"]),
    (projected({"secret": {"name": "s", "items": [{"key": "a", "path": "x"}]}},
               {"configMap": {"name": "c", "items": [{"key": "a", "path": "x"}]}},
               {"downwardAPI": {"items": [{"path": "x", "fieldRef": {"fieldPath": "metadata.name"}}]}}), [
        'projected: Invalid value: "c": conflicting duplicate paths',
        'projected: Invalid value: "x": conflicting duplicate paths']),
    (projected({"serviceAccountToken": {"path": "", "expirationSeconds": 599}}), [
        ("sources[0].serviceAccountToken.expirationSeconds: Invalid value: 599: may not specify a duration less than 10 "
        "minutes"), "path: Required value"]),
    (projected({"serviceAccountToken": {"path": "..a", "expirationSeconds": (1 << 32) + 1}}), [
        ("sources[0].serviceAccountToken.expirationSeconds: Invalid value: 4294967297: may not specify a duration larger "
        "than 2^32 seconds"), 'path: Invalid value: "..a": must not start with \'..\'']),
    (projected({"clusterTrustBundle": {"path": "p"}}),
     ["sources[0].clusterTrustBundle: Required value: either name or signerName must be specified"]),
    (projected({"clusterTrustBundle": {"name": "", "labelSelector": {}}}), [
        "sources[0].clusterTrustBundle.name: Required value: must be a valid object name",
        *(text.replace("value: \"\": ", "value: \"\": not a valid clustertrustbundlename: ")
          for text in bad("sources[0].clusterTrustBundle.name", "", names.dns_subdomain)),
        "sources[0].clusterTrustBundle.labelSelector: Invalid value: {}: labelSelector must be unset if name is specified",
        "sources[0].clusterTrustBundle.path: Required value"]),
    (projected({"podCertificate": {"signerName": "a", "keyType": "DSA", "maxExpirationSeconds": 1}}), [
        ('sources[0].podCertificate.signerName: Invalid value: "a": must be a fully qualified domain and path of the form '
        "'example.com/signer-name'"),
        ('sources[0].podCertificate.keyType: Unsupported value: "DSA": supported values: "RSA3072", "RSA4096", '
        '"ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519"'),
        ("sources[0].podCertificate.maxExpirationSeconds: Invalid value: 1: if provided, maxExpirationSeconds must be >= "
        "3600"),
        ("sources[0].podCertificate: Required value: specify at least one of credentialBundlePath, keyPath, and "
        "certificateChainPath")]),
    (projected({"podCertificate": {"signerName": "kubernetes.io/a", "keyType": "ED25519", "keyPath": "k",
                                   "certificateChainPath": "k", "maxExpirationSeconds": 86401}}), [
        ("sources[0].podCertificate.maxExpirationSeconds: Invalid value: 86401: if provided, maxExpirationSeconds must be "
        "<= 86400"), 'projected: Invalid value: "k": conflicting duplicate paths']),
])
def test_projected(found: list[str], wanted: list[str]) -> None:
    assert found == [text.removeprefix("projected.") for text in wanted]


def test_tokens_need_an_account() -> None:
    volumes = [{"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]
    assert pod(volumes=volumes, serviceAccountName="") == [
        ("spec.volumes[0].projected.sources[0].serviceAccountToken: Forbidden: must not be specified when "
        "serviceAccountName is not set")]
    assert template(volumes=volumes) == []


@pytest.mark.parametrize(("source", "wanted"), [
    ({}, {"emptyDir": {}}),
    ({"secret": {"secretName": "s"}}, {"secret": {"secretName": "s", "defaultMode": 420}}),
    ({"hostPath": {"path": "/"}}, {"hostPath": {"path": "/", "type": ""}}),
    ({"iscsi": {"iqn": "i"}}, {"iscsi": {"iqn": "i", "iscsiInterface": "default"}}),
    ({"rbd": {"image": "i"}}, {"rbd": {"image": "i", "pool": "rbd", "user": "admin", "keyring": "/etc/ceph/keyring"}}),
    ({"scaleIO": {}}, {"scaleIO": {"storageMode": "ThinProvisioned", "fsType": "xfs"}}),
    ({"azureDisk": {}}, {"azureDisk": {"cachingMode": "ReadWrite", "kind": "Shared", "fsType": "ext4", "readOnly": False}}),
    ({"image": {"reference": "a:1"}}, {"image": {"reference": "a:1", "pullPolicy": "IfNotPresent"}}),
    ({"image": {"reference": "a"}}, {"image": {"reference": "a", "pullPolicy": "Always"}}),
    ({"downwardAPI": {"items": [{"path": "a", "fieldRef": {"fieldPath": "metadata.name"}}]}},
     {"downwardAPI": {"items": [{"path": "a", "fieldRef": {"fieldPath": "metadata.name", "apiVersion": "v1"}}],
                      "defaultMode": 420}}),
    ({"projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}},
     {"projected": {"sources": [{"serviceAccountToken": {"path": "t", "expirationSeconds": 3600}}], "defaultMode": 420}}),
])
def test_defaults(source: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert a_pod(volumes=[{"name": "v", **source}])["spec"]["volumes"] == [{"name": "v", **wanted}]
