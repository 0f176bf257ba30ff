"""kubeconfig files: the components' own, and the user's, into which a lab's context is merged as kind does."""

from __future__ import annotations

import base64
import contextlib
import os
import pwd
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from netlab.errors import UsageError
from netlab.lab.pki import Pair

Document = dict[str, Any]
_SECTIONS = ("clusters", "contexts", "users")
_LOCK_SECONDS = 2.0


@dataclass(frozen=True)
class Owner:
    """Whose file it is: under sudo the calling user's, not root's."""

    uid: int
    gid: int
    home: Path


def document(*, server: str, ca: bytes, name: str, user: str, pair: Pair | None = None, certificate_file: str = "",
             context: str = "") -> Document:
    """Return a kubeconfig with one cluster, user and context. The key is inline, or in a PEM file on the node."""
    credentials: Document = {}
    if pair is not None:
        credentials = {"client-certificate-data": _encode(pair.certificate), "client-key-data": _encode(pair.key)}
    elif certificate_file:
        credentials = {"client-certificate": certificate_file, "client-key": certificate_file}
    context = context or f"{user}@{name}"
    return {"apiVersion": "v1", "kind": "Config", "preferences": {},
            "clusters": [{"name": name, "cluster": {"certificate-authority-data": _encode(ca), "server": server}}],
            "contexts": [{"name": context, "context": {"cluster": name, "user": user}}],
            "current-context": context,
            "users": [{"name": user, "user": credentials}]}


def admin(lab: str, *, port: int, ca: bytes, pair: Pair) -> Document:
    """Return the administrator's kubeconfig for the host: everything in it is called netlab-LAB, as kind does it."""
    name = context_name(lab)
    return document(server=f"https://127.0.0.1:{port}", ca=ca, name=name, user=name, pair=pair, context=name)


def context_name(lab: str) -> str:
    """Return the name of a lab's context, cluster and user."""
    return f"netlab-{lab}"


def text(content: Document) -> str:
    """Return the YAML of a kubeconfig."""
    return yaml.dump(content, Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper), sort_keys=False)


def calling_user() -> Owner:
    """Return who is at the keyboard: SUDO_UID's user when root was reached by sudo, else this process's user."""
    uid = os.geteuid()
    sudo = os.environ.get("SUDO_UID", "")
    if uid == 0 and sudo.isdigit() and int(sudo) != 0:
        with contextlib.suppress(KeyError):
            entry = pwd.getpwuid(int(sudo))
            return Owner(entry.pw_uid, entry.pw_gid, Path(entry.pw_dir))
    return Owner(uid, os.getegid(), Path.home())


def user_file(owner: Owner) -> Path:
    """Return the file to merge into: the first of $KUBECONFIG's that exists (else its last), or ~/.kube/config."""
    listed = [Path(part) for part in os.environ.get("KUBECONFIG", "").split(":") if part]
    if listed:
        return next((path for path in listed if path.exists()), listed[-1])
    return owner.home / ".kube" / "config"


def merge(path: Path, addition: Document, owner: Owner) -> None:
    """Put a lab's cluster, user and context into a kubeconfig and make the context the current one.

    Raises:
        UsageError: the file is not a kubeconfig, or can't be written; it is then as it was.
    """
    with _edited(path, owner) as content:
        for section in _SECTIONS:
            names = {row["name"] for row in addition[section]}
            content[section] = [row for row in content.get(section) or [] if row.get("name") not in names]
            content[section] += addition[section]
        content["current-context"] = addition["current-context"]


def remove(path: Path, lab: str, owner: Owner) -> None:
    """Take a lab's cluster, user and context out of a kubeconfig; twice is fine, and so is a file that is gone."""
    if not path.exists():
        return
    name = context_name(lab)
    with _edited(path, owner) as content:
        for section in _SECTIONS:
            content[section] = [row for row in content.get(section) or [] if row.get("name") != name]
        if content.get("current-context") == name:
            content["current-context"] = ""


@contextlib.contextmanager
def _edited(path: Path, owner: Owner) -> Iterator[Document]:
    """Read, let the body change, and replace the file, under the lock that kubectl and kind use (FILE.lock)."""
    try:
        path = path.resolve()
        if not path.parent.exists():
            path.parent.mkdir(parents=True, mode=0o750)
            _give(path.parent, owner)
        with _locked(path.with_name(path.name + ".lock")):
            before = path.read_bytes() if path.exists() else b""
            content = _parse(path, before)
            yield content
            _replace(path, text(content).encode(), owner)
    except OSError as error:
        raise UsageError(f"cannot write the kubeconfig {path}: {error.strerror}",
                         hint="set KUBECONFIG to another file") from None


def _parse(path: Path, raw: bytes) -> Document:
    try:
        content = yaml.load(raw, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)) or {}
    except yaml.YAMLError:
        content = None
    if not isinstance(content, dict) or content.get("kind", "Config") != "Config":
        raise UsageError(f"{path} is not a kubeconfig", hint="move it away, or set KUBECONFIG to another file")
    return {"apiVersion": "v1", "kind": "Config", "preferences": {}} | content


def _replace(path: Path, raw: bytes, owner: Owner) -> None:
    temporary = path.with_name(f".{path.name}.netlab-{os.getpid()}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(raw)
        if path.exists():
            info = path.stat()
            os.fchmod(file.fileno(), info.st_mode & 0o7777)
            _chown(file.fileno(), info.st_uid, info.st_gid)
        else:
            _chown(file.fileno(), owner.uid, owner.gid)
    temporary.replace(path)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    # kubectl's and kind's protocol (client-go, tools/clientcmd): whoever creates FILE.lock may write FILE
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            break
        except FileExistsError:
            if time.monotonic() > deadline:
                raise UsageError(f"{path} exists: another program is changing the kubeconfig",
                                 hint=f"if none is, remove it: rm {path}") from None
            time.sleep(0.02)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _give(path: Path, owner: Owner) -> None:
    if os.geteuid() == 0:
        os.chown(path, owner.uid, owner.gid)


def _chown(handle: int, uid: int, gid: int) -> None:
    if os.geteuid() == 0:
        os.fchown(handle, uid, gid)


def _encode(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
