"""Forms of names, labels, addresses and ports (k8s.io/apimachinery/pkg/util/validation): each returns complaints."""

from __future__ import annotations

import ipaddress
import re

_LABEL_FORM = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_DNS_LABEL = re.compile(rf"{_LABEL_FORM}\Z")
_DNS_SUBDOMAIN = re.compile(rf"{_LABEL_FORM}(\.{_LABEL_FORM})*\Z")
_SEARCH_FORM = "_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
_DNS_SEARCH = re.compile(rf"{_SEARCH_FORM}(\.{_SEARCH_FORM})*\Z")
_HEADER = re.compile(r"[-A-Za-z0-9]+\Z")
_DNS_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?\Z")
_QUALIFIED_FORM = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_QUALIFIED = re.compile(rf"{_QUALIFIED_FORM}\Z")
_LABEL_VALUE = re.compile(rf"({_QUALIFIED_FORM})?\Z")
_PORT_NAME = re.compile(r"[-a-z0-9]+\Z")
_ENV_NAME = re.compile(r"[\x21-\x3c\x3e-\x7e ]+\Z")
_KEY = re.compile(r"[-._a-zA-Z0-9]+\Z")
_PATH_SEGMENT = re.compile(r"[/%]")

_SUBDOMAIN_TEXT = ("a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and "
                   "must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation "
                   "is "
                   f"'{_LABEL_FORM}(\\.{_LABEL_FORM})*')")
_DNS_SEARCH_TEXT = ("a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or "
                    "'.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for "
                    f"validation is '{_SEARCH_FORM}(\\.{_SEARCH_FORM})*')")
_HEADER_TEXT = ("a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used "
                "for validation is '[-A-Za-z0-9]+')")
_DNS_LABEL_TEXT = ("a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must "
                   "start "
                   "and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation "
                   "is "
                   f"'{_LABEL_FORM}')")
_DNS_1035_TEXT = ("a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an "
                  "alphabetic "
                  "character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for "
                  "validation is '[a-z]([-a-z0-9]*[a-z0-9])?')")
_QUALIFIED_TEXT = ("name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an "
                   "alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
                   f"'{_QUALIFIED_FORM}')")
_IP_TEXT = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
_LABEL_VALUE_TEXT = ("a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', "
                     "and "
                     "must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', "
                     f"regex used for validation is '({_QUALIFIED_FORM})?')")


def _more_than(limit: int) -> str:
    return f"must be no more than {limit} bytes"


def dns_label(text: str) -> list[str]:
    """Complain about what is no RFC 1123 label (63 bytes)."""
    found = [_more_than(63)] if len(text) > 63 else []
    if not _DNS_LABEL.match(text):
        if text and _DNS_SUBDOMAIN.match(text):
            return [*found, "must not contain dots"]
        found.append(_DNS_LABEL_TEXT)
    return found


def dns_subdomain(text: str) -> list[str]:
    """Complain about what is no RFC 1123 subdomain (253 bytes)."""
    found = [_more_than(253)] if len(text) > 253 else []
    return found if _DNS_SUBDOMAIN.match(text) else [*found, _SUBDOMAIN_TEXT]


def dns_search(text: str) -> list[str]:
    """Complain about what is no domain of a resolver's search list: a subdomain whose labels may hold underscores."""
    found = [_more_than(253)] if len(text) > 253 else []
    return found if _DNS_SEARCH.match(text) else [*found, _DNS_SEARCH_TEXT]


def dns_1035_label(text: str) -> list[str]:
    """Complain about what is no RFC 1035 label (63 bytes): what Services are named by."""
    found = [_more_than(63)] if len(text) > 63 else []
    return found if _DNS_1035.match(text) else [*found, _DNS_1035_TEXT]


def path_segment(text: str) -> list[str]:
    """Complain about what cannot stand in a path (names of RBAC objects may be anything else)."""
    if text in (".", ".."):
        return [f"may not be '{text}'"]
    return [f"may not contain '{sign}'" for sign in "/%" if sign in text]


