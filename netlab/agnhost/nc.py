"""agnhost nc: netcat as far as tests use it: `nc -vz -w 2 HOST PORT`, `echo hi | nc -u -w 1 HOST PORT`."""

from __future__ import annotations

import os
import select
import socket
import sys

from netlab.agnhost.dial import reason
from netlab.errors import UsageError

_USAGE = "usage: nc [-u] [-v] [-z] [-w SECONDS] HOST PORT"


def main(argv: list[str]) -> int:
    """Connect; with -z that is all, else carry standard input there and what comes back to standard output."""
    letters, seconds, places = _words(argv)
    host, port = places
    kind = socket.SOCK_DGRAM if "u" in letters else socket.SOCK_STREAM
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=kind)[0]
        with socket.socket(family, kind, protocol) as one:
            one.settimeout(seconds)
            one.connect(address)
            if "v" in letters:
                sys.stderr.write(f"{host} ({address[0]}:{port}) open\n")
            if "z" not in letters:
                _carry(one, seconds)
    except OSError as error:
        if "v" in letters or "z" not in letters:
            sys.stderr.write(f"nc: {host} ({port}): {reason(error)}\n")
        return 1
    return 0


def _words(argv: list[str]) -> tuple[set[str], float | None, list[str]]:
    letters: set[str] = set()
    seconds: float | None = None
    places: list[str] = []
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-") or word == "-":
            places.append(word)
            continue
        for at, letter in enumerate(word[1:], 2):
            if letter == "w":
                value = word[at:] or (rest.pop(0) if rest else "")
                if not value.isdigit():
                    raise UsageError(_USAGE)
                seconds = float(value)
                break
            if letter not in "uvztn":
                raise UsageError(f"unknown option -{letter}; {_USAGE}")
            letters.add(letter)
    if len(places) != 2:
        raise UsageError(_USAGE)
    return letters, seconds, places


def _carry(one: socket.socket, seconds: float | None) -> None:
    """Carry bytes both ways until the other side closes, or is silent for `seconds` after our end."""
    waiting = [0, one.fileno()]
    while one.fileno() in waiting:
        ready, _, _ = select.select(waiting, [], [], None if 0 in waiting else seconds)
        if not ready:
            return
        if 0 in ready:
            data = os.read(0, 1 << 16)
            if data:
                one.sendall(data)
            else:
                waiting.remove(0)  # no shutdown: a server may take that for the end of all
        if one.fileno() in ready:
            data = one.recv(1 << 16)
            if not data:
                return
            os.write(1, data)
