"""DefaultTolerationSeconds: a Pod bears a lost node for five minutes."""

from __future__ import annotations

from netlab.api.meta import Object
from netlab.apiserver.admission.base import Attempt, Step

SECONDS = 300
KEYS = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")


class DefaultTolerationSeconds(Step):
    """Upstream's plugin of the same name."""

    name = "DefaultTolerationSeconds"
    kinds = frozenset(("Pod",))

    async def mutate(self, attempt: Attempt) -> None:
        """Add the tolerations that the Pod does not have."""
        if attempt.resource.kind != "Pod" or attempt.subresource or attempt.operation not in ("CREATE", "UPDATE"):
            return
        spec = attempt.obj["spec"]
        found = spec.get("tolerations") or []
        missing = [key for key in KEYS if not any(_covers(toleration, key) for toleration in found)]
        if missing:
            spec["tolerations"] = [*found, *({"key": key, "operator": "Exists", "effect": "NoExecute",
                                              "tolerationSeconds": SECONDS} for key in missing)]


def _covers(toleration: Object, key: str) -> bool:
    return toleration.get("key", "") in ("", key) and toleration.get("effect", "") in ("", "NoExecute")
