"""A rule or map element of nftables in plain words: when it applies and what it does.

What nobody here knows stays in nft's words.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from re import Match

from netlab.netfilter import nft
from netlab.netfilter.nft import NftElement

_SIDES = {"saddr": "from", "daddr": "to", "sport": "source port", "dport": "port"}
_NOT = {"!=": "not ", "==": "", "": ""}


def explain(text: str) -> str:
    """Return what a rule does, such as `to one of @cluster-ips, not from 10.244.0.0/16: mark for masquerade`."""
    when, what = _parts(nft.meaning(text))
    said = ", ".join(each for each in when if each)
    done = ", then ".join(what) or "count only"
    return f"{said}: {done}" if said else done


def _parts(text: str) -> tuple[list[str], list[str]]:
    when: list[str] = []
    what: list[str] = []
    left, raw = text, False
    while left:
        for pattern, words, does in _WORDS:
            found = pattern.match(left)
            if found and found.end():
                (what if does else when).append(words(found))
                left, raw = left[found.end():].lstrip(), False
                break
        else:
            word, _, left = left.partition(" ")
            if raw:
                when[-1] += f" {word}"
            else:
                when.append(word)
            raw = True
    return when, what


def element(name: str, each: NftElement) -> str:
    """Return what an element of a set or map says, such as `to 10.96.0.10 tcp port 80: continue in service-X`."""
    where = key(each.key)
    if name.startswith("affinity-"):
        return f"client {each.key} was sent here before"
    if not each.value:
        return where
    return f"{where}: {verdict(each.value)}"


def key(text: str) -> str:
    """Return the key of one of kube-proxy's maps in words."""
    parts = text.split(" . ")
    if len(parts) == 3:
        return f"to {parts[0]}, {parts[1]} port {parts[2]}"
    if len(parts) == 2:
        return f"{parts[0]} port {parts[1]} of the node"
    if len(parts) == 4:
        return f"from {parts[0]} to {parts[1]}, {parts[2]} port {parts[3]}"
    return text


def verdict(text: str) -> str:
    """Return a verdict in words."""
    verb, _, chain = text.partition(" ")
    return {"goto": f"continue in {chain}", "jump": f"go to {chain}", "drop": "drop", "accept": "accept",
            "return": "leave this chain"}.get(verb, text)


def _value(text: str) -> str:
    return f"one of {text}" if text.startswith(("@", "{")) else text


def _address(found: Match[str]) -> str:
    return f"{_NOT[found[2] or '']}{_SIDES[found[1]]} {_value(found[3])}"


def _port(found: Match[str]) -> str:
    return f"{found[1]} {_NOT[found[3] or '']}{_SIDES[found[2]]} {_value(found[4])}"


def _states(found: Match[str]) -> str:
    words = {"new": "new", "established": "established", "related": "related", "invalid": "invalid",
             "untracked": "untracked", "dnat": "rewritten", "snat": "masqueraded"}
    said = " or ".join(words.get(each, each) for each in re.split(r",\s*", found[2].strip("{} ")))
    return f"connection {_NOT[found[1] or '']}{said}"


def _marks(found: Match[str]) -> str:
    sign, value = found[1], found[2]
    said = {"|": f"set mark {value}", "^": f"clear mark {value}", "&": f"keep of the mark {value}"}[sign]
    return "mark for masquerade" if said == "set mark 0x4000" else said


def _spread(found: Match[str]) -> str:
    parts = nft.dice(found[0])
    return f"rewrite the destination to one of {len(parts)} by the dice"


def _spread_chains(found: Match[str]) -> str:
    return f"continue in one of {len(nft.dice(found[0]))} by the dice"


