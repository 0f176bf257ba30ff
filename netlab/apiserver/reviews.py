"""Kinds that are questions, not objects: who am I, may I, whose token is this."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import orjson

from netlab.api.meta import Object
from netlab.apiserver import status
from netlab.apiserver.auth.authorize import Attributes
from netlab.apiserver.auth.tokens import Rejected
from netlab.apiserver.call import Call
from netlab.apiserver.http import Reply, User

KINDS = ("SelfSubjectReview", "SelfSubjectAccessReview", "SubjectAccessReview", "LocalSubjectAccessReview",
         "SelfSubjectRulesReview", "TokenReview")


async def create(call: Call) -> Reply:
    """Answer a review.

    Raises:
        ApiError: 400 for one that asks nothing.
    """
    kind = call.endpoint.resource.kind
    review = await call.read_object()
    review["metadata"] |= {"creationTimestamp": None}
    spec = review.get("spec") or {}
    if kind == "SelfSubjectReview":
        review["metadata"] = {"creationTimestamp": call.time()}
        review["status"] = {"userInfo": _user_info(call.user)}
    elif kind == "TokenReview":
        review["status"] = await _token(call, spec)
    elif kind == "SelfSubjectRulesReview":
        review["status"] = _rules(call, spec)
    else:
        review["status"] = await _access(call, kind, spec)
    return Reply(orjson.dumps(review), 201)


def _rules(call: Call, spec: Object) -> Object:
    namespace = spec.get("namespace", "")
    if not namespace:
        raise status.bad_request("no namespace on request")
    found = call.api.authorizer.granted(call.user, namespace)
    rules = [rule.to_object() for rule in found.rules]
    answer: Object = {"resourceRules": [rule for rule in rules if "nonResourceURLs" not in rule],
                      "nonResourceRules": [rule for rule in rules if "nonResourceURLs" in rule],
                      "incomplete": found.incomplete}
    return answer | ({"evaluationError": found.error} if found.error else {})


async def _access(call: Call, kind: str, spec: Object) -> Object:
    user = call.user
    if kind != "SelfSubjectAccessReview":
        user = User(spec.get("user", ""), tuple(spec.get("groups") or ()), spec.get("uid", ""))
        if not user.name and not user.groups:
            raise status.bad_request("at least one of user or group must be specified")
        await call.api.authorizer.refresh(user)
    asked, path = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    if bool(asked) == bool(path):
        raise status.bad_request("exactly one of nonResourceAttributes or resourceAttributes must be specified")
    if kind == "LocalSubjectAccessReview" and (not asked or asked.get("namespace", "") != call.namespace):
        raise status.bad_request(f"spec.resourceAttributes.namespace must match namespace: {call.namespace}")
    if asked:
        attributes = Attributes(user, asked.get("verb", ""), asked.get("group", ""), asked.get("version", ""),
                                asked.get("resource", ""), asked.get("subresource", ""), asked.get("namespace", ""),
                                asked.get("name", ""))
    else:
        attributes = Attributes(user, (path or {}).get("verb", ""), path=(path or {}).get("path", ""))
    decision = call.api.authorizer.authorize(attributes)
    return {"allowed": decision.allowed} | ({"reason": decision.reason} if decision.reason else {})


async def _token(call: Call, spec: Object) -> Object:
    token = spec.get("token", "")
    if not token:
        raise status.bad_request("token is required for TokenReview in authentication")
    try:
        identity = await call.api.bearers.check(token, now=call.now, audiences=spec.get("audiences") or ())
    except Rejected as error:
        _tell(call, (), error.notes)
        return {"authenticated": False, "user": {}, "error": f"[invalid bearer token, {error}]"}
    _tell(call, identity.warnings, identity.notes)
    return {"authenticated": True, "user": _user_info(identity.user), "audiences": list(identity.audiences)}


def _tell(call: Call, warnings: Sequence[str], notes: Mapping[str, str]) -> None:
    call.request.warnings.extend(warnings)
    for key, text in notes.items():
        call.request.note(key, text)


def _user_info(user: User) -> Object:
    info: Object = {"username": user.name}
    if user.uid:
        info["uid"] = user.uid
    if user.groups:
        info["groups"] = list(user.groups)
    if user.extra:
        info["extra"] = {key: list(values) for key, values in user.extra.items()}
    return info
