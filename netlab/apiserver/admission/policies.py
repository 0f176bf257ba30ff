"""ValidatingAdmissionPolicy and MutatingAdmissionPolicy: expressions in the API have a say in writes.

A policy says what is checked or changed, a binding where and with which parameters; without a binding a policy does
nothing. https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/ and
mutating-admission-policy/.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from netlab.api import selector
from netlab.api.kinds import Resource
from netlab.api.meta import Object
from netlab.api.patch import jsonpatch, typed, typed_check
from netlab.api.patch import shape as shapes
from netlab.apiserver import status
from netlab.apiserver.admission import conditions, matching
from netlab.apiserver.admission.base import Attempt, Step
from netlab.apiserver.admission.conditions import NAMES, ConditionFailed
from netlab.apiserver.cel import Budget, CelError, Lazy, compile_dynamic, plain
from netlab.apiserver.cel.values import kind
from netlab.apiserver.mirror import Mirror
from netlab.errors import ApiError

_GROUP = "admissionregistration.k8s.io"
_BUDGET = 10_000_000
"""What a policy's expressions may cost for one binding and one request, as upstream has it."""
_SECONDS = 2.0
"""Seconds of the processor that all policies together may take for one request; upstream has no such limit."""
_ANY = ({"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*", "*/*"]},)
_MOST_MESSAGE = 5 * 1024
_MOST_NOTE = 10 * 1024
FAILED = "validation.policy.admission.k8s.io/validation_failure"
_CODES = {"Invalid": 422, "Forbidden": 403, "Unauthorized": 401, "RequestEntityTooLarge": 413}


@dataclass(frozen=True)
class Bound:
    """A policy that a write concerns by one of its bindings, with one object of its parameters (None without)."""

    policy: Object
    binding: Object
    values: dict[str, Any]
    seen: Resource
    """In which version of the kind the policy sees the objects."""
    budget: Budget = field(default_factory=lambda: Budget(_BUDGET))

    @property
    def title(self) -> str:
        """Return how messages name it."""
        policy, binding = self.policy["metadata"]["name"], self.binding["metadata"]["name"]
        return f"{self.policy['kind']} '{policy}' with binding '{binding}'"

    @property
    def open(self) -> bool:
        """Tell whether a failure lets the write pass."""
        return bool(self.policy["spec"].get("failurePolicy") == "Ignore")


def _listed(found: Sequence[Object]) -> tuple[Object, ...]:
    return tuple(found)


class _Policies(Step):
    """What both have in common."""

    kind = ""

    def __init__(self) -> None:
        self._policies: Mirror[tuple[Object, ...]] | None = None
        self._bindings: Mirror[tuple[Object, ...]] | None = None

    async def bound(self, attempt: Attempt, total: Budget) -> AsyncIterator[Bound]:
        """Yield every policy that the write concerns, once per binding and parameter; `total` is for all of them.

        Raises:
            ApiError: parameters are missing, or a condition has no value, and the policy fails closed.
        """
        api = attempt.call.api
        if self._policies is None or self._bindings is None:
            plural = "validatingadmissionpolicies" if self.kind.startswith("V") else "mutatingadmissionpolicies"
            self._policies = Mirror(api.endpoints[_GROUP, "v1", plural], _listed)
            self._bindings = Mirror(api.endpoints[_GROUP, "v1", f"{self.kind.lower()}bindings"], _listed)
        policies = await self._policies.now()
        if not policies:
            return
        by_name = {policy["metadata"]["name"]: policy for policy in policies}
        for binding in await self._bindings.now():
            policy = by_name.get(binding["spec"].get("policyName", ""))
            if policy is None:
                continue
            seen = await _concerns(policy["spec"].get("matchConstraints") or {}, attempt)
            if seen is None or await _concerns(binding["spec"].get("matchResources"), attempt) is None:
                continue
            for params in await _parameters(policy, binding, attempt):
                values = await _values(attempt, params, seen)
                found = Bound(policy, binding, values, seen, Budget(_BUDGET, within=total))
                try:
                    if not conditions.hold(policy["spec"].get("matchConditions") or (), attempt, found.values, total):
                        continue
                except ConditionFailed as error:
                    if found.open:
                        continue
                    raise _denied(found, attempt, str(error), "Invalid") from None
                found.values["variables"] = _variables(found)
                yield found
                await asyncio.sleep(0)  # others wait


async def _concerns(match: Mapping[str, Any] | None, attempt: Attempt) -> Resource | None:
    """Return in which version a write is looked at, None when it is not."""
    if match is None:
        return attempt.resource
    equivalent = match.get("matchPolicy") != "Exact"
    rules = match.get("resourceRules") or ()
    found = matching.find(attempt, rules or _ANY, equivalent=equivalent and bool(rules))
    if found is None or matching.find(attempt, match.get("excludeResourceRules") or (), equivalent=equivalent):
        return None
    selected = await matching.selected(attempt, match.get("namespaceSelector"), match.get("objectSelector"))
    return found.resource if selected else None


