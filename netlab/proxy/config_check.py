"""What settings cannot work, and why (kubernetes: pkg/proxy/apis/config/validation)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping

from netlab.errors import Unsupported, UsageError
from netlab.proxy.addresses import Family, family, is_everything, network
from netlab.proxy.config_table import DETECT_MODES, MODES, ROWS

_MOST_PORT = 65535
_IPVS = ("proxy mode ipvs is not served: it needs the kernel's IP virtual server, which most network namespaces lack, "
         "and upstream deprecated it in v1.35 in favour of nftables")
_LEAST, _MOST = -1000, 1000


def refuse(values: dict[str, object], mode: str, backend: str) -> None:
    """Raise at the first setting that cannot work; every error names the flag and the field.

    Raises:
        UsageError: a value is off; Unsupported: a mode that is not there.
    """
    if mode == "ipvs":
        raise Unsupported(_IPVS, hint="use --proxy-mode=nftables (mode: nftables in the file), which also finds a "
                                      "Service in one step however many there are; or iptables")
    if mode not in MODES:
        raise Unsupported(f"unknown proxy mode {mode!r}", hint="use --proxy-mode=iptables or nftables")
    for field, trouble, hint in _troubles(values, mode):
        flag = next((row.flag for row in ROWS if row.field == field), "")
        raise UsageError(f"--{flag} ({field}): {trouble}", hint=hint)
    if backend not in ("auto", "nft", "legacy"):
        raise UsageError(f"--iptables-backend: unknown backend {backend!r}", hint="auto, nft or legacy")


def doubts(values: Mapping[str, object], mode: str, primary: Family, *, dual: bool) -> Iterator[str]:
    """Yield what works and is probably not meant (kubernetes: cmd/kube-proxy/app/server.go, checkBadConfig)."""
    ports = _texts(values["nodePortAddresses"])
    if not ports and mode != "nftables":
        yield ("nodePortAddresses is not set: node ports are served on every address of this node; "
               "--nodeport-addresses=primary limits them")
    limited = {family(each) for each in ports if each != "primary"}
    if limited and (primary not in limited or (dual and len(limited) == 1)):
        missing = sorted({"IPv4", "IPv6"} - limited)
        yield f"nodePortAddresses holds no {missing[0]} network: {missing[0]} node ports are served on every address"
    cidrs = {family(each) for each in _texts(values["clusterCIDR"])}
    if str(values["detectLocalMode"] or "ClusterCIDR") == "ClusterCIDR":
        if not cidrs:
            yield "clusterCIDR is not set: Pods cannot be told from others, so nothing to a ClusterIP is masqueraded"
        elif primary not in cidrs:
            yield f"clusterCIDR holds no {primary} network, and this node's first family is {primary}"


def port_range(text: str) -> range:
    """Return the ports of `40000-40999`, `40000+999` or `40000`; an empty range for "" (any port).

    Raises:
        ValueError: it is no such range.
    """
    if not text or text == "0-0":
        return range(0)
    found = re.fullmatch(r"(\d+)(?:([-+])(\d+))?", text.strip())
    if not found:
        raise ValueError(text)
    first = int(found[1])
    last = first if not found[2] else first + int(found[3]) if found[2] == "+" else int(found[3])
    if not 0 < first <= last <= _MOST_PORT:
        raise ValueError(text)
    return range(first, last + 1)


TRUE_WORDS, FALSE_WORDS = ("true", "t", "1"), ("false", "f", "0")
_Trouble = tuple[str, str, str]


def _troubles(values: dict[str, object], mode: str) -> Iterator[_Trouble]:
    section = "nftables" if mode == "nftables" else "iptables"
    yield from _numbers(values, section)
    yield from _addresses(values)
    gates = values["featureGates"]
    assert isinstance(gates, dict)
    for gate, said in gates.items():
        if str(said).lower() not in (*TRUE_WORDS, *FALSE_WORDS):
            yield "featureGates", f"{gate}: want true or false, got {said!r}", f"such as {gate}=false"
    detect = str(values["detectLocalMode"] or "ClusterCIDR")
    if detect not in DETECT_MODES:
        yield "detectLocalMode", f"unknown mode {detect!r}", f"one of {', '.join(DETECT_MODES)}"
    for wanted, field in (("BridgeInterface", "detectLocal.bridgeInterface"),
                          ("InterfaceNamePrefix", "detectLocal.interfaceNamePrefix")):
        if detect == wanted and not values[field]:
            yield field, f"needed by --detect-local-mode={wanted}", "such as cni0 or veth"
    try:
        port_range(str(values["portRange"] or ""))
    except ValueError:
        yield "portRange", f"{values['portRange']!r} is no range of ports", "such as 40000-40999"


def _numbers(values: dict[str, object], section: str) -> Iterator[_Trouble]:
    def number(field: str) -> float:
        return float(values[field])  # type: ignore[arg-type]

    if not 0 <= number(f"{section}.masqueradeBit") <= 31:
        yield f"{section}.masqueradeBit", "must be from 0 to 31", ""
    if not _LEAST <= number("oomScoreAdj") <= _MOST:
        yield "oomScoreAdj", "must be from -1000 to 1000", ""
    for field in ("maxPerCore", "min", "tcpEstablishedTimeout", "tcpCloseWaitTimeout", "udpTimeout",
                  "udpStreamTimeout"):
        if number(f"conntrack.{field}") < 0:
            yield f"conntrack.{field}", "must not be negative", "0 leaves it as it is"
    for field in (f"{section}.syncPeriod", "configSyncPeriod"):
        if number(field) < 0:
            yield field, "must be more than 0", "such as 30s"
    if number(f"{section}.minSyncPeriod") < 0:
        yield f"{section}.minSyncPeriod", "must not be negative", ""
    most = number(f"{section}.syncPeriod") or 30.0
    if number(f"{section}.minSyncPeriod") > most:
        yield f"{section}.minSyncPeriod", f"must not be more than the sync period ({most:g} s)", ""


def _addresses(values: dict[str, object]) -> Iterator[_Trouble]:
    cidrs, ports = _texts(values["clusterCIDR"]), _texts(values["nodePortAddresses"])
    for field, texts in (("clusterCIDR", cidrs), ("nodePortAddresses", ports)):
        for text in texts:
            if not network(text) and not (field == "nodePortAddresses" and text == "primary"):
                yield field, f"{text!r} is no network", "such as 10.244.0.0/16"
    if "primary" in ports and len(ports) > 1:
        yield "nodePortAddresses", "the word primary has to stand alone", ""
    if any(is_everything(cidr) for cidr in cidrs):
        yield "clusterCIDR", "a network that holds every address tells nothing about Pods", ""
    families = [family(cidr) for cidr in cidrs]
    if len(families) != len(set(families)):
        yield "clusterCIDR", "at most one network of each address family", "10.244.0.0/16,fd00:244::/56"
    try:
        ipaddress.ip_address(str(values["bindAddress"]))
    except ValueError:
        yield "bindAddress", f"{values['bindAddress']!r} is no address", "such as 0.0.0.0 or ::"
    for field in ("healthzBindAddress", "metricsBindAddress"):
        text = str(values[field])
        host, _, port = text.rpartition(":")
        if text and not (port.isdigit() and int(port) <= _MOST_PORT and _is_host(host)):
            yield field, f"{text!r} is no address and port", "such as 127.0.0.1:10249, or empty for none"


def _is_host(text: str) -> bool:
    try:
        ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return not text
    return True


def _texts(value: object) -> list[str]:
    return [str(each) for each in value] if isinstance(value, list) else []
