"""Command-line flags as Kubernetes' components take them (spf13/pflag), so that upstream's manifests run unchanged.

`--name=value`, `--name value`, `--switch`, `--switch=false`, a repeated list flag, comma lists, Go durations. An array
is a list with one item for each time that the flag is written, commas and all.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from netlab.errors import UsageError

Kind = Literal["string", "bool", "int", "float", "duration", "list", "map", "array"]
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(h|ms|us|µs|ns|m|s)")


@dataclass(frozen=True)
class Flag:
    """One flag. `ignored` flags are upstream's that mean nothing here: accepted, checked for form, unused."""

    name: str
    kind: Kind = "string"
    default: Any = None
    help: str = ""
    ignored: bool = False


@dataclass
class Flags:
    """Parsed flags: `flags["secure-port"]` is the value or the default; `given` names those that were written."""

    values: dict[str, Any]
    given: set[str] = field(default_factory=set)
    args: list[str] = field(default_factory=list)

    def __getitem__(self, name: str) -> Any:
        return self.values[name]


def parse_duration(text: str) -> float:
    """Return a Go duration ("1h15m30.5s", "300ms", "0") in seconds.

    Raises:
        UsageError: the text is no duration.
    """
    body = text[1:] if text[:1] in "+-" else text
    if body == "0":
        return 0.0
    parts = _DURATION.findall(body)
    if not parts or "".join(number + unit for number, unit in parts) != body:
        raise UsageError(f'invalid duration "{text}": want a number and a unit, such as 300ms, 1.5h or 2h45m')
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    return -seconds if text.startswith("-") else seconds


def parse(program: str, argv: Sequence[str], table: Sequence[Flag]) -> Flags:
    """Parse `argv` (without the program's name) against the table.

    Raises:
        UsageError: an unknown flag, or a value of the wrong form, worded as pflag does.
    """
    known: Mapping[str, Flag] = {flag.name: flag for flag in table}
    result = Flags({flag.name: _default(flag) for flag in table})
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        if word == "--":
            result.args += rest
            break
        if not word.startswith("-") or word == "-":
            result.args.append(word)
            continue
        name, equals, value = word.lstrip("-").partition("=")
        flag = known.get(name) or known.get(name.replace("_", "-"))
        if flag is None:
            raise UsageError(f"unknown flag: --{name}", hint=f"{program} --help lists the flags")
        if not equals:
            if flag.kind == "bool":
                value = "true"
            elif rest:
                value = rest.pop(0)
            else:
                raise UsageError(f"flag needs an argument: --{flag.name}")
        _set(result, flag, value)
    return result


def usage(program: str, summary: str, table: Sequence[Flag]) -> str:
    """Return the text of --help."""
    lines = [f"{summary}\n", f"Usage:\n  {program} [flags]\n", "Flags:"]
    width = max((len(flag.name) + len(flag.kind) for flag in table), default=0) + 6
    for flag in table:
        if flag.ignored:
            continue
        left = f"--{flag.name}" + ("" if flag.kind == "bool" else f" {flag.kind}")
        default = "" if flag.default in (None, "", False, [], {}) else f" (default {flag.default})"
        lines.append(f"  {left:<{width}} {flag.help}{default}")
    ignored = ", ".join(f"--{flag.name}" for flag in table if flag.ignored)
    if ignored:
        lines += ["\nTaken as upstream takes them, and without effect here:",
                  textwrap.fill(ignored, 118, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)]
    return "\n".join(lines) + "\n"


def _default(flag: Flag) -> Any:
    if flag.default is None:
        return {"string": "", "bool": False, "int": 0, "float": 0.0, "duration": 0.0, "list": [], "array": [],
                "map": {}}[flag.kind]
    if flag.kind in ("list", "array"):
        return list(flag.default)
    return dict(flag.default) if flag.kind == "map" else flag.default


def _set(result: Flags, flag: Flag, text: str) -> None:
    try:
        value = _value(flag.kind, text)
    except ValueError:
        raise UsageError(f'invalid argument "{text}" for "--{flag.name}" flag: want a {flag.kind}') from None
    if flag.kind in ("list", "array") and flag.name in result.given:
        value = result.values[flag.name] + value
    if flag.kind == "map" and flag.name in result.given:
        value = {**result.values[flag.name], **value}
    result.values[flag.name] = value
    result.given.add(flag.name)


def _value(kind: Kind, text: str) -> Any:
    if kind == "bool":
        if text.lower() in ("true", "1", "t"):
            return True
        if text.lower() in ("false", "0", "f"):
            return False
        raise ValueError(text)
    if kind == "int":
        return int(text, 0)
    if kind == "float":
        return float(text)
    if kind == "duration":
        return parse_duration(text)
    if kind == "array":
        return [text]
    if kind == "list":
        return [item.strip() for item in text.split(",") if item.strip()]
    if kind == "map":
        pairs = [item.partition("=") for item in text.split(",") if item]
        if not all(equals for _, equals, _ in pairs):
            raise ValueError(text)
        return {key.strip(): value.strip() for key, _, value in pairs}
    return text