async def _parameters(policy: Object, binding: Object, attempt: Attempt) -> list[Object | None]:
    kind, reference = policy["spec"].get("paramKind"), binding["spec"].get("paramRef")
    if not kind or not reference:
        return [None]
    api = attempt.call.api
    row = api.catalog.by_kind(kind["apiVersion"], kind["kind"])
    if row is None:
        raise _misconfigured(policy, binding, attempt, f"failed to find resource referenced by paramKind: "
                                                       f"'{kind['apiVersion']}, Kind={kind['kind']}'")
    endpoint = api.endpoint(row)
    namespace = (reference.get("namespace") or attempt.namespace) if row.namespaced else ""
    if reference.get("name"):
        kv = await api.store.get(endpoint.folder.key(namespace, reference["name"]))
        await endpoint.ready((kv,) if kv is not None else ())
        found: list[Object | None] = [] if kv is None else [endpoint.view(kv)]
    else:
        wanted = selector.from_object(reference.get("selector") or {})
        part = await api.store.list(endpoint.folder.within(namespace))
        await endpoint.ready(part.kvs)
        found = [obj for kv in part.kvs
                 if wanted.matches((obj := endpoint.view(kv))["metadata"].get("labels") or {})]
    if not found and reference.get("parameterNotFoundAction") == "Deny":
        raise _misconfigured(policy, binding, attempt, "no params found for policy binding with `Deny` "
                                                       "parameterNotFoundAction")
    return found


def _misconfigured(policy: Object, binding: Object, attempt: Attempt, said: str) -> ApiError:
    found = Bound(policy, binding, {}, attempt.resource)
    return _denied(found, attempt, f"failed to configure binding: {said}", "Invalid")


async def _values(attempt: Attempt, params: Object | None, seen: Resource) -> dict[str, Any]:
    namespace = await attempt.call.api.lookup("namespaces", "", attempt.namespace) if attempt.namespace else None
    return await conditions.shown(attempt, seen, namespace=namespace, params=params)


def _variables(found: Bound) -> Lazy:
    """Return the policy's variables: each is evaluated when it is first asked for."""
    texts = {str(one["name"]): str(one["expression"]) for one in found.policy["spec"].get("variables") or ()}

    def compute(name: str) -> Any:
        program = compile_dynamic(texts[name], NAMES, mutating=True)
        return program.evaluate(found.values, Budget(_BUDGET, within=found.budget))
    return Lazy(tuple(texts), compute)


def _denied(found: Bound, attempt: Attempt, said: str, reason: str) -> ApiError:
    message = f"{found.title} denied request: {said}"
    error = status.forbidden(attempt.resource, attempt.name, message)
    causes = [*error.details.get("causes", ()), {"message": message}]
    return ApiError(_CODES.get(reason, 422), reason, str(error), details={**error.details, "causes": causes})


class ValidatingPolicies(_Policies):
    """Upstream's ValidatingAdmissionPolicy."""

    name = "ValidatingAdmissionPolicy"
    kind = "ValidatingAdmissionPolicy"

    async def validate(self, attempt: Attempt) -> None:
        """Refuse, warn of, or note for the audit log, what a policy does not let pass.

        All policies have their say, also when one has refused already: the first refusal counts.

        Raises:
            ApiError: refused.
        """
        request, notes = attempt.call.request, Notes()
        refused: ApiError | None = None
        try:
            async for found in self.bound(attempt, _total()):
                actions = found.binding["spec"].get("validationActions") or ()
                for failure in failed(found, attempt):
                    if "Deny" in actions:
                        refused = refused or _denied(found, attempt, failure.said, failure.reason)
                    if "Audit" in actions:
                        request.note(FAILED, failure.note(found), keep=True)
                    if "Warn" in actions:
                        request.warnings.append(f"Validation failed for {found.title}: {failure.said}")
                for said in notes.take(found, attempt):
                    refused = refused or _denied(found, attempt, said, "Invalid")
        finally:
            for key, text in notes.texts():
                request.note(key, text, keep=True)
        if refused is not None:
            raise refused


@dataclass(frozen=True, slots=True)
class Failure:
    """A validation that does not hold: its place among the policy's, what is said, and the reason given."""

    index: int
    said: str
    reason: str

    def note(self, found: Bound) -> str:
        """Return what the audit log says of it: a list of one object, as Go writes JSON."""
        text = json.dumps([{
            "message": self.said, "policy": found.policy["metadata"]["name"],
            "binding": found.binding["metadata"]["name"], "expressionIndex": self.index,
            "validationActions": found.binding["spec"]["validationActions"]}], ensure_ascii=False,
            separators=(",", ":"))
        return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


