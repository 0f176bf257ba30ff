"""`authorizer.group('apps').resource('deployments').check('get').allowed()`: may who sends the request do that as well?

An authorizer in an expression collects what is asked; `asking` says who answers for the time of an evaluation.
https://kubernetes.io/docs/reference/using-api/cel/#kubernetes-authorizer-library
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from netlab.api import names
from netlab.apiserver.cel.declarations import Does
from netlab.apiserver.cel.values import Opaque

_GROUP = "kubernetes.authorization"
AUTHORIZER, PATH, RESOURCES, RESOURCE, DECISION = (
    f"{_GROUP}.{name}" for name in ("Authorizer", "PathCheck", "GroupCheck", "ResourceCheck", "Decision")
)
Decide = Callable[[Mapping[str, str]], tuple[bool, str]]
"""{"verb", "path" | "group", "resource", ...; "serviceAccount" for another than the sender} → (allowed, why)."""
_DECIDE: ContextVar[Decide | None] = ContextVar("decide", default=None)


@contextmanager
def asking(decide: Decide) -> Iterator[None]:
    """Let `decide` answer while the body evaluates expressions."""
    token = _DECIDE.set(decide)
    try:
        yield
    finally:
        _DECIDE.reset(token)


def values(request: Mapping[str, Any]) -> dict[str, Opaque]:
    """Return the variables about authorization for a request (the `request` of an AdmissionReview)."""
    resource = request.get("resource") or {}
    about = {"group": resource.get("group", ""), "resource": resource.get("resource", ""),
             "subresource": request.get("subResource", ""), "namespace": request.get("namespace", ""),
             "name": request.get("name", "")}
    return {"authorizer": Opaque(AUTHORIZER, {}), "authorizer.requestResource": Opaque(RESOURCE, about)}


def _add(part: str, becomes: str, *, needed: bool = False) -> Does:
    def call(found: Opaque, text: str) -> Opaque:
        if needed and not text.strip():
            raise ValueError(f"{part} must not be empty")
        return Opaque(becomes, {**found.value, part: text})

    return call


def _account(found: Opaque, namespace: str, name: str) -> Opaque:
    if names.dns_subdomain(name):
        raise ValueError("Invalid service account name")
    if names.dns_label(namespace):
        raise ValueError("Invalid service account namespace")
    return Opaque(AUTHORIZER, {**found.value, "serviceAccount": f"{namespace}/{name}"})


def _check(found: Opaque, verb: str) -> Opaque:
    decide = _DECIDE.get()
    if decide is None:
        raise ValueError("nobody is there to authorize")
    return Opaque(DECISION, decide({**found.value, "verb": verb}))


TABLE: list[tuple[str, Does]] = [
    (f".path({AUTHORIZER}, string) -> {PATH}", _add("path", PATH, needed=True)),
    (f".group({AUTHORIZER}, string) -> {RESOURCES}", _add("group", RESOURCES)),
    (f".serviceAccount({AUTHORIZER}, string, string) -> {AUTHORIZER}", _account),
    (f".resource({RESOURCES}, string) -> {RESOURCE}", _add("resource", RESOURCE, needed=True)),
    *(
        (f".{part}({RESOURCE}, string) -> {RESOURCE}", _add(part, RESOURCE))
        for part in ("subresource", "namespace", "name", "fieldSelector", "labelSelector")
    ),
    (f".check({PATH}, string) -> {DECISION}", _check),
    (f".check({RESOURCE}, string) -> {DECISION}", _check),
    (f".allowed({DECISION}) -> bool", lambda found: found.value[0]),
    (f".reason({DECISION}) -> string", lambda found: found.value[1]),
    (f".errored({DECISION}) -> bool", lambda _found: False),
    (f".error({DECISION}) -> string", lambda _found: ""),
]
