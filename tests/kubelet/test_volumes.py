"""Volumes: their files, the atomic change of a set of files, mounts into containers."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import pytest

from netlab.kubelet.downward import Surroundings
from netlab.kubelet.env import Missing
from netlab.kubelet.volumes import atomic, payload
from netlab.kubelet.volumes.atomic import File
from netlab.kubelet.volumes.mounts import mounts
from netlab.kubelet.volumes.setup import _host_path
from tests.kubelet.builders import a_container, a_pod

CONFIG = {"kind": "ConfigMap", "data": {"a.conf": "A", "b.conf": "B"}, "binaryData": {"bin": base64.b64encode(b"\0").decode()}}
SECRET = {"kind": "Secret", "data": {"key": base64.b64encode(b"k").decode()}}


def files(volume: dict[str, Any], pod: dict[str, Any] | None = None, **objects: Any) -> dict[str, File]:
    found = {"configmaps": {"config": CONFIG}, "secrets": {"secret": SECRET}}
    return payload.files(pod or a_pod(), {"name": "v", **volume}, lambda kind, name: found[kind].get(name),
                         lambda request: f"token for {request.audience} {request.seconds}", Surroundings("worker1"))


def modes(found: dict[str, File]) -> dict[str, tuple[bytes, int]]:
    return {path: (file.content, file.mode) for path, file in found.items()}


@pytest.mark.parametrize(("volume", "found"), [
    ({"configMap": {"name": "config"}}, {"a.conf": (b"A", 0o644), "b.conf": (b"B", 0o644), "bin": (b"\0", 0o644)}),
    ({"configMap": {"name": "config", "items": [{"key": "a.conf", "path": "d/x", "mode": 0o400}]}},
     {"d/x": (b"A", 0o400)}),
    ({"secret": {"secretName": "secret", "defaultMode": 0o400}}, {"key": (b"k", 0o400)}),
    ({"configMap": {"name": "no", "optional": True}}, {}),
    ({"configMap": {"name": "config", "optional": True, "items": [{"key": "no", "path": "x"}]}}, {}),
    ({"downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}},
                                {"path": "cpu", "resourceFieldRef": {"containerName": "web", "resource": "requests.cpu"}}]}},
     {"name": (b"web-1", 0o644), "cpu": (b"0", 0o644)}),
    ({"projected": {"sources": [{"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
                                {"configMap": {"name": "config", "items": [{"key": "a.conf", "path": "ca.crt"}]}},
                                {"secret": {"name": "secret"}}]}},
     {"token": (b"token for  3607", 0o644), "ca.crt": (b"A", 0o644), "key": (b"k", 0o644)}),
])
def test_files(volume: dict[str, Any], found: dict[str, tuple[bytes, int]]) -> None:
    assert modes(files(volume)) == found


@pytest.mark.parametrize(("volume", "message"), [
    ({"configMap": {"name": "no"}}, 'configmap "no" not found'),
    ({"secret": {"secretName": "no"}}, 'secret "no" not found'),
    ({"configMap": {"name": "config", "items": [{"key": "no", "path": "x"}]}},
     "configmap references non-existent config key: no"),
])
def test_missing(volume: dict[str, Any], message: str) -> None:
    with pytest.raises(Missing) as raised:
        files(volume)
    assert str(raised.value) == message
    assert payload.references(volume)


def test_a_token_is_for_its_user_alone() -> None:
    volume = {"projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}
    assert files(volume, a_pod(securityContext={"runAsUser": 1000}))["token"] == File(b"token for  3600", 0o600, 1000)
    assert files(volume, a_pod(securityContext={"fsGroup": 5}))["token"].mode == 0o600


def test_a_set_changes_at_once(tmp_path: Path) -> None:
    assert atomic.write(tmp_path, {"a": File(b"1"), "d/b": File(b"2", 0o400)})
    first = os.readlink(tmp_path / "..data")
    assert (tmp_path / "a").read_bytes() == b"1"
    assert (tmp_path / "d/b").stat().st_mode & 0o777 == 0o400
    assert not atomic.write(tmp_path, {"a": File(b"1"), "d/b": File(b"2", 0o400)})
    held = (tmp_path / "..data").resolve()
    assert atomic.write(tmp_path, {"a": File(b"new"), "c": File(b"3")})
    assert os.readlink(tmp_path / "..data") != first
    assert {p.name for p in tmp_path.iterdir() if p.name[0] != "."} == {"a", "c"}
    assert (tmp_path / "a").read_bytes() == b"new"
    assert not held.exists()


@pytest.mark.parametrize("path", ["../x", "/etc/x", "a/../../x", "..x"])
def test_a_path_that_leads_out(tmp_path: Path, path: str) -> None:
    with pytest.raises(ValueError, match="invalid path"):
        atomic.write(tmp_path, {path: File(b"")})


def test_mounts(tmp_path: Path) -> None:
    wanted = a_container(volumeMounts=[
        {"name": "v", "mountPath": "/a", "readOnly": True}, {"name": "v", "mountPath": "/b", "subPath": "x/y"},
        {"name": "v", "mountPath": "/c", "subPathExpr": "$(WHO)"}])
    found = mounts(wanted, {"v": tmp_path}, {"WHO": "me"})
    assert [(m.container_path, m.sub_path, m.readonly) for m in found] == [
        ("/a", "", True), ("/b", "x/y", False), ("/c", "me", False)]
    assert (tmp_path / "x/y").is_dir()


def test_mounts_that_lead_out(tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "link").symlink_to(tmp_path)
    for below in ("../x", "/x", "link/new"):
        with pytest.raises(ValueError, match="subPath"):
            mounts(a_container(volumeMounts=[{"name": "v", "mountPath": "/a", "subPath": below}]),
                   {"v": tmp_path / "v"}, {})
    with pytest.raises(ValueError, match="cannot find volume"):
        mounts(a_container(volumeMounts=[{"name": "no", "mountPath": "/a"}]), {}, {})
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(("kind", "wrong"), [("Directory", "file"), ("File", "dir"), ("Socket", "file"), ("Directory", "no"),
                                             ("CharDevice", "dir"), ("FileOrCreate", "dir")])
def test_host_path_of_the_wrong_type(tmp_path: Path, kind: str, wrong: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "dir").mkdir()
    with pytest.raises(ValueError, match="hostPath type check failed"):
        _host_path({"path": str(tmp_path / wrong), "type": kind})


def test_host_path_is_made(tmp_path: Path) -> None:
    assert _host_path({"path": str(tmp_path / "d"), "type": "DirectoryOrCreate"}).is_dir()
    assert _host_path({"path": str(tmp_path / "f"), "type": "FileOrCreate"}).is_file()
    assert _host_path({"path": str(tmp_path / "plain")}).is_dir()
