"""FlowSchemas and PriorityLevelConfigurations (pkg/apis/flowcontrol/validation)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from netlab.api.meta import Object
from netlab.apiserver.validation import names
from netlab.apiserver.validation.errors import (
    FieldError,
    as_struct,
    forbidden,
    invalid,
    not_supported,
    required,
    wrong,
)

_LEVELS = ("Exempt", "Limited")
_RESPONSES = ("Queue", "Reject")
_METHODS = ("ByNamespace", "ByUser")
_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch")
_SUBJECTS = {"ServiceAccount": "serviceAccount", "User": "user", "Group": "group"}
_MOST_PRECEDENCE, _MOST_QUEUES, _MOST_BITS = 10000, 10_000_000, 60


def schema(name: str, spec: Object, path: str) -> Iterator[FieldError]:
    """Check the spec of the FlowSchema of this name."""
    precedence, method = spec.get("matchingPrecedence", 0), spec.get("distinguisherMethod")
    if precedence <= 0:
        yield invalid(f"{path}.matchingPrecedence", precedence, "must be a positive value")
    if precedence > _MOST_PRECEDENCE:
        yield invalid(f"{path}.matchingPrecedence", precedence, f"must not be greater than {_MOST_PRECEDENCE}")
    if precedence == 1 and name != "exempt":
        yield invalid(f"{path}.matchingPrecedence", precedence,
                      "only the schema named 'exempt' may have matchingPrecedence 1")
    if method is not None and method.get("type") not in _METHODS:
        yield not_supported(f"{path}.distinguisherMethod.type", as_struct(method, {"Type": ""}), _METHODS)
    level = (spec.get("priorityLevelConfiguration") or {}).get("name", "")
    if not level:
        yield required(f"{path}.priorityLevelConfiguration.name", "must reference a priority level")
    else:
        yield from wrong(f"{path}.priorityLevelConfiguration.name", level, names.dns_subdomain(level))
    for at, rule in enumerate(spec.get("rules") or ()):
        yield from _rule(rule, f"{path}.rules[{at}]")


def _rule(rule: Object, path: str) -> Iterator[FieldError]:
    subjects, on, pages = (rule.get(part) or () for part in ("subjects", "resourceRules", "nonResourceRules"))
    if not subjects:
        yield required(f"{path}.subjects", "subjects must contain at least one value")
    for at, subject in enumerate(subjects):
        yield from _subject(subject, f"{path}.subjects[{at}]")
    if not on and not pages:
        yield required(path, "at least one of resourceRules and nonResourceRules has to be non-empty")
    for at, row in enumerate(on):
        yield from _resource(row, f"{path}.resourceRules[{at}]")
    for at, row in enumerate(pages):
        yield from _pages(row, f"{path}.nonResourceRules[{at}]")


def _subject(subject: Object, path: str) -> Iterator[FieldError]:
    kind = subject.get("kind", "")
    if kind not in _SUBJECTS:
        yield not_supported(f"{path}.kind", kind, _SUBJECTS)
        return
    own = _SUBJECTS[kind]
    found, field = subject.get(own), f"{path}.{own}"
    if found is None:
        yield required(field, f"{own} is required when subject kind is '{kind}'")
    else:
        name = found.get("name", "")
        if not name:
            yield required(f"{field}.name")
        elif kind == "ServiceAccount" and name != "*":
            yield from wrong(f"{field}.name", name, names.dns_subdomain(name))
        if kind == "ServiceAccount":
            namespace = found.get("namespace", "")
            if namespace:
                yield from wrong(f"{field}.namespace", namespace, names.dns_label(namespace))
            else:
                yield required(f"{field}.namespace", "must specify namespace for service account")
    for other, part in _SUBJECTS.items():
        if other != kind and subject.get(part) is not None:
            yield forbidden(f"{path}.{part}", f"{part} is forbidden when subject kind is not '{other}'")


def _alone(values: Sequence[str], path: str, what: str) -> Iterator[FieldError]:
    """Check that a star has no company."""
    if "*" in values and len(values) > 1:
        yield invalid(path, list(values), f"if '*' is present, must not specify other {what}")


def _verbs(verbs: Sequence[str], path: str) -> Iterator[FieldError]:
    if not verbs:
        yield required(path, "verbs must contain at least one value")
    elif "*" in verbs:
        yield from _alone(verbs, path, "verbs")
    elif not set(verbs) <= set(_VERBS):
        yield not_supported(path, list(verbs), _VERBS)


def _resource(row: Object, path: str) -> Iterator[FieldError]:
    yield from _verbs(row.get("verbs") or (), f"{path}.verbs")
    for part, one, many in (("apiGroups", "api group", "api groups"), ("resources", "resource", "resources")):
        values = row.get(part) or ()
        if not values:
            yield required(f"{path}.{part}", f"resource rules must supply at least one {one}")
        yield from _alone(values, f"{path}.{part}", many)
    namespaces = row.get("namespaces") or ()
    if not namespaces and not row.get("clusterScope"):
        yield required(f"{path}.namespaces",
                       "resource rules that are not cluster scoped must supply at least one namespace")
    elif "*" in namespaces:
        yield from _alone(namespaces, f"{path}.namespaces", "namespaces")
    else:
        for at, namespace in enumerate(namespaces):
            for said in names.dns_label(namespace):
                yield invalid(f"{path}.namespaces[{at}]", namespace, "each member of this list must be '*' or a "
                                                                     f"DNS-1123 label; {said}")


def _pages(row: Object, path: str) -> Iterator[FieldError]:
    yield from _verbs(row.get("verbs") or (), f"{path}.verbs")
    urls, field = row.get("nonResourceURLs") or (), f"{path}.nonResourceURLs"
    if not urls:
        yield required(field, "nonResourceURLs must contain at least one value")
    elif "*" in urls:
        yield from _alone(urls, field, "non-resource URLs")
    else:
        for at, url in enumerate(urls):
            if said := _page(url):
                yield invalid(f"{field}[{at}]", url, said)


def _page(url: str) -> str:
    """Return what is wrong with a path of a page."""
    if not url:
        return "must not be empty"
    if url == "/":
        return ""
    if not url.startswith("/"):
        return "must start with slash"
    if " " in url:
        return "must not contain white-space"
    if "//" in url:
        return "must not contain double slash"
    if url.count("*") > 1 or ("*" in url and not url.endswith("/*")):
        return "wildcard can only do suffix matching"
    return ""


def level(name: str, spec: Object, path: str) -> Iterator[FieldError]:
    """Check the spec of the PriorityLevelConfiguration of this name."""
    kind, limited, exempt = spec.get("type", ""), spec.get("limited"), spec.get("exempt")
    if (name == "exempt") != (kind == "Exempt"):
        yield invalid(f"{path}.type", kind, "type must be 'Exempt' if and only if name is 'exempt'")
    if kind not in _LEVELS:
        yield not_supported(f"{path}.type", kind, _LEVELS)
    elif kind == "Exempt":
        if limited is not None:
            yield forbidden(f"{path}.limited", "must be nil if the type is not Limited")
        yield from _shares(exempt or {}, f"{path}.exempt")
    else:
        if exempt is not None:
            yield forbidden(f"{path}.exempt", "must be nil if the type is Limited")
        if limited is None:
            yield required(f"{path}.limited", "must not be empty when type is Limited")
        else:
            yield from _shares(limited, f"{path}.limited")
            yield from _response(limited.get("limitResponse") or {}, f"{path}.limited.limitResponse")


def _shares(found: Object, path: str) -> Iterator[FieldError]:
    shares, lent, limit = (found.get(part) for part in ("nominalConcurrencyShares", "lendablePercent",
                                                        "borrowingLimitPercent"))
    if shares is not None and shares < 0:
        yield invalid(f"{path}.nominalConcurrencyShares", shares, "must be a non-negative integer")
    if lent is not None and not 0 <= lent <= 100:
        yield invalid(f"{path}.lendablePercent", lent, "must be between 0 and 100, inclusive")
    if limit is not None and limit < 0:
        yield invalid(f"{path}.borrowingLimitPercent", limit, "if specified, must be a non-negative integer")


def _response(found: Object, path: str) -> Iterator[FieldError]:
    kind, queuing = found.get("type", ""), found.get("queuing")
    if kind not in _RESPONSES:
        yield not_supported(f"{path}.type", kind, _RESPONSES)
    elif kind == "Reject" and queuing is not None:
        yield forbidden(f"{path}.queuing", "must be nil if limited.limitResponse.type is not Limited")
    elif kind == "Queue" and queuing is None:
        yield required(f"{path}.queuing", "must not be empty if limited.limitResponse.type is Limited")
    elif queuing is not None:
        yield from _queues(queuing, f"{path}.queuing")


def _queues(found: Object, path: str) -> Iterator[FieldError]:
    length, queues, hand = (found.get(part, 0) for part in ("queueLengthLimit", "queues", "handSize"))
    if length <= 0:
        yield invalid(f"{path}.queueLengthLimit", length, "must be positive")
    if queues <= 0:
        yield invalid(f"{path}.queues", queues, "must be positive")
    elif queues > _MOST_QUEUES:
        yield invalid(f"{path}.queues", queues, f"must not be greater than {_MOST_QUEUES}")
    if hand <= 0:
        yield invalid(f"{path}.handSize", hand, "must be positive")
    elif hand > queues:
        yield invalid(f"{path}.handSize", hand, f"should not be greater than queues ({queues})")
    elif math.ceil(math.log2(queues) * hand) > _MOST_BITS:
        yield invalid(f"{path}.handSize", hand, f"required entropy bits of deckSize {queues} and handSize {hand} "
                                                f"should not be greater than {_MOST_BITS}")


def fixed(name: str, spec: Any, wanted: Any) -> Iterator[FieldError]:
    """Check that an object which is mandatory is as it has to be."""
    if spec != wanted:
        yield invalid("spec", spec, f"spec of '{name}' must equal the fixed value")
