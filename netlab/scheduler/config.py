"""KubeSchedulerConfiguration (kubescheduler.config.k8s.io/v1): profiles, plugins and their weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from netlab.errors import ManifestError, UsageError
from netlab.flags import parse_duration
from netlab.scheduler.cycle import Profile
from netlab.scheduler.plugins.registry import PLUGINS

_GROUP = "kubescheduler.config.k8s.io/"
_ELSEWHERE = frozenset((  # upstream's plugins that netlab does not have: they may be named, and do nothing
    "SchedulingGates", "PrioritySort", "VolumeRestrictions", "NodeVolumeLimits", "VolumeBinding", "VolumeZone",
    "DefaultPreemption", "DefaultBinder", "DynamicResources"))


@dataclass(frozen=True)
class Settings:
    """What a configuration file says. Times are seconds; None where it says nothing."""

    profiles: tuple[Profile, ...]
    kubeconfig: str = ""
    leader_election: dict[str, Any] = field(default_factory=dict)
    first_backoff: float = 1.0
    longest_backoff: float = 10.0


def default_profile(name: str = "default-scheduler") -> Profile:
    """Return upstream's default plugins and weights."""
    return Profile(name, PLUGINS, {plugin.name: plugin.weight for plugin in PLUGINS if plugin.weight})


def load(path: str) -> Settings:
    """Read a configuration file; "" gives the defaults.

    Raises:
        ManifestError: it is no KubeSchedulerConfiguration, or names a plugin that nobody knows.
    """
    if not path:
        return Settings((default_profile(),))
    try:
        document = yaml.load(Path(path).read_bytes(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except OSError as error:
        raise UsageError(f"--config: can't read {path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise ManifestError(f"not YAML: {error}", file=path) from error
    if not isinstance(document, dict) or document.get("kind") != "KubeSchedulerConfiguration" \
            or not str(document.get("apiVersion", "")).startswith(_GROUP):
        raise ManifestError(f"want kind KubeSchedulerConfiguration of {_GROUP}v1", file=path)
    rows = document.get("profiles") or [{}]
    profiles = tuple(_profile(row, path, number) for number, row in enumerate(rows))
    names = [profile.name for profile in profiles]
    if len(set(names)) != len(names):
        raise ManifestError("two profiles have the same schedulerName", file=path, field="profiles")
    election = dict(document.get("leaderElection") or {})
    for part in ("leaseDuration", "renewDeadline", "retryPeriod"):
        if part in election:
            election[part] = parse_duration(str(election[part]))
    return Settings(profiles, str((document.get("clientConnection") or {}).get("kubeconfig") or ""), election,
                    float(document.get("podInitialBackoffSeconds") or 1), float(document.get("podMaxBackoffSeconds")
                                                                                or 10))


def _profile(row: dict[str, Any], path: str, number: int) -> Profile:
    known = {plugin.name: plugin for plugin in PLUGINS}
    name = str(row.get("schedulerName") or "default-scheduler")
    weights = dict(default_profile().weights)
    off: set[str] = set()
    for point in ("multiPoint", "filter", "score"):
        section = (row.get("plugins") or {}).get(point) or {}
        for entry in section.get("disabled") or []:
            names = list(known) if entry.get("name") == "*" else [_checked(entry, path, number)]
            for one in names:
                weights.pop(one, None)
                if point != "score":
                    off.add(one)
        for entry in section.get("enabled") or []:
            one = _checked(entry, path, number)
            off.discard(one)
            if one in known and (known[one].weight or entry.get("weight")) and point != "filter":
                weights[one] = int(entry.get("weight") or known[one].weight)
    return Profile(name, tuple(plugin for plugin in PLUGINS if plugin.name not in off), weights)


def _checked(entry: dict[str, Any], path: str, number: int) -> str:
    name = str(entry.get("name", ""))
    if name not in _ELSEWHERE and all(plugin.name != name for plugin in PLUGINS):
        raise ManifestError(f'no plugin "{name}"', file=path, field=f"profiles[{number}].plugins")
    return name
