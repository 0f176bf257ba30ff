"""Images: the built-in ones, made from what this machine has, and those loaded from archives.

A built-in image of one of our programs has the host's /usr, Python and this package in it, read-only; its program is
not exec'd but forked from the shim, where it is loaded already. `busybox` is a root of its own, with the host's static
busybox and a link per applet; `nginx` is the host's nginx with the upstream image's layout. Any tag of a built-in
image is the same image. A loaded image of exactly the asked name goes before a built-in one.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from netlab.errors import ImageNotFound
from netlab.kernel import capabilities, process
from netlab.runtime import archive, pause, rootfs
from netlab.runtime.cri import ImageInfo
from netlab.runtime.reference import Reference, parse

load, list_store, remove = archive.load, archive.list_store, archive.remove

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PROGRAM_IMAGES = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "netd", "coredns",
                  "agnhost", "etcd")
_UPSTREAM = {
    "registry.k8s.io/e2e-test-images/agnhost": "agnhost",
    "gcr.io/k8s-staging-e2e-test-images/agnhost": "agnhost",
    "k8s.gcr.io/e2e-test-images/agnhost": "agnhost",
    "k8s.gcr.io/e2e-test-images/busybox": "busybox",
    "k8s.gcr.io/e2e-test-images/nginx": "nginx",
    "docker.io/library/busybox": "busybox",
    "registry.k8s.io/e2e-test-images/busybox": "busybox",
    "registry.k8s.io/busybox": "busybox",
    "docker.io/library/nginx": "nginx",
    "registry.k8s.io/e2e-test-images/nginx": "nginx",
    "registry.k8s.io/pause": "pause",
    "k8s.gcr.io/pause": "pause",
}
_PACKAGES = {"busybox": "busybox-static", "nginx": "nginx-light"}
"""Images made from a program of the host's, and the package that brings it."""


@dataclass(frozen=True, kw_only=True)
class Image:
    """An image, ready to start containers from.

    `root` is the layer under the container's own; `shared` are files and directories of the node bound over it,
    read-only: (path inside, path in the node); `writable` are directories of /usr that the container gets a copy of
    its own of. `programs` tells whether our programs are in it.
    """

    id: str
    tags: tuple[str, ...]
    root: Path
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    working_dir: str = "/"
    user: str = ""
    stop_signal: str = "SIGTERM"
    size: int = 0
    shared: tuple[tuple[str, str], ...] = ()
    writable: tuple[str, ...] = ()
    builtin: bool = False
    programs: bool = False

    def info(self) -> ImageInfo:
        """Return what the runtime interface tells of it."""
        return ImageInfo(id=self.id, tags=self.tags, size=self.size, user=self.user, builtin=self.builtin)


