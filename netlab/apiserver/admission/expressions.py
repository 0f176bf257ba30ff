"""The expressions of webhooks and policies when they are registered: which variables they have, of which types.

`object` and `params` may be anything when a policy is made, so that only what is wrong whatever they are is refused;
`warnings` checks once more against the kinds that the policy is about.
https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/#type-checking
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from netlab.api.meta import Object
from netlab.apiserver.cel import OBJECT, PATCHES, CelError, Environment, Patience, WrongType
from netlab.apiserver.cel.authorizer import AUTHORIZER, RESOURCE
from netlab.apiserver.cel.types import BOOL, DYN, NULL, STRING, TIMESTAMP, Type, list_of, map_of
from netlab.apiserver.validation.errors import FieldError, forbidden, invalid

_TEXTS = list_of(STRING)


def _struct(name: str, texts: str = "", **fields: Type) -> Type:
    return Type(name, fields={**dict.fromkeys(texts.split(), STRING), **fields})


_KIND = _struct("kubernetes.GroupVersionKind", "group version kind")
_PLACE = _struct("kubernetes.GroupVersionResource", "group version resource")
_REQUEST = _struct(
    "kubernetes.AdmissionRequest", "subResource requestSubResource name namespace operation", kind=_KIND,
    resource=_PLACE, requestKind=_KIND, requestResource=_PLACE, dryRun=BOOL, options=DYN,
    userInfo=_struct("kubernetes.UserInfo", "username uid", groups=_TEXTS, extra=map_of(STRING, _TEXTS)))
_META = _struct(
    "kubernetes.NamespaceMetadata", "name generateName namespace UID resourceVersion", labels=map_of(STRING, STRING),
    annotations=map_of(STRING, STRING), creationTimestamp=TIMESTAMP, deletionTimestamp=TIMESTAMP,
    deletionGracePeriodSeconds=Type("int"), generation=Type("int"), finalizers=_TEXTS)
_CONDITION = _struct("kubernetes.NamespaceCondition", "status type message reason", lastTransitionTime=TIMESTAMP)
_NAMESPACE = _struct(
    "kubernetes.Namespace", metadata=_META, spec=_struct("kubernetes.NamespaceSpec", finalizers=_TEXTS),
    status=_struct("kubernetes.NamespaceStatus", "phase", conditions=list_of(_CONDITION)))
_BASE: Mapping[str, Type] = {
    "request": _REQUEST, "namespaceObject": _NAMESPACE, "authorizer": Type(AUTHORIZER),
    "authorizer.requestResource": Type(RESOURCE)}


class Asked(NamedTuple):
    """One expression. `wanted` are the types that it may have, () for any."""

    path: str
    text: str
    wanted: tuple[Type, ...]
    composed: bool = True
    """Sees the policy's variables."""


def webhooks(hooks: Sequence[Object]) -> Iterator[FieldError]:
    """Yield what is wrong with the matchConditions of a configuration's webhooks."""
    environment, patience = Environment({**_BASE, "object": DYN, "oldObject": DYN}), Patience()
    for at, hook in enumerate(hooks):
        for asked in _conditions(hook, f"webhooks[{at}]"):
            yield from _wrong(asked, environment, patience)


def policy(spec: Object, *, mutating: bool, patience: Patience | None = None) -> list[FieldError]:
    """Return what is wrong with a policy's expressions, until patience is spent."""
    kind = DYN if spec.get("paramKind") else None
    errors: list[FieldError] = []
    patience = patience or Patience()
    composed = _environment(spec, DYN, kind, mutating, patience, lambda asked, env: errors.extend(
        _wrong(asked, env, patience)))
    plain = Environment({name: one for name, one in composed.variables.items() if name != "variables"}, mutating)
    for asked in _texts(spec):
        errors += _wrong(asked, composed if asked.composed else plain, patience)
    return errors


def warnings(spec: Object, kinds: Mapping[str, Type], params: Type | None) -> list[dict[str, str]]:
    """Return what the expressions of a ValidatingAdmissionPolicy can't do with objects of certain kinds.

    Args:
        spec: the policy's.
        kinds: `apps/v1, Kind=Deployment` → its type, in the order of the report.
        params: the type of its parameters; None for unknown.

    Nothing more is looked for once that takes too long.
    """
    patience = Patience(1.0)
    environments = {name: _environment(spec, kind, (params or DYN) if spec.get("paramKind") else None, False,
                                       patience, lambda _asked, _env: None) for name, kind in kinds.items()}
    found = []
    for asked in _texts(spec):
        if not asked.path.startswith("spec.validations") or patience.spent():
            continue
        said = [f"{name}: {problem}\n" for name, environment in environments.items()
                if (problem := _problem(asked._replace(wanted=()), environment))]
        if said:
            found.append({"fieldRef": asked.path, "warning": "\n".join(said)})
    return found


def _environment(spec: Object, kind: Type, params: Type | None, mutating: bool, patience: Patience,
                 ask: Callable[[Asked, Environment], None]) -> Environment:
    """Return what a policy's expressions may use; `ask` is told of each of its variables as it is declared."""
    known: dict[str, Type] = {}
    base = {**_BASE, "object": kind, "oldObject": kind, **({"params": params} if params is not None else {})}
    environment = Environment({**base, "variables": Type("kubernetes.variables", fields=known)}, mutating)
    for at, variable in enumerate(spec.get("variables") or []):
        text, found = str(variable.get("expression") or ""), DYN
        if text.strip() and not patience.spent():
            ask(Asked(f"spec.variables[{at}].expression", text, ()), environment)
            with suppress(CelError):  # told, or no matter here: the variable may be anything then
                found = environment.compile(text).type
        known[str(variable.get("name"))] = found
    return environment


def _conditions(found: Object, path: str) -> Iterator[Asked]:
    for at, condition in enumerate(found.get("matchConditions") or []):
        yield Asked(f"{path}.matchConditions[{at}].expression", str(condition.get("expression") or ""), (BOOL,), False)


def _texts(spec: Object) -> Iterator[Asked]:
    yield from _conditions(spec, "spec")
    for part, fields in (("validations", {"expression": (BOOL,), "messageExpression": (STRING,)}),
                         ("auditAnnotations", {"valueExpression": (STRING, NULL)})):
        for at, entry in enumerate(spec.get(part) or []):
            for field, wanted in fields.items():
                yield Asked(f"spec.{part}[{at}].{field}", str(entry.get(field) or ""), wanted)
    for at, entry in enumerate(spec.get("mutations") or []):
        for part, kind in (("applyConfiguration", OBJECT), ("jsonPatch", PATCHES)):
            yield Asked(f"spec.mutations[{at}].{part}.expression", str((entry.get(part) or {}).get(
                "expression") or ""), (kind,))


def _wrong(asked: Asked, environment: Environment, patience: Patience) -> Iterator[FieldError]:
    if said := patience.spent():
        yield forbidden(asked.path.partition("[")[0], said)
        return
    problem = _problem(asked, environment)
    if problem:
        yield invalid(asked.path, asked.text, problem if problem.startswith("must evaluate") else
                      f"compilation failed: {problem}")


def _problem(asked: Asked, environment: Environment) -> str:
    if not asked.text.strip():
        return ""
    try:
        environment.compile(asked.text, wanted=asked.wanted)
    except (WrongType, CelError) as error:
        return str(error)
    return ""
