"""Static Pods: manifests in a directory of the node become Pods without any API server, as kubeadm's control plane.

After k8s:pkg/kubelet/config (file.go, common.go). A file that is being written or that says nonsense leaves what was
there before it; a file that goes takes its Pod along.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import yaml

from netlab.api import meta
from netlab.api.meta import Object
from netlab.errors import ManifestError
from netlab.kernel.inotify import Inotify
from netlab.kubelet import admission, spec

log = logging.getLogger(__name__)

_INTERVAL = 1.0


def read(file: str, text: bytes, node_name: str, seen: float) -> Object:
    """Return the Pod that a manifest describes, named and marked as this node's.

    Args:
        file: its path; a part of the uid, so that two files never make one Pod.
        text: YAML or JSON; of several documents the first counts.
        node_name: this node.
        seen: Unix seconds, for the annotation.

    Raises:
        ManifestError: it is no Pod.
    """
    try:
        document = next(iter(yaml.load_all(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))), None)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise ManifestError(f"not YAML: {getattr(error, 'problem', None) or error}", file=file,
                            line=mark.line + 1 if mark else 0) from None
    if not isinstance(document, dict) or document.get("kind") != "Pod" or document.get("apiVersion") != "v1":
        raise ManifestError("not a v1 Pod", file=file, field="kind")
    pod: Object = orjson.loads(orjson.dumps(document, default=str))
    metadata, body = pod.setdefault("metadata", {}), pod.get("spec")
    name = metadata.get("name")
    if not isinstance(name, str) or not name:
        raise ManifestError("a static Pod needs a name", file=file, field="metadata.name")
    if not isinstance(body, dict):
        raise ManifestError("a static Pod needs a spec", file=file, field="spec")
    containers = body.get("containers")
    if not isinstance(containers, list) or not containers or not all(
            isinstance(c, dict) and c.get("name") and c.get("image") for c in containers):
        raise ManifestError("a static Pod needs containers, each with a name and an image", file=file,
                            field="spec.containers")
    try:
        admission.demand(pod)
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise ManifestError(f"not a valid Pod: {error}", file=file, field="spec") from None
    pod.pop("status", None)
    digest = hashlib.md5(orjson.dumps([pod, node_name, file], option=orjson.OPT_SORT_KEYS), usedforsecurity=False)
    uid = str(metadata.get("uid") or digest.hexdigest())
    metadata |= {"name": f"{name}-{node_name}", "namespace": metadata.get("namespace") or "default", "uid": uid}
    metadata["annotations"] = {**(metadata.get("annotations") or {}), spec.CONFIG_HASH: uid,
                               spec.CONFIG_SEEN: meta.micro_timestamp(seen), spec.CONFIG_SOURCE: "file"}
    pod["spec"] = _defaults(body, node_name)
    return pod


def _defaults(body: dict[str, Any], node_name: str) -> Object:
    """Fill in what the API server would, as far as the kubelet reads it; a static Pod bears every NoExecute taint."""
    tolerations = [*(body.get("tolerations") or []), {"effect": "NoExecute", "operator": "Exists"}]
    return {"restartPolicy": "Always", "terminationGracePeriodSeconds": spec.DEFAULT_GRACE,
            "dnsPolicy": "ClusterFirst", "enableServiceLinks": True, "schedulerName": "default-scheduler",
            "securityContext": {}, **body, "tolerations": tolerations, "nodeName": node_name}


class StaticPods:
    """The directory's Pods by uid; `changed()` is called after each change."""

    def __init__(self, directory: Path, node_name: str, changed: Callable[[], None]) -> None:
        self.pods: dict[str, Object] = {}
        self.read = asyncio.Event()
        """Set once the directory has been read."""
        self._directory, self._node_name, self._changed = directory, node_name, changed
        self._files: dict[str, tuple[tuple[int, ...], Object | None]] = {}

    async def run(self, stop: asyncio.Event, inotify: Inotify) -> None:
        """Follow the directory until `stop` is set: at once where inotify serves, else within a second."""
        looked = asyncio.Event()
        end: Callable[[], None] | None = None
        while not stop.is_set():
            if end is None and self._directory.is_dir():
                end = inotify.watch(self._directory, looked.set)
            looked.clear()
            self.look(time.time())
            self.read.set()
            try:
                async with asyncio.timeout(_INTERVAL):
                    await looked.wait()
            except TimeoutError:
                continue

    def look(self, now: float) -> None:
        """Read what is new or has changed."""
        try:
            found = {str(p): p for p in sorted(self._directory.iterdir()) if p.is_file() and p.name[0] != "."}
        except OSError:
            found = {}
        before = {uid: id(pod) for uid, pod in self.pods.items()}
        for file in [f for f in self._files if f not in found]:
            del self._files[file]
        for file, path in found.items():
            try:
                info = path.stat()
                stamp = (info.st_mtime_ns, info.st_size, info.st_ino)
                known = self._files.get(file)
                if known is None or known[0] != stamp:
                    self._files[file] = (stamp, self._read(file, path, now, known[1] if known else None))
            except OSError:
                continue  # it went while we looked
        self.pods = {meta.uid(pod): pod for _, pod in self._files.values() if pod is not None}
        if before != {uid: id(pod) for uid, pod in self.pods.items()}:
            self._changed()

    def _read(self, file: str, path: Path, now: float, old: Object | None) -> Object | None:
        text = path.read_bytes()
        if not text.strip():
            return old
        try:
            new = read(file, text, self._node_name, now)
        except ManifestError as error:
            log.error("static Pod: %s", error)
            return old
        return old if old is not None and meta.uid(old) == meta.uid(new) else new
