"""What `nft -j list ruleset` prints, as tables whose rules are in nft's words (libnftables-json(5)). Pure.

What has no words here keeps those of its JSON: whoever follows such a rule says that it is not known.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from netlab.errors import UsageError
from netlab.netfilter.nft import NftChain, NftElement, NftRule, NftSet, NftTable
from netlab.netfilter.nft_selectors import BARE

_PLAIN: Final = ("accept", "drop", "continue", "return", "notrack")
_NAT: Final = ("dnat", "snat", "masquerade", "redirect")
_OPERATORS: Final = ("&", "|", "^", "<<", ">>")
_NAMES: Final = frozenset({"iif", "oif", "iifname", "oifname"})


class NotNftJson(UsageError):
    """The text is not what `nft -j list ruleset` prints."""

    def __init__(self, why: str) -> None:
        super().__init__(f"not the JSON of nft -j list ruleset: {why}")


def looks_like(text: str) -> bool:
    """Tell whether a text is nft's JSON."""
    return text.lstrip().startswith("{") and '"nftables"' in text


def parse(text: str) -> tuple[NftTable, ...]:
    """Return the tables of a ruleset.

    Raises:
        NotNftJson: it is none.
    """
    try:
        rows = json.loads(text)["nftables"]
    except (ValueError, KeyError, TypeError) as error:
        raise NotNftJson(str(error)) from None
    tables: dict[tuple[str, str], NftTable] = {}
    try:
        for row in rows:
            ((kind, body),) = row.items()
            if kind == "table":
                tables[body["family"], body["name"]] = NftTable(body["family"], body["name"], {}, {})
            elif kind in ("chain", "rule", "set", "map"):
                at = body["family"], body["table"]
                tables[at] = _with(tables[at], kind, body)
    except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
        raise NotNftJson(f"{type(error).__name__}: {error}") from None
    return tuple(tables.values())


def _with(table: NftTable, kind: str, body: Mapping[str, Any]) -> NftTable:
    chains, sets = dict(table.chains), dict(table.sets)
    if kind == "chain":
        policy = body.get("policy", "accept" if "hook" in body else "")
        chains[body["name"]] = NftChain(body["name"], (), body.get("type", ""), body.get("hook", ""),
                                        str(body.get("prio", "")), policy)
    elif kind == "rule":
        chain = chains[body["chain"]]
        text = " ".join(_statement(each) for each in body["expr"])
        rule = NftRule(chain.name, text, body.get("comment", ""), body.get("handle", 0))
        chains[chain.name] = replace(chain, rules=(*chain.rules, rule))
    else:
        found = [_element(each) for each in body.get("elem") or ()]
        sets[body["name"]] = NftSet(body["name"], kind, "", {each.key: each for each in found}, body.get("comment", ""))
    return replace(table, chains=chains, sets=sets)


def _element(value: Any) -> NftElement:
    key, data = value if isinstance(value, list) else (value, None)
    comment = ""
    if isinstance(key, dict) and "elem" in key:
        comment = str(key["elem"].get("comment", ""))
        key = key["elem"]["val"]
    return NftElement(_words(key), "" if data is None else _verdict(data), comment)


def _verdict(data: Any) -> str:
    if isinstance(data, dict) and len(data) == 1:
        ((verb, body),) = data.items()
        if verb in _PLAIN:
            return str(verb)
        if verb in ("jump", "goto"):
            return f"{verb} {body['target']}"
    return _words(data)


# --- statements ------------------------------------------------------------------------------------------------------

def _statement(value: Mapping[str, Any]) -> str:
    ((verb, body),) = value.items()
    if verb in _PLAIN:
        return str(verb)
    if verb in ("jump", "goto"):
        return f"{verb} {body['target']}"
    if verb in _NAT:
        return _nat(verb, body or {})
    known = {"match": _match, "vmap": _vmap, "mangle": _mangle, "reject": _reject, "set": _set, "limit": _limit,
             "quota": _quota, "log": _log}
    if verb in known and isinstance(body, dict):
        return known[verb](body)
    if verb == "counter":
        return "counter"
    if verb == "reject":
        return "reject"
    if verb == "ct helper":
        return f'ct helper set "{body}"'
    if verb == "ct count":
        return f"ct count {'over ' if body.get('inv') else ''}{body['val']}"
    if verb == "queue":
        return " ".join(["queue", *([f"num {_words(body['num'])}"] if "num" in (body or {}) else []),
                         *_listed((body or {}).get("flags"))])
    return f"{verb} {json.dumps(body)}".replace("{", "(").replace("}", ")")


def _match(body: Mapping[str, Any]) -> str:
    left, op, right = body["left"], body["op"], body["right"]
    shown = "" if op == "in" or (op == "==" and not _bits(left)) else f"{op} "
    return f"{_words(left)} {shown}{_words(right, of=left)}"


def _bits(left: Any) -> bool:
    """Tell whether a bare value would ask this for a bit."""
    return left in ({"ct": {"key": "state"}}, {"ct": {"key": "status"}},
                    {"payload": {"protocol": "tcp", "field": "flags"}}) or "&" in left


def _vmap(body: Mapping[str, Any]) -> str:
    return f"{_words(body['key'])} vmap {_where(body['data'], body['key'])}"


def _mangle(body: Mapping[str, Any]) -> str:
    return f"{_words(body['key'])} set {_words(body['value'])}"


def _reject(body: Mapping[str, Any]) -> str:
    return " ".join(["reject with", body["type"], *([str(body["expr"])] if "expr" in body else [])])


def _set(body: Mapping[str, Any]) -> str:
    elem = body["elem"]
    key = elem["elem"]["val"] if isinstance(elem, dict) and "elem" in elem else elem
    more = "".join(f" {_statement(each)}" for each in body.get("stmt") or ())
    return f"{body['op']} {body['set']} {{ {_words(key)}{more} }}"


