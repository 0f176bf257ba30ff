"""From the Corefile's lines to plugins: each directive checked, every complaint with its line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from netlab.dns import corefile
from netlab.dns.chain import Chain, Plugin
from netlab.dns.corefile import Block, Directive
from netlab.dns.plugins import forward, kubernetes
from netlab.dns.plugins.cache import Cache
from netlab.dns.plugins.forward import Forward
from netlab.dns.plugins.small import Errors, LoadBalance, Log, Metrics, WhoAmI
from netlab.errors import ManifestError, UsageError
from netlab.flags import parse_duration

ORDER: Final = ("prometheus", "errors", "log", "loadbalance", "cache", "kubernetes", "forward", "whoami")
"""The plugins that questions pass, in CoreDNS' order, whatever the order in the Corefile."""
ASIDE: Final = ("bind", "health", "loop", "ready", "reload")
"""Directives beside the chain. `loop` asks for nothing: questions of our own carry a depth."""

_PLAIN: Final[dict[str, Callable[[], Plugin]]] = {"errors": Errors, "log": Log, "loadbalance": LoadBalance,
                                                  "whoami": WhoAmI}


@dataclass
class Settings:
    """What a Corefile asks for. Addresses are (host, port), None for "not asked for"."""

    chains: dict[int, list[Chain]] = field(default_factory=dict)
    bind: dict[int, tuple[str, ...]] = field(default_factory=dict)
    health: tuple[str, int] | None = None
    lameduck: float = 0.0
    ready: tuple[str, int] | None = None
    metrics: tuple[str, int] | None = None
    reload: float = 0.0
    counters: Metrics = field(default_factory=Metrics)


MakeKubernetes = Callable[[kubernetes.Config], Plugin]


def build(blocks: Sequence[Block], file: str, make_kubernetes: MakeKubernetes) -> Settings:
    """Make the chains of all server blocks.

    Raises:
        ManifestError: an unknown directive, or a wrong argument.
    """
    settings = Settings()
    for block in blocks:
        links: dict[str, list[Plugin]] = {}
        for directive in block.plugins:
            made = _Reader(directive, file).make(block, settings, make_kubernetes)
            if made is not None:
                links.setdefault(directive.name, []).append(made)
        plugins = [one for name in ORDER for one in links.get(name, ())]
        settings.chains.setdefault(block.port, []).append(Chain(block.zones, plugins))
    return settings


