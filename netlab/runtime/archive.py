"""Image archives: what `docker save`, `podman save`, `skopeo copy` and buildkit write, unpacked into a store.

Two layouts are read: docker-archive (manifest.json) and the OCI image layout (index.json, blobs/), as tar files,
plain or gzipped (https://github.com/opencontainers/image-spec/blob/main/image-layout.md). A store is a directory with
one directory per image: `image.json` and `rootfs/`, all layers merged. Whiteouts are applied while merging, so a
store needs neither device nodes nor any other privilege.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import os
import shutil
import stat
import tarfile
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any

from netlab.errors import KernelError, NotFound, Unsupported, UsageError
from netlab.kernel import mount, process
from netlab.runtime.reference import parse

_MAX_DOCUMENT = 16 << 20


@dataclass(frozen=True, kw_only=True)
class Stored:
    """An image of a store. `directory` is its name there; the rest is the image config's."""

    id: str
    directory: str
    tags: tuple[str, ...]
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    working_dir: str = ""
    user: str = ""
    stop_signal: str = ""
    size: int = 0


def load(path: Path, store: Path) -> list[str]:
    """Unpack every image of an archive into a store and return their names (the ids of nameless ones).

    A name that the store has already moves to the new image.

    Raises:
        UsageError: the file is no image archive, or says something that can't be.
        Unsupported: it is for another kind of machine, or packed in a way that can't be read here.
    """
    store.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        with tarfile.open(path) as tar:
            return [_load_one(tar, found, store) for found in _images(tar, path)]
    except FileNotFoundError:
        raise UsageError(f"no file {path}") from None
    except (tarfile.TarError, EOFError, KeyError, TypeError, AttributeError, ValueError, OSError, KernelError) as error:
        raise UsageError(f"{path} is no image archive that can be read: {error}",
                         hint="write it with `docker save NAME -o FILE`") from None


def list_store(store: Path) -> list[Stored]:
    """Return the images of a store, by name."""
    found: list[Stored] = []
    for file in store.glob("[!.]*/image.json"):
        with contextlib.suppress(OSError, ValueError, TypeError):  # removed at this moment
            data = json.loads(file.read_text())
            found.append(Stored(**{**data, "tags": tuple(data["tags"]), "entrypoint": tuple(data["entrypoint"]),
                                   "cmd": tuple(data["cmd"]), "env": tuple((k, v) for k, v in data["env"])}))
    return sorted(found, key=lambda image: (image.tags, image.id))


def remove(store: Path, name: str) -> None:
    """Take a name away, and the image with its last one. Its files stay, out of sight, until the store itself goes:
    containers may run on them.

    Raises:
        NotFound: the store has no image of that name or id.
    """
    wanted = name if name.startswith("sha256:") else str(parse(name))
    for image in list_store(store):
        if wanted == image.id or wanted in image.tags:
            left = tuple(tag for tag in image.tags if tag != wanted) if wanted != image.id else ()
            if left:
                _write(store, replace(image, tags=left))
            else:
                (store / image.directory).rename(tempfile.mkdtemp(prefix=".removed-", dir=store))
            return
    raise NotFound(f"no image {wanted} is loaded")


@dataclass(frozen=True)
class _Found:
    """An image in an archive: member names of its config and its layers, lowest first."""

    config: str
    layers: tuple[str, ...]
    tags: tuple[str, ...]


def _images(tar: tarfile.TarFile, path: Path) -> list[_Found]:
    names = set(tar.getnames())
    if "manifest.json" in names:
        return [_Found(entry["Config"], tuple(entry["Layers"]), tuple(entry.get("RepoTags") or ()))
                for entry in _document(tar, "manifest.json")]
    prefix = "" if "index.json" in names else "./"
    if f"{prefix}index.json" not in names:
        raise UsageError(f"{path} is no image archive: it has neither manifest.json nor index.json",
                         hint="write it with `docker save NAME -o FILE`")
    found = []
    for entry in _document(tar, f"{prefix}index.json")["manifests"]:
        manifest = _manifest(tar, prefix, entry)
        name = (entry.get("annotations") or {}).get("io.containerd.image.name") or (
            entry.get("annotations") or {}).get("org.opencontainers.image.ref.name", "")
        found.append(_Found(_blob(prefix, manifest["config"]), tuple(_blob(prefix, la) for la in manifest["layers"]),
                            (name,) if name else ()))
    return found


def _manifest(tar: tarfile.TarFile, prefix: str, entry: dict[str, Any]) -> dict[str, Any]:
    """Follow an index to the manifest for this machine."""
    document: dict[str, Any] = _document(tar, _blob(prefix, entry))
    if "manifests" not in document:
        return document
    wanted = _architecture()
    for inner in document["manifests"]:
        if (inner.get("platform") or {}).get("architecture") == wanted:
            return _manifest(tar, prefix, inner)
    raise Unsupported(f"the archive has no image for {wanted}")


def _blob(prefix: str, descriptor: dict[str, Any]) -> str:
    algorithm, _, digest = descriptor["digest"].partition(":")
    return f"{prefix}blobs/{algorithm}/{digest}"


def _architecture() -> str:
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)


def _document(tar: tarfile.TarFile, name: str) -> Any:
    file = tar.extractfile(name)
    if file is None:
        raise UsageError(f"{name} of the archive is not a file")
    return json.loads(file.read(_MAX_DOCUMENT))