def _limit(body: Mapping[str, Any]) -> str:
    unit = f" {body['rate_unit']}" if "rate_unit" in body else ""
    burst = f" burst {body['burst']} {body.get('burst_unit', 'packets')}" if body.get("burst") else ""
    return f"limit rate {'over ' if body.get('inv') else ''}{body['rate']}{unit}/{body['per']}{burst}"


def _quota(body: Mapping[str, Any]) -> str:
    return f"quota {'over ' if body.get('inv') else ''}{body['val']} {body['val_unit']}"


def _log(body: Mapping[str, Any]) -> str:
    said = [f'prefix "{body["prefix"]}"'] if "prefix" in body else []
    said += [f"{word} {body[word]}" for word in ("group", "snaplen", "queue-threshold", "level") if word in body]
    return " ".join(["log", *said, *(f"flags {each}" for each in _listed(body.get("flags")))])


def _nat(verb: str, body: Mapping[str, Any]) -> str:
    words = [verb]
    if "family" in body:
        words.append(body["family"])
    if "prefix" in _listed(body.get("type_flags")):
        words.append("prefix")
    address, port = body.get("addr"), body.get("port")
    place = "" if address is None else _words(address)
    if port is not None:
        place = (f"[{place}]" if ":" in place and isinstance(address, str) else place) + f":{_words(port)}"
    if place:
        words += ["to", place]
    flags = [each for each in _listed(body.get("flags")) if each != "netmap"]
    return " ".join([*words, *([",".join(flags)] if flags else [])])


# --- expressions -----------------------------------------------------------------------------------------------------

def _listed(value: Any) -> Sequence[str]:
    return [] if value is None else [str(each) for each in value] if isinstance(value, list) else [str(value)]


def _words(value: Any, *, of: Any = None) -> str:
    """Return an expression in nft's words; `of` is what it is compared with."""
    if isinstance(value, bool):
        return "exists" if value else "missing"
    if isinstance(value, list):
        return ",".join(map(str, value))
    if not isinstance(value, dict):
        quoted = isinstance(value, str) and (" " in value or (_named(of) and value[:1] != "@" and not value.isdigit()))
        return f'"{value}"' if quoted else str(value)
    ((kind, body),) = value.items()
    if kind in _OPERATORS:
        parts = [f"({' | '.join(each)})" if isinstance(each, list) else _words(each) for each in body]
        return f" {kind} ".join(parts)
    return _EXPRESSIONS[kind](body, of) if kind in _EXPRESSIONS else _option(kind, body)


def _named(of: Any) -> bool:
    """Tell whether this asks for the name of an interface, which nft quotes."""
    if not isinstance(of, dict):
        return False
    return of.get("meta", {}).get("key") in _NAMES or of.get("fib", {}).get("result") in ("oif", "oifname")


def _option(kind: str, body: Any) -> str:
    if isinstance(body, dict):
        return " ".join([kind, *map(str, body.values())])
    return f"{kind} {body}"


def _where(data: Any, key: Any = None) -> str:
    if not isinstance(data, dict):
        return str(data)
    keys = key.get("concat", [key]) if isinstance(key, dict) else [key]
    parts = []
    for each in data["set"]:
        found = _element(each)
        shown = " . ".join(f'"{part}"' if _named(one) and part != "*" else part for part, one in
                           zip(found.key.split(" . "), keys, strict=False)) if any(map(_named, keys)) else found.key
        parts.append(f"{shown} : {found.value}" if found.value else shown)
    return f"{{ {', '.join(parts)} }}"


def _meta(body: Mapping[str, Any], _: Any) -> str:
    return body["key"] if body["key"] in BARE and body["key"] != "mark" else f"meta {body['key']}"


def _ct(body: Mapping[str, Any], _: Any) -> str:
    return " ".join(["ct", *(str(body[word]) for word in ("dir", "family") if word in body), body["key"]])


def _payload(body: Mapping[str, Any], _: Any) -> str:
    if "base" in body:
        return f"@{body['base']},{body['offset']},{body['len']}"
    return f"{body['protocol']} {body['field']}"


def _fib(body: Mapping[str, Any], _: Any) -> str:
    return f"fib {' . '.join(_listed(body['flags']))} {body['result']}"


def _numgen(body: Mapping[str, Any], _: Any) -> str:
    return f"numgen {body['mode']} mod {body['mod']}{_offset(body)}"


def _jhash(body: Mapping[str, Any], _: Any) -> str:
    seed = f" seed {body['seed']:#x}" if "seed" in body else ""
    return f"jhash {_words(body['expr'])} mod {body['mod']}{seed}{_offset(body)}"


def _offset(body: Mapping[str, Any]) -> str:
    return f" offset {body['offset']}" if body.get("offset") else ""


_EXPRESSIONS: Final[Mapping[str, Any]] = {
    "meta": _meta, "ct": _ct, "payload": _payload, "fib": _fib, "numgen": _numgen, "jhash": _jhash,
    "symhash": lambda body, _: f"symhash mod {body['mod']}{_offset(body)}",
    "concat": lambda body, _: " . ".join(map(_words, body)),
    "prefix": lambda body, _: f"{_words(body['addr'])}/{body['len']}",
    "range": lambda body, of: f"{_words(body[0], of=of)}-{_words(body[1], of=of)}",
    "map": lambda body, _: f"{_words(body['key'])} map {_where(body['data'], body['key'])}",
    "set": lambda body, of: _where({"set": body}, of),
    "elem": lambda body, of: _words(body["val"], of=of),
    "rt": lambda body, _: f"rt {body['key']}", "socket": lambda body, _: f"socket {body['key']}"}