_ITEM = r"(\{[^}]*\}|\S+)"
_PAIR = r"(!=|==)? ?"
_WORDS: list[tuple[re.Pattern[str], Callable[[Match[str]], str], bool]] = [
    (re.compile(r"meta l4proto (\S+) dnat (?:ip6? )?to numgen \w+ mod \d+ map \{ .* \}"),
     lambda f: f"{f[1]}: {_spread(f)}", True),
    (re.compile(r"dnat (?:ip6? )?to numgen \w+ mod \d+ map \{ .* \}"), _spread, True),
    (re.compile(r"numgen \w+ mod \d+ vmap \{ .* \}"), _spread_chains, True),
    (re.compile(r"(?:ip6? saddr \. )?ip6? daddr \. meta l4proto \. th dport vmap @(\S+)"),
     lambda f: f"look up destination, protocol and port in @{f[1]}", True),
    (re.compile(r"meta l4proto \. th dport vmap @(\S+)"), lambda f: f"look up protocol and port in @{f[1]}", True),
    (re.compile(r"ip6? saddr \. ip6? daddr \. meta l4proto \. th dport @(\S+)"),
     lambda f: f"an endpoint that calls itself (@{f[1]})", False),
    (re.compile(r"ip6? (saddr|daddr) " + _PAIR + _ITEM), _address, False),
    (re.compile(r"(tcp|udp|sctp|th) (dport|sport) " + _PAIR + _ITEM), _port, False),
    (re.compile(r"meta l4proto " + _PAIR + _ITEM), lambda f: f"{_NOT[f[1] or '']}{f[2]}", False),
    (re.compile(r"ct (?:state|status) " + _PAIR + r"(\{[^}]*\}|[a-z]+(?:,\s?[a-z]+)*)"), _states, False),
    (re.compile(r"(?:meta )?iif(?:name)? " + _PAIR + _ITEM), lambda f: f"{_NOT[f[1] or '']}in by {f[2]}", False),
    (re.compile(r"(?:meta )?oif(?:name)? " + _PAIR + _ITEM), lambda f: f"{_NOT[f[1] or '']}out by {f[2]}", False),
    (re.compile(r"fib saddr type (?:!= )?local"), lambda _: "from the node itself", False),
    (re.compile(r"fib daddr type (?:!= )?local"), lambda _: "to an address of the node", False),
    (re.compile(r"meta mark & (0x\w+) != 0x0"), lambda f: f"marked {f[1]}", False),
    (re.compile(r"meta mark set meta mark ([|^&]) (0x\w+)"), _marks, True),
    (re.compile(r"meta mark set (\S+)"), lambda f: f"set mark {f[1]}", True),
    (re.compile(r"meta mark (?!set)" + _PAIR + _ITEM), lambda f: f"{_NOT[f[1] or '']}marked {f[2]}", False),
    (re.compile(r"limit rate (over )?(\S+(?: \S*bytes/\S+)?)(?: burst \d+ \w+)?"),
     lambda f: f"{'above' if f[1] else 'at most'} {f[2]}", False),
    (re.compile(r"update @(\S+) \{ ip6? saddr \}"), lambda f: f"remember the client in @{f[1]}", True),
    (re.compile(r"dnat (?:ip6? )?to (\S+)"), lambda f: f"rewrite the destination to {f[1]}", True),
    (re.compile(r"snat (?:ip6? )?to (\S+)"), lambda f: f"rewrite the source to {f[1]}", True),
    (re.compile(r"masquerade(?: fully-random| random)?"), lambda _: "masquerade: send from the node's own address",
     True),
    (re.compile(r"redirect(?: to :?(\S+))?"), lambda f: f"redirect to the node's own port {f[1] or ''}".rstrip(), True),
    (re.compile(r"reject(?: with (.+))?"), lambda f: "reject" + (f" with {f[1]}" if f[1] else ""), True),
    (re.compile(r"(goto|jump) (\S+)"), lambda f: verdict(f[0]), True),
    (re.compile(r"(drop|accept|return)\b"), lambda f: verdict(f[0]), True),
    (re.compile(r"log(?: prefix \"[^\"]*\")?"), lambda _: "write to the kernel log", True),
]
