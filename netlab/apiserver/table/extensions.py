"""What extends the API or watches over it: webhooks, admission policies, signing requests, flow control, devices."""

from __future__ import annotations

from typing import Any

from netlab.api.meta import Object
from netlab.apiserver.table.columns import NONE, UNSET, Cell, age, human_duration, label_selector, name, table


def _spec(obj: Object) -> Object:
    return obj.get("spec") or {}


def _webhooks(obj: Object, now: float) -> list[Cell]:
    return [name(obj), len(obj.get("webhooks") or []), age(obj, now)]


def _param_kind(obj: Object) -> str:
    found = _spec(obj).get("paramKind")
    return f"{found.get('apiVersion', '')}/{found.get('kind', '')}" if found else UNSET


def _validating(obj: Object, now: float) -> list[Cell]:
    return [name(obj), len(_spec(obj).get("validations") or []), _param_kind(obj), age(obj, now)]


def _mutating(obj: Object, now: float) -> list[Cell]:
    return [name(obj), len(_spec(obj).get("mutations") or []), _param_kind(obj), age(obj, now)]


def _policy_binding(obj: Object, now: float) -> list[Cell]:
    reference = _spec(obj).get("paramRef")
    shown = UNSET
    if reference and reference.get("name"):
        shown = f"{reference.get('namespace') or '*'}/{reference['name']}"
    elif reference and reference.get("selector") is not None:
        shown = label_selector(reference["selector"])
    return [name(obj), _spec(obj).get("policyName", ""), shown, age(obj, now)]


def signing_state(obj: Object) -> str:
    """Return what became of a CertificateSigningRequest: Pending, Approved, Denied, with Failed and Issued."""
    state = obj.get("status") or {}
    kinds = {condition.get("type") for condition in state.get("conditions") or []}
    words = ["Denied" if "Denied" in kinds else "Approved" if "Approved" in kinds else "Pending"]
    words += ["Failed"] if "Failed" in kinds else []
    words += ["Issued"] if state.get("certificate") else []
    return ",".join(words)


def _signing_request(obj: Object, now: float) -> list[Cell]:
    spec = _spec(obj)
    seconds = spec.get("expirationSeconds")
    return [name(obj), age(obj, now), spec.get("signerName") or NONE, spec.get("username", ""),
            NONE if seconds is None else human_duration(seconds), signing_state(obj)]


def _runtime_class(obj: Object, now: float) -> list[Cell]:
    return [name(obj), obj.get("handler", ""), age(obj, now)]


def _flow(obj: Object, now: float) -> list[Cell]:
    spec = _spec(obj)
    dangling = next((condition.get("status", "?") for condition in (obj.get("status") or {}).get("conditions") or []
                     if condition.get("type") == "Dangling"), "?")
    method: Any = spec.get("distinguisherMethod")
    return [name(obj), (spec.get("priorityLevelConfiguration") or {}).get("name", ""),
            spec.get("matchingPrecedence", 0), method.get("type", "") if method else NONE, age(obj, now), dangling]


def _level(obj: Object, now: float) -> list[Cell]:
    spec = _spec(obj)
    limited = spec.get("limited") or {}
    queuing = (limited.get("limitResponse") or {}).get("queuing") or {}
    cells: list[Cell] = [limited.get("nominalConcurrencyShares", NONE)]
    cells += [queuing.get(part, NONE) for part in ("queues", "handSize", "queueLengthLimit")]
    return [name(obj), spec.get("type", ""), *cells, age(obj, now)]


def _claim(obj: Object, now: float) -> list[Cell]:
    state, deleting = obj.get("status") or {}, bool((obj.get("metadata") or {}).get("deletionTimestamp"))
    words = ["deleted"] if deleting else []
    if not state.get("allocation"):
        words += [] if deleting else ["pending"]
    else:
        words += ["allocated"] + (["reserved"] if state.get("reservedFor") else [])
    return [name(obj), ",".join(words), age(obj, now)]


def _slice(obj: Object, now: float) -> list[Cell]:
    spec = _spec(obj)
    return [name(obj), spec.get("nodeName") or UNSET, spec.get("driver", ""), (spec.get("pool") or {}).get("name", ""),
            age(obj, now)]


def _api_service(obj: Object, now: float) -> list[Cell]:
    service = _spec(obj).get("service")
    found: Object = next((condition for condition in (obj.get("status") or {}).get("conditions") or []
                          if condition.get("type") == "Available"), {})
    shown = found.get("status", "Unknown")
    if found and shown != "True":
        shown = f"{shown} ({found.get('reason', '')})"
    return [name(obj), f"{service.get('namespace')}/{service.get('name')}" if service else "Local", shown,
            age(obj, now)]


API_SERVICES = table("Name Service Available Age", _api_service)
WEBHOOKS = table("Name Webhooks:integer Age", _webhooks)
VALIDATING_POLICIES = table("Name Validations:integer ParamKind Age", _validating)
MUTATING_POLICIES = table("Name Mutations:integer ParamKind Age", _mutating)
POLICY_BINDINGS = table("Name PolicyName ParamRef Age", _policy_binding)
SIGNING_REQUESTS = table("Name Age SignerName Requestor RequestedDuration Condition", _signing_request)
RUNTIME_CLASSES = table("Name Handler Age", _runtime_class)
FLOW_SCHEMAS = table("Name PriorityLevel MatchingPrecedence DistinguisherMethod Age MissingPL", _flow)
PRIORITY_LEVELS = table("Name Type NominalConcurrencyShares Queues HandSize QueueLengthLimit Age", _level)
RESOURCE_CLAIMS = table("Name State Age", _claim)
RESOURCE_SLICES = table("Name Node Driver Pool Age", _slice)
