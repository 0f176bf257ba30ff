"""The lines that `etcdctl txn` reads: compares, then operations, then operations for when they do not hold."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterator
from typing import TextIO

from netlab.errors import UsageError
from netlab.store.model import prefix_end
from netlab.store.rpc import messages as pb

_COMPARE = re.compile(r'\s*(\w+)\(\s*("(?:[^"\\]|\\.)*"|[^)]*)\)\s*(=|!=|<|>)\s*(.*?)\s*$')
_TARGETS = {"version": 0, "ver": 0, "create": 1, "c": 1, "mod": 2, "m": 2, "value": 3, "val": 3, "lease": 4}
_FIELDS = ("version", "create_revision", "mod_revision", "value", "lease")
_RESULTS = {"=": 0, ">": 1, "<": 2, "!=": 3}


def read(source: TextIO, *, prompt: bool) -> pb.TxnRequest:
    """Return the transaction that some lines describe.

    Raises:
        UsageError: a line is none.
    """
    parts = []
    for title in ("compares", "success requests (get, put, del)", "failure requests (get, put, del)"):
        if prompt:
            sys.stdout.write(f"{title}:\n")
            sys.stdout.flush()
        parts.append(list(_until_empty(source)))
    return pb.TxnRequest([compare(line) for line in parts[0]], [operation(line) for line in parts[1]],
                         [operation(line) for line in parts[2]])


def _until_empty(source: TextIO) -> Iterator[str]:
    for line in source:
        if not line.strip():
            return
        yield line.strip()


def compare(line: str) -> pb.Compare:
    """Return the condition in a line such as `mod("/registry/a") > "3"`."""
    found = _COMPARE.match(line)
    target = _TARGETS.get(found[1].lower()) if found else None
    if found is None or target is None:
        raise UsageError(f'invalid comparison: "{line}": want such as mod("key") = "3"')
    key, operand = _unquoted(found[2]), _unquoted(found[4])
    value: bytes | int = os.fsencode(operand)
    if target != 3:
        try:
            value = int(operand, 16 if target == 4 else 10)
        except ValueError:
            raise UsageError(f'invalid comparison: "{line}": {operand} is no number') from None
    return pb.Compare(_RESULTS[found[3]], target, os.fsencode(key), **{_FIELDS[target]: value})  # type: ignore[arg-type]


def _unquoted(text: str) -> str:
    try:
        words = shlex.split(text)
    except ValueError:
        raise UsageError(f"{text}: a quote is missing") from None
    return words[0] if words else ""


def operation(line: str) -> pb.RequestOp:
    """Return the operation in a line such as `put key "a value"`."""
    try:
        words = shlex.split(line)
    except ValueError:
        raise UsageError(f'invalid txn command "{line}": a quote is missing') from None
    flags = {word for word in words if word.startswith("--")}
    plain = [os.fsencode(word) for word in words if not word.startswith("--")]
    name, args = plain[0] if plain else b"", plain[1:]
    if name == b"put" and len(args) == 2:
        return pb.RequestOp(request_put=pb.PutRequest(args[0], args[1]))
    if name in (b"get", b"del") and 1 <= len(args) <= 2:
        end = prefix_end(args[0]) if "--prefix" in flags else args[1] if len(args) == 2 else b""
        if name == b"get":
            return pb.RequestOp(request_range=pb.RangeRequest(args[0], end))
        return pb.RequestOp(request_delete_range=pb.DeleteRangeRequest(args[0], end))
    raise UsageError(f'invalid txn command "{line}": want put KEY VALUE, get KEY or del KEY')
