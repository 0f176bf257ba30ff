"""Follows the ValidatingAdmissionPolicies and writes what their expressions can't do into `status.typeChecking`.

Upstream's controller manager does it, too; both come to the same, and neither refuses anything.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from netlab.api.kinds import Resource
from netlab.api.meta import Object
from netlab.apiserver.admission import expressions
from netlab.apiserver.admission.kinds import kind
from netlab.apiserver.following import forever
from netlab.store import Conflict, KeyMissing, KeyValue

if TYPE_CHECKING:
    from netlab.apiserver.api import Api

_KEY = ("admissionregistration.k8s.io", "v1", "validatingadmissionpolicies")
_MOST_KINDS = 10


class TypeChecks:
    """One per API server; several servers on one store come to the same."""

    def __init__(self, api: Api) -> None:
        self._api, self._endpoint = api, api.endpoints[_KEY]

    async def run(self) -> None:
        """Follow the policies for ever."""
        await forever(self._api, "type checks of admission policies", self._follow)

    async def _follow(self) -> None:
        store, prefix = self._api.store, self._endpoint.folder.prefix
        part = await store.list(prefix)
        for kv in part.kvs:
            await self._check(kv)
        with store.watch(prefix, after=part.revision) as watch:
            while not self._api.stopping:
                for event in await watch.next(3600.0):
                    if not event.deleted:
                        await self._check(event.kv)

    async def _check(self, kv: KeyValue) -> None:
        obj = self._endpoint.view(kv)
        generation, state = obj["metadata"].get("generation", 1), obj.get("status") or {}
        if state.get("observedGeneration") == generation:
            return
        found = warnings(self._api, obj["spec"])
        state = {**state, "observedGeneration": generation,
                 "typeChecking": {"expressionWarnings": found} if found else {}}
        try:
            await self._api.store.update(kv.key, self._endpoint.encode({**obj, "status": state}), kv.mod_revision)
        except (Conflict, KeyMissing):
            return  # changed meanwhile: that change comes by, too


def warnings(api: Api, spec: Object) -> list[dict[str, Any]]:
    """Return what a policy's expressions can't do with the kinds that its rules name."""
    rows = sorted(set(itertools.islice(_rows(api, spec), _MOST_KINDS)),
                  key=lambda row: (row.group, row.version, row.kind))
    kinds = {f"{row.api_version}, Kind={row.kind}": found for row in rows
             if (found := kind(api.catalog, row)) is not None}
    named = spec.get("paramKind") or {}
    params = api.catalog.by_kind(named.get("apiVersion", ""), named.get("kind", ""))
    return expressions.warnings(spec, kinds, kind(api.catalog, params) if params is not None else None)


def _rows(api: Api, spec: Object) -> Iterator[Resource]:
    """Yield the resources that rules name; one with a wildcard names none."""
    for rule in (spec.get("matchConstraints") or {}).get("resourceRules") or []:
        groups, versions = rule.get("apiGroups") or [], rule.get("apiVersions") or []
        if any("*" in word for word in (*groups, *versions)):
            continue
        plurals = [word for word in rule.get("resources") or [] if not set("*/") & set(word)]
        for group, version, plural in itertools.product(sorted(groups), sorted(versions), sorted(plurals)):
            row = api.catalog.find(group, version, plural)
            if row is not None:
                yield row
