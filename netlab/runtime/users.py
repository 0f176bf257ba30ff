"""Who a container runs as: an image's or a Pod's user, looked up in the container's own /etc/passwd and /etc/group."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from netlab.errors import StartRefused


@dataclass(frozen=True)
class User:
    """A user as the kernel knows it, and its home."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


def find_user(text: str, extra_groups: tuple[int, ...] = (), *, passwd: Path = Path("/etc/passwd"),
              group: Path = Path("/etc/group")) -> User:
    """Return the user that "name", "uid", "name:group", "uid:gid" or "" (root) means.

    A number needs no entry; its group is then 0 unless given. Without a given group the user's supplementary groups
    are those of /etc/group; its own group is always one of them.

    Raises:
        StartRefused: a name is unknown.
    """
    wanted, _, wanted_group = (text or "0").partition(":")
    rows = _rows(passwd, 7)
    row = next((r for r in rows if r[0] == wanted), None) or next((r for r in rows if r[2] == wanted), None)
    if row is None and not wanted.isdigit():
        raise StartRefused(f"unable to find user {wanted}: no matching entries in passwd file")
    uid = int(row[2]) if row else int(wanted)
    gid = int(row[3]) if row else 0
    home = row[5] if row else "/"
    groups: set[int] = set()
    rows = _rows(group, 4)
    if wanted_group:
        match = next((r for r in rows if wanted_group in (r[0], r[2])), None)
        if match is None and not wanted_group.isdigit():
            raise StartRefused(f"unable to find group {wanted_group}: no matching entries in group file")
        gid = int(match[2]) if match else int(wanted_group)
    elif row is not None and uid != 0:
        groups = {int(r[2]) for r in rows if row[0] in r[3].split(",")}
    return User(uid, gid, tuple(sorted({gid, *groups, *extra_groups})), home or "/")


def _rows(path: Path, fields: int) -> list[list[str]]:
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return []
    rows = [line.split(":") for line in lines]
    return [row for row in rows if len(row) >= fields and row[2].isdigit() and (fields < 7 or row[3].isdigit())]
