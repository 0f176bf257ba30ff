"""Kubernetes' own CEL functions (k8s.io/apiserver/pkg/cel/library): lists, sets, regular expressions, quantities,
addresses, URLs, named formats. A value of one of its types is a map {"kubernetes.io/type": NAME, ...}; whether a text
is one is asked by `isQuantity` and its kin.
"""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Callable
from fractions import Fraction
from typing import Any, NamedTuple
from urllib.parse import SplitResult, parse_qs, urlsplit

from netlab.api import names, quantity
from netlab.apiserver import regular
from netlab.apiserver.cel import authorizer

_TYPE = "kubernetes.io/type"


class Row(NamedTuple):
    """One overload: types are any, bool, int, double, string, list; a `member` is called on its first argument."""

    does: Callable[..., Any]
    takes: tuple[str, ...]
    returns: str
    member: bool = True


def _made(kind: str, **parts: Any) -> dict[str, Any]:
    return {_TYPE: kind, **parts}


def _of(kind: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or value.get(_TYPE) != kind:
        raise ValueError(f"no such overload: want {kind}")
    return value


def _can(read: Callable[[str], Any]) -> Callable[[str], bool]:
    def test(text: str) -> bool:
        try:
            read(text)
        except ValueError:
            return False
        return True
    return test


# --- lists and sets ---------------------------------------------------------------------------------------------------

def _sorted(items: list[Any]) -> bool:
    return all(a <= b for a, b in itertools.pairwise(items))


def _extreme(choose: Callable[[list[Any]], Any]) -> Callable[[list[Any]], Any]:
    def pick(items: list[Any]) -> Any:
        if not items:
            raise ValueError("min/max called on empty list")
        return choose(items)
    return pick


def _last(items: list[Any], wanted: Any) -> int:
    return next((at for at in range(len(items) - 1, -1, -1) if items[at] == wanted), -1)


def _holds(items: list[Any], wanted: list[Any]) -> bool:
    return all(item in items for item in wanted)


# --- quantities -------------------------------------------------------------------------------------------------------

def _amount(value: Any) -> Fraction:
    if isinstance(value, int):
        return Fraction(value)
    return Fraction(_of("quantity", value)["amount"])


def _quantity(text: str) -> dict[str, Any]:
    return _made("quantity", amount=str(quantity.parse(text).amount))


def _compare(one: Any, other: Any) -> int:
    a, b = _amount(one), _amount(other)
    return (a > b) - (a < b)


def _whole(value: Any) -> int:
    amount = _amount(value)
    if amount.denominator != 1:
        raise ValueError("cannot convert value to integer")
    return amount.numerator


# --- addresses --------------------------------------------------------------------------------------------------------

def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    found = ipaddress.ip_address(text)
    if getattr(found, "ipv4_mapped", None) or "%" in text:
        raise ValueError(f"IPv4-mapped and zoned addresses are not allowed: {text}")
    return found


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    if "/" not in text:
        raise ValueError(f"no CIDR: {text}")
    return ipaddress.ip_interface(text).network


def _ip(text: str) -> dict[str, Any]:
    return _made("ip", text=str(_address(text)))


def _ip_of(value: Any) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return _address(_of("ip", value)["text"])


def _cidr(text: str) -> dict[str, Any]:
    _network(text)
    return _made("cidr", text=text)


def _within(network: Any, value: Any) -> bool:
    found = _network(_of("cidr", network)["text"])
    address = _ip_of(value) if isinstance(value, dict) else _address(value)
    return address.version == found.version and address in found


def _covers(network: Any, value: Any) -> bool:
    outer = _network(_of("cidr", network)["text"])
    inner = _network(_of("cidr", value)["text"] if isinstance(value, dict) else value)
    return outer.version == inner.version and inner.prefixlen >= outer.prefixlen and inner.network_address in outer


def _family(value: Any) -> int:
    return _ip_of(value).version


# --- URLs, formats ----------------------------------------------------------------------------------------------------

def _url(text: str) -> dict[str, Any]:
    parts = urlsplit(text)
    if not (parts.scheme or text.startswith("/")):
        raise ValueError(f"URL parse error during conversion from string: {text}")
    return _made("url", text=text)


def _parts(value: Any) -> SplitResult:
    return urlsplit(str(_of("url", value)["text"]))


def _host(value: Any) -> str:
    return _parts(value).netloc.rpartition("@")[2]


_FORMS: dict[str, Callable[[str], list[str]]] = {
    "dns1123Label": names.dns_label, "dns1123Subdomain": names.dns_subdomain, "dns1035Label": names.dns_1035_label,
    "qualifiedName": names.qualified_name, "labelValue": names.label_value}


def _named(name: str) -> Any:
    return _made("format", name=name) if name in _FORMS else None


def _judge(value: Any, text: str) -> Any:
    return _FORMS[_of("format", value)["name"]](text) or None


def _one(does: Callable[..., Any], takes: str, returns: str, *, member: bool = True) -> Row:
    return Row(does, tuple(takes.split()), returns, member)


TABLE: dict[str, tuple[Row, ...]] = {
    "isSorted": (_one(_sorted, "list", "bool"),),
    "sum": (_one(lambda items: sum(items) if items else 0, "list", "any"),),
    "min": (_one(_extreme(min), "list", "any"),),
    "max": (_one(_extreme(max), "list", "any"),),
    "indexOf": (_one(lambda items, wanted: items.index(wanted) if wanted in items else -1, "list any", "int"),),
    "lastIndexOf": (_one(_last, "list any", "int"),),
    "sets.contains": (_one(_holds, "list list", "bool", member=False),),
    "sets.equivalent": (_one(lambda a, b: _holds(a, b) and _holds(b, a), "list list", "bool", member=False),),
    "sets.intersects": (_one(lambda a, b: any(item in a for item in b), "list list", "bool", member=False),),
    "find": (_one(regular.find, "string string", "string"),),
    "findAll": (_one(regular.find_all, "string string", "list"), _one(regular.find_all, "string string int", "list")),
    "isQuantity": (_one(_can(_quantity), "string", "bool", member=False),),
    "quantity": (_one(_quantity, "string", "any", member=False),),
    "isGreaterThan": (_one(lambda a, b: _compare(a, b) > 0, "any any", "bool"),),
    "isLessThan": (_one(lambda a, b: _compare(a, b) < 0, "any any", "bool"),),
    "compareTo": (_one(_compare, "any any", "int"),),
    "sign": (_one(lambda value: _compare(value, 0), "any", "int"),),
    "isInteger": (_one(lambda value: _amount(value).denominator == 1, "any", "bool"),),
    "asInteger": (_one(_whole, "any", "int"),),
    "asApproximateFloat": (_one(lambda value: float(_amount(value)), "any", "double"),),
    "add": (_one(lambda a, b: _made("quantity", amount=str(_amount(a) + _amount(b))), "any any", "any"),),
    "sub": (_one(lambda a, b: _made("quantity", amount=str(_amount(a) - _amount(b))), "any any", "any"),),
    "isIP": (_one(_can(_address), "string", "bool", member=False),),
    "ip": (_one(_ip, "string", "any", member=False),
           _one(lambda value: _ip(_of("cidr", value)["text"].partition("/")[0]), "any", "any")),
    "ip.isCanonical": (_one(lambda text: str(_address(text)) == text, "string", "bool", member=False),),
    "family": (_one(_family, "any", "int"),),
    "isUnspecified": (_one(lambda value: _ip_of(value).is_unspecified, "any", "bool"),),
    "isLoopback": (_one(lambda value: _ip_of(value).is_loopback, "any", "bool"),),
    "isLinkLocalMulticast": (_one(lambda value: _ip_of(value).is_multicast and str(_ip_of(value)).startswith(
        ("224.0.0.", "ff02:")), "any", "bool"),),
    "isLinkLocalUnicast": (_one(lambda value: _ip_of(value).is_link_local, "any", "bool"),),
    "isGlobalUnicast": (_one(lambda value: not (
        _ip_of(value).is_multicast or _ip_of(value).is_unspecified or _ip_of(value).is_loopback
        or _ip_of(value).is_link_local), "any", "bool"),),
    "isCIDR": (_one(_can(_network), "string", "bool", member=False),),
    "cidr": (_one(_cidr, "string", "any", member=False),),
    "containsIP": (_one(_within, "any any", "bool"),),
    "containsCIDR": (_one(_covers, "any any", "bool"),),
    "prefixLength": (_one(lambda value: _network(_of("cidr", value)["text"]).prefixlen, "any", "int"),),
    "masked": (_one(lambda value: _cidr(str(_network(_of("cidr", value)["text"]))), "any", "any"),),
    "isURL": (_one(_can(_url), "string", "bool", member=False),),
    "url": (_one(_url, "string", "any", member=False),),
    "getScheme": (_one(lambda value: _parts(value).scheme, "any", "string"),),
    "getHost": (_one(_host, "any", "string"),),
    "getHostname": (_one(lambda value: _parts(value).hostname or "", "any", "string"),),
    "getPort": (_one(lambda value: str(_parts(value).port or ""), "any", "string"),),
    "getEscapedPath": (_one(lambda value: _parts(value).path, "any", "string"),),
    "getQuery": (_one(lambda value: parse_qs(_parts(value).query), "any", "any"),),
    "format.named": (_one(_named, "string", "any", member=False),),
    "jsonpatch.escapeKey": (_one(lambda text: text.replace("~", "~0").replace("/", "~1"), "string", "string",
                                 member=False),),
    "path": (_one(authorizer.add("authorizer", "path", "path"), "any string", "any"),),
    "group": (_one(authorizer.add("authorizer", "group", "group"), "any string", "any"),),
    "serviceAccount": (_one(lambda found, namespace, name: authorizer.add("authorizer", "serviceAccount")(
        found, f"{namespace}/{name}"), "any string string", "any"),),
    "resource": (_one(authorizer.add("group", "resource", "check"), "any string", "any"),),
    "subresource": (_one(authorizer.add("check", "subresource"), "any string", "any"),),
    "namespace": (_one(authorizer.add("check", "namespace"), "any string", "any"),),
    "name": (_one(authorizer.add("check", "name"), "any string", "any"),),
    "check": (_one(authorizer.check, "any string", "any"),),
    "allowed": (_one(authorizer.part("allowed", False), "any", "bool"),),
    "reason": (_one(authorizer.part("reason", ""), "any", "string"),),
    "errored": (_one(lambda _found: False, "any", "bool"),),
    "error": (_one(lambda _found: "", "any", "string"),),
    "validate": (_one(_judge, "any string", "any"),),
}
"""Function name → its overloads."""
