"""Which writes a webhook or an admission policy is about: rules, selectors, conditions (pure but for the look-ups)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from netlab.api import selector
from netlab.api.kinds import Resource
from netlab.api.meta import Object

if TYPE_CHECKING:
    from netlab.apiserver.admission.base import Attempt

_UNTOUCHABLE = frozenset((
    "ValidatingWebhookConfiguration", "MutatingWebhookConfiguration", "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding", "MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding"))
"""Nobody is asked about these: a policy that refuses its own repair could not be mended."""
_REVIEWS = frozenset(("TokenReview", "SelfSubjectReview", "SubjectAccessReview", "SelfSubjectAccessReview",
                      "LocalSubjectAccessReview", "SelfSubjectRulesReview"))


@dataclass(frozen=True)
class Match:
    """A write that is meant, and in which version of its kind the asker wants to see it."""

    resource: Resource


def find(attempt: Attempt, rules: Sequence[Mapping[str, Any]], *, equivalent: bool) -> Match | None:
    """Return how rules match a write; with `equivalent` a rule about another version of the kind counts as well."""
    resource = attempt.resource
    if resource.kind in _UNTOUCHABLE or resource.kind in _REVIEWS:
        return None
    if any(_rule(rule, attempt, resource) for rule in rules):
        return Match(resource)
    if equivalent:
        for other in attempt.call.api.catalog.rows:
            if other is not resource and (other.group, other.plural) == (resource.group, resource.plural) \
                    and any(_rule(rule, attempt, other) for rule in rules):
                return Match(other)
    return None


def _rule(rule: Mapping[str, Any], attempt: Attempt, resource: Resource) -> bool:
    operations, scope = rule.get("operations") or (), rule.get("scope", "*")
    if "*" not in operations and attempt.operation not in operations:
        return False
    for part, value in (("apiGroups", resource.group), ("apiVersions", resource.version)):
        words = rule.get(part) or ()
        if "*" not in words and value not in words:
            return False
    names = rule.get("resourceNames") or ()
    if names and attempt.name not in names:
        return False
    if (scope == "Namespaced" and not resource.namespaced) or (
            scope == "Cluster" and resource.namespaced and resource.kind != "Namespace"):
        return False
    return any(_resource(word, resource.plural, attempt.subresource) for word in rule.get("resources") or ())


def _resource(word: str, plural: str, subresource: str) -> bool:
    name, slash, part = word.partition("/")
    if name not in ("*", plural):
        return False
    if not slash:
        return not subresource
    return part == "*" or part == subresource


async def selected(attempt: Attempt, namespaces: Mapping[str, Any] | None, objects: Mapping[str, Any] | None) -> bool:
    """Tell whether the namespace's labels and the object's own are selected."""
    if objects and not _by_labels(objects, attempt.obj) and not _by_labels(objects, attempt.old):
        return False
    if not namespaces or not (namespaces.get("matchLabels") or namespaces.get("matchExpressions")):
        return True
    if attempt.resource.kind == "Namespace" and not attempt.resource.group:
        return _by_labels(namespaces, attempt.obj or attempt.old)
    if not attempt.resource.namespaced:
        return True
    return _by_labels(namespaces, await attempt.call.api.lookup("namespaces", "", attempt.namespace))


def _by_labels(found: Mapping[str, Any], obj: Object | None) -> bool:
    if not obj:
        return not (found.get("matchLabels") or found.get("matchExpressions"))
    labels = (obj.get("metadata") or {}).get("labels") or {}
    return selector.from_object(dict(found)).matches(labels)