class Notes:
    """What `auditAnnotations` of policies add to the audit log for one request."""

    def __init__(self) -> None:
        self._found: dict[str, list[str]] = {}

    def take(self, found: Bound, attempt: Attempt) -> list[str]:
        """Evaluate a policy's annotations; returns the errors that refuse the write."""
        errors: list[str] = []
        with conditions.answering(attempt):
            for one in found.policy["spec"].get("auditAnnotations") or ():
                text = str(one["valueExpression"])
                try:
                    value = compile_dynamic(text, NAMES).evaluate(found.values, found.budget)
                except CelError as error:
                    if not found.open:
                        errors.append(f"expression '{text}' resulted in error: {error}")
                    continue
                if isinstance(value, str):
                    self._add(f"{found.policy['metadata']['name']}/{one['key']}", value.strip()[:_MOST_NOTE])
                elif value is not None:
                    errors.append(f"valueExpression '{text}' resulted in unsupported return type: "
                                  f"{kind(value)}. Return type must be either string or null.")
        return errors

    def _add(self, key: str, value: str) -> None:
        values = self._found.setdefault(key, [])
        if value and value not in values:  # of other bindings or parameters
            values.append(value)

    def texts(self) -> Iterator[tuple[str, str]]:
        """Yield the annotations: several values of one key stand side by side."""
        for key, values in self._found.items():
            if values:
                yield key, ", ".join(values)


def failed(found: Bound, attempt: Attempt) -> list[Failure]:
    """Return what a policy's validations say against a write."""
    said: list[Failure] = []
    with conditions.answering(attempt):
        for at, check in enumerate(found.policy["spec"].get("validations") or ()):
            text = str(check["expression"])
            try:
                holds = compile_dynamic(text, NAMES).evaluate(found.values, found.budget)
            except CelError as error:
                if not found.open:
                    said.append(Failure(at, f"expression '{text}' resulted in error: {error}", "Invalid"))
                continue
            if holds is not True:
                said.append(Failure(at, _message(check, found), str(check.get("reason") or "Invalid")))
    return said


def _message(check: Mapping[str, Any], found: Bound) -> str:
    if check.get("messageExpression"):
        try:
            said = compile_dynamic(str(check["messageExpression"]), NAMES).evaluate(found.values, found.budget)
            if isinstance(said, str) and said.strip() and len(said) <= _MOST_MESSAGE:
                return said.strip()
        except CelError:
            pass  # as upstream: the message or the expression stands in
    return str(check.get("message") or f"failed expression: {str(check['expression']).strip()}")


class MutatingPolicies(_Policies):
    """Upstream's MutatingAdmissionPolicy."""

    name = "MutatingAdmissionPolicy"
    kind = "MutatingAdmissionPolicy"

    async def mutate(self, attempt: Attempt) -> None:
        """Let every policy that the write concerns change the object; those that ask for it once more at the end."""
        if attempt.operation == "DELETE":
            return
        again: list[str] = []
        changed: set[str] = set()
        total = _total()
        async for found in self.bound(attempt, total):
            name = found.policy["metadata"]["name"]
            if await self._change(found, attempt):
                changed.add(name)
            if found.policy["spec"].get("reinvocationPolicy") == "IfNeeded":
                again.append(name)
        if changed and again:
            async for found in self.bound(attempt, total):
                if found.policy["metadata"]["name"] in again and changed - {found.policy["metadata"]["name"]}:
                    await self._change(found, attempt)

    async def _change(self, found: Bound, attempt: Attempt) -> bool:
        changed = False
        for mutation in found.policy["spec"].get("mutations") or ():
            obj = (await attempt.seen(found.seen))[0]
            try:
                with conditions.answering(attempt):
                    new = _mutated(mutation, obj, found)
                changed = await attempt.replace_seen(new, found.seen, found.title) or changed
            except (CelError, ApiError) as error:
                if found.open:
                    continue
                raise _denied(found, attempt, f"error applying mutation: {error}", "Invalid") from None
        return changed


def _mutated(mutation: Mapping[str, Any], obj: Object, found: Bound) -> Any:
    """Return the object that a mutation makes.

    Raises:
        CelError: the expression has no value.
        ApiError: the patch does not apply.
    """
    values = {**found.values, "object": obj}
    if mutation["patchType"] == "JSONPatch":
        operations = _made(str(mutation["jsonPatch"]["expression"]), values, found.budget)
        if not isinstance(operations, list):
            raise CelError("expected a list of JSONPatch")
        return jsonpatch.apply(obj, operations)
    wanted = _made(str(mutation["applyConfiguration"]["expression"]), values, found.budget)
    if not isinstance(wanted, dict):
        raise CelError("expected an Object")
    api_version, kind = str(obj["apiVersion"]), str(obj["kind"])  # a subresource's may be another than the resource's
    shape = shapes.root(api_version, kind)
    problems = typed_check.problems(wanted, shape)
    if problems:
        raise CelError(problems[0])
    return typed.merge(obj, {**wanted, "kind": kind, "apiVersion": api_version}, shape)


def _made(text: str, values: Mapping[str, Any], budget: Budget) -> Any:
    return plain(compile_dynamic(text, NAMES, mutating=True).evaluate(values, budget))


def _total() -> Budget:
    return Budget(sys.maxsize, _SECONDS)
