"""The Status errors of the API machinery, with upstream's wording (k8s.io/apimachinery/pkg/api/errors)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from netlab.api.kinds import Resource
from netlab.api.meta import Object
from netlab.errors import ApiError


def not_found(resource: Resource, name: str) -> ApiError:
    """404: no such object."""
    return ApiError(404, "NotFound", f'{resource.group_resource} "{name}" not found', details=_who(resource, name))


def no_such_path() -> ApiError:
    """404: no such resource or page."""
    return ApiError(404, "NotFound", "the server could not find the requested resource", details={})


def already_exists(resource: Resource, name: str) -> ApiError:
    """409: the name is taken."""
    return ApiError(409, "AlreadyExists", f'{resource.group_resource} "{name}" already exists',
                    details=_who(resource, name))


def conflict(resource: Resource, name: str, why: str) -> ApiError:
    """409: somebody else changed the object."""
    return ApiError(409, "Conflict", f'Operation cannot be fulfilled on {resource.group_resource} "{name}": {why}',
                    details=_who(resource, name))


_SHOWN = 30
"""So many bytes of a body are shown to its sender."""
MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"


def forbidden(resource: Resource, name: str, why: str) -> ApiError:
    """403: known user, refused; also every refusal by admission."""
    return ApiError(403, "Forbidden", f'{resource.group_resource} "{name}" is forbidden: {why}' if name else
                    f"{resource.group_resource} is forbidden: {why}", details=_who(resource, name))


def unauthorized(message: str = "Unauthorized") -> ApiError:
    """401: nobody we know."""
    return ApiError(401, "Unauthorized", message)


def bad_request(message: str) -> ApiError:
    """400: the words of the request are off."""
    return ApiError(400, "BadRequest", message)


def method_not_supported(resource: Resource, action: str) -> ApiError:
    """405: the resource has no such verb."""
    return ApiError(405, "MethodNotAllowed", f"{action} is not supported on resources of kind "
                    f'"{resource.group_resource}"', details=_who(resource, ""))


def method_not_allowed() -> ApiError:
    """405: the path has no such method."""
    return ApiError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource",
                    details={})


def unsupported_media_type(accepted: Sequence[str]) -> ApiError:
    """415: a body in a form we do not read."""
    return ApiError(415, "UnsupportedMediaType", "the body of the request was in an unknown format - accepted media "
                    f"types include: {', '.join(accepted)}")


def not_acceptable(offered: Sequence[str]) -> ApiError:
    """406: the client reads none of our forms."""
    return ApiError(406, "NotAcceptable", "only the following media types are accepted: " + ", ".join(offered))


def another_kind(resource: Resource, kind: str, api_version: str, *, known: bool) -> ApiError:
    """400: a body of another kind than the resource's.

    A kind that is not `known` is missing from the scheme, which upstream names by its place in the sources; one that
    is known cannot be turned into another.
    """
    version = api_version.rpartition("/")[2]
    package = resource.group.partition(".")[0] or "core"
    said = f"converting ({version}.{kind}) to ({package}.{resource.kind}): unknown conversion" if known else (
        f'no kind "{kind}" is registered for version "{api_version}" in scheme '
        '"k8s.io/kubernetes/pkg/api/legacyscheme/scheme.go:30"')
    return bad_request(f'{kind} in version "{version}" cannot be handled as a {resource.kind}: {said}')


def unrecognized(kind: str, body: bytes, said: str) -> ApiError:
    """400: a body in which no object of the kind can be seen."""
    shown = body[:_SHOWN].decode(errors="replace") if body[:1] == b"{" else body[:_SHOWN].hex()
    summary = shown + (" ..." if len(body) > _SHOWN else "") if body else "<empty>"
    return bad_request(f"the object provided is unrecognized (must be of type {kind}): {said} ({summary})")


def check_name(given: str, name: str) -> None:
    """Compare the name in a body with the one in the path.

    Raises:
        ApiError: 400, it is another or none.
    """
    if not given:
        raise bad_request(f"the name of the object ({name} based on URL) was undeterminable: name must be provided")
    if given != name:
        raise bad_request(f"the name of the object ({given}) does not match the name on the URL ({name})")


def too_large(limit: int) -> ApiError:
    """413: a body beyond the limit (bytes)."""
    return ApiError(413, "RequestEntityTooLarge", f"Request entity too large: limit is {limit}")


def bad_options(kind: str, field: str, reason: str, said: str) -> ApiError:
    """422: an option that is none; `kind` is such as DeleteOptions, `said` has the value and what is wrong."""
    return ApiError(422, "Invalid", f'{kind}.meta.k8s.io "" is invalid: {field}: {said}', details={
        "group": "meta.k8s.io", "kind": kind, "causes": [{"reason": reason, "message": said, "field": field}]})


class Expired(ApiError):
    """410: the asked-for revision is compacted. `token` lets a list go on at the newest state, "" where none does."""

    def __init__(self, message: str, *, token: str = "") -> None:
        super().__init__(410, "Expired", message)
        self.token = token

    def status(self) -> dict[str, Any]:
        """Return the Status, the token to go on with in its metadata."""
        found = super().status()
        if self.token:
            found["metadata"] = {"continue": self.token}
        return found


def too_large_resource_version(wanted: int, current: int) -> ApiError:
    """504: a revision that this server has not reached."""
    return ApiError(504, "Timeout", f"Timeout: Too large resource version: {wanted}, current: {current}",
                    details={"causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
                             "retryAfterSeconds": 1})


def too_many_requests(message: str, retry_seconds: int = 0) -> ApiError:
    """429: not now."""
    details: dict[str, Any] = {"retryAfterSeconds": retry_seconds} if retry_seconds else {}
    return ApiError(429, "TooManyRequests", message, details=details)


def unavailable(message: str) -> ApiError:
    """503: a part that is needed does not answer."""
    return ApiError(503, "ServiceUnavailable", message)


def internal(message: str) -> ApiError:
    """500: our fault."""
    return ApiError(500, "InternalError", f"Internal error occurred: {message}",
                    details={"causes": [{"message": message}]})


def success(*, details: Object | None = None) -> Object:
    """Return the Status that a completed deletion answers."""
    status: Object = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
    if details:
        status["details"] = details
    return status


def _who(resource: Resource, name: str) -> dict[str, Any]:
    details: dict[str, Any] = {"name": name} if name else {}
    if resource.group:
        details["group"] = resource.group
    return details | {"kind": resource.plural}


def terminating(resource: Resource) -> ApiError:
    """405: the definition of a custom resource goes, so nothing is made any more."""
    return ApiError(405, "MethodNotAllowed",
                    "create not allowed while custom resource definition is terminating",
                    details={"group": resource.group, "kind": resource.plural})
