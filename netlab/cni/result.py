"""What a plugin answers to ADD, in every version of the specification: one type, converted at the border.

Versions 0.1.0 and 0.2.0 have `ip4` and `ip6`; 0.3.0 to 0.4.0 have lists whose `ips` tell their family; 1.0.0 drops
that; 1.1.0 adds mtu and more fields of interfaces and routes (CNI SPEC.md, section 5).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from netlab.errors import NetlabError

VERSIONS: Final = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
CURRENT: Final = "1.1.0"

INCOMPATIBLE_VERSION: Final = 1
UNSUPPORTED_FIELD: Final = 2
UNKNOWN_CONTAINER: Final = 3
INVALID_ENVIRONMENT: Final = 4
IO_FAILURE: Final = 5
DECODING_FAILURE: Final = 6
INVALID_CONFIG: Final = 7
INVALID_NETNS: Final = 8
TRY_AGAIN: Final = 11
NOT_AVAILABLE: Final = 50
LIMITED_CONNECTIVITY: Final = 51
INTERNAL: Final = 999


class CniError(NetlabError):
    """What a plugin answers when it fails: a code of the specification's table, one sentence, and details."""

    def __init__(self, code: int, message: str, details: str = "") -> None:
        super().__init__(f"{message}: {details}" if details else message)
        self.code, self.message, self.details = code, message, details


class Interface(NamedTuple):
    """An interface that was made; `sandbox` is the namespace's path, "" on the host."""

    name: str
    mac: str = ""
    mtu: int = 0
    sandbox: str = ""
    socket_path: str = ""
    pci_id: str = ""


class IP(NamedTuple):
    """An address such as "10.244.1.7/24"; `interface` is a place in the result's interfaces, -1 for none."""

    address: str
    gateway: str = ""
    interface: int = -1


class Route(NamedTuple):
    """A route of the container. None in the numbers is "not said"."""

    dst: str
    gw: str = ""
    mtu: int | None = None
    advmss: int | None = None
    priority: int | None = None
    table: int | None = None
    scope: int | None = None


class Result(NamedTuple):
    """The answer to ADD. `raw` is the JSON it came as, {} when made here."""

    interfaces: tuple[Interface, ...] = ()
    ips: tuple[IP, ...] = ()
    routes: tuple[Route, ...] = ()
    dns: Mapping[str, Any] = {}
    raw: Mapping[str, Any] = {}


_ROUTE_NUMBERS = ("mtu", "advmss", "priority", "table", "scope")


def parse(raw: Mapping[str, Any]) -> Result:
    """Read a result of any version.

    Raises:
        CniError: code 1 for an unknown version, 6 for JSON of another shape.
    """
    version = raw.get("cniVersion") or "0.1.0"
    if version not in VERSIONS:
        raise CniError(INCOMPATIBLE_VERSION, "incompatible CNI versions", f'result is "{version}"')
    try:
        if version in ("0.1.0", "0.2.0"):
            return _parse_old(raw)
        return Result(
            interfaces=tuple(Interface(item["name"], item.get("mac", ""), item.get("mtu", 0), item.get("sandbox", ""),
                                       item.get("socketPath", ""), item.get("pciID", ""))
                             for item in raw.get("interfaces") or ()),
            ips=tuple(_parse_ip(item) for item in raw.get("ips") or ()),
            routes=tuple(_parse_route(item) for item in raw.get("routes") or ()),
            dns=raw.get("dns") or {}, raw=raw)
    except (KeyError, TypeError, AttributeError) as error:
        raise CniError(DECODING_FAILURE, "could not parse the result", f"{type(error).__name__}: {error}") from None


def dump(result: Result, version: str) -> dict[str, Any]:
    """Write a result in a version, leaving out what that version does not know.

    Raises:
        CniError: code 1 for an unknown version.
    """
    if version not in VERSIONS:
        raise CniError(INCOMPATIBLE_VERSION, "incompatible CNI versions", f'cannot convert to "{version}"')
    if version in ("0.1.0", "0.2.0"):
        return _dump_old(result, version)
    new = version == "1.1.0"
    raw: dict[str, Any] = {"cniVersion": version}
    if result.interfaces:
        raw["interfaces"] = [_filled(name=item.name, mac=item.mac, mtu=item.mtu if new else 0, sandbox=item.sandbox,
                                     socketPath=item.socket_path if new else "", pciID=item.pci_id if new else "")
                             for item in result.interfaces]
    if result.ips:
        raw["ips"] = [_dump_ip(item, tell_family=version[0] == "0") for item in result.ips]
    if result.routes:
        raw["routes"] = [_dump_route(item, numbers=new) for item in result.routes]
    return {**raw, "dns": dict(result.dns)}


def _parse_ip(item: Mapping[str, Any]) -> IP:
    at = item.get("interface")
    return IP(item["address"], item.get("gateway") or "", -1 if at is None else int(at))


def _parse_route(item: Mapping[str, Any]) -> Route:
    return Route(item["dst"], item.get("gw") or "", **{key: item[key] for key in _ROUTE_NUMBERS if key in item})


def _parse_old(raw: Mapping[str, Any]) -> Result:
    ips: list[IP] = []
    routes: list[Route] = []
    for key in ("ip4", "ip6"):
        if raw.get(key):
            ips.append(IP(raw[key]["ip"], raw[key].get("gateway") or ""))
            routes += [_parse_route(item) for item in raw[key].get("routes") or ()]
    return Result(ips=tuple(ips), routes=tuple(routes), dns=raw.get("dns") or {}, raw=raw)


def _dump_ip(item: IP, *, tell_family: bool) -> dict[str, Any]:
    raw: dict[str, Any] = {"version": "6" if ":" in item.address else "4"} if tell_family else {}
    if item.interface >= 0:
        raw["interface"] = item.interface
    return raw | _filled(address=item.address, gateway=item.gateway)


def _dump_route(item: Route, *, numbers: bool) -> dict[str, Any]:
    raw = _filled(dst=item.dst, gw=item.gw)
    if numbers:
        raw |= {key: value for key in _ROUTE_NUMBERS if (value := getattr(item, key)) is not None}
    return raw


def _dump_old(result: Result, version: str) -> dict[str, Any]:
    raw: dict[str, Any] = {"cniVersion": version}
    for key, six in (("ip4", False), ("ip6", True)):
        first = next((item for item in result.ips if (":" in item.address) == six), None)
        if first is not None:
            routes = [_dump_route(item, numbers=False) for item in result.routes if (":" in item.dst) == six]
            raw[key] = _filled(ip=first.address, gateway=first.gateway, routes=routes)
    return {**raw, "dns": dict(result.dns)}


def _filled(**fields: Any) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value}
