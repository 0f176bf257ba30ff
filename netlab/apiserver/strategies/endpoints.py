"""Endpoints and EndpointSlices."""

from __future__ import annotations

from netlab.api.meta import Object
from netlab.apiserver.strategies.base import Strategy
from netlab.apiserver.validation import endpoints as checks
from netlab.apiserver.validation.errors import FieldError


class EndpointsStrategy(Strategy):
    """Endpoints."""

    create_on_update = True

    def default(self, obj: Object) -> None:
        """Ports are TCP."""
        for subset in obj.get("subsets") or []:
            for port in subset.get("ports") or []:
                port.setdefault("protocol", "TCP")

    def validate(self, obj: Object) -> list[FieldError]:
        """Check addresses and ports."""
        return [*super().validate(obj), *checks.endpoints(obj.get("subsets") or [], "subsets")]


class EndpointSliceStrategy(Strategy):
    """EndpointSlices."""

    generation = True

    def default(self, obj: Object) -> None:
        """Ports are TCP and have a name, if only an empty one."""
        for port in obj.get("ports") or []:
            port.setdefault("name", "")
            port.setdefault("protocol", "TCP")
        obj.setdefault("endpoints", [])

    def validate(self, obj: Object) -> list[FieldError]:
        """Check addresses and ports."""
        return [*super().validate(obj), *checks.endpoint_slice(obj)]

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        """Check the same; the type of address stays."""
        return [*super().validate_update(obj, old), *checks.endpoint_slice_update(obj, old)]
