"""serviceaccounts/…/token: TokenRequest, the way to every service account token."""

from __future__ import annotations

import orjson

from netlab.api import meta
from netlab.api.meta import Object
from netlab.apiserver import status
from netlab.apiserver.admission.base import Attempt
from netlab.apiserver.call import Call
from netlab.apiserver.http import Reply
from netlab.apiserver.validation.errors import FieldError, invalid
from netlab.apiserver.verbs.get import current
from netlab.errors import ApiError

_DEFAULT, _SHORTEST, _LONGEST = 3600, 600, 1 << 32
_KINDS = {("v1", "Pod"): ("pod", "pods"), ("v1", "Secret"): ("secret", "secrets"), ("v1", "Node"): ("node", "nodes")}


async def create(call: Call) -> Reply:
    """Answer a TokenRequest with its status filled in.

    Raises:
        ApiError: 404 no such account; 409 another uid; 422 a bad duration or a bound object that is not there.
    """
    request = await call.read_part()
    if request["kind"] != "TokenRequest":
        raise status.bad_request(f"not a TokenRequest: {request['kind']}")
    account = call.endpoint.view(await current(call))
    spec = request["spec"] = request.get("spec") or {}
    seconds = spec.get("expirationSeconds")
    seconds = _DEFAULT if seconds is None else seconds
    if not isinstance(seconds, int) or seconds < _SHORTEST:
        raise _invalid(call, invalid("spec.expirationSeconds", seconds,
                                     "may not specify a duration less than 10 minutes"))
    if seconds > _LONGEST:
        raise _invalid(call, invalid("spec.expirationSeconds", seconds,
                                     "may not specify a duration larger than 2^32 seconds"))
    if not call.api.options.signing_key:
        raise status.internal("no --service-account-signing-key-file: this server cannot issue tokens")
    await call.api.admission.validate(Attempt(call, "CREATE", request, None, call.endpoint.resource, call.namespace,
                                              call.name, "token"))
    bound, node = await _bound(call, account, spec.get("boundObjectRef") or {})
    audiences = spec.get("audiences") or list(call.api.tokens.audiences)
    token = call.api.tokens.mint(account=account, audiences=audiences, seconds=seconds, now=call.now, bound=bound,
                                 node=node)
    metadata = {part: account["metadata"][part] for part in ("name", "namespace") if part in account["metadata"]}
    return Reply(orjson.dumps({
        "kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1",
        "metadata": metadata | {"creationTimestamp": call.time()},
        "spec": spec | {"audiences": audiences, "expirationSeconds": seconds,
                        "boundObjectRef": spec.get("boundObjectRef")},
        "status": {"token": token, "expirationTimestamp": meta.timestamp(call.now + seconds)}}), 201)


async def _bound(call: Call, account: Object, reference: Object) -> tuple[tuple[str, Object] | None, Object | None]:
    """Return what the token is bound to, and the node that a bound Pod runs on."""
    if not reference:
        return None, None
    key = (reference.get("apiVersion") or "v1", reference.get("kind", ""))
    if key not in _KINDS:
        raise status.bad_request(f"cannot bind token for serviceaccount \"{call.name}\" to type {key[0]}, "
                                 f"Kind={key[1]}")
    kind, plural = _KINDS[key]
    name, uid = reference.get("name", ""), reference.get("uid", "")
    obj = await call.api.lookup(plural, "" if kind == "node" else call.namespace, name)
    if obj is None:
        raise ApiError(404, "NotFound", f'{plural} "{name}" not found', details={"name": name, "kind": plural})
    if uid and uid != obj["metadata"].get("uid"):
        raise ApiError(409, "Conflict",
                       f'Operation cannot be fulfilled on {plural} "{name}": the UID in the bound object '
                       f"reference ({uid}) does not match the UID in record. The object might have been deleted and "
                       "then "
                       "recreated", details={"name": name, "kind": plural})
    if kind == "pod":
        spec = obj.get("spec") or {}
        if spec.get("serviceAccountName", "default") != account["metadata"]["name"]:
            raise status.bad_request(f'cannot bind token for serviceaccount "{call.name}" to pod running with '
                                     'different '
                                     "serviceaccount name.")
        node = await call.api.lookup("nodes", "", spec["nodeName"]) if spec.get("nodeName") else None
        return (kind, obj), node
    return (kind, obj), None


def _invalid(call: Call, error: FieldError) -> ApiError:
    return ApiError(422, "Invalid", f'TokenRequest.authentication.k8s.io "{call.name}" is invalid: {error}', details={
        "name": call.name, "group": "authentication.k8s.io", "kind": "TokenRequest",
        "causes": [{"reason": error.reason, "message": error.body, "field": error.field}]})
