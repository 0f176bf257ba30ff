"""What may be asked of lists and watches (apimachinery/pkg/apis/internalversion/validation); how numbers are read."""

from __future__ import annotations

import re
from collections.abc import Iterator

from netlab.apiserver import status
from netlab.apiserver.http import Request
from netlab.apiserver.validation.errors import FieldError, forbidden
from netlab.errors import ApiError

_MATCH, _INITIAL, _NOT_OLDER = "resourceVersionMatch", "sendInitialEvents", "NotOlderThan"
_NUMBER = re.compile(r"[+-]?[0-9]{1,18}", re.ASCII).fullmatch


def check(request: Request, *, watch: bool) -> None:
    """Check the options of a list or a watch.

    Raises:
        ApiError: 422 for words that do not go together; 400 for timeoutSeconds that are no number.
    """
    number(request, "timeoutSeconds")
    errors = list(_watch(request) if watch else _list(request))
    if errors:
        said = str(errors[0]) if len(errors) == 1 else f"[{', '.join(map(str, errors))}]"
        raise ApiError(422, "Invalid", f'ListOptions.meta.k8s.io "" is invalid: {said}', details={
            "group": "meta.k8s.io", "kind": "ListOptions",
            "causes": [{"reason": one.reason, "message": one.body, "field": one.field} for one in errors]})


def number(request: Request, name: str) -> int | None:
    """Return a parameter that is a number, None where there is none.

    Raises:
        ApiError: 400: it is none.
    """
    text = request.arg(name)
    if not text:
        return None
    if not _NUMBER(text):
        raise status.bad_request(f'strconv.ParseInt: parsing "{text}": invalid syntax')
    return int(text)


def _list(request: Request) -> Iterator[FieldError]:
    match, wanted = request.arg(_MATCH), request.arg("resourceVersion")
    if match:
        if not wanted:
            yield forbidden(_MATCH, "resourceVersionMatch is forbidden unless resourceVersion is provided")
        if request.arg("continue"):
            yield forbidden(_MATCH, "resourceVersionMatch is forbidden when continue is provided")
        if match not in ("Exact", _NOT_OLDER):
            yield FieldError("FieldValueNotSupported", _MATCH,
                             f'Unsupported value: "{match}": supported values: "Exact", "{_NOT_OLDER}", ""')
        if match == "Exact" and wanted == "0":
            yield forbidden(_MATCH, 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"')
    if request.arg(_INITIAL):
        yield forbidden(_INITIAL, "sendInitialEvents is forbidden for list")


def _watch(request: Request) -> Iterator[FieldError]:
    match, initial = request.arg(_MATCH), _INITIAL in request.query
    if initial and match != _NOT_OLDER:
        yield forbidden(_MATCH, "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan")
    if not match:
        return
    if not initial:
        yield forbidden(_MATCH, "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided")
    if match != _NOT_OLDER:
        yield FieldError("FieldValueNotSupported", _MATCH,
                         f'Unsupported value: "{match}": supported values: "{_NOT_OLDER}"')
    if request.arg("continue"):
        yield forbidden(_MATCH, "resourceVersionMatch is forbidden when continue is provided")
