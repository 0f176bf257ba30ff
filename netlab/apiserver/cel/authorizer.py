"""`authorizer.group('apps').resource('deployments').check('get').allowed()`: may who sends the request do that as well?

An authorizer in an expression is a map that collects what is asked; `asking` says who answers for the time of an
evaluation. https://kubernetes.io/docs/reference/using-api/cel/#kubernetes-authorizer-library
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_TYPE = "kubernetes.io/type"
Decide = Callable[[Mapping[str, str]], tuple[bool, str]]
"""{"verb", "path" | "group", "resource", ...; "user" for another than the sender} → (allowed, why)."""
_DECIDE: ContextVar[Decide | None] = ContextVar("decide", default=None)


@contextmanager
def asking(decide: Decide) -> Iterator[None]:
    """Let `decide` answer while the body evaluates expressions."""
    token = _DECIDE.set(decide)
    try:
        yield
    finally:
        _DECIDE.reset(token)


def value(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return the variable `authorizer` for a request (the `request` of an AdmissionReview)."""
    resource = request.get("resource") or {}
    about = _made("check", group=resource.get("group", ""), resource=resource.get("resource", ""),
                  subresource=request.get("subResource", ""), namespace=request.get("namespace", ""),
                  name=request.get("name", ""))
    return {**_made("authorizer"), "requestResource": about}


def _made(kind: str, **parts: str) -> dict[str, Any]:
    return {_TYPE: kind, **parts}


def add(kind: str, part: str, becomes: str = "") -> Callable[[Any, str], dict[str, Any]]:
    """Return the function that adds one part to a question."""
    def call(found: Any, text: str) -> dict[str, Any]:
        if not isinstance(found, dict) or found.get(_TYPE) != kind:
            raise ValueError(f"no such overload: {part}")
        return {**found, _TYPE: becomes or kind, part: text}
    return call


def check(found: Any, verb: str) -> dict[str, Any]:
    """Ask."""
    decide = _DECIDE.get()
    if decide is None or not isinstance(found, dict) or found.get(_TYPE) not in ("check", "path"):
        raise ValueError("no such overload: check")
    allowed, why = decide({**{key: text for key, text in found.items() if isinstance(text, str)}, "verb": verb})
    return {_TYPE: "decision", "allowed": allowed, "reason": why}


def part(name: str, otherwise: Any) -> Callable[[Any], Any]:
    """Return the function that reads one part of a decision."""
    def call(found: Any) -> Any:
        if not isinstance(found, dict) or found.get(_TYPE) != "decision":
            raise ValueError(f"no such overload: {name}")
        return found.get(name, otherwise)
    return call
