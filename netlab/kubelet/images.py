"""Make sure that a container's image is on the node, by its pull policy, with the events that tell of it.

After k8s:pkg/kubelet/images/image_manager.go.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from netlab.api import meta
from netlab.api.meta import Object
from netlab.errors import NetlabError
from netlab.kubelet.backoff import Backoff
from netlab.runtime.cri import ImageInfo
from netlab.runtime.shimclient import ShimClient

Tell = Callable[[str, str, str], None]
"""(Normal | Warning, reason, message): tell an event about the container."""


class StartTrouble(NetlabError):
    """A container can't start now. `reason` is its waiting reason; `until` when to try again, 0.0 at the next look."""

    def __init__(self, reason: str, message: str, *, until: float = 0.0) -> None:
        super().__init__(message)
        self.reason, self.message, self.until = reason, message, until


class Images:
    """Pulls, with a back-off per Pod and image."""

    def __init__(self, shim: ShimClient, backoff: Backoff | None = None) -> None:
        self._shim = shim
        self._backoff = backoff or Backoff()
        self._failed: dict[str, tuple[float, str]] = {}

    async def ensure(self, pod: Object, wanted: Object, tell: Tell) -> ImageInfo | None:
        """Return the image when it is there.

        Raises:
            StartTrouble: ErrImagePull, ImagePullBackOff or ErrImageNeverPull; `until` is when to try again.
        """
        image, policy = str(wanted.get("image", "")), pull_policy(wanted)
        key = f"{meta.uid(pod)}_{image}"
        present = await self._shim.image_status(image) if policy != "Always" else None
        if present is not None:
            tell("Normal", "Pulled", f'Container image "{image}" already present on machine and can be accessed by the '
                                     "pod")
            return present
        if policy == "Never":
            message = f'Container image "{image}" is not present with pull policy of Never'
            tell("Warning", "ErrImageNeverPull", message)
            tell("Warning", "Failed", "Error: ErrImageNeverPull")
            raise StartTrouble("ErrImageNeverPull", message, until=time.time() + 60)
        now = time.time()
        failed_at, last = self._failed.get(key, (0.0, ""))
        until = self._backoff.until(key, failed_at) if failed_at else 0.0
        if until > now:
            tell("Normal", "BackOff", f'Back-off pulling image "{image}"')
            tell("Warning", "Failed", "Error: ImagePullBackOff")
            raise StartTrouble("ImagePullBackOff", f'Back-off pulling image "{image}": ErrImagePull: {last}',
                               until=until)
        tell("Normal", "Pulling", f'Pulling image "{image}"')
        try:
            await self._shim.pull_image(image)
        except NetlabError as error:
            said = f"{error}{f' ({error.hint})' if error.hint else ''}"
            tell("Warning", "Failed", f'Failed to pull image "{image}": {said}')
            tell("Warning", "Failed", "Error: ErrImagePull")
            self._backoff.next(key, now)
            self._failed[key] = (now, said)
            raise StartTrouble("ErrImagePull", said) from None
        took = _duration(time.time() - now)
        found = await self._shim.image_status(image)
        tell("Normal", "Pulled", f'Successfully pulled image "{image}" in {took} ({took} including waiting). '
                                 f"Image size: {found.size if found else 0} bytes.")
        self.drop(key)
        return found

    def drop(self, prefix: str) -> None:
        """Forget the failures of a Pod (by uid)."""
        self._backoff.forget(prefix)
        for key in [k for k in self._failed if k.startswith(prefix)]:
            del self._failed[key]


def pull_policy(wanted: Object) -> str:
    """Return Always, IfNotPresent or Never; the default depends on the tag, as the API server's."""
    policy = wanted.get("imagePullPolicy")
    if policy:
        return str(policy)
    name = str(wanted.get("image", "")).rpartition("/")[2]
    latest = "@" not in name and (":" not in name or name.endswith(":latest"))
    return "Always" if latest else "IfNotPresent"


def _duration(seconds: float) -> str:
    """Write a duration as Go does: 1.234s or 12ms."""
    return f"{seconds:.3f}".rstrip("0").rstrip(".") + "s" if seconds >= 1 else f"{max(round(seconds * 1000), 1)}ms"
