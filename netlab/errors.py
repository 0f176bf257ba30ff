"""Every error netlab raises on purpose, drawn as one tree and split by what the reader can do about it.

NetlabError
├─ UsageError          the caller's words are off: a flag, a file, a field; fix them and call again
│  └─ ManifestError    ... at a line of a file
├─ Unsupported         asked for something this machine or this version does not do
├─ NotFound            the lab, node, Pod, file or program that was named is not there
│  └─ ImageNotFound    no image answers to this reference
├─ TemporaryError      not now: worth trying again
├─ KernelError         the kernel, or a tool that speaks to it, refused
│  ├─ NetnsGone        a namespace went away under us
│  ├─ RestoreRejected  iptables-restore refused a table
│  └─ StartRefused     a container's process could not be started
└─ ApiError            the API server answered with a Status (`code`, `reason`, `details`)

Foreign exceptions are translated where they enter (one place per library), so that no traceback reaches a user.
"""

from __future__ import annotations

from typing import Any


class NetlabError(Exception):
    """Base of the tree. `str(error)` is one sentence for a person; `hint` says what to do next, or is empty."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(NetlabError):
    """The caller's words are off."""


class ManifestError(UsageError):
    """A file says something wrong. `line` counts from 1; 0 when unknown. `field` is a path such as `spec.nodes`."""

    def __init__(self, message: str, *, file: str, line: int = 0, field: str = "", hint: str = "") -> None:
        where = f"{file}:{line}" if line else file
        super().__init__(f"{where}: {field}: {message}" if field else f"{where}: {message}", hint=hint)
        self.file, self.line, self.field, self.words = file, line, field, message


class Unsupported(NetlabError):
    """This machine, kernel or version does not do what was asked for."""


class NotFound(NetlabError):
    """What was named is not there."""


class TemporaryError(NetlabError):
    """Not now; the same call may pass later."""


class KernelError(NetlabError):
    """The kernel, or a tool that speaks to it, refused. `errno` is 0 when a tool gave only text."""

    def __init__(self, message: str, *, errno: int = 0, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.errno = errno


class NetnsGone(KernelError):
    """Nothing is behind this network namespace's path or descriptor any more."""


class RestoreRejected(KernelError):
    """iptables-restore refused a table; the kernel still holds the previous one. `line` counts from 1."""

    def __init__(self, *, netns: str, line: int, text: str, message: str = "") -> None:
        said = f": {message}" if message else ""
        super().__init__(f"{netns}: iptables refused line {line}: {text}{said}")
        self.netns, self.line, self.text = netns, line, text


class ApiError(NetlabError):
    """A Status that the API server sent (or, inside the API server, will send).

    `code` is the HTTP status, `reason` Kubernetes' machine word (NotFound, Conflict, Invalid, ...), `details` the
    Status' details object: {"name", "group", "kind", "uid", "causes": [{"reason", "message", "field"}],
    "retryAfterSeconds"}; an empty one is sent, too, as upstream does where a request never came to an object.
    """

    def __init__(self, code: int, reason: str, message: str, *, details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code, self.reason, self.message, self.details = code, reason, message, details or {}
        self._detailed = details is not None

    def status(self) -> dict[str, Any]:
        """Return the metav1.Status object that goes over the wire."""
        status: dict[str, Any] = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                                  "message": self.message, "reason": self.reason, "code": self.code}
        if self.details or self._detailed:
            status["details"] = self.details
        return status


class ImageNotFound(NotFound):
    """No built-in and no loaded image answers to this reference. Kubelets show it as ErrImagePull."""


class StartRefused(KernelError):
    """A process could not be started in a container. `exit_code` is a shell's: 127 not found, 126 not executable; else
    128, which Kubernetes shows for any container that never started.
    """

    def __init__(self, message: str, *, exit_code: int = 128, errno: int = 0, hint: str = "") -> None:
        super().__init__(message, errno=errno, hint=hint)
        self.exit_code = exit_code