class Images:
    """The images of a node. Roots of built-in ones are made in `directory` when first used.

    Args:
        directory: of the node, in memory.
        store: directory of loaded images, or None.
        programs: names of our programs.
    """

    def __init__(self, directory: Path, store: Path | None, programs: Collection[str]) -> None:
        self.directory, self.store, self.programs = directory, store, programs
        self._made: dict[str, Image] = {}

    def find(self, text: str) -> Image:
        """Return the image that a reference means.

        Raises:
            UsageError: it is no reference.
            ImageNotFound: this node has no such image.
        """
        if text.startswith("sha256:"):
            for image in [*self._loaded(), *map(self._builtin, self._builtin_names())]:
                if image.id == text:
                    return image
        reference = parse(text)
        wanted = str(reference)
        for image in self._loaded():
            if wanted in image.tags or wanted.rpartition("@")[2] == image.id:
                return image
        name = self._builtin_name(reference)
        if name in _PACKAGES and not _which(name):
            raise ImageNotFound(f'image "{wanted}" is made from this machine\'s {name}, which is not there: '
                                f"apt install {_PACKAGES[name]}")
        if name is None or reference.digest:
            raise ImageNotFound(
                f'image "{wanted}" is neither built in nor loaded, and nothing is downloaded: save it elsewhere '
                f"(docker save {text} -o FILE) and run `netlab image load FILE`; built in are "
                f"{', '.join(self._display(n) for n in self._builtin_names())}")
        return self._builtin(name)

    def all(self) -> list[Image]:
        """Return the loaded and the built-in images."""
        return [*self._loaded(), *map(self._builtin, self._builtin_names())]

    def _builtin_names(self) -> list[str]:
        names = [name for name in PROGRAM_IMAGES if name in self.programs]
        return [*names, *(name for name in _PACKAGES if _which(name)), "pause"]

    def _builtin_name(self, reference: Reference) -> str | None:
        name = _UPSTREAM.get(reference.repository)
        if name is None and reference.repository.startswith("docker.io/netlab/"):
            name = reference.repository.removeprefix("docker.io/netlab/")
        return name if name in _PACKAGES or name in self._builtin_names() else None

    def _display(self, name: str) -> str:
        return name if name in _PACKAGES else f"netlab/{name}"

    def _builtin(self, name: str) -> Image:
        if name not in self._made:
            makers: dict[str, Callable[[], Image]] = {"busybox": self._busybox, "nginx": self._nginx,
                                                      "pause": self._pause}
            self._made[name] = makers.get(name, lambda: self._program(name))()
        return self._made[name]

    def _image(self, name: str, root: Path, *, path: str = PATH, **fields: object) -> Image:
        tags = (f"docker.io/library/{name}:latest",) if name in _PACKAGES else (
            f"docker.io/netlab/{name}:latest",)
        digest = hashlib.sha256(f"netlab built-in {name}".encode()).hexdigest()
        return Image(id=f"sha256:{digest}", tags=tags, root=root, env=(("PATH", path),), builtin=True,
                     **fields)  # type: ignore[arg-type]

    def _program(self, name: str) -> Image:
        if name == "agnhost":
            return self._image(name, self._host_root(), shared=_shared(), programs=True,
                               path=f"{PATH}:{PROGRAM_DIRECTORY}", entrypoint=("/agnhost",), cmd=("pause",))
        return self._image(name, self._host_root(), shared=_shared(), programs=True,
                           path=f"{PATH}:{PROGRAM_DIRECTORY}", entrypoint=(name,))

    def _pause(self) -> Image:
        root = self.directory / "pause"
        for directory in ("dev", "proc", "sys", "etc"):
            (root / directory).mkdir(parents=True, exist_ok=True)
        code = pause.executable()
        if code is None:
            return self._image("pause", self._host_root(), shared=_shared(), entrypoint=("sleep", "infinity"))
        (root / "pause").write_bytes(code)
        (root / "pause").chmod(0o755)
        return self._image("pause", root, entrypoint=("/pause",))

    def _busybox(self) -> Image:
        binary = _which("busybox")
        applets = process.run_sync([binary, "--list"]).checked("busybox --list").decode().split()
        if not _is_static(binary):
            root = self._host_root("busybox", programs=False)
            _link_applets(root / "opt/busybox", applets, binary)
            return self._image("busybox", root, path=f"/opt/busybox:{PATH}", cmd=("sh",),
                               shared=_shared(programs=False))
        root = self.directory / "busybox"
        root.mkdir(parents=True)
        rootfs.make_skeleton(root)
        for link in rootfs.USR_LINKS:
            if (root / link).is_symlink():
                (root / link).unlink()
        _link_applets(root / "bin", [applet for applet in applets if applet != "busybox"], "busybox")
        (root / "bin/busybox").touch(mode=0o755)  # 2 MB that nodes and Pods need not have twice
        (root / "sbin").symlink_to("bin")
        for link in ("bin", "sbin"):
            (root / "usr" / link).symlink_to("../bin")
        rootfs.fill_var(root / "var")
        users = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/false\n"
        rootfs.write_all(root / "etc", [("passwd", users, 0o644),
                                        ("group", "root:x:0:\nnogroup:x:65534:\n", 0o644),
                                        ("nsswitch.conf", "hosts: files dns\n", 0o644)])
        return self._image("busybox", root, cmd=("sh",), shared=(("/bin/busybox", os.path.realpath(binary)),))

    def _nginx(self) -> Image:
        root = self._host_root("nginx", programs=False)
        shutil.rmtree(root / "etc/nginx", ignore_errors=True)
        (root / "etc/nginx/conf.d").mkdir(parents=True)
        mime = Path("/etc/nginx/mime.types")
        types = mime.read_text() if mime.exists() else "types { text/html html htm; }\n"
        user = "www-data" if capabilities.exists(33) else "root"  # where only uid 0 is mapped
        rootfs.write_all(root / "etc/nginx", [("nginx.conf", f"user {user};\n{_NGINX_CONF}", 0o644),
                                              ("mime.types", types, 0o644),
                                              ("conf.d/default.conf", _NGINX_DEFAULT, 0o644)])
        for name in ("log/nginx", "cache/nginx", "lib/nginx"):
            (root / "var" / name).mkdir(parents=True, exist_ok=True)
        for log, device in (("access.log", "stdout"), ("error.log", "stderr")):
            (root / "var/log/nginx" / log).symlink_to(f"/dev/{device}")
        html = "/usr/share/nginx/html"
        return self._image("nginx", root, shared=_shared(programs=False), cmd=("nginx", "-g", "daemon off;"),
                           stop_signal="SIGQUIT", writable=(html,) if Path(html).is_dir() else ())

    def _host_root(self, name: str = "host", *, programs: bool = True) -> Path:
        """Make the root that images of host files have below, with our programs or without; each is made once."""
        root = self.directory / name
        if not root.exists():
            root.mkdir(parents=True)
            rootfs.make_skeleton(root)
            rootfs.fill_etc(root / "etc")
            rootfs.fill_var(root / "var")
            if programs:
                self._add_programs(root)
        return root

    def _add_programs(self, root: Path) -> None:
        for path in rootfs.host_paths():
            (root / path.relative_to("/")).mkdir(parents=True, exist_ok=True)
        if any(path.is_relative_to("/root") for path in rootfs.host_paths()):
            (root / "root").chmod(0o711)
        wrappers = root / PROGRAM_DIRECTORY.lstrip("/")
        rootfs.write_all(wrappers, [(program, wrapper(program), 0o755) for program in self.programs])
        if "agnhost" in self.programs:
            for name in ("agnhost", "agnhost-2"):  # the second is there to stand in for the image's own command
                (root / name).symlink_to(f"{PROGRAM_DIRECTORY}/agnhost")
            rootfs.write_all(wrappers, [("nc", '#!/bin/sh\nexec /agnhost nc "$@"\n', 0o755)])

    def _loaded(self) -> list[Image]:
        if self.store is None:
            return []
        return [Image(id=stored.id, tags=stored.tags, root=self.store / stored.directory / "rootfs",
                      entrypoint=stored.entrypoint, cmd=stored.cmd, env=stored.env, user=stored.user,
                      working_dir=stored.working_dir or "/", stop_signal=stored.stop_signal or "SIGTERM",
                      size=stored.size)
                for stored in archive.list_store(self.store)]