def _load_one(tar: tarfile.TarFile, found: _Found, store: Path) -> str:
    file = tar.extractfile(found.config)
    raw = file.read(_MAX_DOCUMENT) if file else b""
    document = json.loads(raw)
    if document.get("architecture", _architecture()) != _architecture():
        raise Unsupported(f"the image is for {document['architecture']}, this machine is {_architecture()}")
    config = document.get("config") or {}
    digest = "sha256:" + hashlib.sha256(raw).hexdigest()
    tags = tuple(str(parse(tag)) for tag in found.tags)
    name = tags[0] if tags else digest
    directory = digest.removeprefix("sha256:")[:12]
    known = {image.id: image for image in list_store(store)}
    if digest in known:
        _take_names(store, tags, digest)
        _write(store, replace(known[digest], tags=tuple(sorted({*tags, *known[digest].tags}))))
        return name
    work = Path(tempfile.mkdtemp(prefix=".loading-", dir=store))
    try:
        (work / "rootfs").mkdir()
        size = 0
        for layer in found.layers:
            member = tar.extractfile(layer)
            if member is None:
                raise UsageError(f"{layer} of the archive is not a file")
            size += _unpack(member, work / "rootfs")
        work.chmod(0o755)
        stored = Stored(
            id=digest, directory=directory, tags=tags, entrypoint=tuple(config.get("Entrypoint") or ()),
            cmd=tuple(config.get("Cmd") or ()), user=config.get("User") or "", size=size,
            env=tuple((k, v) for k, _, v in (word.partition("=") for word in config.get("Env") or ())),
            working_dir=config.get("WorkingDir") or "", stop_signal=config.get("StopSignal") or "")
        (work / "image.json").write_text(json.dumps(asdict(stored)))
        _take_names(store, tags, digest)
        work.rename(store / directory)  # whole, or not there
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return name


def _take_names(store: Path, tags: tuple[str, ...], digest: str) -> None:
    """Take names from other images: each belongs to one."""
    for image in list_store(store):
        if image.id != digest:
            for tag in set(image.tags) & set(tags):
                remove(store, tag)


def _write(store: Path, image: Stored) -> None:
    temporary = store / image.directory / ".image.json"
    temporary.write_text(json.dumps(asdict(image)))
    temporary.rename(store / image.directory / "image.json")


def _unpack(layer: IO[bytes], root: Path) -> int:
    """Merge one layer into a root and return how many bytes its files have."""
    size = 0
    top = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with tarfile.open(fileobj=_plain(layer), mode="r|") as tar:
            added: set[str] = set()
            for member in tar:
                size += _merge(tar, member, top, added)
    finally:
        os.close(top)
    return size


def _plain(layer: IO[bytes]) -> IO[bytes]:
    head = layer.read(4)
    layer.seek(0)
    if head[:2] == b"\x1f\x8b":
        return io.BufferedReader(gzip.GzipFile(fileobj=layer))
    if head == b"\x28\xb5\x2f\xfd":
        if not shutil.which("zstd"):
            raise Unsupported("a layer is packed with zstd, and this machine has no zstd", hint="apt install zstd")
        return io.BytesIO(process.run_sync(["zstd", "-dc"], input=layer.read()).checked("zstd"))
    return layer


def _merge(tar: tarfile.TarFile, member: tarfile.TarInfo, top: int, added: set[str]) -> int:
    """Bring one member in. Its directory is resolved inside the root: no name and no link of an image leads out."""
    words = [word for word in member.name.split("/") if word not in ("", ".")]
    if ".." in words:
        raise UsageError(f"a layer has the unsafe name {member.name!r}")
    if not words:
        return 0
    *folder, name = words
    parent = mount.make_in_root(top, "/".join(folder), directory=True) if folder else os.dup(top)
    try:
        if name == ".wh..wh..opq":
            for entry in os.listdir(mount.at(parent)):
                if "/".join([*folder, entry]) not in added:
                    _delete(parent, entry)
            return 0
        if name.startswith(".wh."):
            _delete(parent, name.removeprefix(".wh."))
            return 0
        added.update("/".join(words[:n]) for n in range(1, len(words) + 1))
        _make(tar, member, parent, name, top)
    finally:
        os.close(parent)
    return member.size if member.isreg() else 0


def _make(tar: tarfile.TarFile, member: tarfile.TarInfo, parent: int, name: str, top: int) -> None:
    here = mount.at(parent)
    if member.isdir():
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISDIR(os.lstat(f"{here}/{name}").st_mode):
                os.unlink(f"{here}/{name}")
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, dir_fd=parent)
    else:
        _delete(parent, name)
        if member.isreg():
            source = tar.extractfile(member)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(name, flags, 0o600, dir_fd=parent)
            with open(fd, "wb") as target:
                if source is not None:
                    shutil.copyfileobj(source, target, 1 << 18)
        elif member.issym():
            os.symlink(member.linkname, name, dir_fd=parent)
        elif member.islnk():
            original = mount.open_in_root(top, member.linkname, os.O_PATH | os.O_NOFOLLOW)
            try:
                os.link(mount.at(original), name, dst_dir_fd=parent, follow_symlinks=True)
            finally:
                os.close(original)
            return
        elif member.isfifo():
            os.mkfifo(name, dir_fd=parent)
        else:
            return  # device nodes: a container's /dev is made by the runtime
    with contextlib.suppress(OSError):  # ids that a user namespace of one uid does not have
        os.chown(name, member.uid, member.gid, dir_fd=parent, follow_symlinks=False)
    if not member.issym():
        os.chmod(f"{here}/{name}", member.mode & 0o7777)
        os.utime(f"{here}/{name}", (member.mtime, member.mtime))


def _delete(parent: int, name: str) -> None:
    path = f"{mount.at(parent)}/{name}"
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISDIR(os.lstat(path).st_mode):
            shutil.rmtree(path)
        else:
            os.unlink(path)
