"""Where volumes come from: one row per source, for Pods and for PersistentVolumes (core/validation)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from netlab.api import quantity
from netlab.api.meta import Object
from netlab.apiserver.validation import names, paths
from netlab.apiserver.validation.errors import (
    FieldError,
    forbidden,
    invalid,
    not_supported,
    required,
    too_long,
    unsupported,
    wrong,
)

HOST_PATHS = ("", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket")
_ISCSI = {
    "iqn": re.compile(r"iqn\.\d{4}-\d{2}\.([\w.-]+)(:[^,;*&$|\s]+)\Z", re.ASCII),
    "eui": re.compile(r"eui\.[0-9a-fA-F]{16}\Z"),
    "naa": re.compile(r"naa\.[0-9a-fA-F]{32}\Z"),
}
_PARTITION = "must be between 1 and 255, inclusive"
_LUN = "must be between 0 and 255, inclusive"
_PAIRS = "must be a host:port pair or multiple pairs separated by commas"
_CACHING = ("None", "ReadOnly", "ReadWrite")
_DISKS = ("Dedicated", "Managed", "Shared")
_MANAGED = "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}"
_BLOB = "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd"
_DRIVER_LIMIT = 63

Check = Callable[[Object, str], Iterator[FieldError]]


class Row(NamedTuple):
    """A source: fields that it must have, what else is checked, and where upstream's paths are not its name."""

    needs: tuple[str, ...] = ()
    check: Check | None = None
    path: str = ""
    path_of_second: str = ""


def _empty(source: Object, path: str) -> Iterator[FieldError]:
    if source.get("sizeLimit") is not None and quantity.parse(source["sizeLimit"]) < quantity.ZERO:
        yield forbidden(f"{path}.sizeLimit", "SizeLimit field must be a valid resource quantity")


def _host(source: Object, path: str) -> Iterator[FieldError]:
    if not source.get("path"):
        yield required(f"{path}.path")
        return
    yield from paths.no_backsteps(source["path"], f"{path}.path")
    if source.get("type", "") not in HOST_PATHS:
        yield not_supported(f"{path}.type", source["type"], HOST_PATHS)


def _git(source: Object, path: str) -> Iterator[FieldError]:
    yield from paths.descending(source.get("directory", ""), f"{path}.directory")


def _disk(source: Object, path: str) -> Iterator[FieldError]:
    if not 0 <= source.get("partition", 0) <= 255:
        yield invalid(f"{path}.partition", source["partition"], _PARTITION)


def items(source: Object, path: str) -> Iterator[FieldError]:
    """Check the mode of a ConfigMap's or Secret's files, and which keys become which files."""
    yield from paths.mode(source.get("defaultMode"), f"{path}.defaultMode")
    for at, item in enumerate(source.get("items") or ()):
        yield from key_to_path(item, f"{path}.items[{at}]")


def key_to_path(item: Object, path: str) -> Iterator[FieldError]:
    """Check that a key becomes a file."""
    for part in ("key", "path"):
        if not item.get(part):
            yield required(f"{path}.{part}")
    yield from paths.not_reserved(item.get("path", ""), f"{path}.path")
    yield from paths.mode(item.get("mode"), f"{path}.mode")


def _nfs(source: Object, path: str) -> Iterator[FieldError]:
    if not source.get("path", "").startswith("/"):
        yield invalid(f"{path}.path", source.get("path", ""), "must be an absolute path")


def iscsi(source: Object, path: str) -> Iterator[FieldError]:
    """Check an iSCSI disk of a Pod."""
    yield from _iscsi(source, path, "must be valid format starting with iqn, eui, or naa")


def _iscsi(source: Object, path: str, unknown: str) -> Iterator[FieldError]:
    name = source.get("iqn", "")
    if not name:
        yield required(f"{path}.iqn")
    else:
        yield from _iscsi_name(name, f"{path}.iqn", unknown)
    if not 0 <= source.get("lun", 0) <= 255:
        yield invalid(f"{path}.lun", source["lun"], _LUN)
    if (source.get("chapAuthDiscovery") or source.get("chapAuthSession")) and source.get("secretRef") is None:
        yield required(f"{path}.secretRef")
    if source.get("initiatorName") is not None:
        yield from _iscsi_name(source["initiatorName"], f"{path}.initiatorname", unknown)


def _iscsi_name(name: str, field: str, unknown: str) -> Iterator[FieldError]:
    form = _ISCSI.get(name[:3])
    if form is None:
        yield invalid(field, name, unknown)
    elif not form.match(name):
        yield invalid(field, name, "must be valid format")


def _flocker(source: Object, path: str) -> Iterator[FieldError]:
    name, uuid = source.get("datasetName", ""), source.get("datasetUUID", "")
    if not name and not uuid:
        yield required(path, "one of datasetName and datasetUUID is required")
    if name and uuid:
        yield invalid(path, "resource", "datasetName and datasetUUID can not be specified simultaneously")
    if "/" in name:
        yield invalid(f"{path}.datasetName", name, "must not contain '/'")


