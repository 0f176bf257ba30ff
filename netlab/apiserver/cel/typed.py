"""Objects written as `Object{spec: Object.spec{replicas: 1}}` and `JSONPatch{op: "add", …}` in mutating policies.

Their types exist only in Kubernetes' own environment. Here such a literal is the map that it stands for: field names
become keys, everything else is left as it is written.
"""

from __future__ import annotations

import re

_TYPE = re.compile(r"(?:Object(?:\.[A-Za-z_][A-Za-z0-9_]*)*|JSONPatch)\s*\{")
_FIELD = re.compile(r"\s*(\??)\s*([A-Za-z_][A-Za-z0-9_]*|`[^`]+`)\s*:")
_STRING = re.compile(r"""[rRbB]{0,2}(?:'''.*?'''|\"\"\".*?\"\"\"|'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*")""", re.DOTALL)
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def as_maps(text: str) -> str:
    """Return an expression with its typed literals written as maps."""
    out: list[str] = []
    typed: list[bool] = []  # for each open bracket: is it a typed literal's?
    at, fresh = 0, False
    while at < len(text):
        if fresh and typed and typed[-1] and (field := _FIELD.match(text, at)):
            name = field.group(2).strip("`")
            out.append(f'{field.group(1)}"{name}":')
            at, fresh = field.end(), False
            continue
        string = _STRING.match(text, at)
        if string is not None:
            out.append(string.group())
            at, fresh = string.end(), False
            continue
        opened = _TYPE.match(text, at)
        if opened is not None:
            out.append("{")
            typed.append(True)
            at, fresh = opened.end(), True
            continue
        word = _WORD.match(text, at)
        if word is not None:
            out.append(word.group())
            at, fresh = word.end(), False
            continue
        char = text[at]
        if char in "([{":
            typed.append(False)
        elif char in ")]}" and typed:
            typed.pop()
        fresh = char == "," or (fresh and char.isspace())
        out.append(char)
        at += 1
    return "".join(out)
