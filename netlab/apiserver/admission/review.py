"""AdmissionReview of admission.k8s.io/v1: the question about a write, and what an answer means. No effects."""

from __future__ import annotations

import base64
import binascii
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from netlab.api.kinds import Resource
from netlab.api.meta import Object
from netlab.apiserver.subresources.kinds import kind_of

if TYPE_CHECKING:
    from netlab.apiserver.admission.base import Attempt

_OPTIONS = {"CREATE": "CreateOptions", "UPDATE": "UpdateOptions", "DELETE": "DeleteOptions"}


_WORDS = {dict: "an object", list: "a list", bool: "true or false"}


class BadAnswer(ValueError):
    """An answer is not what the protocol asks for."""


@dataclass(frozen=True)
class Answer:
    """`patch` is a list of JSON patch operations; `refusal` is a Status, set when the write is not allowed."""

    allowed: bool
    refusal: Mapping[str, Any]
    patch: list[Any] | None = None
    warnings: tuple[str, ...] = ()
    annotations: Mapping[str, str] | None = None


def request(attempt: Attempt, resource: Resource, obj: Object | None, old: Object | None, *, dry_run: bool) -> Object:
    """Return the `request` of a review: also the variable of that name in expressions of policies."""
    user, asked = attempt.user, attempt.resource
    found: Object = {
        "uid": str(uuid.uuid4()), "kind": _kind(resource, attempt.subresource), "resource": _name(resource),
        "requestKind": _kind(asked, attempt.subresource), "requestResource": _name(asked), "name": attempt.name,
        "operation": attempt.operation, "dryRun": dry_run, "object": obj or None, "oldObject": old,
        "userInfo": {"username": user.name, "groups": list(user.groups)},
        "options": {"kind": _OPTIONS[attempt.operation], "apiVersion": "meta.k8s.io/v1"}
        if attempt.operation in _OPTIONS else None}
    if attempt.namespace:
        found["namespace"] = attempt.namespace
    if attempt.subresource:
        found["subResource"] = found["requestSubResource"] = attempt.subresource
    if user.uid:
        found["userInfo"]["uid"] = user.uid
    if user.extra:
        found["userInfo"]["extra"] = {key: list(values) for key, values in user.extra.items()}
    return found


def _kind(resource: Resource, subresource: str) -> dict[str, str]:
    return dict(zip(("group", "version", "kind"), kind_of(resource, subresource), strict=True))


def _name(resource: Resource) -> dict[str, str]:
    return {"group": resource.group, "version": resource.version, "resource": resource.plural}


def review(asked: Object) -> Object:
    """Return the review that is sent."""
    return {"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": asked}


def answer(found: Object, asked: Object) -> Answer:
    """Read an answer.

    Raises:
        BadAnswer: it belongs to no such review.
    """
    response = found.get("response")
    if found.get("kind") != "AdmissionReview" or not isinstance(response, dict):
        raise BadAnswer("expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got "
                        f"{found.get('apiVersion', '')}, Kind={found.get('kind', '')}")
    if response.get("uid") != asked["uid"]:
        raise BadAnswer(f'expected response.uid="{asked["uid"]}", got "{response.get("uid", "")}"')
    patch = None
    if response.get("patch"):
        if response.get("patchType") != "JSONPatch":
            raise BadAnswer(f'webhook returned response.patchType="{response.get("patchType", "")}", want "JSONPatch"')
        try:
            patch = orjson.loads(base64.b64decode(response["patch"], validate=True))
        except (ValueError, TypeError, binascii.Error) as error:
            raise BadAnswer(f"the patch can't be read: {error}") from None
    for field, kind in (("status", dict), ("warnings", list), ("auditAnnotations", dict), ("allowed", bool)):
        if not isinstance(response.get(field) or kind(), kind):
            raise BadAnswer(f"response.{field}: expected {_WORDS[kind]}")
    return Answer(bool(response.get("allowed")), response.get("status") or {}, patch,
                  tuple(str(text) for text in response.get("warnings") or ()), response.get("auditAnnotations"))
