"""MutatingAdmissionWebhook and ValidatingAdmissionWebhook: others, asked over HTTPS, have a say in writes.

Mutating webhooks are asked one after another, by the names of their configurations, and see what those before them
changed; with reinvocationPolicy IfNeeded once more when a later one changed something. Validating ones are asked all
at once. https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from netlab.api.meta import Object
from netlab.api.patch import jsonpatch
from netlab.apiserver import status
from netlab.apiserver.admission import matching, review
from netlab.apiserver.admission.base import Attempt, Step
from netlab.apiserver.admission.conditions import ConditionFailed, hold, shown
from netlab.apiserver.hooks import HookFailed, NoClient
from netlab.apiserver.mirror import Mirror
from netlab.errors import ApiError

if TYPE_CHECKING:
    from netlab.apiserver.api import Api

log = logging.getLogger(__name__)

_GROUP = "admissionregistration.k8s.io"
_WHAT = {HookFailed: "failed to call webhook", NoClient: "could not get REST client",
         review.BadAnswer: "received invalid webhook response"}


@dataclass(frozen=True)
class Hook:
    """One webhook of one configuration."""

    configuration: str
    spec: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Return the webhook's own name."""
        return str(self.spec["name"])


def _hooks(configurations: Sequence[Object]) -> tuple[Hook, ...]:
    return tuple(Hook(one["metadata"]["name"], spec) for one in sorted(
        configurations, key=lambda obj: str(obj["metadata"]["name"])) for spec in one.get("webhooks") or ())


class _Webhooks(Step):
    """What both have in common."""

    plural = ""

    def __init__(self) -> None:
        self._mirror: Mirror[tuple[Hook, ...]] | None = None

    async def _registered(self, api: Api) -> tuple[Hook, ...]:
        if self._mirror is None:
            self._mirror = Mirror(api.endpoints[_GROUP, "v1", self.plural], _hooks)
        return await self._mirror.now()

    async def _asks(self, hook: Hook, attempt: Attempt) -> matching.Match | None:
        """Return how a webhook matches the write; None when it does not.

        Raises:
            ApiError: a condition has no value, and the webhook fails closed.
        """
        spec = hook.spec
        found = matching.find(attempt, spec.get("rules") or (), equivalent=spec.get("matchPolicy") != "Exact")
        if found is None or not await matching.selected(attempt, spec.get("namespaceSelector"),
                                                        spec.get("objectSelector")):
            return None
        conditions = spec.get("matchConditions") or ()
        try:
            given = await shown(attempt, found.resource) if conditions else None
            return found if hold(conditions, attempt, given) else None
        except ConditionFailed as error:
            if spec.get("failurePolicy") == "Ignore":
                return None
            raise status.forbidden(attempt.resource, attempt.name, str(error)) from None

    async def _ask(self, hook: Hook, attempt: Attempt, found: matching.Match) -> review.Answer | None:
        """Ask a webhook. None: it failed, and may.

        Raises:
            ApiError: 500, it failed and fails closed; what it refused with.
        """
        api, spec = attempt.call.api, hook.spec
        obj, old = await attempt.seen(found.resource)
        asked = review.request(attempt, found.resource, obj, old, dry_run=attempt.call.dry_run())
        try:
            said = await api.hooks.call(spec.get("clientConfig") or {}, review.review(asked),
                                        seconds=float(spec.get("timeoutSeconds") or 10))
            answer = review.answer(said, asked)
        except (HookFailed, review.BadAnswer) as error:
            why = f"{_WHAT[type(error)]}: {error}"
            if spec.get("failurePolicy") == "Ignore":
                log.warning("failed calling webhook, failing open %s: %s", hook.name, why)
                return None
            raise status.internal(f'failed calling webhook "{hook.name}": {why}') from None
        attempt.call.request.warnings += [text for text in answer.warnings
                                          if text not in attempt.call.request.warnings]
        if not answer.allowed:
            raise _refusal(hook.name, answer.refusal)
        return answer


def _refusal(name: str, found: Mapping[str, Any]) -> ApiError:
    code = found.get("code") if isinstance(found.get("code"), int) and 400 <= int(found["code"]) < 600 else 403
    reason = str(found.get("reason") or ("Forbidden" if code == 403 else ""))
    message = str(found.get("message") or "")
    said = f'admission webhook "{name}" denied the request' + (
        f": {message}" if message else f": {reason}" if found.get("reason") else " without explanation")
    details = found.get("details")
    return ApiError(int(code or 403), reason, said, details=dict(details) if isinstance(details, dict) else {})


class ValidatingWebhooks(_Webhooks):
    """Upstream's ValidatingAdmissionWebhook."""

    name = "ValidatingAdmissionWebhook"
    plural = "validatingwebhookconfigurations"

    async def validate(self, attempt: Attempt) -> None:
        """Ask all that the write concerns; the first refusal, in their order, counts."""
        asked = []
        for hook in await self._registered(attempt.call.api):
            found = await self._asks(hook, attempt)
            if found is not None:
                await attempt.seen(found.resource)  # converted once for all that want this version
                asked.append((hook, found))
        answers = await asyncio.gather(*(self._ask(hook, attempt, found) for hook, found in asked),
                                       return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer


class MutatingWebhooks(_Webhooks):
    """Upstream's MutatingAdmissionWebhook."""

    name = "MutatingAdmissionWebhook"
    plural = "mutatingwebhookconfigurations"

    async def mutate(self, attempt: Attempt) -> None:
        """Let every webhook that the write concerns change the object."""
        hooks = await self._registered(attempt.call.api)
        again: list[Hook] = []
        for hook in hooks:
            if await self._one(hook, attempt):
                again = [one for one in hooks[:hooks.index(hook)] if one.spec.get("reinvocationPolicy") == "IfNeeded"]
        for hook in again:
            await self._one(hook, attempt)

    async def _one(self, hook: Hook, attempt: Attempt) -> bool:
        """Ask one; return whether it changed the object."""
        found = await self._asks(hook, attempt)
        if found is None:
            return False
        answer = await self._ask(hook, attempt, found)
        if answer is None or not answer.patch or attempt.operation == "DELETE":
            return False
        try:
            changed = jsonpatch.apply((await attempt.seen(found.resource))[0], answer.patch)
        except ApiError as error:
            raise status.internal(f'failed calling webhook "{hook.name}": the patch does not apply: '
                                  f"{error}") from None
        return await attempt.replace_seen(changed, found.resource, hook.name)
