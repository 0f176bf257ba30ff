"""A rule of nft's language as statements and expressions, from the words that `nft list` prints. Pure.

What is not known here becomes `Unsaid`, with its words: whoever follows the rule can say what could not be judged.
The grammar is nft(8)'s, as far as `nft list` makes use of it.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache
from typing import Final

from netlab.netfilter import nft
from netlab.netfilter.nft_selectors import BARE, FIELDS
from netlab.netfilter.nft_syntax import (
    Binary,
    Concat,
    Constant,
    Dice,
    Expression,
    Harmless,
    Hash,
    Mapped,
    Match,
    Nat,
    NoTrack,
    Reject,
    Select,
    SetMark,
    Statement,
    Unsaid,
    Update,
    Verdict,
    VerdictMap,
    Where,
)

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"(?:-"[^"]*")?|[{}()]|,(?=\s|$)|(?:[^\s{}(),]|,(?!\s|$))+')


class NotUnderstood(ValueError):
    """Words that are not known here."""


_OPERATORS: Final = {"&": "&", "and": "&", "|": "|", "or": "|", "^": "^", "xor": "^", "<<": "<<", ">>": ">>"}
_COMPARES: Final = frozenset({"==", "!=", "<", ">", "<=", ">=", "!"})
_LONGER: Final = frozenset({("ip", "option"), ("tcp", "option"), ("sctp", "chunk"), ("ct", "count")})
_NAT_FLAGS: Final = frozenset({"random", "fully-random", "persistent"})
_ENDINGS: Final = frozenset({"accept", "drop", "return", "continue"})
_LATER: Final = (
    "ct helper set",
    "ct timeout set",
    "ct event set",
    "ct expectation set",
    "ct label set",
    "meta nftrace set",
    "meta priority set",
    "meta pkttype set",
    "flow add",
    "tcp option",
    "ip dscp set",
    "ip6 dscp set",
    "ip ecn set",
    "ip6 flowlabel set",
    "ip ttl set",
    "ip6 hoplimit set",
    "meta secmark set",
)
"""Statements without influence on the way of this packet; how many words they have does not matter much."""


@lru_cache(maxsize=16384)
def statements(text: str) -> tuple[Statement, ...]:
    """Return what a rule says, from its text without counters and comment."""
    return tuple(_Reader(_TOKEN.findall(text)).rule())


class _Reader:
    """Reads words, one statement after the other."""

    def __init__(self, words: list[str]) -> None:
        self._words, self._at = words, 0

    def rule(self) -> list[Statement]:
        found: list[Statement] = []
        while self._at < len(self._words):
            start = self._at
            try:
                made = self._statement()
                words = " ".join(self._words[start : self._at])
                found.append(
                    replace(made, text=words) if isinstance(made, Match | VerdictMap | SetMark | Nat) else made
                )
            except (NotUnderstood, IndexError, ValueError):
                self._at = start
                found += self._rest()
        return found

    def _rest(self) -> list[Statement]:
        """Take the remaining words as one that is not known, and a verdict behind them as one."""
        words, self._at = self._words[self._at :], len(self._words)
        if words[-1] in _ENDINGS:
            return [Unsaid(" ".join(words[:-1])), Verdict(words[-1])]
        if len(words) > 2 and words[-2] in ("jump", "goto"):
            return [Unsaid(" ".join(words[:-2])), Verdict(words[-2], words[-1])]
        if "reject" in words[1:]:
            at = words.index("reject", 1)
            return [Unsaid(" ".join(words[:at])), *_Reader(words[at:]).rule()]
        return [Unsaid(" ".join(words), stops=True)]

    # --- words -------------------------------------------------------------------------------------------------------

    def _peek(self, ahead: int = 0) -> str:
        at = self._at + ahead
        return self._words[at] if at < len(self._words) else ""

    def _next(self) -> str:
        self._at += 1
        return self._words[self._at - 1]

    def _is(self, *words: str) -> bool:
        fits = tuple(self._words[self._at : self._at + len(words)]) == words
        self._at += len(words) if fits else 0
        return fits

    def _number(self) -> int:
        return int(self._next(), 0)

    # --- statements --------------------------------------------------------------------------------------------------

    def _statement(self) -> Statement:
        word = self._peek()
        if word in _ENDINGS:
            return Verdict(self._next())
        if word in ("jump", "goto"):
            return Verdict(self._next(), self._next())
        if word in ("dnat", "snat", "masquerade", "redirect"):
            return self._nat()
        plain = {
            "counter": self._counter,
            "log": self._log,
            "reject": self._reject,
            "limit": self._limit,
            "quota": self._quota,
            "add": self._update,
            "update": self._update,
            "delete": self._update,
        }
        if word in plain:
            return plain[word]()
        if word == "notrack":
            self._next()
            return NoTrack()
        if word == "queue":
            words, self._at = " ".join(self._words[self._at :]), len(self._words)
            return Unsaid(words, stops=True)
        if word == "ct" and self._peek(1) == "count":
            count = [self._next(), self._next(), *([self._next()] if self._peek() == "over" else []), self._next()]
            return Unsaid(" ".join(count))
        later = self._later()
        return later or self._set_mark() or self._match()

    def _counter(self) -> Statement:
        self._next()
        if self._is("name"):
            self._next()
        elif self._is("packets"):
            self._at += 3
        return Harmless("counter")

    def _log(self) -> Statement:
        start = self._at
        self._next()
        while self._peek() in ("prefix", "level", "group", "snaplen", "queue-threshold", "flags"):
            self._next()
            self._next()
        return Harmless(" ".join(self._words[start : self._at]))

    def _limit(self) -> Statement:
        start = self._at
        self._next()
        if self._is("name"):
            self._next()
        else:
            self._next()  # rate
            self._is("over")
            self._next()
            while self._peek() in ("bytes/second", "kbytes/second", "mbytes/second"):
                self._next()
            if self._is("burst"):
                self._at += 2
        return Unsaid(" ".join(self._words[start : self._at]))

    def _quota(self) -> Statement:
        start = self._at
        self._next()
        if self._is("name"):
            self._next()
        else:
            self._is("over") or self._is("until")
            self._at += 2
            if self._is("used"):
                self._at += 2
        return Unsaid(" ".join(self._words[start : self._at]))

    def _reject(self) -> Statement:
        self._next()
        if not self._is("with"):
            return Reject()
        family = self._next()
        self._is("type")
        return Reject(f"{family} {self._next()}")

    def _update(self) -> Statement:
        verb, name = self._next(), self._next().removeprefix("@")
        if self._next() != "{":
            raise NotUnderstood(verb)
        key = self._expression()
        start = self._at
        while self._next() != "}":
            pass
        words = re.sub(r"timeout \S+", "", " ".join(self._words[start : self._at - 1])).strip()
        return Update(verb, name, key, "" if words == "counter" else words)

    def _later(self) -> Statement | None:
        rest = " ".join(self._words[self._at : self._at + 3])
        for words in _LATER:
            if rest.startswith(words) and (not words.startswith("tcp option") or "set" in self._words[self._at :]):
                end = self._at + len(words.split()) + 1
                if words.startswith("tcp option"):
                    end = self._words.index("set", self._at) + 2
                    end += self._words[end - 1] == "rt"
                self._at, start = end, self._at
                return Harmless(" ".join(self._words[start:end]))
        return None

    def _set_mark(self) -> Statement | None:
        start = self._at
        of = self._peek() if self._peek(1) == "mark" else "meta" if self._peek() == "mark" else ""
        if of in ("meta", "ct"):
            self._at += 2 if self._peek(1) == "mark" else 1
            if self._is("set"):
                return SetMark(of, self._expression(constant=True))
        self._at = start
        return None

    def _match(self) -> Statement:
        left = self._expression()
        if self._is("vmap"):
            return VerdictMap(left, self._where())
        if self._peek() == "set":  # a field is rewritten
            raise NotUnderstood("set")
        op = self._next() if self._peek() in _COMPARES else ""
        if self._peek() == "{" or self._peek().startswith("@"):
            return Match(left, op, self._where())
        right = self._expression(constant=True)
        mask = Constant(self._next()) if self._is("/") else None
        return Match(left, op, right, mask)

    def _nat(self) -> Statement:
        verb, family, prefix = self._next(), 0, False
        to: Expression | None = None
        port: str | Expression = ""
        if self._peek() in ("ip", "ip6") and self._peek(1) in ("to", "prefix", "addr"):
            family = 4 if self._next() == "ip" else 6
        self._is("addr")
        prefix = self._is("prefix")
        if self._is(".", "port") or self._is("to"):
            self._is("to")
            word = self._peek()
            if word.startswith(":") and word[1:2].isalpha():  # `:tcp dport map { ... }`
                self._words[self._at] = word[1:]
                port = self._expression()
            elif word.startswith(":") and ":" not in word[1:]:
                port = self._next()[1:]
            else:
                to = self._expression(constant=True)
                if self._peek().startswith(":"):
                    port = self._next()[1:]
        flags = frozenset(self._next().split(",")) if set(self._peek().split(",")) <= _NAT_FLAGS else frozenset()
        if isinstance(to, Constant):
            to, port, family = _place(to.word, port)
        return Nat(verb, family, to, port, flags, prefix)

    # --- expressions -------------------------------------------------------------------------------------------------

    def _where(self) -> Where:
        if self._peek() != "{":
            name = self._next()
            if not name.startswith("@"):
                raise NotUnderstood(name)
            return Where(name[1:])
        self._next()
        start, depth = self._at, 1
        while depth:
            depth += {"{": 1, "}": -1}.get(self._next(), 0)
        return Where(elements=nft.elements(" ".join(self._words[start : self._at - 1])))

    def _expression(self, *, constant: bool = False) -> Expression:
        parts = [self._operand(constant=constant)]
        while self._is("."):
            parts.append(self._operand(constant=constant))
        found: Expression = parts[0] if len(parts) == 1 else Concat(tuple(parts))
        return Mapped(found, self._where()) if self._is("map") else found

    def _operand(self, *, constant: bool) -> Expression:
        left = self._primary(constant=constant)
        while self._peek() in _OPERATORS:
            left = Binary(_OPERATORS[self._next()], left, self._primary(constant=True))
        return left

    def _primary(self, *, constant: bool) -> Expression:
        word = self._peek()
        if self._is("("):
            inside = self._expression(constant=True)
            if not self._is(")"):
                raise NotUnderstood(word)
            return inside
        if word in ("numgen", "symhash", "jhash"):
            return self._chosen()
        selected = self._selected()
        if selected is not None:
            return selected
        if not constant or not word or word in "{},":
            raise NotUnderstood(word)
        return Constant(self._next())

    def _chosen(self) -> Expression:
        word = self._next()
        key = self._expression() if word == "jhash" else None
        if word == "numgen":
            self._next()
        if not self._is("mod"):
            raise NotUnderstood(word)
        count = self._number()
        seed = self._number() if self._is("seed") else None
        offset = self._number() if self._is("offset") else 0
        return Hash(key, count, seed, offset) if key is not None else Dice(count, offset)

    def _selected(self) -> Select | None:
        word, after = self._peek(), self._peek(1)
        if word == "fib":
            return self._fib()
        if (word, after) in _LONGER:
            raise NotUnderstood(f"{word} {after}")
        if after in FIELDS.get(word, ()):
            words = [self._next(), self._next()]
            if word == "ct" and after in ("original", "reply"):
                words += [self._next()]
                if words[-1] in ("ip", "ip6"):
                    words += [self._next()]
            return Select(tuple(words))
        if word in BARE:
            self._next()
            return Select(BARE[word])
        if word.startswith("@") and word.count(",") == 2:
            return Select((self._next(),))
        return None

    def _fib(self) -> Select:
        words = [self._next(), self._next()]
        while self._is("."):
            words.append(self._next())
        return Select((*words, self._next()))


def _place(word: str, port: str | Expression) -> tuple[Expression, str | Expression, int]:
    """Part `10.0.0.1:80`, `[fd00::1]:80`, `10.0.0.1-10.0.0.9:80-90` into the address, the port and the family."""
    if word.startswith("["):
        address, _, behind = word.rpartition("]")
        address, port = f"{address}]".replace("[", "").replace("]", ""), behind.removeprefix(":") or port
    elif word.count(":") == 1:
        address, _, port = word.partition(":")
    else:
        address = word
    return Constant(address), port, 6 if ":" in address else 4
