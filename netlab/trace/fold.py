"""Fold long lines at a terminal's width, at blanks, with colours that go on in the next line. Pure."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

_PIECE: Final = re.compile(r"(\x1b\[[0-9;]*m)|( +)|((?:(?:-[jg]|#) )?[^ \x1b]+)")
"""Colours, blanks, words; a rule's target stays with its `-j`, a comment's first word with its `#`."""
NARROWEST: Final = 40


def fold(text: str, width: int, *, hang: int = 0) -> str:
    """Return the text with no line wider than `width` columns; a line that fits stays as it is.

    Args:
        text: lines, with ANSI colours or without.
        width: of the terminal; 0 folds nothing, and less than 40 counts as 40.
        hang: the least column where the rest of a folded line begins; more where the line itself is indented more.
    """
    if width <= 0:
        return text
    width = max(width, NARROWEST)
    return "\n".join(part for line in text.split("\n") for part in _line(line, width, hang))


def columns(text: str) -> int:
    """Return how many columns a text takes: none for colours and combining marks, two for wide characters."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    return sum(0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1
               for char in plain)


def _line(line: str, width: int, hang: int) -> list[str]:
    if columns(line) <= width:
        return [line]
    indent = min(max(hang, columns(line) - columns(line.lstrip(" ")) + 2), width // 2)
    lines, current, used, style, blanks = [], "", 0, "", ""

    def wrap() -> None:
        nonlocal current, used, blanks
        lines.append(current + ("\x1b[0m" if style else ""))
        current, used, blanks = " " * indent + style, indent, ""

    for color, space, word in _PIECE.findall(line):
        if color:
            current += blanks
            used, blanks = used + len(blanks), ""
            style = "" if color == "\x1b[0m" else color
            current += color
        elif space:
            blanks = space
        else:
            size = columns(word)
            if used + len(blanks) + size > width and used > indent:
                wrap()
            while size > width - used - len(blanks):  # one word wider than the line
                room = _cut(word, width - used - len(blanks))
                current += blanks + word[:room]
                word = word[room:]
                wrap()
                size = columns(word)
            current += blanks + word
            used, blanks = used + len(blanks) + size, ""
    return [*lines, current] if current.strip() else lines


def _cut(word: str, room: int) -> int:
    """Return how many characters of a word go into `room` columns, at least one."""
    for count in range(1, len(word)):
        if columns(word[:count + 1]) > room:
            return count
    return len(word)
