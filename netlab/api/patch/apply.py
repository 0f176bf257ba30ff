"""Server-side apply: every field has managers, kept in metadata.managedFields.

`apply` merges what a manager wants into an object: it owns what it names, loses what it no longer names (which goes if
nobody else owns it), and conflicts with others that own a field with another value. `track` notes for every other kind
of write who changed what. Rules: structured-merge-diff/v6/merge/update.go, apimachinery/pkg/util/managedfields.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from netlab.api.meta import Object
from netlab.api.patch import fieldset, typed, typed_check
from netlab.api.patch import shape as shapes
from netlab.api.patch.fieldset import Set
from netlab.api.patch.prune import prune
from netlab.api.patch.shape import Shape
from netlab.errors import ApiError

MAX_UPDATE_MANAGERS = 10
ANCIENT = "ancient-changes"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_UNMANAGED: Set = {"f:apiVersion": {}, "f:kind": {}, "f:metadata": {".": {}, **{f"f:{name}": {} for name in (
    "name", "namespace", "creationTimestamp", "selfLink", "uid", "clusterName", "generation", "managedFields",
    "resourceVersion")}}}
RESET: Mapping[str, Set] = {"": {"f:status": {}}, "status": {"f:spec": {}}}
"""What a write to the object, or to a subresource, can't change and so never owns (of most kinds)."""


_BEFORE = "before-first-apply"


class Manager(NamedTuple):
    """Who: an entry of managedFields is found by these. An applier is the same one in every version."""

    name: str
    operation: str
    api_version: str
    subresource: str

    def __str__(self) -> str:
        text = f'"{self.name}"' + (f' with subresource "{self.subresource}"' if self.subresource else "")
        return f"{text} using {self.api_version}" if self.operation == "Update" else text


@dataclass(frozen=True)
class Owned:
    """What a manager owns, by the fields of `api_version`, since its last write at `time` (RFC 3339)."""

    fields: Set
    api_version: str
    time: str


def apply(live: Object | None, applied: Object, *, manager: str, force: bool, api_version: str, kind: str,
          subresource: str = "", now: str, ignored: Set | None = None) -> Object:
    """Return the object after a server-side apply, with its managedFields.

    Args:
        live: the object as it is; None if it is to be created.
        applied: what the manager wants, decoded and without unknown fields.
        manager: the fieldManager.
        force: take over fields that others own.
        api_version: of the object.
        kind: of the object.
        subresource: "" or the one that is written.
        now: RFC 3339 time.
        ignored: what such a write can't change, and so never owns.

    Raises:
        ApiError: 409 with the conflicts as causes; 400 if the applied object is malformed.
    """
    shape, before = shapes.root(api_version, kind), live or {}
    if (applied.get("metadata") or {}).get("managedFields"):
        raise ApiError(400, "BadRequest", "metadata.managedFields must be nil")
    if applied.get("apiVersion", api_version) != api_version:
        raise ApiError(400, "BadRequest", "Incorrect version specified in apply patch. Specified patch version: "
                       f"{applied['apiVersion']}, expected: {api_version}")
    if problems := typed_check.problems(applied, shape):
        text = problems[0] if len(problems) == 1 else "errors:" + "".join(f"\n  {problem}" for problem in problems)
        raise ApiError(400, "BadRequest", f"failed to create typed patch object: {text}")
    managers, before = decode(before), _without_managers(before)
    if not managers and live is not None:
        managers = decode(track(None, before, manager=_BEFORE, api_version=api_version, kind=kind, now=now,
                                subresource=subresource, ignored=ignored))
    me = Manager(manager, "Apply", "", subresource)
    ignored = RESET.get(subresource, {}) if ignored is None else ignored
    last = managers.get(me)
    mine = Owned(fieldset.without(typed.fields(applied, shape), ignored), api_version, now)
    claims = managers | {me: mine}
    merged = typed.merge(before, applied, shape)
    if last is not None and last.fields:
        pruned = prune(merged, shape, last.fields, [owned.fields for owned in claims.values()])
        merged = typed.merge(pruned, applied, shape)  # a map that was applied empty stays, even if it became so now
    changes = _changes(before, merged, shape, ignored)
    conflicts = {} if force else _conflicts(claims, changes, me)
    if conflicts and manager == "kubectl":  # who moves over from client-side apply keeps what he had applied
        conflicts = _unallowed(conflicts, _last_applied_fields(before, shape, api_version))
    if conflicts:
        raise _conflict_error(conflicts)
    claims = _give_way(claims, changes, me)
    if manager == "kubectl" and LAST_APPLIED in (merged.get("metadata", {}).get("annotations") or {}):
        merged = _note_last_applied(merged, applied)
    if _same(before, merged):  # who changes nothing gets no new time, and who comes new none
        claims[me] = Owned(mine.fields, api_version, last.time if last is not None else "")
    return _encode(merged, claims)


