"""What a root file system made from the host's own files consists of.

Nodes and built-in images see the host's /usr, and Python with this package where they lie, all read-only; everything
that is written to (/etc, /var, /run, /tmp, ...) is their own. Nothing else of the host shows.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

import netlab

USR_LINKS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")

_ETC = ("bash.bashrc", "debian_version", "ethertypes", "gai.conf", "host.conf", "inputrc", "iproute2", "ld.so.cache",
        "ld.so.conf", "ld.so.conf.d", "localtime", "netconfig", "networks", "nftables.conf", "os-release", "profile",
        "protocols", "services", "ssl/openssl.cnf", "terminfo", "xtables")
_COMMANDS = ("/usr/bin/", "/usr/sbin/", "/usr/local/", "/bin/", "/sbin/")

_PASSWD = """\
root:x:0:0:root:/root:/bin/bash
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin
bin:x:2:2:bin:/bin:/usr/sbin/nologin
sys:x:3:3:sys:/dev:/usr/sbin/nologin
mail:x:8:8:mail:/var/mail:/usr/sbin/nologin
www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin
nonroot:x:65532:65532:nonroot:/home/nonroot:/usr/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
"""
_GROUP = """\
root:x:0:
daemon:x:1:
bin:x:2:
sys:x:3:
adm:x:4:
tty:x:5:
mail:x:8:
utmp:x:43:
shadow:x:42:
www-data:x:33:
staff:x:50:
users:x:100:
nonroot:x:65532:
nogroup:x:65534:
"""
_WRITTEN = {
    "passwd": _PASSWD,
    "group": _GROUP,
    "shells": "/bin/sh\n/bin/bash\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\nprotocols: files\nservices: files\n",
    "hosts": "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n",
}


def host_paths() -> tuple[Path, ...]:
    """Return the directories outside of /usr that Python and this package live in, none below another."""
    wanted = {Path(sys.prefix), Path(sys.base_prefix), Path(sys.exec_prefix), Path(netlab.__file__).resolve().parent}
    wanted.add(Path(os.path.realpath(sys.executable)).parent)
    found = sorted(path for path in wanted if not path.is_relative_to("/usr"))
    return tuple(path for path in found if not any(path != other and path.is_relative_to(other) for other in found))


def make_skeleton(root: Path) -> None:
    """Make the directories and links of a usual Linux root in an empty directory."""
    for name in ("usr", "etc", "dev", "proc", "sys", "run", "home", "mnt", "opt", "srv", "media"):
        (root / name).mkdir(exist_ok=True)
    make_directory(root / "root", 0o700)
    make_directory(root / "tmp", 0o1777)
    make_usr_links(root)


def make_usr_links(root: Path) -> list[str]:
    """Make /bin, /lib, ... as the host has them and return those that are directories of their own there, to bind."""
    separate = []
    for name in USR_LINKS:
        host = Path("/", name)
        if host.is_symlink():
            with contextlib.suppress(FileExistsError):
                (root / name).symlink_to(os.readlink(host))
        elif host.is_dir():
            (root / name).mkdir(exist_ok=True)
            separate.append(name)
    return separate


def fill_etc(etc: Path) -> None:
    """Add what programs of the host's /usr expect to find in /etc; what is there already is left alone."""
    for name in _ETC:
        source, target = Path("/etc", name), etc / name
        if source.exists() and not os.path.lexists(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            copy(source, target)
    _choose_alternatives(etc)
    for name, text in _WRITTEN.items():
        if not os.path.lexists(etc / name):
            (etc / name).write_text(text)
    if not os.path.lexists(etc / "mtab"):
        (etc / "mtab").symlink_to("/proc/self/mounts")


def _choose_alternatives(etc: Path) -> None:
    """Copy the links of Debian's alternatives that lead to commands; nine of ten are for manual pages."""
    host, own = Path("/etc/alternatives"), etc / "alternatives"
    if not host.is_dir() or own.is_dir():
        return
    own.mkdir()
    for entry in os.scandir(host):
        if entry.is_symlink() and (target := os.readlink(entry.path)).startswith(_COMMANDS):
            os.symlink(target, own / entry.name)


def fill_var(var: Path) -> None:
    """Add the usual directories below /var."""
    for name in ("cache", "lib", "local", "log", "mail", "opt", "spool"):
        (var / name).mkdir(parents=True, exist_ok=True)
    make_directory(var / "tmp", 0o1777)
    for name, target in (("run", "/run"), ("lock", "/run/lock")):
        with contextlib.suppress(FileExistsError):
            (var / name).symlink_to(target)


def make_directory(path: Path, mode: int) -> None:
    """Make a directory with exactly this mode."""
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(mode)


def copy(source: Path, target: Path) -> None:
    """Copy a file or a tree, links as links. What can't be read is left out."""
    try:
        with os.scandir(source) as entries:
            os.mkdir(target)
            for entry in entries:
                if entry.is_symlink():
                    os.symlink(os.readlink(entry.path), target / entry.name)
                else:
                    copy(Path(entry.path), target / entry.name)
    except NotADirectoryError:
        with contextlib.suppress(OSError):
            shutil.copy2(source, target)
    except PermissionError:
        pass


def write_all(directory: Path, files: Iterable[tuple[str, str, int]]) -> None:
    """Write small files: (name, text, mode)."""
    for name, text, mode in files:
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)


def package_parent() -> Path:
    """Return the directory that has to be on sys.path for `import netlab`."""
    return Path(netlab.__file__).resolve().parent.parent
