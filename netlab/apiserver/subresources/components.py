"""componentstatuses: asked of the components at the moment, stored nowhere."""

from __future__ import annotations

import orjson

from netlab.apiserver import health, render, status
from netlab.apiserver.call import Call
from netlab.apiserver.http import Reply


async def get(call: Call) -> Reply:
    """Answer all components, or the one that is named.

    Raises:
        ApiError: 404.
    """
    found = await health.component_statuses(call.api)
    if call.name:
        for obj in found:
            if obj["metadata"]["name"] == call.name:
                return render.one_object(call, {"kind": "ComponentStatus", "apiVersion": "v1"} | obj)
        raise status.not_found(call.endpoint.resource, call.name)
    if call.form.shape == "table":
        shown = render.table_of(call.endpoint, call.form, found, now=call.now, include=render.include_object(call))
        return Reply(orjson.dumps(shown))
    return Reply(orjson.dumps({"kind": "ComponentStatusList", "apiVersion": "v1", "metadata": {}, "items": found}))
