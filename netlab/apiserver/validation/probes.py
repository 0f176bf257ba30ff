"""Probes, and what runs when a container starts and stops."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from netlab.api.meta import Object
from netlab.apiserver.validation import names
from netlab.apiserver.validation.errors import FieldError, forbidden, invalid, not_supported, required, wrong
from netlab.apiserver.validation.resources import NEGATIVE

PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_PROBE_HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc")
_HOOK_HANDLERS = ("exec", "httpGet", "tcpSocket", "sleep")
_SCHEMES = ("HTTP", "HTTPS")
_NUMBERS = ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold")
_SIGNALS = {
    "linux": frozenset(
        {
            *(
                f"SIG{name}"
                for name in (
                    "ABRT",
                    "ALRM",
                    "BUS",
                    "CHLD",
                    "CLD",
                    "CONT",
                    "FPE",
                    "HUP",
                    "ILL",
                    "INT",
                    "IO",
                    "IOT",
                    "KILL",
                    "PIPE",
                    "POLL",
                    "PROF",
                    "PWR",
                    "QUIT",
                    "SEGV",
                    "STKFLT",
                    "STOP",
                    "SYS",
                    "TERM",
                    "TRAP",
                    "TSTP",
                    "TTIN",
                    "TTOU",
                    "URG",
                    "USR1",
                    "USR2",
                    "VTALRM",
                    "WINCH",
                    "XCPU",
                    "XFSZ",
                    "RTMIN",
                    "RTMAX",
                )
            ),
            *(f"SIGRTMIN+{n}" for n in range(1, 16)),
            *(f"SIGRTMAX-{n}" for n in range(1, 15)),
        }
    ),
    "windows": frozenset({"SIGKILL", "SIGTERM"}),
}


def probe(found: Object, path: str, kind: str, grace: int | None) -> Iterator[FieldError]:
    """Check one probe; `grace` is the Pod's terminationGracePeriodSeconds."""
    yield from _handler(found, path, _PROBE_HANDLERS, grace)
    for part in _NUMBERS:
        if found.get(part, 0) < 0:
            yield invalid(f"{path}.{part}", found[part], NEGATIVE)
    own = found.get("terminationGracePeriodSeconds")
    if own is not None and own <= 0:
        yield invalid(f"{path}.terminationGracePeriodSeconds", own, "must be greater than 0")
    if kind == "readinessProbe":
        if own is not None:
            yield invalid(f"{path}.terminationGracePeriodSeconds", own, "must not be set for readinessProbes")
    elif found.get("successThreshold", 0) != 1:
        yield invalid(f"{path}.successThreshold", found.get("successThreshold", 0), "must be 1")


def lifecycle(found: Object, path: str, grace: int | None, system: Object | None) -> Iterator[FieldError]:
    """Check what runs after a container's start and before its stop, and the signal that stops it."""
    for part in ("postStart", "preStop"):
        if found.get(part) is not None:
            yield from _handler(found[part], f"{path}.{part}", _HOOK_HANDLERS, grace)
    signal = found.get("stopSignal")
    if signal is not None:
        if system is None:
            yield forbidden(f"{path}.stopSignal", "may not be set for containers with empty `spec.os.name`")
        elif signal not in (known := _SIGNALS.get(system.get("name", ""), {signal})):
            yield not_supported(f"{path}.stopSignal", signal, known)


def _handler(found: Object, path: str, kinds: tuple[str, ...], grace: int | None) -> Iterator[FieldError]:
    given = [kind for kind in kinds if found.get(kind) is not None]
    if not given:
        yield required(path, "must specify a handler type")
        return
    kind = given[0]
    body, field = found[kind], f"{path}.{kind}"
    if kind == "exec":
        if not body.get("command"):
            yield required(f"{field}.command")
    elif kind == "httpGet":
        yield from _http(body, field)
    elif kind in ("tcpSocket", "grpc"):
        yield from port(body.get("port"), f"{field}.port")
    elif grace is not None and not 0 <= body.get("seconds", 0) <= grace:
        yield invalid(
            field, body.get("seconds", 0), f"must be non-negative and less than terminationGracePeriodSeconds ({grace})"
        )
    for other in given[1:]:
        yield forbidden(f"{path}.{other}", "may not specify more than 1 handler type")


def _http(body: Object, path: str) -> Iterator[FieldError]:
    if not body.get("path"):
        yield required(f"{path}.path")
    yield from port(body.get("port"), f"{path}.port")
    if body.get("scheme") not in _SCHEMES:
        yield not_supported(f"{path}.scheme", body.get("scheme", ""), _SCHEMES)
    for header in body.get("httpHeaders") or ():
        name = header.get("name", "")
        yield from wrong(f"{path}.httpHeaders", name, names.http_header(name))


def port(value: Any, path: str) -> Iterator[FieldError]:
    """Check a port by number or name; an absent one is number 0."""
    if isinstance(value, str):
        yield from wrong(path, value, names.port_name(value))
    else:
        yield from wrong(path, value or 0, names.port_number(value))
