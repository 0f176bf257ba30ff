"""The parameters of a write: CreateOptions, UpdateOptions, PatchOptions (apimachinery/pkg/apis/meta/v1/validation)."""

from __future__ import annotations

from collections.abc import Iterator

from netlab.api.kinds import Resource
from netlab.apiserver.http import Request
from netlab.apiserver.validation.errors import (
    FieldError,
    forbidden,
    invalid,
    invalid_object,
    not_supported,
    required,
    too_long,
)

_MOST = 128
_WORDS = ("", "Ignore", "Strict", "Warn")


def check(request: Request, kind: str, *, applying: bool = False) -> None:
    """Check the parameters of a write. `kind` is that of its options, `applying`: it is a server-side apply.

    Raises:
        ApiError: 422, with all that is wrong.
    """
    if errors := [*_errors(request, applying=applying, patching=kind == "PatchOptions")]:
        raise invalid_object(Resource("meta.k8s.io", "v1", kind, "", namespaced=False), "", errors)


def _errors(request: Request, *, applying: bool, patching: bool) -> Iterator[FieldError]:
    manager, word, dry = request.arg("fieldManager"), request.arg("fieldValidation"), request.query.get("dryRun", [])
    if applying and not manager:
        yield required("fieldManager", "is required for apply patch")
    if patching and not applying and request.arg("force"):
        yield forbidden("force", "may not be specified for non-apply patch")
    if len(manager.encode()) > _MOST:
        yield too_long("fieldManager", _MOST)
    at = 0
    for sign in manager:
        if not sign.isprintable():
            yield invalid("fieldManager", manager, f"invalid character U+{ord(sign):04X} (at position {at})")
        at += len(sign.encode())
    if any(value != "All" for value in dry):
        yield not_supported("dryRun", dry, ("All",))
    if word not in _WORDS:
        yield not_supported("fieldValidation", word, _WORDS)