def _named_secret(source: Object, path: str) -> Iterator[FieldError]:
    secret = source.get("secretRef")
    if secret is not None and not secret.get("name"):
        yield required(f"{path}.secretRef.name")


def _quobyte(source: Object, path: str) -> Iterator[FieldError]:
    registry = source.get("registry", "")
    if not registry:
        yield required(f"{path}.registry", _PAIRS)
    elif len(source.get("tenant", "")) >= 65:
        yield required(f"{path}.tenant", "must be a UUID and may not exceed a length of 64 characters")
    else:
        for pair in registry.split(","):
            host, found, _ = pair.rpartition(":")
            if not found or (":" in host and not (host.startswith("[") and host.endswith("]"))):
                yield invalid(f"{path}.registry", registry, _PAIRS)
    if not source.get("volume"):
        yield required(f"{path}.volume")


def _fibre(source: Object, path: str) -> Iterator[FieldError]:
    targets, ids, lun = source.get("targetWWNs") or [], source.get("wwids") or [], source.get("lun")
    if not targets and not ids:
        yield required(f"{path}.targetWWNs", "must specify either targetWWNs or wwids, but not both")
    if targets and ids:
        yield invalid(f"{path}.targetWWNs", targets, "targetWWNs and wwids can not be specified simultaneously")
    if targets:
        if lun is None:
            yield required(f"{path}.lun", "lun is required if targetWWNs is specified")
        elif not 0 <= lun <= 255:
            yield invalid(f"{path}.lun", lun, _LUN)


def _flex(source: Object, path: str) -> Iterator[FieldError]:
    for name in source.get("options") or ():
        if f".{name.partition('/')[0].lower()}".endswith((".kubernetes.io", ".k8s.io")):
            yield invalid(f"{path}.options[{name}]", name, "kubernetes.io and k8s.io namespaces are reserved")


def _azure_disk(source: Object, path: str) -> Iterator[FieldError]:
    caching, kind, uri = source.get("cachingMode"), source.get("kind"), source.get("diskURI", "")
    if caching is not None and caching not in _CACHING:
        yield not_supported(f"{path}.cachingMode", caching, _CACHING)
    if kind is not None and kind not in _DISKS:
        yield not_supported(f"{path}.kind", kind, _DISKS)
    if kind == "Managed" and not uri.startswith("/subscriptions/"):
        yield unsupported(f"{path}.diskURI", uri, [_MANAGED])
    elif kind not in (None, "Managed") and not uri.startswith("https://"):
        yield unsupported(f"{path}.diskURI", uri, [_BLOB])


def _storageos(source: Object, path: str) -> Iterator[FieldError]:
    name, namespace = source.get("volumeName", ""), source.get("volumeNamespace", "")
    if not name:
        yield required(f"{path}.volumeName")
    else:
        yield from wrong(f"{path}.volumeName", name, names.dns_label(name))
    if namespace:
        yield from wrong(f"{path}.volumeNamespace", namespace, names.dns_label(namespace))
    yield from _named_secret(source, path)


def csi_driver(name: str, path: str) -> Iterator[FieldError]:
    """Check the name of a CSI driver."""
    if not name:
        yield required(path)
    if len(name.encode()) > _DRIVER_LIMIT:
        yield too_long(path, _DRIVER_LIMIT)
    yield from wrong(path, name, names.dns_subdomain(name.lower()))


def _csi(source: Object, path: str) -> Iterator[FieldError]:
    yield from csi_driver(source.get("driver", ""), f"{path}.driver")
    secret = source.get("nodePublishSecretRef")
    if secret is not None:
        name = secret.get("name", "")
        if not name:
            yield required(f"{path}.nodePublishSecretRef.name")
        else:
            yield from wrong(f"{path}.name", name, names.dns_subdomain(name))


def _local(source: Object, path: str) -> Iterator[FieldError]:
    yield from paths.no_backsteps(source.get("path", ""), f"{path}.path")


def _with_namespace(check: Check | None) -> Check:
    """Return the check of a PersistentVolume's source: its secret is named with a namespace."""

    def both(source: Object, path: str) -> Iterator[FieldError]:
        yield from check(source, path) if check is not None else ()
        secret = source.get("secretRef")
        if secret is not None and not secret.get("namespace"):
            yield required(f"{path}.secretRef.namespace")

    return both


def _glusterfs(source: Object, path: str) -> Iterator[FieldError]:
    namespace = source.get("endpointsNamespace")
    if namespace == "":
        yield invalid(
            f"{path}.endpointsNamespace",
            namespace,
            "if the endpointnamespace is set, it must be a valid namespace name",
        )
    elif namespace is not None:
        yield from wrong(f"{path}.endpointsNamespace", namespace, names.dns_label(namespace))


def _iscsi_of_volume(source: Object, path: str) -> Iterator[FieldError]:
    yield from _iscsi(source, path, "must be valid format")
    yield from _named_secret(source, path)