def track(old: Object | None, new: Object, *, manager: str, operation: str = "Update", api_version: str, kind: str,
          subresource: str = "", now: str, ignored: Set | None = None) -> Object:
    """Return the new object with managedFields that tell what this write changed.

    managedFields in `new` replace the old ones if they hold anything that can be read (a client may edit them; `[{}]`
    resets them);
    those of a write to a subresource are ignored.

    Args:
        old: the object before; None for a creation.
        new: the object to be written.
        manager: the fieldManager, or the first part of the client's User-Agent.
        operation: "Update".
        api_version: of the object.
        kind: of the object.
        subresource: "" or the one that is written.
        now: RFC 3339 time.
        ignored: what such a write can't change, and so never owns.
    """
    shape, before = shapes.root(api_version, kind), old or {}
    given = (new.get("metadata") or {}).get("managedFields")
    if given == [{}] and not subresource:
        return _encode(_without_managers(new), {})
    known = given == (before.get("metadata") or {}).get("managedFields")  # nearly always: those need no second look
    managers = (decode(new) if given and not subresource and (known or _are_sets(given)) else {}) or decode(before)
    after = _without_managers(new)
    if not managers and (before.get("metadata") or {}).get("uid"):
        return _encode(after, {})  # of what nobody owns nobody becomes the owner before the first apply
    ignored = RESET.get(subresource, {}) if ignored is None else ignored
    changes = _changes(_without_managers(before), after, shape, ignored)
    me = Manager(manager, operation, api_version, subresource)
    changed = fieldset.union(changes.added, changes.modified)
    claims = _give_way(managers, changes, None)
    taken = _stripped(Owned(changed, api_version, now))
    if taken.fields:
        previous = claims.get(me)
        claims[me] = Owned(fieldset.union(previous.fields, changed) if previous else changed, api_version, now)
    return _encode(after, _capped(claims))


def owned_by_creator(nothing: Object, new: Object, *, api_version: str, kind: str) -> Set:
    """Return what the creator of an object owns, which says nothing of managers itself.

    Args:
        nothing: what Go writes of an object of which nothing was said; nobody owns that.
        new: the object, or some of its parts (then of `nothing`, too).
        api_version: of the object.
        kind: of the object.
    """
    changes = _changes(nothing, new, shapes.root(api_version, kind), RESET[""])
    return fieldset.difference(fieldset.union(changes.added, changes.modified), _UNMANAGED)


def entry(who: Manager, owned: Owned) -> Object:
    """Return an entry of managedFields."""
    found = {"manager": who.name, "operation": who.operation, "apiVersion": owned.api_version, "time": owned.time,
             "fieldsType": "FieldsV1", "fieldsV1": owned.fields}
    return {key: value for key, value in found.items() if value} | (
        {"subresource": who.subresource} if who.subresource else {})


def _are_sets(given: object) -> bool:
    """Tell whether a client's managedFields can be taken; else those that were there stay, as upstream."""
    return isinstance(given, list) and all(
        isinstance(entry, dict) and fieldset.is_set(entry.get("fieldsV1") or {}) for entry in given)


def decode(obj: Object) -> dict[Manager, Owned]:
    """Return the managers of an object; entries that make no sense are left out."""
    found: dict[Manager, Owned] = {}
    for entry in (obj.get("metadata") or {}).get("managedFields") or ():
        if not isinstance(entry, dict) or not isinstance(entry.get("fieldsV1"), dict):
            continue
        operation, version = entry.get("operation", ""), entry.get("apiVersion", "")
        who = Manager(entry.get("manager", ""), operation, "" if operation == "Apply" else version,
                      entry.get("subresource", ""))
        found[who] = Owned(entry["fieldsV1"], version, entry.get("time", ""))
    return found


def _encode(obj: Object, claims: Mapping[Manager, Owned]) -> Object:
    kept = {who: owned for who, claim in claims.items() if (owned := _stripped(claim)).fields}
    entries = [entry(who, owned) for who, owned in sorted(kept.items(), key=lambda pair: (
        pair[0].operation, pair[1].time, pair[0].name, pair[1].api_version, pair[0].subresource))]
    metadata = dict(obj.get("metadata") or {})
    if entries:
        metadata["managedFields"] = entries
    return obj | {"metadata": metadata}


def _without_managers(obj: Object) -> Object:
    metadata = obj.get("metadata")
    if not isinstance(metadata, dict) or "managedFields" not in metadata:
        return obj
    return obj | {"metadata": {key: value for key, value in metadata.items() if key != "managedFields"}}


