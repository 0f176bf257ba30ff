"""How iptables' text is cut into words, and a word put back into text (libxtables: xtables_save_string)."""

from __future__ import annotations

import re

_WORD = re.compile(r'"((?:[^"\\]|\\.)*)"|(\S+)')
_ESCAPED = re.compile(r"\\(.)")
_PLAIN = re.compile(r"[A-Za-z0-9_\-+=:;,./|@%^~<>()\[\]{}#?*$&!]+\Z")


def split(text: str) -> list[str]:
    """Return the words of a line; quotes are taken off.

    >>> split('-m comment --comment "default/web -> 10.0.0.1:80" -j X')
    ['-m', 'comment', '--comment', 'default/web -> 10.0.0.1:80', '-j', 'X']
    """
    if '"' not in text:
        return text.split()
    return [bare or _ESCAPED.sub(r"\1", quoted) for quoted, bare in _WORD.findall(text)]


def quote(word: str) -> str:
    """Return a word so that iptables-restore reads it as one: in quotes where needed, quotes inside escaped.

    >>> print(quote('web, the new one'))
    "web, the new one"
    """
    if word and _PLAIN.match(word):
        return word
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'


def join(words: list[str]) -> str:
    """Return words as a line."""
    return " ".join(quote(word) for word in words)