class _Reader:
    """One directive, read."""

    def __init__(self, directive: Directive, file: str) -> None:
        self._directive, self._file = directive, file

    def make(self, block: Block, settings: Settings, make_kubernetes: MakeKubernetes) -> Plugin | None:
        """Return the plugin, None for what stands beside the chain."""
        name, args = self._directive.name, self._directive.args
        if name not in (*ORDER, *ASIDE):
            raise self.wrong(f"unknown directive '{name}': there are {', '.join(sorted((*ORDER, *ASIDE)))}")
        if name == "bind":
            settings.bind[block.port] = tuple(self._ip(word) for word in args)
        elif name == "health":
            settings.health = self._address(args, 8080)
            for option in self._directive.body:
                settings.lameduck = self._seconds(option, self._known(option, ("lameduck",)))
        elif name == "ready":
            settings.ready = self._address(args, 8181)
        elif name == "prometheus":
            settings.metrics = self._address(args, 9153)
            return settings.counters
        elif name == "reload":
            settings.reload = self._duration(args[0], self._directive.line) if args else 30.0
        elif name == "cache":
            return self._cache()
        elif name == "kubernetes":
            return make_kubernetes(self._kubernetes(block))
        elif name == "forward":
            return Forward(self._forward(block.port))
        elif name in _PLAIN:
            return _PLAIN[name]()
        return None

    def wrong(self, words: str, line: int = 0) -> ManifestError:
        return ManifestError(words, file=self._file, line=line or self._directive.line)

    def _kubernetes(self, block: Block) -> kubernetes.Config:
        zones = tuple(zone for word in self._directive.args for zone in corefile.zones_of(word)) or block.zones
        pods, ttl = "disabled", 5
        through: tuple[str, ...] = ()
        namespaces: tuple[str, ...] = ()
        for option in self._directive.body:
            name = self._known(option, ("pods", "ttl", "fallthrough", "namespaces", "endpoint_pod_names", "noendpoints",
                                        "kubeconfig", "endpoint", "tls", "labels", "namespace_labels", "ignore"))
            if name == "pods":
                pods = option.args[0] if option.args else ""
            elif name == "ttl":
                ttl = self._number(option, 0, 3600)
            elif name == "fallthrough":
                through = tuple(word.rstrip(".").lower() for word in option.args) or zones
            elif name == "namespaces":
                namespaces = option.args
            else:
                raise self.wrong(f"kubernetes: the option {name} is not supported here", option.line)
        if pods not in ("disabled", "insecure", "verified"):
            raise self.wrong(f"kubernetes: pods is disabled, insecure or verified, not '{pods}'")
        return kubernetes.Config(zones, pods, ttl, through, namespaces)  # type: ignore[arg-type]

    def _forward(self, port: int) -> forward.Config:
        words = self._directive.args
        if len(words) < 2:
            raise self.wrong("forward: want `forward FROM TO...`")
        options: dict[str, object] = {}
        for option in self._directive.body:
            name = self._known(option, ("except", "force_tcp", "prefer_udp", "policy", "max_concurrent", "expire",
                                        "max_fails", "health_check", "next"))
            if name == "except":
                options["exceptions"] = tuple(zone for word in option.args for zone in corefile.zones_of(word))
            elif name in ("force_tcp", "prefer_udp"):
                options[name] = True
            elif name == "max_concurrent":
                options[name] = self._number(option, 0, 1 << 30)
            elif name == "policy":
                if option.args not in (("random",), ("round_robin",), ("sequential",)):
                    raise self.wrong("forward: policy is random, round_robin or sequential", option.line)
                options[name] = option.args[0]
            elif name == "next":
                raise self.wrong("forward: the option next is not supported here", option.line)
        upstreams = tuple(upstream for word in words[1:] for upstream in self._upstreams(word, port))
        return forward.Config(corefile.zones_of(words[0]), upstreams, **options)  # type: ignore[arg-type]

    def _upstreams(self, word: str, own_port: int) -> list[tuple[str, int]]:
        """Return the servers a word names: a file in the form of resolv.conf, or an address.

        A loopback address in a file would be this server itself: a container whose node knows no name server gets one.
        """
        scheme, found, rest = word.partition("://")
        if found and scheme != "dns":
            raise self.wrong(f"forward: {scheme}:// is not supported here")
        text = rest if found else word
        if "/" in text:
            try:
                lines = Path(text).read_text(encoding="utf-8").splitlines()
            except OSError as error:
                raise self.wrong(f"forward: cannot read {text}: {error.strerror}") from None
            listed = [line.split()[1] for line in lines if line.split()[:1] == ["nameserver"] and len(line.split()) > 1]
            ips = [self._ip(ip.partition("%")[0]) for ip in listed]
            return [(ip, corefile.PORT) for ip in ips if own_port != corefile.PORT or not ip_address(ip).is_loopback]
        host, colon, port = text.rpartition(":")
        if colon and port.isdigit() and ("." in host or host.startswith("[")):
            return [(self._ip(host.strip("[]")), int(port))]
        return [(self._ip(text.strip("[]")), corefile.PORT)]

    def _cache(self) -> Cache:
        limits = {"success": 3600, "denial": 1800}
        if self._directive.args:
            if not self._directive.args[0].isdigit():
                raise self.wrong("cache: zones are not supported here, only a time in seconds")
            limits = dict.fromkeys(limits, int(self._directive.args[0]))
        for option in self._directive.body:
            name = self._known(option, ("success", "denial", "prefetch", "serve_stale", "servfail", "disable",
                                        "keepttl"))
            if name in limits and len(option.args) > 1:
                limits[name] = int(option.args[1]) if option.args[1].isdigit() else limits[name]
        return Cache(success=limits["success"], denial=limits["denial"])

    def _known(self, option: Directive, names: Sequence[str]) -> str:
        if option.name not in names:
            raise self.wrong(f"{self._directive.name}: unknown property '{option.name}'", option.line)
        return option.name

    def _number(self, option: Directive, low: int, high: int) -> int:
        if len(option.args) != 1 or not option.args[0].isdigit() or not low <= int(option.args[0]) <= high:
            raise self.wrong(f"{self._directive.name}: {option.name} wants a number from {low} to {high}", option.line)
        return int(option.args[0])

    def _seconds(self, option: Directive, name: str) -> float:
        if len(option.args) != 1:
            raise self.wrong(f"{self._directive.name}: {name} wants a time", option.line)
        return self._duration(option.args[0], option.line)

    def _duration(self, text: str, line: int) -> float:
        try:
            return parse_duration(text)
        except UsageError as error:
            raise self.wrong(str(error), line) from None

    def _address(self, args: Sequence[str], port: int) -> tuple[str, int]:
        if not args:
            return "", port
        host, _, text = args[0].rpartition(":")
        if not text.isdigit():
            raise self.wrong(f"{self._directive.name}: '{args[0]}' is no address with a port")
        return host.strip("[]"), int(text)

    def _ip(self, text: str) -> str:
        try:
            return str(ip_address(text))
        except ValueError as error:
            raise self.wrong(f"{self._directive.name}: {error}") from None
