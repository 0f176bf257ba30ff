"""Kinds that are questions, not objects: who am I, may I, whose token is this."""

from __future__ import annotations

from typing import Any

import orjson

from netlab.api.meta import Object
from netlab.apiserver import negotiate, status
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
    review = negotiate.decode(await call.request.body(), call.request.headers)
    review |= {"kind": kind, "apiVersion": call.endpoint.resource.api_version}
    metadata = review.get("metadata") or {}
    review["metadata"] = metadata | {"creationTimestamp": None}
    spec = review.get("spec") or {}
    if kind == "SelfSubjectReview":
        review["metadata"] = {"creationTimestamp": call.time()}
        review["status"] = {"userInfo": _user_info(call.user)}
    elif kind == "TokenReview":
        review["status"] = await _token(call, spec)
    elif kind == "SelfSubjectRulesReview":
        every: list[Any] = [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]
        review["status"] = {"resourceRules": every, "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
                            "incomplete": False}
    else:
        review["status"] = _access(call, kind, spec)
    return Reply(orjson.dumps(review), 201)


def _access(call: Call, kind: str, spec: Object) -> Object:
    user = call.user
    if kind != "SelfSubjectAccessReview":
        user = User(spec.get("user", ""), tuple(spec.get("groups") or ()), spec.get("uid", ""))
        if not user.name and not user.groups:
            raise status.bad_request("at least one of user or group must be specified")
    asked, path = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    if bool(asked) == bool(path):
        raise status.bad_request("exactly one of nonResourceAttributes or resourceAttributes must be specified")
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
        identity = await call.api.tokens.check(token, now=call.now, audiences=spec.get("audiences") or ())
    except Rejected as error:
        return {"authenticated": False, "user": {}, "error": f"[invalid bearer token, {error}]"}
    return {"authenticated": True, "user": _user_info(identity.user), "audiences": list(identity.audiences)}


def _user_info(user: User) -> Object:
    info: Object = {"username": user.name}
    if user.uid:
        info["uid"] = user.uid
    if user.groups:
        info["groups"] = list(user.groups)
    if user.extra:
        info["extra"] = {key: list(values) for key, values in user.extra.items()}
    return info
