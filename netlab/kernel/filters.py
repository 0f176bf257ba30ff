"""Classic BPF programs for packet sockets, assembled from lines with labels (socket(7), SO_ATTACH_FILTER)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

Instruction = tuple[int, int, int, int]
"""(code, jump if true, jump if false, constant)."""

_CODES: Final = {"ldb": 0x30, "ldh": 0x28, "ldxhl": 0xB1, "ldb x": 0x50, "and": 0x54, "jeq": 0x15, "jset": 0x45,
                 "ja": 0x05, "ret": 0x06}


Line = str | tuple[str, int] | tuple[str, int, str] | tuple[str, int, str, str]


def assemble(lines: Sequence[Line]) -> list[Instruction]:
    """Return a program. A line is a label, or (operation, constant[, label if true[, label if false]]).

    Without a label a jump goes on with the next line.
    """
    labels: dict[str, int] = {}
    code: list[tuple[str, int, str, str]] = []
    for line in lines:
        if isinstance(line, str):
            labels[line] = len(code)
        else:
            code.append((line[0], line[1], line[2] if len(line) > 2 else "", line[3] if len(line) > 3 else ""))

    def jump(at: int, label: str) -> int:
        return labels[label] - at - 1 if label else 0

    return [(_CODES[name], jump(at, yes), jump(at, no), value) for at, (name, value, yes, no) in enumerate(code)]


FLOWS: Final = assemble([
    ("ldb", 0), ("and", 0xF0), ("jeq", 0x40, "v4"), ("jeq", 0x60, "v6", "drop"),
    "v4", ("ldb", 9), ("jeq", 6, "tcp4"), ("jeq", 17, "keep"), ("jeq", 1, "keep"), ("jeq", 132, "keep", "drop"),
    "tcp4", ("ldxhl", 0), ("ldb x", 13), ("jset", 6, "keep", "drop"),
    "v6", ("ldb", 6), ("jeq", 6, "tcp6"), ("jeq", 17, "keep"), ("jeq", 58, "keep"), ("jeq", 132, "keep"),
    ("jeq", 44, "keep", "drop"),
    "tcp6", ("ldb", 53), ("jset", 6, "keep", "drop"),
    "keep", ("ret", 0x40000),
    "drop", ("ret", 0),
])
"""Keeps what begins or refuses a flow: TCP with SYN or RST, all UDP (VXLAN's wrapping too), ICMP and SCTP."""
