"""Paths inside a root: no link and no dots lead out of it."""

from __future__ import annotations

import os

import pytest

from netlab.errors import KernelError
from netlab.kernel import mount


@pytest.fixture
def root(tmp_path):
    inside = tmp_path / "root"
    (inside / "run").mkdir(parents=True)
    (inside / "var").mkdir()
    (inside / "var/run").symlink_to("/run")
    (inside / "up").symlink_to("../../../..")
    (inside / "nothing").symlink_to("/made/later")
    (inside / "loop").symlink_to("loop")
    (inside / "file").write_text("x")
    fd = os.open(inside, os.O_PATH | os.O_DIRECTORY)
    yield inside, fd
    os.close(fd)


@pytest.mark.parametrize(("path", "real"), [
    ("/var/run/secrets/token", "run/secrets/token"),
    ("up/etc/x", "etc/x"),
    ("/../../x", "x"),
    ("nothing/a", "made/later/a"),
    ("nothing", "made/later"),
    ("a//b/./c", "a/b/c"),
    ("/", "."),
])
def test_mount_points_are_made_inside(root, path, real):
    inside, fd = root
    made = mount.make_in_root(fd, path, directory=True)
    assert os.path.samestat(os.fstat(made), os.stat(inside / real))
    os.close(made)
    again = mount.make_in_root(fd, path, directory=True)
    assert os.path.samestat(os.fstat(again), os.stat(inside / real))
    os.close(again)


def test_a_file_to_mount_on(root):
    inside, fd = root
    os.close(mount.make_in_root(fd, "/var/run/new/token", directory=False))
    assert (inside / "run/new/token").is_file()


@pytest.mark.parametrize("path", ["file/below", "loop/x"])
def test_what_is_in_the_way(root, path):
    _, fd = root
    with pytest.raises(KernelError, match="can't m"):
        mount.make_in_root(fd, path, directory=True)


def test_a_missing_source_is_named(root):
    _, fd = root
    with pytest.raises(KernelError, match="can't mount /no/such on /x: No such file"):
        mount.bind_in_root(fd, "/x", "/no/such")


def test_open_stays_inside(root):
    inside, fd = root
    (inside / "etc").mkdir()
    (inside / "etc/passwd").write_text("inside")
    (inside / "link").symlink_to("/etc/passwd")
    found = mount.open_in_root(fd, "link", os.O_RDONLY)
    assert os.read(found, 100) == b"inside"
    os.close(found)
    with pytest.raises(FileNotFoundError):
        mount.open_in_root(fd, "up/etc/hostname")
