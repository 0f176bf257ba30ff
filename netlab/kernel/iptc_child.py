"""A process of its own that asks libxtables, through python-iptables: `python -m netlab.kernel.iptc_child`.

It reads one JSON object from standard input and writes one to standard output. `{"ask": "rules", "ipv6": false,
"rules": [{"terms": [[module, option, negated, [values]]], "target": [name, [[option, negated, [values]]]],
"chains": [...]}]}` is answered by `{"errors": [words or ""]}`: what libxtables says of each rule. `{"ask": "counts",
"ipv6": false, "tables": [...]}` by `{"chains": {table: {chain: rules}}}`: what libiptc finds in the legacy backend's
tables. It runs in a network namespace that the caller chose: looking makes legacy tables, so one for good measure.
"""

from __future__ import annotations

import json
import sys
from typing import Any

_OWN = {"-s": "src", "-d": "dst", "-p": "protocol", "-i": "in_interface", "-o": "out_interface", "-f": "fragment"}
_VERDICTS = frozenset({"ACCEPT", "DROP", "RETURN", "QUEUE", ""})


def main() -> int:
    """Answer one question."""
    import iptc

    asked = json.load(sys.stdin)
    if asked["ask"] == "rules":
        answer: dict[str, Any] = {"errors": [_checked(iptc, each, asked["ipv6"]) for each in asked["rules"]]}
    else:
        answer = {"chains": {name: _counts(iptc, name, asked["ipv6"]) for name in asked["tables"]}}
    json.dump(answer, sys.stdout)
    return 0


def _checked(iptc: Any, asked: dict[str, Any], ipv6: bool) -> str:
    """Return libxtables' complaint about a rule, "" when it takes it."""
    rule = iptc.Rule6() if ipv6 else iptc.Rule()
    matches: dict[str, Any] = {}
    where = ""
    try:
        for module, option, negated, values in asked["terms"]:
            where = f"{f'-m {module} ' if module else ''}{option} {' '.join(values)}".strip()
            if not module:
                setattr(rule, _OWN[option], ("!" if negated else "") + (values[0] if values else ""))
                continue
            match = matches.get(module)
            if match is None:
                match = matches[module] = rule.create_match(module)
            if option:
                match.set_parameter(option.lstrip("-"), [*(["!"] if negated else []), *values] or "")
        name, options = asked["target"]
        where = f"-j {name}"
        if name in _VERDICTS or name in asked["chains"]:
            return ""
        target = rule.create_target(name)
        for option, negated, values in options:
            where = f"-j {name} {option} {' '.join(values)}".strip()
            target.set_parameter(option.lstrip("-"), [*(["!"] if negated else []), *values] or "")
    except (iptc.XTablesError, iptc.IPTCError, ValueError, AttributeError, KeyError, TypeError) as error:
        said = str(error).replace("b'", "'")
        return f"{where}: {said}" if said else where
    return ""


def _counts(iptc: Any, name: str, ipv6: bool) -> dict[str, int]:
    table = (iptc.Table6 if ipv6 else iptc.Table)(name)
    table.refresh()
    return {chain.name: len(chain.rules) for chain in table.chains}


if __name__ == "__main__":
    sys.exit(main())
