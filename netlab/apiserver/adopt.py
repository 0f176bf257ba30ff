"""Make the objects of an earlier cluster fit new keys, before the first API server and kubelet of the new one start.

A cluster that begins on what an etcd kept of another has a CA of its own. Its root CA publisher would write that down
soon, but not before kubelets have mounted the old one into Pods, which could then trust no API server; and tokens in
Secrets, which the old key signed, would stay. So both are put right in the store, before anybody reads it.
"""

from __future__ import annotations

import base64
import binascii
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson

from netlab.apiserver.preflight import Found, Target, cluster_ips, foreign, pod_ranges
from netlab.errors import TemporaryError, UsageError
from netlab.store import Conflict, KeyMissing, Store, StoreError
from netlab.store import snapshot as snapshots

_MAPS, _MAP = b"/registry/configmaps/", b"/kube-root-ca.crt"
_SECRETS, _TOKEN = b"/registry/secrets/", "kubernetes.io/service-account-token"


async def etcd(target: Target, ca: str) -> int:
    """Do it in an etcd; `ca` is the new CA in PEM. Returns how many objects were changed.

    Raises:
        TemporaryError: the etcd does not do it.
    """
    from netlab.store.etcd import EtcdStore  # gRPC is imported where it is spoken

    try:
        async with await EtcdStore.connect(target.servers, prefix=target.prefix, ca=target.ca, key=target.key,
                                           certificate=target.certificate, compact_seconds=0) as store:
            return await renew(store, ca)
    except StoreError as error:
        raise TemporaryError(f"the etcd refuses: {error}", hint=error.hint) from None


async def snapshot(file: Path, path: Path, ca: str) -> Found:
    """Make the store's file `path` of a snapshot that `etcdctl snapshot save` wrote, and do it there.

    Raises:
        UsageError: it is no snapshot of an API server of ours.
    """
    try:
        snapshots.restore(file, path)
        async with await Store.open(path, synchronous="normal") as store:
            kvs = (await store.list(b"/registry/")).kvs
            words = next(filter(None, (foreign(kv.key, kv.value) for kv in kvs)), "")
            if words or not kvs:
                raise UsageError(f"{file}: {words or 'nothing in it is under /registry'}")
            await renew(store, ca)
    except StoreError as error:
        raise UsageError(str(error), hint=error.hint) from None
    except OSError as error:
        raise UsageError(f"{error.filename or path}: {error.strerror or error}") from None
    by_key = {kv.key: kv.value for kv in kvs}
    nodes = {key: value for key, value in by_key.items() if key.startswith(b"/registry/minions/")}
    service = by_key.get(b"/registry/services/specs/default/kubernetes", b"{}")
    return Found("", "", len(kvs), pod_ranges(nodes), cluster_ips(service))


async def renew(store: Store, ca: str) -> int:
    """Write a new CA into every kube-root-ca.crt, and take old tokens out of Secrets, which the token controller fills.

    Returns:
        How many objects were changed.
    """
    changed = 0
    for prefix, fit in ((_MAPS, _root), (_SECRETS, _secret)):
        for kv in (await store.list(prefix)).kvs:
            if prefix == _MAPS and not kv.key.endswith(_MAP):
                continue
            obj = orjson.loads(kv.value)
            if fit(obj, ca):
                with suppress(Conflict, KeyMissing):
                    await store.update(kv.key, orjson.dumps(obj), kv.mod_revision)
                    changed += 1
    return changed


def _root(obj: dict[str, Any], ca: str) -> bool:
    """Put the CA into a ConfigMap; tell whether it is changed by that."""
    if obj.get("data") == {"ca.crt": ca}:
        return False
    obj["data"] = {"ca.crt": ca}
    return True


def _secret(obj: dict[str, Any], ca: str) -> bool:
    data = obj.get("data") or {}
    if obj.get("type") != _TOKEN or "token" not in data:
        return False
    with suppress(binascii.Error, TypeError):
        if base64.b64decode(data.get("ca.crt") or "") == ca.encode():
            return False
    for name in ("token", "ca.crt"):
        data.pop(name, None)
    return True
