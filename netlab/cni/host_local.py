r"""The plugin host-local: addresses from ranges, kept on this machine in one file per address.

The directory is the reference plugin's: `DATADIR/NETWORK/10.1.0.7` holds `containerid\r\nifname`,
`last_reserved_ip.N` the last address given from range set N, `lock` is locked (flock) while anything changes. Unlike
the reference plugin it does STATUS and GC, takes an empty file for what a killed one left, and remembers the files it
has read, so that an allocation does not read every file again.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Any, Final, TypeAlias

from netlab.cni import result as results
from netlab.cni.ranges import Address, RangeSet, parse_sets
from netlab.cni.result import IP, CniError, Result, Route
from netlab.cni.skel import Call, Plugin

DATA_DIR: Final = "/var/lib/cni/networks"
_LAST: Final = "last_reserved_ip."

_Read: TypeAlias = dict[str, tuple[int, int, tuple[str, str]]]
_read: dict[str, _Read] = {}  # directory: {file: (inode, mtime, owner)}; an entry holds while it is the same file


class Reservations:
    """One network's directory. Use `locked()`; the methods expect the lock to be held."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the directory's lock; makes the directory.

        Raises:
            CniError: code 5, the directory cannot be made or written.
        """
        try:
            os.makedirs(self._directory, exist_ok=True)
            lock = os.open(self._path("lock"), os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise CniError(results.IO_FAILURE, f"cannot use the data directory {self._directory}",
                           error.strerror or "") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def owners(self, *, exact: bool = True) -> dict[str, tuple[str, str]]:
        """Return {address: (container id, interface name)}; the name is "" in files of old versions.

        Without `exact` a file that another process made anew under the same name and inode number is not noticed:
        that costs no system call per file.
        """
        known = _read.get(self._directory, {})
        seen: _Read = {}
        with os.scandir(self._directory) as entries:
            for entry in entries:
                name = entry.name
                if name == "lock" or name.startswith(_LAST):
                    continue
                found = known.get(name)
                if found is None or found[0] != entry.inode() or (exact and found[1] != entry.stat().st_mtime_ns):
                    found = (entry.inode(), entry.stat().st_mtime_ns, self._owner(name))
                if found[2][0]:
                    seen[name] = found
        _read[self._directory] = seen
        return {name: found[2] for name, found in seen.items()}

    def held_by(self, container_id: str, ifname: str) -> list[str]:
        """Return the addresses of an attachment."""
        for exact in (False, True):
            owners = self.owners(exact=exact)
            for wanted in ((container_id, ifname), (container_id, "")):
                mine = [ip for ip, owner in owners.items() if owner == wanted and self._owner(ip) == wanted]
                if mine:
                    return mine
        return []

    def last(self, number: int) -> Address | None:
        """Return the last address given from a range set."""
        try:
            with open(self._path(f"{_LAST}{number}"), encoding="ascii") as file:
                return ip_address(file.read().strip())
        except (OSError, ValueError):
            return None

    def reserve(self, ip: Address, number: int, container_id: str, ifname: str) -> bool:
        """Take an address; False when it is taken."""
        name = str(ip)
        try:
            if self._write(name, f"{container_id}\r\n{ifname}", os.O_EXCL):
                self._write(f"{_LAST}{number}", name, 0)
                return True
            if self._owner(name)[0]:
                return False
            self._write(name, f"{container_id}\r\n{ifname}", 0)
        except OSError as error:
            raise CniError(results.IO_FAILURE, f"cannot reserve {self._path(name)}", error.strerror or "") from None
        self._write(f"{_LAST}{number}", name, 0)
        return True

    def release(self, ip: str) -> None:
        """Give an address back; fine when it was free."""
        try:
            os.unlink(self._path(ip))
        except FileNotFoundError:
            pass
        except OSError as error:
            raise CniError(results.IO_FAILURE, f"cannot release {ip}", error.strerror or "") from None

    def _write(self, name: str, content: str, flags: int) -> bool:
        """Write a file in one piece; False when it is there and `flags` has O_EXCL."""
        try:
            file = os.open(self._path(name), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | flags, 0o644)
        except FileExistsError:
            return False
        try:
            size = os.write(file, content.encode())
            if not flags:
                os.ftruncate(file, size)  # not before: emptying a file makes ext4 write it to the disk at once
        finally:
            os.close(file)
        return True

    def _owner(self, name: str) -> tuple[str, str]:
        try:
            with open(self._path(name), encoding="utf-8", errors="replace", newline="") as file:
                container_id, _, ifname = file.read().strip().partition("\r\n")
        except OSError:
            return "", ""
        return container_id.strip(), ifname.strip()

    def _path(self, name: str) -> str:
        return f"{self._directory}/{name}"


def add(call: Call) -> Result:
    """Reserve one address from each range set."""
    ipam = _ipam(call)
    sets = _sets(call, ipam)
    wanted = _wanted(call)
    dns = _read_resolv_conf(ipam["resolvConf"]) if ipam.get("resolvConf") else {}
    given: list[tuple[Address, IP]] = []
    store = _store(call, ipam)
    with store.locked():
        try:
            for number, ranges in enumerate(sets):
                given.append(_allocate(store, call, number, ranges, wanted))
            if wanted:
                raise CniError(results.INTERNAL, "failed to allocate all requested IPs: " + ",".join(map(str, wanted)))
        except CniError:
            for ip, _ in given:
                store.release(str(ip))
            raise
    routes = tuple(Route(item["dst"], item.get("gw") or "", **{key: item[key] for key in
                                                              ("mtu", "advmss", "priority", "table", "scope")
                                                              if key in item}) for item in ipam.get("routes") or ())
    return Result(ips=tuple(ip for _, ip in given), routes=routes, dns=dns)


def delete(call: Call) -> None:
    """Give back what this attachment holds."""
    store = _store(call, _ipam(call))
    with store.locked():
        for ip in store.held_by(call.container_id, call.ifname):
            store.release(ip)


def check(call: Call) -> None:
    """Fail unless this attachment still holds an address."""
    store = _store(call, _ipam(call))
    with store.locked():
        if not store.held_by(call.container_id, call.ifname):
            raise CniError(results.INTERNAL, "host-local: Failed to find address added by container "
                           + call.container_id)


def status(call: Call) -> None:
    """Fail with code 50 when a range set has no address left."""
    ipam = _ipam(call)
    store = _store(call, ipam)
    with store.locked():
        taken = set(store.owners())
        for ranges in _sets(call, ipam):
            if not any(str(ip) not in taken for ip, _ in ranges.walk(None)):
                raise CniError(results.NOT_AVAILABLE, f"no IP addresses available in range set: {ranges}")


def gc(call: Call) -> None:
    """Give back what no valid attachment holds."""
    valid = call.valid_attachments()
    ids = {container_id for container_id, _ in valid}
    store = _store(call, _ipam(call))
    with store.locked():
        for ip, owner in store.owners().items():
            if owner not in valid and not (owner[1] == "" and owner[0] in ids):
                store.release(ip)


PLUGIN: Final = Plugin("host-local", add, delete, check, gc, status)


def _allocate(store: Reservations, call: Call, number: int, ranges: RangeSet,
              wanted: list[Address]) -> tuple[Address, IP]:
    asked = next((ip for ip in wanted if ranges.range_of(ip)), None)
    if asked is not None:
        wanted.remove(asked)
        chosen = ranges.range_of(asked)
        assert chosen is not None
        if asked == chosen.gateway:
            raise CniError(results.INTERNAL, f"requested ip {asked} is subnet's gateway")
        if not store.reserve(asked, number, call.container_id, call.ifname):
            raise CniError(results.INTERNAL, f"requested IP address {asked} is not available in range set {ranges}")
        return asked, IP(f"{asked}/{chosen.subnet.prefixlen}", str(chosen.gateway))
    owners = store.owners(exact=False)
    for held, owner in owners.items():
        if owner == (call.container_id, call.ifname) and ranges.range_of(ip_address(held)):
            raise CniError(results.INTERNAL, f"{held} has been allocated to {call.container_id}, "
                                             "duplicate allocation is not allowed")
    for ip, chosen in ranges.walk(store.last(number)):
        if str(ip) not in owners and store.reserve(ip, number, call.container_id, call.ifname):
            return ip, IP(f"{ip}/{chosen.subnet.prefixlen}", str(chosen.gateway))
    raise CniError(results.INTERNAL, f"no IP addresses available in range set: {ranges}")


def _ipam(call: Call) -> Mapping[str, Any]:
    ipam = call.config.get("ipam")
    if not isinstance(ipam, dict):
        raise CniError(results.INVALID_CONFIG, "IPAM config missing 'ipam' key")
    return ipam


def _sets(call: Call, ipam: Mapping[str, Any]) -> tuple[RangeSet, ...]:
    return parse_sets(ipam, (call.config.get("runtimeConfig") or {}).get("ipRanges") or ())


def _wanted(call: Call) -> list[Address]:
    """Return the addresses asked for: CNI_ARGS IP, then args.cni.ips, then the capability ips."""
    listed = [*filter(None, call.args.get("IP", "").split(",")),
              *(((call.config.get("args") or {}).get("cni") or {}).get("ips") or ()),
              *((call.config.get("runtimeConfig") or {}).get("ips") or ())]
    wanted: list[Address] = []
    for text in listed:
        try:
            ip = ip_address(str(text).partition("/")[0])
        except ValueError as error:
            raise CniError(results.INVALID_CONFIG, f"invalid IP asked for: {error}") from None
        if ip not in wanted:
            wanted.append(ip)
    return wanted


def _store(call: Call, ipam: Mapping[str, Any]) -> Reservations:
    return Reservations(f"{ipam.get('dataDir') or DATA_DIR}/{call.network}")


def _read_resolv_conf(path: str) -> dict[str, Any]:
    dns: dict[str, Any] = {}
    try:
        with open(path, encoding="utf-8") as file:
            lines = [line.split() for line in file if line.strip() and line.strip()[0] not in "#;"]
    except OSError as error:
        raise CniError(results.IO_FAILURE, f"cannot read {path}", error.strerror or "") from None
    for word, *rest in lines:
        if word == "nameserver" and rest:
            dns.setdefault("nameservers", []).append(rest[0])
        elif word == "domain" and rest:
            dns["domain"] = rest[0]
        elif word in ("search", "options"):
            dns.setdefault(word, []).extend(rest)
    return dns
