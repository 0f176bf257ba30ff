"""The formats of texts that a schema may ask for (k8s.io/kube-openapi/pkg/validation/strfmt).

Other formats are words for readers. A dash in a format's name counts nothing: date-time is datetime.
"""

from __future__ import annotations

import base64
import ipaddress
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlsplit

from netlab.apiserver.validation import names

_DURATION = re.compile(r"([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h|d|w))+\Z")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\Z")
_HOST = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([-A-Za-z0-9]{0,61}[A-Za-z0-9])?)*\Z")
_CARD = (r"4[0-9]{12}([0-9]{3})?|5[1-5][0-9]{14}|6(011|5[0-9][0-9])[0-9]{12}|3[47][0-9]{13}|"
         r"3(0[0-5]|[68][0-9])[0-9]{11}|(2131|1800|35[0-9]{3})[0-9]{11}")


def _parses(read: Callable[[str], Any]) -> Callable[[str], bool]:
    def test(text: str) -> bool:
        try:
            read(text)
        except (ValueError, TypeError):
            return False
        return True
    return test


def _matches(pattern: str) -> Callable[[str], bool]:
    return lambda text: re.fullmatch(pattern, text) is not None


def _uuid(version: str = "[0-9a-f]", variant: str = "[0-9a-f]") -> Callable[[str], bool]:
    digits = "[0-9a-f]"
    return _matches(f"(?i){digits}{{8}}-?{digits}{{4}}-?{version}{digits}{{3}}-?{variant}{digits}{{3}}-?{digits}{{12}}")


def _version(version: int) -> Callable[[str], bool]:
    return _parses(lambda text: ipaddress.ip_address(text).version == version or int("no"))


def _date_time(text: str) -> datetime:
    if "T" not in text.upper():
        raise ValueError(text)
    return datetime.fromisoformat(text.replace("Z", "+00:00").replace("z", "+00:00"))


def _uri(text: str) -> str:
    if not urlsplit(text).scheme and not text.startswith("/"):
        raise ValueError(text)
    return text


def _isbn10(text: str) -> bool:
    digits = re.sub(r"[\s-]", "", text)
    return bool(re.fullmatch(r"[0-9]{9}[0-9X]", digits)) and \
        sum((10 - at) * (10 if digit == "X" else int(digit)) for at, digit in enumerate(digits)) % 11 == 0


def _isbn13(text: str) -> bool:
    digits = re.sub(r"[\s-]", "", text)
    return bool(re.fullmatch(r"[0-9]{13}", digits)) and \
        sum(int(digit) * (3 if at % 2 else 1) for at, digit in enumerate(digits)) % 10 == 0


_COLOUR: Final = r"(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"

FORMATS: Final[Mapping[str, Callable[[str], bool]]] = {
    "datetime": _parses(_date_time), "date": _parses(lambda text: datetime.strptime(text, "%Y-%m-%d")),
    "duration": lambda text: bool(_DURATION.match(text.replace(" ", ""))) or text == "0",
    "byte": _parses(lambda text: base64.b64decode(text, validate=True)), "email": lambda text: bool(_EMAIL.match(text)),
    "hostname": lambda text: len(text) <= 255 and bool(_HOST.match(text)), "ipv4": _version(4), "ipv6": _version(6),
    "cidr": _parses(lambda text: ipaddress.ip_network(text, strict=False) if "/" in text else int("no")),
    "uuid": _uuid(), "uuid3": _uuid("3"), "uuid4": _uuid("4", "[89ab]"), "uuid5": _uuid("5", "[89ab]"),
    "uri": _parses(_uri), "mac": _matches(r"([0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}"),
    "hexcolor": _matches(r"#?([0-9A-Fa-f]{3}|[0-9A-Fa-f]{6})"), "bsonobjectid": _matches(r"[0-9A-Fa-f]{24}"),
    "rgbcolor": _matches(rf"rgb\(\s*{_COLOUR}\s*,\s*{_COLOUR}\s*,\s*{_COLOUR}\s*\)"),
    "ssn": _matches(r"[0-9]{3}[- ]?[0-9]{2}[- ]?[0-9]{4}"), "isbn10": _isbn10, "isbn13": _isbn13,
    "isbn": lambda text: _isbn10(text) or _isbn13(text),
    "creditcard": lambda text: re.fullmatch(_CARD, re.sub(r"[^0-9]", "", text)) is not None,
    "k8sshortname": lambda text: not names.dns_label(text), "k8slongname": lambda text: not names.dns_subdomain(text),
}
"""By name, dashes left out."""
