"""Nodes, namespaces, events, leases, components, configuration."""

from __future__ import annotations

from netlab.api.meta import Object
from netlab.apiserver import events
from netlab.apiserver.table.columns import NONE, UNKNOWN, Cell, age, name, ordered, since, table

_ROLE = "node-role.kubernetes.io/"


def _node(obj: Object, now: float) -> list[Cell]:
    state, spec = obj.get("status") or {}, obj.get("spec") or {}
    ready = next((item.get("status") for item in state.get("conditions") or [] if item.get("type") == "Ready"), None)
    words = [{"True": "Ready", None: "Unknown"}.get(ready, "NotReady")]
    if spec.get("unschedulable"):
        words.append("SchedulingDisabled")
    info = state.get("nodeInfo") or {}
    return [name(obj), ",".join(words), ",".join(_roles(obj)) or NONE, age(obj, now), info.get("kubeletVersion", ""),
            _address(state, "InternalIP"), _address(state, "ExternalIP"), info.get("osImage") or UNKNOWN,
            info.get("kernelVersion") or UNKNOWN, info.get("containerRuntimeVersion") or UNKNOWN]


def _roles(obj: Object) -> list[str]:
    labels = (obj.get("metadata") or {}).get("labels") or {}
    found = {key.removeprefix(_ROLE) for key in labels if key.startswith(_ROLE) and key != _ROLE}
    if labels.get("kubernetes.io/role"):
        found.add(labels["kubernetes.io/role"])
    return sorted(found)


def _address(state: Object, kind: str) -> str:
    return next((entry.get("address", "") for entry in state.get("addresses") or [] if entry.get("type") == kind), NONE)


def _namespace(obj: Object, now: float) -> list[Cell]:
    return [name(obj), (obj.get("status") or {}).get("phase", ""), age(obj, now)]


def _event(obj: Object, now: float) -> list[Cell]:
    first = since(obj.get("firstTimestamp") or obj.get("eventTime"), now)
    last = since(obj["lastTimestamp"], now) if obj.get("lastTimestamp") else first
    count = obj.get("count") or 1
    series = obj.get("series")
    if series:
        last, count = since(series.get("lastObservedTime"), now), series.get("count", 1)
    about = obj.get("involvedObject") or {}
    kind = about.get("kind", "").lower()
    target = f"{kind}/{about['name']}" if about.get("name") else kind
    source = obj.get("source") or {}
    component = source.get("component") or obj.get("reportingComponent", "")
    host = source.get("host") or obj.get("reportingInstance", "")
    return [last, obj.get("type", ""), obj.get("reason", ""), target, about.get("fieldPath", ""),
            f"{component}, {host}" if host else component, (obj.get("message") or "").strip(), first, count, name(obj)]


def _new_event(obj: Object, now: float) -> list[Cell]:
    return _event(events.inward(obj), now)


def _lease(obj: Object, now: float) -> list[Cell]:
    return [name(obj), (obj.get("spec") or {}).get("holderIdentity") or "", age(obj, now)]


def _component(obj: Object, _now: float) -> list[Cell]:
    condition: Object = next((item for item in obj.get("conditions") or [] if item.get("type") == "Healthy"), {})
    word = {"True": "Healthy", "False": "Unhealthy"}.get(condition.get("status", ""), "Unknown")
    return [name(obj), word, condition.get("message", ""), condition.get("error", "")]


def _config_map(obj: Object, now: float) -> list[Cell]:
    return [name(obj), len(obj.get("data") or {}) + len(obj.get("binaryData") or {}), age(obj, now)]


def _secret(obj: Object, now: float) -> list[Cell]:
    return [name(obj), obj.get("type", ""), len(obj.get("data") or {}), age(obj, now)]


def _account(obj: Object, now: float) -> list[Cell]:
    return [name(obj), len(obj.get("secrets") or []), age(obj, now)]


def _quota(obj: Object, now: float) -> list[Cell]:
    state = obj.get("status") or {}
    hard, used = state.get("hard") or {}, state.get("used") or {}
    texts: dict[bool, list[str]] = {False: [], True: []}
    for key in sorted(hard):
        texts[key.startswith("limits")].append(f"{key}: {used.get(key, '0')}/{hard[key]}")
    return [name(obj), ", ".join(texts[False]), ", ".join(texts[True]), age(obj, now)]


def _priority(obj: Object, now: float) -> list[Cell]:
    return [name(obj), obj.get("value", 0), bool(obj.get("globalDefault")), age(obj, now), obj.get("preemptionPolicy",
                                                                                                   "")]


_EVENT_COLUMNS = "Last_Seen Type Reason Object Subobject Source Message First_Seen Count Name"
_EVENT_WIDE = "Subobject Source First_Seen Count Name"

NODES = table("Name Status Roles Age Version | Internal-IP External-IP OS-Image Kernel-Version Container-Runtime",
              _node)
NAMESPACES = table("Name Status Age", _namespace)
EVENTS = ordered(table(_EVENT_COLUMNS, _event), _EVENT_WIDE)
NEW_EVENTS = ordered(table(_EVENT_COLUMNS, _new_event), _EVENT_WIDE)
LEASES = table("Name Holder Age", _lease)
COMPONENT_STATUSES = table("Name Status Message Error", _component)
CONFIG_MAPS = table("Name Data Age", _config_map)
SECRETS = table("Name Type Data Age", _secret)
SERVICE_ACCOUNTS = table("Name Secrets Age", _account)
RESOURCE_QUOTAS = table("Name Request Limit Age", _quota)
PRIORITY_CLASSES = table("Name Value:integer Global-Default:boolean Age PreemptionPolicy", _priority)
