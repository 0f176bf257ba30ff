"""Users whom a proxy tells in headers, such as the API server that stands before another one. Pure.

Whose word counts, by the certificate that the proxy shows, is for the caller to find out.
https://kubernetes.io/docs/reference/access-authn-authz/authentication/#authenticating-proxy
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote

_AUTHENTICATED = "system:authenticated"


@dataclass(frozen=True)
class RequestHeader:
    """How proxies tell the user: whose common names may (none: all), and in which headers."""

    names: tuple[str, ...]
    user: tuple[str, ...]
    uid: tuple[str, ...]
    group: tuple[str, ...]
    extra: tuple[str, ...]


def named(headers: Mapping[str, str], told: RequestHeader,
          ) -> tuple[str, tuple[str, ...], str, dict[str, tuple[str, ...]]] | None:
    """Return name, groups, uid and extra of the user whom headers name, None if they name nobody."""
    found: dict[str, list[str]] = {}
    for header, value in headers.items():
        found.setdefault(header.lower(), []).append(value)
    name = _first(found, told.user)
    if not name:
        return None
    groups = [value for header in told.group for value in found.get(header.lower(), ()) if value]
    if _AUTHENTICATED not in groups:
        groups.append(_AUTHENTICATED)
    extra: dict[str, tuple[str, ...]] = {}
    for prefix in told.extra:
        for header, values in found.items():
            if header.startswith(prefix.lower()):
                key = unquote(header[len(prefix):])
                extra[key] = (*extra.get(key, ()), *values)
    return name, tuple(groups), _first(found, told.uid), extra


def _first(found: Mapping[str, list[str]], names: tuple[str, ...]) -> str:
    return next((found[name.lower()][0] for name in names if found.get(name.lower(), [""])[0]), "")
