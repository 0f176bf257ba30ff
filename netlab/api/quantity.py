"""Kubernetes quantities, `100m`, `1.5Gi`, `2e3`: exact (apimachinery/pkg/api/resource/quantity.go)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache, total_ordering

_TEXT = re.compile(r"([+-]?)([0-9]*)(?:\.([0-9]*))?([eEinumkKMGTP]*[-+]?[0-9]*)")
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_DECIMAL_SUFFIX = {power: suffix for suffix, power in _DECIMAL.items()}
_BINARY_SUFFIX = {power: suffix for suffix, power in _BINARY.items()}
_NANO = Fraction(1, 10 ** 9)
_MAX = (1 << 63) - 1
_LONGEST = 256  # characters; upstream has no limit, but nothing that it keeps needs more than 40
_USUAL = 32
_FORMAT_ERROR = ("quantities must match the regular expression "
                 "'^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")
_SUFFIX_ERROR = "unable to parse quantity's suffix"


@total_ordering
@dataclass(frozen=True, eq=False)
class Quantity:
    """An exact amount. `format` is DecimalSI, BinarySI or DecimalExponent; it shapes only the text.

    `text` is what it was parsed from, where upstream writes that back (2.125), else "".
    """

    amount: Fraction
    format: str = "DecimalSI"
    text: str = ""

    def value(self) -> int:
        """Return the amount as a whole number, rounded away from zero."""
        return _away(self.amount)

    def milli(self) -> int:
        """Return the amount in thousandths, rounded away from zero."""
        return _whole(self.amount.numerator * 1000, self.amount.denominator)

    def __str__(self) -> str:
        if not self.amount:
            return "0"
        if self.text:
            return self.text
        if self.format == "BinarySI":
            if -1024 < self.amount < 1024 or self.amount.denominator != 1:
                return _decimal(self.amount)  # a binary suffix would need a fraction
            return _binary(int(self.amount))
        if self.format == "DecimalExponent":
            return _decimal(self.amount, exponent=True)
        return _decimal(self.amount)

    def __eq__(self, other: object) -> bool:
        return self.amount == other.amount if isinstance(other, Quantity) else NotImplemented

    def __lt__(self, other: Quantity) -> bool:  # by whole numbers, in a tenth of the time
        mine, theirs = self.amount, other.amount
        return mine.numerator * theirs.denominator < theirs.numerator * mine.denominator

    def __hash__(self) -> int:
        return hash(self.amount)

    def __bool__(self) -> bool:
        return bool(self.amount)

    def __add__(self, other: Quantity) -> Quantity:
        return Quantity(self.amount + other.amount, self.format if self.amount else other.format)

    def __sub__(self, other: Quantity) -> Quantity:
        return Quantity(self.amount - other.amount, self.format if self.amount else other.format)

    def __neg__(self) -> Quantity:
        return Quantity(-self.amount, self.format)

    def __mul__(self, times: int) -> Quantity:
        return Quantity(self.amount * times, self.format)


ZERO = Quantity(Fraction(0))


def parse(text: str | float) -> Quantity:
    """Return the quantity of a text, or of a JSON number.

    What is finer than a billionth is rounded away from zero, what is larger than 2**63-1 is cut to it, as upstream.

    Raises:
        ValueError: it is none; the message is Kubernetes' own.
    """
    text = _plain(text) if isinstance(text, float) else str(text)
    if not 0 < len(text) <= _LONGEST:
        raise ValueError(_FORMAT_ERROR)
    return _parse(text)


@lru_cache(maxsize=1024)
def _parse(text: str) -> Quantity:
    match = _TEXT.fullmatch(text)
    if match is None:
        raise ValueError(_FORMAT_ERROR)
    sign, whole, part, suffix = match[1], match[2].lstrip("0") or "0", match[3] or "", match[4]
    power, shape = _scale(suffix)
    digits = whole + part
    amount = Fraction(int(digits)) * (Fraction(1 << power) if shape == "BinarySI" else Fraction(10) ** power)
    amount = min(_away(amount / 10 ** len(part) / _NANO) * _NANO, Fraction(_MAX))
    return Quantity(-amount if sign == "-" else amount, shape,
                    text if amount and _stays(digits, power, len(part), shape) else "")


def _scale(suffix: str) -> tuple[int, str]:
    """Return the power (of two for BinarySI, of ten for the others) and the format of a suffix."""
    if suffix in _DECIMAL:
        return _DECIMAL[suffix], "DecimalSI"
    if suffix in _BINARY:
        return _BINARY[suffix], "BinarySI"
    if suffix[0] in "eE" and suffix[1:].lstrip("+-").isdigit() and len(suffix) < 6:  # more is far beyond what is kept
        return int(suffix[1:]), "DecimalExponent"
    raise ValueError(_SUFFIX_ERROR)


def _stays(digits: str, power: int, places: int, shape: str) -> bool:
    """Tell whether upstream keeps a text as it is, "05Ki" too: its fast path does, if there is nothing to shorten."""
    if shape == "BinarySI":
        room = 15 - len(digits) - power * 3 // 10 - 1
        return not places and room >= 0 and power % 10 == 0 and int(digits) % 8 != 0
    scale = power - places
    return len(digits) <= 18 and scale >= -9 and scale % 3 == 0 and not digits.endswith("000") and digits[0] != "0"


def canonical(text: str | float) -> str:
    """Return the text that the API server keeps for a text. Raises ValueError."""
    return _canonical(text) if type(text) is str and len(text) <= _USUAL else str(parse(text))


@lru_cache(maxsize=1024)
def _canonical(text: str) -> str:
    return str(parse(text))


def _plain(number: float) -> str:
    return str(int(number)) if number.is_integer() and abs(number) < 1e15 else repr(number)


def _away(amount: Fraction) -> int:
    """Round away from zero."""
    return _whole(amount.numerator, amount.denominator)


def _whole(numerator: int, denominator: int) -> int:
    whole = -(-abs(numerator) // denominator)
    return -whole if numerator < 0 else whole


def _decimal(amount: Fraction, *, exponent: bool = False) -> str:
    """Return the amount as a whole number with the largest suffix that keeps it whole."""
    mantissa, power = int(amount * 10 ** 9), -9
    while power < 18 and mantissa % 1000 == 0:
        mantissa //= 1000
        power += 3
    if exponent:
        return f"{mantissa}e{power}" if power else str(mantissa)
    return f"{mantissa}{_DECIMAL_SUFFIX[power]}"


def _binary(number: int) -> str:
    power = 0
    while power < 60 and number % 1024 == 0:
        number //= 1024
        power += 10
    return f"{number}{_BINARY_SUFFIX[power]}" if power else str(number)
