"""pods/…/binding: the scheduler's word on where a Pod runs."""

from __future__ import annotations

from dataclasses import replace

import orjson

from netlab.api.meta import Object
from netlab.apiserver import status
from netlab.apiserver.admission.base import Attempt
from netlab.apiserver.call import Call
from netlab.apiserver.http import Reply
from netlab.apiserver.validation.errors import FieldError, required
from netlab.apiserver.verbs.update import copy_of, rewrite
from netlab.errors import ApiError


async def create(call: Call) -> Reply:
    """Bind a Pod to a node.

    Raises:
        ApiError: 404 no such Pod; 409 it is bound, or going; 422 no node is named.
    """
    return await bind(call, await call.read_part())


async def of_any(call: Call) -> Reply:
    """Bind the Pod that a Binding names: POST …/namespaces/NS/bindings, as old schedulers bind.

    Raises:
        ApiError: as `create`; 400 for a Binding that names none.
    """
    body = await call.read_object()
    name = body["metadata"].get("name")
    if not name:
        raise status.bad_request("metadata.name: expected the name of a Pod")
    endpoint = call.api.endpoints["", "v1", "pods"]
    call.request.object_name = name
    asked = replace(call.target, resource=endpoint.resource, name=name, subresource="binding")
    return await bind(replace(call, target=asked, endpoint=endpoint), body)


async def bind(call: Call, binding: Object) -> Reply:
    """Bind as a Binding says."""
    target = binding.get("target") or {}
    node = target.get("name", "")
    errors: list[FieldError] = []
    if target.get("kind") not in (None, "", "Node", "Minion"):
        errors.append(FieldError("FieldValueNotSupported", "target.kind",
                                 f'Unsupported value: "{target["kind"]}": supported values: "Node", "<empty>"'))
    if not node:
        errors.append(required("target.name"))
    if errors:
        raise ApiError(422, "Invalid", f'Binding "{call.name}" is invalid: {errors[0]}', details={
            "name": call.name, "kind": "Binding",
            "causes": [{"reason": error.reason, "message": error.body, "field": error.field} for error in errors]})
    await call.api.admission.admit(Attempt(call, "CREATE", binding, None, call.endpoint.resource, call.namespace,
                                           call.name, "binding"))
    node = (binding.get("target") or {}).get("name", "")
    wanted = (binding.get("metadata") or {}).get("uid")

    async def change(old: Object) -> tuple[Object, bool]:
        spec = old["spec"]
        if wanted and wanted != old["metadata"].get("uid"):
            raise _conflict(call, f"Precondition failed: UID in precondition: {wanted}, UID in object meta: "
                                  f"{old['metadata'].get('uid')}")
        if old["metadata"].get("deletionTimestamp"):
            raise _conflict(call, f"pod {call.name} is being deleted, cannot be assigned to a host")
        if spec.get("nodeName"):
            raise _conflict(call, f'pod {call.name} is already assigned to node "{spec["nodeName"]}"')
        if spec.get("schedulingGates"):
            raise _conflict(call, f"pod {call.name} has non-empty .spec.schedulingGates")
        new: Object = copy_of(old)
        new["spec"]["nodeName"] = node
        for part in ("annotations", "labels"):
            told = (binding.get("metadata") or {}).get(part)
            if told and isinstance(told, dict):
                new["metadata"][part] = (new["metadata"].get(part) or {}) | told
        (new.get("status") or {}).pop("nominatedNodeName", None)  # the nomination has come to its end
        new["metadata"].pop("resourceVersion", None)
        conditions = [item for item in (new.get("status") or {}).get("conditions") or []
                      if item.get("type") != "PodScheduled"]
        new.setdefault("status", {})["conditions"] = [*conditions, {
            "type": "PodScheduled", "status": "True", "lastProbeTime": None, "lastTransitionTime": call.time()}]
        return new, False

    whole = replace(call, target=replace(call.target, subresource="binding"))
    await rewrite(whole, change)
    return Reply(orjson.dumps(status.success()), 201)


def _conflict(call: Call, why: str) -> ApiError:
    return ApiError(409, "Conflict", f'Operation cannot be fulfilled on pods/binding "{call.name}": {why}',
                    details={"name": call.name, "kind": "pods/binding"})
