"""agnhost mounttest: what a volume is to the user a container runs as; one line on standard output for each flag."""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from netlab.errors import UsageError
from netlab.flags import Flag, Flags, parse

_WRITTEN = (0o644, 0o666, 0o660, 0o777)
FLAGS: Final = (
    Flag("fs-type", "string", "", "tell the type of the file system at a path"),
    *(Flag(f"new-file-{mode:04o}", "string", "", f"write a file of mode {mode:04o}, and read it") for mode in _WRITTEN),
    Flag("file-mode", "string", "", "tell a file's type and permissions"),
    Flag("file-perm", "string", "", "tell a file's permissions"),
    Flag("file-owner", "string", "", "tell a file's user and group"),
    Flag("file-content", "string", "", "tell what is in a file"),
    Flag("file-content-in-loop", "string", "", "tell what is in a file, every two seconds"),
    Flag("retry-time", "int", 180, "seconds that the loop goes on"),
    Flag("break-on-expected-content", "bool", True, "end the loop when the file holds what is written above"),
)
CONTENT = "mount-tester new file\n"
_AGAIN_SECONDS = 2.0


def main(argv: list[str]) -> int:
    """Do what the flags ask for, the writing before the looking. Returns 1 when something of it failed."""
    flags = parse("agnhost mounttest", argv, FLAGS)
    os.umask(0)
    said: list[bool] = []
    for name, look in (("fs-type", _kind), *((f"new-file-{mode:04o}", _writer(mode)) for mode in _WRITTEN),
                       ("file-mode", _mode), ("file-perm", _permissions), ("file-owner", _owner),
                       ("file-content", _content)):
        if path := flags[name]:
            try:
                print(look(path), flush=True)
                said.append(True)
            except OSError as error:
                print(f"error: {name.replace('-', '_')} {_quoted(path)}: {error.strerror}", flush=True)
                said.append(False)
    if flags["file-content-in-loop"]:
        said.append(_loop(flags))
    if not said:
        raise UsageError("nothing was asked for; agnhost mounttest takes --fs_type, --file_content and others")
    return 0 if all(said) else 1


def _loop(flags: Flags) -> bool:
    end, well = time.monotonic() + flags["retry-time"], False
    while time.monotonic() < end:
        try:
            print(_content(flags["file-content-in-loop"]), flush=True)
            well = True
            if flags["break-on-expected-content"] and Path(flags["file-content-in-loop"]).read_text() == CONTENT:
                break
        except OSError as error:
            well = False
            print(f"Error reading file {flags['file-content-in-loop']}: {error.strerror}, retrying", flush=True)
        time.sleep(_AGAIN_SECONDS)
    return well


def _quoted(path: str) -> str:
    return json.dumps(path)


def _kind(path: str) -> str:
    """Tell the type of the mount that a path lies on, by the kernel's own name for it."""
    os.stat(path)
    place, best, kind = os.path.realpath(path), "", ""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        top = before.split()[4].encode().decode("unicode_escape")
        inside = place == top or place.startswith(top.rstrip("/") + "/")
        if inside and len(top) >= len(best):
            best, kind = top, after.split()[0]
    return f"mount type of {_quoted(path)}: {kind}"


def _writer(mode: int) -> Callable[[str], str]:
    def write(path: str) -> str:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w") as file:
            file.write(CONTENT)
        return _content(path)

    return write


def _mode(path: str) -> str:
    """Tell the mode as Go's os.FileMode writes it: special bits first, `-` where there is none."""
    found = os.stat(path).st_mode
    special = (("d", stat.S_ISDIR(found)), ("p", stat.S_ISFIFO(found)), ("S", stat.S_ISSOCK(found)),
               ("u", found & stat.S_ISUID), ("g", found & stat.S_ISGID), ("t", found & stat.S_ISVTX))
    return f"mode of file {_quoted(path)}: {''.join(letter for letter, on in special if on) or '-'}{_bits(found)}"


def _permissions(path: str) -> str:
    return f"perms of file {_quoted(path)}: -{_bits(os.stat(path).st_mode)}"


def _bits(mode: int) -> str:
    return "".join(letter if mode >> (8 - at) & 1 else "-" for at, letter in enumerate("rwxrwxrwx"))


def _owner(path: str) -> str:
    found = os.stat(path)
    return f"owner UID of {_quoted(path)}: {found.st_uid}\nowner GID of {_quoted(path)}: {found.st_gid}"


def _content(path: str) -> str:
    return f"content of file {_quoted(path)}: {Path(path).read_text(errors='replace')}"
