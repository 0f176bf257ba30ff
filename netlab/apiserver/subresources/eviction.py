"""pods/…/eviction: a deletion that PodDisruptionBudgets may refuse (policy/v1 Eviction)."""

from __future__ import annotations

from dataclasses import replace

import orjson

from netlab.api import selector
from netlab.api.meta import Object
from netlab.apiserver import status
from netlab.apiserver.admission.base import Attempt
from netlab.apiserver.call import Call
from netlab.apiserver.http import Reply
from netlab.apiserver.verbs.delete import Options, remove
from netlab.apiserver.verbs.get import current
from netlab.apiserver.verbs.update import copy_of
from netlab.store import Conflict


async def create(call: Call) -> Reply:
    """Evict a Pod.

    Raises:
        ApiError: 404; 409 a precondition; 429 a budget does not allow it now; 500 several budgets.
    """
    eviction = await call.read_part()
    if eviction["kind"] != "Eviction":
        raise status.bad_request(f"not an Eviction: {eviction['kind']}")
    name = (eviction.get("metadata") or {}).get("name")
    if name and name != call.name:
        raise status.bad_request("name in URL does not match name in Eviction object")
    await call.api.admission.admit(Attempt(call, "CREATE", eviction, None, call.endpoint.resource, call.namespace,
                                           call.name, "eviction"))
    given = eviction.get("deleteOptions") or {}
    preconditions = given.get("preconditions") or {}
    dry_run = bool(given.get("dryRun")) or call.dry_run()
    pod = call.endpoint.view(await current(call))
    if (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed", "Pending") \
            and not pod["metadata"].get("deletionTimestamp"):
        await _spend(call, pod, dry_run=dry_run)
    await remove(replace(call, target=replace(call.target, subresource="")), Options(
        grace=given.get("gracePeriodSeconds"), propagation=given.get("propagationPolicy"),
        uid=preconditions.get("uid") or "", revision=preconditions.get("resourceVersion") or "", dry_run=dry_run),
        admitted=True)
    return Reply(orjson.dumps(status.success() | {"code": 201}), 201)


async def _spend(call: Call, pod: Object, *, dry_run: bool) -> None:
    """Take one disruption from the budget that covers the Pod."""
    endpoint = call.api.endpoints[("policy", "v1", "poddisruptionbudgets")]
    labels = pod["metadata"].get("labels") or {}
    for _ in range(100):
        found = await call.api.store.list(endpoint.folder.within(call.namespace))
        budgets = [kv for kv in found.kvs if selector.from_object(
            (endpoint.view(kv).get("spec") or {}).get("selector")).matches(labels)]
        if not budgets:
            return
        if len(budgets) > 1:
            raise status.internal("This pod has more than one PodDisruptionBudget, which the eviction subresource does "
                                  "not support.")
        budget: Object = copy_of(endpoint.view(budgets[0]))
        state = budget.setdefault("status", {})
        name = budget["metadata"]["name"]
        if state.get("observedGeneration", 0) < budget["metadata"].get("generation", 0):
            error = status.too_many_requests("Cannot evict pod as it would violate the pod's disruption budget.", 10)
            error.details["causes"] = [{"reason": "DisruptionBudget", "message":
                                        f"The disruption budget {name} is still being processed by the server."}]
            raise error
        if state.get("disruptionsAllowed", 0) <= 0:
            error = status.too_many_requests("Cannot evict pod as it would violate the pod's disruption budget.")
            error.details["causes"] = [{"reason": "DisruptionBudget", "message":
                                        f"The disruption budget {name} needs {state.get('desiredHealthy', 0)} healthy "
                                        "pods "
                                        f"and has {state.get('currentHealthy', 0)} currently"}]
            raise error
        state["disruptionsAllowed"] -= 1
        state.setdefault("disruptedPods", {})[call.name] = call.time()
        if dry_run:
            return
        try:
            await call.api.store.update(budgets[0].key, endpoint.encode(budget), budgets[0].mod_revision)
        except Conflict:
            continue
        return
    raise status.too_many_requests("Cannot evict pod as it would violate the pod's disruption budget.", 1)
