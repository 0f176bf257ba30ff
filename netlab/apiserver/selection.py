"""Which objects of a collection a request is about: its label and field selectors."""

from __future__ import annotations

from dataclasses import dataclass

from netlab.api import fields, selector
from netlab.api.meta import Object
from netlab.apiserver import status
from netlab.apiserver.call import Call


@dataclass(frozen=True, slots=True)
class Selection:
    """Both selectors of a request. `name` is set when only one object can match; `empty` when all do."""

    labels: selector.Selector
    fields: fields.FieldSelector
    name: str
    empty: bool

    def matches(self, obj: Object) -> bool:
        """Tell whether an object is meant."""
        if self.empty:
            return True
        if not self.labels.empty and not self.labels.matches(obj["metadata"].get("labels") or {}):
            return False
        return self.fields.matches(obj)


def selection(call: Call) -> Selection:
    """Read labelSelector and fieldSelector.

    Raises:
        ApiError: 400 for a selector that cannot be read, or a field that the kind does not select by.
    """
    resource = call.endpoint.resource
    try:
        by_label = selector.parse(call.request.arg("labelSelector"))
    except ValueError as error:
        raise status.bad_request(str(error)) from None
    try:
        by_field = fields.parse(call.request.arg("fieldSelector"))
        fields.check(by_field, resource.api_version, resource.kind)
    except ValueError as error:
        raise status.bad_request(str(error)) from None
    name = by_field.exact("metadata.name") or ""
    if call.name and not name:  # the old spelling of a watch on one object
        name, by_field = call.name, fields.parse(f"metadata.name={call.name}")
    return Selection(by_label, by_field, name, by_label.empty and by_field.empty)


def key_prefix(call: Call, chosen: Selection) -> bytes:
    """Return the narrowest prefix of keys that holds all of the selection."""
    folder = call.endpoint.folder
    if chosen.name and (call.namespace or not folder.resource.namespaced):
        return folder.key(call.namespace, chosen.name)
    return folder.within(call.namespace)