def _azure_file(source: Object, path: str) -> Iterator[FieldError]:
    if source.get("secretNamespace") == "":
        yield required(f"{path}.secretNamespace")


def _csi_of_volume(source: Object, path: str) -> Iterator[FieldError]:
    yield from csi_driver(source.get("driver", ""), f"{path}.driver")
    if not source.get("volumeHandle"):
        yield required(f"{path}.volumeHandle")
    for part in ("controllerPublish", "controllerExpand", "nodePublish", "nodeExpand"):
        secret, field = source.get(f"{part}SecretRef"), f"{path}.{part}SecretRef"
        if secret is None:
            continue
        for name, form in (("name", names.dns_subdomain), ("namespace", names.dns_label)):
            if not secret.get(name):
                yield required(f"{field}.{name}")
            else:
                yield from wrong(f"{field}.{name}", secret[name], form(secret[name]))


_GCE = Row(("pdName",), _disk, path="persistentDisk")
_COMMON = {
    "hostPath": Row((), _host),
    "gcePersistentDisk": _GCE,
    "awsElasticBlockStore": Row(("volumeID",), _disk),
    "flocker": Row((), _flocker),
    "nfs": Row(("server", "path"), _nfs),
    "rbd": Row(("monitors", "image")),
    "quobyte": Row((), _quobyte),
    "cephfs": Row(("monitors",), path_of_second="cephFS"),
    "fc": Row((), _fibre),
    "flexVolume": Row(("driver",), _flex),
    "vsphereVolume": Row(("volumePath",)),
    "photonPersistentDisk": Row(("pdID",)),
    "portworxVolume": Row(("volumeID",)),
    "azureDisk": Row(("diskName", "diskURI"), _azure_disk),
    "scaleIO": Row(("gateway", "system", "volumeName")),
}
_OF_POD = {
    "emptyDir": Row((), _empty),
    "gitRepo": Row(("repository",), _git),
    "secret": Row(("secretName",), items),
    "iscsi": Row(("targetPortal",), iscsi),
    "glusterfs": Row(("endpoints", "path")),
    "persistentVolumeClaim": Row(("claimName",)),
    "cinder": Row(("volumeID",), _named_secret),
    "configMap": Row(("name",), items),
    "azureFile": Row(("secretName", "shareName")),
    "storageos": Row((), _storageos),
    "csi": Row((), _csi),
    "downwardAPI": Row(path_of_second="downwarAPI"),
    "projected": Row(),
    "ephemeral": Row(),
    "image": Row(),
}
_OF_VOLUME = {
    "glusterfs": Row(("endpoints", "path"), _glusterfs),
    "iscsi": Row(("targetPortal",), _iscsi_of_volume),
    "cinder": Row(("volumeID",), _with_namespace(_named_secret)),
    "azureFile": Row(("secretName", "shareName"), _azure_file),
    "local": Row(("path",), _local),
    "storageos": Row((), _with_namespace(_storageos)),
    "csi": Row((), _csi_of_volume),
}


def _ordered(order: str, *tables: dict[str, Row]) -> dict[str, Row]:
    rows = {name: row for table in tables for name, row in table.items()}
    return {name: rows[name] for name in order.split()}


OF_POD = _ordered(
    "emptyDir hostPath gitRepo gcePersistentDisk awsElasticBlockStore secret nfs iscsi glusterfs flocker "
    "persistentVolumeClaim rbd cinder cephfs quobyte downwardAPI fc flexVolume configMap azureFile vsphereVolume "
    "photonPersistentDisk portworxVolume azureDisk storageos projected scaleIO csi ephemeral image",
    _COMMON,
    _OF_POD,
)
"""The sources of a Pod's volume, in the order in which upstream looks for them."""
OF_VOLUME = _ordered(
    "hostPath gcePersistentDisk awsElasticBlockStore glusterfs flocker nfs rbd quobyte cephfs iscsi cinder fc "
    "flexVolume azureFile vsphereVolume photonPersistentDisk portworxVolume azureDisk scaleIO local storageos csi",
    _COMMON,
    _OF_VOLUME,
)
"""The same of a PersistentVolume."""


def sources(volume: Object, rows: dict[str, Row]) -> list[str]:
    """Return which sources a volume has, in upstream's order."""
    given = [name for name, source in volume.items() if name in rows and source is not None]
    return given if len(given) < 2 else [name for name in rows if name in given]


def one_source(volume: Object, given: Sequence[str], rows: dict[str, Row], path: str) -> Iterator[FieldError]:
    """Check that a volume has one source (`given`: those that it has), and the first of them."""
    if not given:
        yield required(path, "must specify a volume type")
        return
    row, source = rows[given[0]], volume[given[0]]
    field = f"{path}.{row.path or given[0]}"
    for part in row.needs:
        if not source.get(part):
            yield required(f"{field}.{part}")
    if row.check is not None:
        yield from row.check(source, field)
    for name in given[1:]:
        yield forbidden(f"{path}.{rows[name].path_of_second or name}", "may not specify more than 1 volume type")
