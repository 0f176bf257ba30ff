"""Where the running kernel keeps the fields of its structures: BTF, from /sys/kernel/btf/vmlinux.

Format: Documentation/bpf/btf.rst in the kernel's sources. All of it is walked once (about 0.1 s) for the few
structures that are asked for; nothing is compiled.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from netlab.errors import Unsupported

PATH: Final = Path("/sys/kernel/btf/vmlinux")
_MAGIC: Final = 0xEB9F
_STRUCT, _UNION, _ENUM, _TYPEDEF = 4, 5, 6, 8
_MODIFIERS: Final = (_TYPEDEF, 9, 10, 11, 18)
_SINGLE: Final = {1: 4, 3: 12, 14: 4, 17: 4}
"""Bytes behind the header of a type, by kind: INT, ARRAY, VAR, DECL_TAG."""
_EACH: Final = {_STRUCT: 12, _UNION: 12, _ENUM: 8, 13: 8, 15: 12, 19: 12}
"""The same for each member: structures, unions, enums, function prototypes, data sections, 64-bit enums."""


class Btf:
    """The kernel's types, as far as they were asked for by name."""

    def __init__(self, names: Iterable[str], path: Path = PATH) -> None:
        """Read the types called `names`.

        Raises:
            Unsupported: this kernel has no BTF, or in a form that is not known.
        """
        try:
            self._data = path.read_bytes()
        except OSError as error:
            raise Unsupported(f"this kernel tells no types at {path}: {error.strerror}",
                              hint="a kernel with CONFIG_DEBUG_INFO_BTF") from None
        magic, _, _, header, types, length, strings, _ = struct.unpack_from("=HBBIIIII", self._data)
        if magic != _MAGIC:
            raise Unsupported(f"{path} is not in the format of BTF")
        self._strings = header + strings
        self._at = [0]
        self._named: dict[str, int] = {}
        self._walk(header + types, header + types + length, set(names))

    def offset(self, name: str, *members: str) -> int:
        """Return the offset (bytes) of `members[0]` in structure `name`, of `members[1]` in that one, and so on.

        Raises:
            Unsupported: this kernel has no such field.
        """
        at, number = 0, self._number(name)
        for member in members:
            found = self._member(number, member)
            if found is None:
                raise Unsupported(f"struct {name} of this kernel has no field {'.'.join(members)}")
            bits, number = found
            at += bits // 8
        return at

    def enum(self, name: str) -> dict[int, str]:
        """Return the names of an enum's values."""
        at = self._at[self._number(name)]
        count = struct.unpack_from("=I", self._data, at + 4)[0] & 0xFFFF
        return {value: self._string(text) for text, value in
                (struct.unpack_from("=Ii", self._data, at + 12 + 8 * n) for n in range(count))}

    def _walk(self, at: int, end: int, wanted: set[str]) -> None:
        offsets = {self._find(name): name for name in wanted}
        unpack = struct.Struct("=II").unpack_from
        while at < end:
            text, info = unpack(self._data, at)
            kind = info >> 24 & 31
            if text in offsets and kind in (_STRUCT, _ENUM) and info & 0xFFFF:
                self._named[offsets[text]] = len(self._at)
            self._at.append(at)
            at += 12 + _SINGLE.get(kind, 0) + _EACH.get(kind, 0) * (info & 0xFFFF)

    def _find(self, name: str) -> int:
        """Return where a name is among the strings (each is there once), -1 when it is not."""
        found = self._data.find(b"\0" + name.encode() + b"\0", self._strings)
        return found + 1 - self._strings if found >= 0 else -1

    def _number(self, name: str) -> int:
        if name not in self._named:
            raise Unsupported(f"this kernel has no type {name}")
        return self._named[name]

    def _member(self, number: int, wanted: str) -> tuple[int, int] | None:
        """Return (offset in bits, type) of a member, looked for in nameless members too."""
        at = self._at[number]
        _, info, target = struct.unpack_from("=III", self._data, at)
        kind = info >> 24 & 31
        if kind in _MODIFIERS:
            return self._member(target, wanted)
        if kind not in (_STRUCT, _UNION):
            return None
        for n in range(info & 0xFFFF):
            text, inner, bits = struct.unpack_from("=III", self._data, at + 12 + 12 * n)
            if info >> 31:
                bits &= 0xFFFFFF  # the upper byte is a bit field's size
            name = self._string(text)
            if name == wanted:
                return bits, inner
            if not name and (found := self._member(inner, wanted)) is not None:
                return bits + found[0], found[1]
        return None

    def _string(self, at: int) -> str:
        start = self._strings + at
        return self._data[start:self._data.index(b"\0", start)].decode()
