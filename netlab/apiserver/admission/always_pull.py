"""AlwaysPullImages: every container asks for its image anew (off unless --enable-admission-plugins names it)."""

from __future__ import annotations

from netlab.apiserver.admission.base import Attempt, Step


class AlwaysPullImages(Step):
    """Upstream's plugin of the same name."""

    name = "AlwaysPullImages"
    kinds = frozenset(("Pod",))

    async def mutate(self, attempt: Attempt) -> None:
        """Set the pull policy of every container."""
        if attempt.resource.kind != "Pod" or attempt.operation not in ("CREATE", "UPDATE") \
                or attempt.subresource not in ("", "ephemeralcontainers"):
            return
        for part in ("containers", "initContainers", "ephemeralContainers"):
            for container in attempt.obj["spec"].get(part) or ():
                container["imagePullPolicy"] = "Always"