def qualified_name(text: str) -> list[str]:
    """Complain about what is no [prefix/]name, as keys of labels and annotations are."""
    parts = text.split("/")
    found = []
    if len(parts) == 2:
        prefix, name = parts
        if not prefix:
            found.append("prefix part must be non-empty")
        else:
            found += [f"prefix part {said}" for said in dns_subdomain(prefix)]
    elif len(parts) == 1:
        name = parts[0]
    else:
        return [(f"a valid label key {_QUALIFIED_TEXT.removeprefix('name part ')} with an optional DNS subdomain "
                "prefix and '/' (e.g. 'example.com/MyName')")]
    if not name:
        found.append("name part must be non-empty")
    elif len(name) > 63:
        found.append("name part " + _more_than(63))
    if not _QUALIFIED.match(name):
        found.append(_QUALIFIED_TEXT)
    return found


def label_value(text: str) -> list[str]:
    """Complain about what is no value of a label."""
    found = [_more_than(63)] if len(text) > 63 else []
    return found if _LABEL_VALUE.match(text) else [*found, _LABEL_VALUE_TEXT]


def port_number(number: object) -> list[str]:
    """Complain about what is no port from 1 to 65535."""
    good = isinstance(number, int) and not isinstance(number, bool) and 1 <= number <= 65535
    return [] if good else ["must be between 1 and 65535, inclusive"]


def port_name(text: str) -> list[str]:
    """Complain about what is no IANA service name (15 bytes)."""
    found = []
    if len(text) > 15:
        found.append(_more_than(15))
    if not _PORT_NAME.match(text):
        found.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not re.search("[a-z]", text):
        found.append("must contain at least one letter (a-z)")
    if "--" in text:
        found.append("must not contain consecutive hyphens")
    if text.startswith("-") or text.endswith("-"):
        found.append("must not begin or end with a hyphen")
    return found


def ip_address(text: str) -> list[str]:
    """Complain about what is no IPv4 or IPv6 address in one of its plain forms (KEP-4858)."""
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        if _without_zeros(text):
            return ["must not have leading 0s"]
        return [_IP_TEXT]
    if "%" in text:  # a zone is Python's, not Go's
        return [_IP_TEXT]
    return ["must not be an IPv4-mapped IPv6 address"] if _mapped(found) else []


def cidr(text: str) -> list[str]:
    """Complain about what is no network: an address with a prefix length, and no bits behind it (KEP-4858)."""
    address, _, length = text.partition("/")
    try:
        plain = _without_zeros(address) or address
        network = ipaddress.ip_network(f"{plain}/{int(length)}" if length.isascii() and length.isdigit() else "",
                                       strict=False)
    except ValueError:
        return ["must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"]
    found = ipaddress.ip_address(plain)
    complaints = []
    if plain != address or length != str(int(length)):
        complaints.append("must not have leading 0s in IP or prefix length")
    if _mapped(found):
        complaints.append("must not have an IPv4-mapped IPv6 address")
    if found != network.network_address:
        complaints.append("must not have bits set beyond the prefix length")
    return complaints


def _mapped(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None


def _without_zeros(text: str) -> str:
    """Return an IPv4 address without the zeros that its numbers begin with; "" if it is none or has none of them."""
    parts = text.split(".")
    if len(parts) != 4 or not all(part.isascii() and part.isdigit() and int(part) < 256 for part in parts):
        return ""
    plain = ".".join(str(int(part)) for part in parts)
    return plain if plain != text else ""


def http_header(text: str) -> list[str]:
    """Complain about what is no name of an HTTP header."""
    return [] if _HEADER.match(text) else [_HEADER_TEXT]


def unix_id(number: int) -> list[str]:
    """Complain about what is no number of a user or group."""
    return [] if 0 <= number < 1 << 31 else ["must be between 0 and 2147483647, inclusive"]


def env_name(text: str) -> list[str]:
    """Complain about what is no name of an environment variable (relaxed form: printable ASCII but '=')."""
    if not text:
        return ["environment variable name must not be empty"]
    return [] if _ENV_NAME.match(text) else [
        "a valid environment variable name must consist only of printable ASCII characters other than '='"]


def config_key(text: str) -> list[str]:
    """Complain about what is no key of a ConfigMap or Secret."""
    found = [_more_than(253)] if len(text) > 253 else []
    if not _KEY.match(text):
        found.append("a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  "
                     "or "
                     "'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')")
    if text == ".":
        found.append("must not be '.'")
    elif text == "..":
        found.append("must not be '..'")
    elif text.startswith(".."):
        found.append("must not start with '..'")
    return found