def _stripped(owned: Owned) -> Owned:
    fields = fieldset.difference(owned.fields, _UNMANAGED)
    return owned if fields == owned.fields else Owned(fields, owned.api_version, owned.time)


def _same(before: Object, after: Object) -> bool:
    return before == after


def _changes(old: Object, new: Object, shape: Shape, ignored: Set) -> typed.Comparison:
    found = typed.compare(old, new, shape)
    return typed.Comparison(fieldset.without(found.added, ignored), fieldset.without(found.removed, ignored),
                            fieldset.without(found.modified, ignored))


def _conflicts(claims: Mapping[Manager, Owned], changes: typed.Comparison, me: Manager) -> dict[Manager, Set]:
    changed = fieldset.union(changes.added, changes.modified)
    both = {who: fieldset.intersection(owned.fields, changed) for who, owned in claims.items() if who != me}
    return {who: fields for who, fields in both.items() if fields}


def _give_way(claims: Mapping[Manager, Owned], changes: typed.Comparison, me: Manager | None) -> dict[Manager, Owned]:
    """Take from all others what was changed or removed."""
    gone = fieldset.union(fieldset.union(changes.added, changes.modified), changes.removed)
    return {who: owned if who == me else Owned(fieldset.difference(owned.fields, gone), owned.api_version, owned.time)
            for who, owned in claims.items()}


def _last_applied_fields(live: Object, shape: Shape, api_version: str) -> Set:
    """Return the fields that client-side apply set last and that still have that value."""
    text = (live.get("metadata", {}).get("annotations") or {}).get(LAST_APPLIED, "")
    try:
        applied = json.loads(text)
    except (ValueError, TypeError, RecursionError):
        return {}
    if not isinstance(applied, dict) or applied.get("apiVersion") != api_version:
        return {}
    other = typed.compare(applied, live, shape)
    fields = typed.fields(applied, shape)
    for gone in (other.modified, other.added, other.removed):
        fields = fieldset.difference(fields, gone)
    return fields


def _unallowed(conflicts: Mapping[Manager, Set], allowed: Set) -> dict[Manager, Set]:
    left = {who: fieldset.difference(fields, allowed) for who, fields in conflicts.items()}
    return {who: fields for who, fields in left.items() if fields}


def _note_last_applied(obj: Object, applied: Object) -> Object:
    metadata = dict(applied.get("metadata") or {})
    metadata["annotations"] = {key: value for key, value in (metadata.get("annotations") or {}).items()
                               if key != LAST_APPLIED}
    text = json.dumps(applied | {"metadata": metadata}, separators=(",", ":"), sort_keys=True) + "\n"
    annotations = {**obj["metadata"]["annotations"], LAST_APPLIED: text}
    return obj | {"metadata": {**obj["metadata"], "annotations": annotations}}


def _capped(claims: dict[Manager, Owned]) -> dict[Manager, Owned]:
    """Merge the oldest updaters into one when there are too many; they are kept per version."""
    updaters = sorted((who for who, owned in claims.items() if who.operation == "Update" and owned.fields),
                      key=lambda who: (claims[who].time, who))
    surplus = len(updaters) - MAX_UPDATE_MANAGERS
    while surplus > 0 and len(updaters) > 1:
        first = updaters[0]
        second = next((who for who in updaters[1:] if who.api_version == first.api_version), None)
        if second is None:
            updaters.pop(0)
            continue
        bucket = Manager(ANCIENT, "Update", first.api_version, "")
        newest = max(claims[first].time, claims[second].time)
        fields = fieldset.union(claims.pop(first).fields, claims.pop(second).fields)
        claims[bucket] = Owned(fields, first.api_version, newest)
        updaters = [bucket, *(who for who in updaters if who not in {first, second})]
        surplus -= 1
    return claims


def _conflict_error(conflicts: Mapping[Manager, Set]) -> ApiError:
    found = [(who, path) for who in sorted(conflicts, key=str) for path in fieldset.paths(conflicts[who])]
    if len(found) == 1:
        message = f"Apply failed with 1 conflict: conflict with {found[0][0]}: {found[0][1]}"
    else:
        parts = [line for who in sorted(conflicts, key=str)
                 for line in (f"conflicts with {who}:", *(f"- {path}" for path in fieldset.paths(conflicts[who])))]
        message = f"Apply failed with {len(found)} conflicts: " + "\n".join(parts)
    causes: list[dict[str, Any]] = [{"reason": "FieldManagerConflict", "message": f"conflict with {who}", "field": path}
                                    for who, path in found]
    return ApiError(409, "Conflict", message, details={"causes": causes})
