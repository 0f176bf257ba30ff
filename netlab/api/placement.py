"""Which Pods may be on which nodes, and which labels a selector means: what scheduler and DaemonSets both ask.

Semantics: k8s.io/component-helpers/scheduling/corev1 (node affinity, taints) and apimachinery's labels package.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from netlab.api import meta
from netlab.api.meta import Object

NOT_READY = "node.kubernetes.io/not-ready"
UNREACHABLE = "node.kubernetes.io/unreachable"
UNSCHEDULABLE = "node.kubernetes.io/unschedulable"
MEMORY_PRESSURE = "node.kubernetes.io/memory-pressure"
DISK_PRESSURE = "node.kubernetes.io/disk-pressure"
PID_PRESSURE = "node.kubernetes.io/pid-pressure"
NETWORK_UNAVAILABLE = "node.kubernetes.io/network-unavailable"
OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"

Labels = Mapping[str, str]


def requirement_holds(requirement: Object, labels: Labels) -> bool:
    """Tell whether {key, operator, values} holds. Operators: In, NotIn, Exists, DoesNotExist, Gt, Lt."""
    key, operator = requirement["key"], requirement["operator"]
    values = requirement.get("values") or []
    if operator == "In":
        return key in labels and labels[key] in values
    if operator == "NotIn":
        return key not in labels or labels[key] not in values
    if operator == "Exists":
        return key in labels
    if operator == "DoesNotExist":
        return key not in labels
    if operator in ("Gt", "Lt") and key in labels and len(values) == 1:
        try:
            have, limit = int(labels[key]), int(values[0])
        except ValueError:
            return False
        return have > limit if operator == "Gt" else have < limit
    return False


def selects(selector: Object | None, labels: Labels) -> bool:
    """Tell whether a LabelSelector selects these labels. No selector selects nothing, an empty one everything."""
    if selector is None:
        return False
    return (all(labels.get(key) == value for key, value in (selector.get("matchLabels") or {}).items())
            and all(requirement_holds(wish, labels) for wish in selector.get("matchExpressions") or []))


def selects_all(wanted: Labels, labels: Labels) -> bool:
    """Tell whether a plain map (a Service's selector, a nodeSelector) selects these labels."""
    return all(labels.get(key) == value for key, value in wanted.items())


def term_matches(term: Object, node: Object) -> bool:
    """Tell whether a NodeSelectorTerm matches a node. An empty term matches none."""
    expressions, fields = term.get("matchExpressions") or [], term.get("matchFields") or []
    if not expressions and not fields:
        return False
    labels, names = meta.labels(node), {"metadata.name": meta.name(node)}
    return (all(requirement_holds(wish, labels) for wish in expressions)
            and all(requirement_holds(wish, names) for wish in fields))


def node_affinity_allows(spec: Object, node: Object) -> bool:
    """Tell whether a Pod spec's nodeSelector and required node affinity allow this node."""
    if not selects_all(spec.get("nodeSelector") or {}, meta.labels(node)):
        return False
    required = (((spec.get("affinity") or {}).get("nodeAffinity") or {})
                .get("requiredDuringSchedulingIgnoredDuringExecution"))
    if required is None:
        return True
    return any(term_matches(term, node) for term in required.get("nodeSelectorTerms") or [])


def tolerates(toleration: Object, taint: Object) -> bool:
    """Tell whether one toleration tolerates one taint."""
    if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
        return False
    if toleration.get("key") and toleration["key"] != taint.get("key"):
        return False
    operator = toleration.get("operator") or "Equal"
    if operator == "Exists":
        return True
    return bool(toleration.get("key")) and (toleration.get("value") or "") == (taint.get("value") or "")


def untolerated(taints: Iterable[Object], tolerations: Iterable[Object], effects: Iterable[str]) -> Object | None:
    """Return the first taint with one of `effects` that no toleration tolerates, None if all are tolerated."""
    wishes, watched = list(tolerations), set(effects)
    for taint in taints:
        if taint.get("effect") in watched and not any(tolerates(wish, taint) for wish in wishes):
            return taint
    return None