PROGRAM_DIRECTORY = "/opt/netlab/bin"
"""Where, in images and nodes, our programs can be exec'd by name (300 ms instead of 5: a new interpreter)."""


def wrapper(program: str) -> str:
    """Return the script that runs one of our programs in an interpreter of its own."""
    place = rootfs.package_parent()
    return (f"#!{sys.executable} -I\nimport sys\nsys.path.insert(0, {str(place)!r})\n"
            f"sys.argv[0] = {program!r}\nimport runpy\nsys.argv[1:1] = [{program!r}]\n"
            f"runpy.run_module('netlab.programs', run_name='__main__')\n")


def _shared(*, programs: bool = True) -> tuple[tuple[str, str], ...]:
    """Return what is bound into images of host files."""
    separate = [Path("/", name) for name in rootfs.USR_LINKS
                if Path("/", name).is_dir() and not Path("/", name).is_symlink()]
    paths = (Path("/usr"), *separate, *(rootfs.host_paths() if programs else ()))
    return tuple((str(path), str(path)) for path in paths)


def _is_static(binary: str) -> bool:
    """Tell whether an ELF executable needs no loader: it then runs in a root without libraries."""
    with open(binary, "rb") as file:
        head = file.read(4096)
    return b"/ld-" not in head


def _link_applets(directory: Path, applets: list[str], target: str) -> None:
    directory.mkdir(exist_ok=True)
    for applet in applets:
        os.symlink(target, directory / applet)


def _which(name: str) -> str:
    return shutil.which(name, path=PATH) or ""


_NGINX_CONF = """\
worker_processes 1;
error_log /var/log/nginx/error.log notice;
pid /run/nginx.pid;
events {
    worker_connections 1024;
}
http {
    include /etc/nginx/mime.types;
    default_type application/octet-stream;
    access_log /var/log/nginx/access.log;
    sendfile on;
    keepalive_timeout 65;
    include /etc/nginx/conf.d/*.conf;
}
"""
_NGINX_DEFAULT = """\
server {
    listen 80;
    listen [::]:80;
    server_name localhost;
    location / {
        root /usr/share/nginx/html;
        index index.html index.htm;
    }
    error_page 500 502 503 504 /50x.html;
}
"""
