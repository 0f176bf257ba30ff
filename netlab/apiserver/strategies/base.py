"""What every kind does unless its own strategy says otherwise (upstream's rest.RESTCreateStrategy and kin)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from netlab.api.meta import Object
from netlab.api.patch import apply
from netlab.apiserver.validation import meta as meta_checks
from netlab.apiserver.validation import names
from netlab.apiserver.validation.errors import FieldError

if TYPE_CHECKING:
    from netlab.api.kinds import Resource
    from netlab.api.patch.fieldset import Set
    from netlab.apiserver.http import User


class ScalePaths(NamedTuple):
    """Where a kind keeps what …/scale shows: wanted and present replicas, and its selector as text (() for none)."""

    wanted: tuple[str, ...]
    present: tuple[str, ...]
    selector: tuple[str, ...] = ()


class Strategy:
    """The generic strategy; kinds subclass it. Methods that take `obj` may change it, never `old`."""

    generation = False
    """metadata.generation is kept: 1 at first, one more whenever something but metadata and status changes."""
    create_on_update = False
    """A PUT of an absent object creates it."""
    unconditional_update = True
    """A PUT without resourceVersion overwrites whatever is there."""
    returns_deleted = False
    """DELETE answers the object instead of a Status."""
    graceful = False
    """`grace` is asked before a deletion."""
    orphans = False
    """A deletion that names no propagation policy leaves behind what the object owns."""
    orphans_warning = ""
    """What the client is told of that."""
    status_keeps_labels = False
    """A write of the status leaves labels alone (upstream: the apps and batch kinds)."""
    scale_paths: ScalePaths | None = None
    """Where …/scale looks; None is spec.replicas, status.replicas and spec.selector."""
    prefixed_finalizers = True
    """Finalizers have to name a domain (upstream: the kinds of k8s.io/kubernetes)."""
    ttl = 0
    """Seconds that an object lives; 0 is for ever."""

    def __init__(self, resource: Resource) -> None:
        self.resource = resource
        self.has_status = "status" in resource.subresources

    def name_form(self, name: str) -> list[str]:
        """Complain about a name."""
        return names.dns_subdomain(name)

    def default(self, obj: Object) -> None:
        """Fill in what the client left out; runs on every write, before admission."""

    def ask(self, obj: Object, user: User) -> None:
        """Record in a new object who asks for it."""

    def prepare_create(self, obj: Object) -> None:
        """Bring a new object into shape after admission."""
        if self.has_status:
            obj.pop("status", None)

    def prepare_update(self, obj: Object, old: Object) -> None:
        """Keep from the old object what this write may not touch."""
        if self.has_status:
            _keep(obj, old, "status")

    def prepare_status(self, obj: Object, old: Object) -> None:
        """Keep everything but the status (and labels and annotations) from the old object."""
        for part in set(obj) | set(old):
            if part not in ("kind", "apiVersion", "metadata", "status"):
                _keep(obj, old, part)
        for part in ("ownerReferences", "finalizers", *(("labels",) if self.status_keeps_labels else ())):
            _keep(obj["metadata"], old["metadata"], part)

    def resets(self, subresource: str) -> Set:
        """Return what a write of the object ("") or of a subresource can't change, so that it never owns it."""
        return apply.RESET.get(subresource, {})

    def prepare_part(self, part: str, obj: Object, old: Object) -> None:
        """Keep from the old object what a write of this subresource (neither status nor scale) may not touch."""

    def validate_part(self, part: str, obj: Object, old: Object) -> list[FieldError]:  # noqa: ARG002 - for subclasses
        """Return what is wrong with such a write."""
        return [*self.meta_update(obj, old), *self.validate(obj)]

    def changed(self, obj: Object, old: Object) -> bool:
        """Tell whether a write raises the generation."""
        skip = ("kind", "apiVersion", "metadata", "status")
        return any(obj.get(part) != old.get(part) for part in set(obj) | set(old) if part not in skip)

    def validate(self, obj: Object) -> list[FieldError]:
        """Return what is wrong with a new object."""
        return meta_checks.object_meta(obj["metadata"], namespaced=self.resource.namespaced, name_form=self.name_form,
                                       prefixed=self.prefixed_finalizers)

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        """Return what is wrong with a changed object."""
        return [*self.meta_update(obj, old), *self.validate(obj)]

    def validate_status(self, obj: Object, old: Object) -> list[FieldError]:
        """Return what is wrong with a changed status."""
        return self.meta_update(obj, old)

    def meta_update(self, obj: Object, old: Object) -> list[FieldError]:
        """Return what is wrong with changed metadata."""
        return meta_checks.object_meta_update(obj["metadata"], old["metadata"], prefixed=self.prefixed_finalizers)

    def warnings(self, obj: Object, old: Object | None = None) -> list[str]:  # noqa: ARG002 - for subclasses
        """Return what the client should be warned of."""
        return []

    def grace(self, obj: Object, asked: int | None) -> int:  # noqa: ARG002 - for subclasses
        """Return the seconds of grace for a deletion that asked for `asked` (None: did not say)."""
        return 0

    def mark(self, obj: Object) -> None:
        """Record that the object's deletion has begun."""

    def gone(self, obj: Object) -> bool:
        """Tell whether an object that is marked for deletion may go now."""
        metadata = obj["metadata"]
        return not metadata.get("finalizers") and not metadata.get("deletionGracePeriodSeconds")

    def allocate(self, obj: Object, old: Object | None, *, dry_run: bool) -> Undo | None:  # noqa: ARG002
        """Take what the object needs from a shared stock (addresses, ports); the result gives it back."""
        return None

    def release(self, old: Object) -> None:
        """Give back what a deleted object held."""


class Undo:
    """Gives back what `Strategy.allocate` took for a write that failed; `commit` after one that did not."""

    def undo(self) -> None:
        """The write failed."""

    def commit(self) -> None:
        """The write is stored."""


def _keep(obj: Object, old: Object, part: str) -> None:
    if part in old:
        obj[part] = old[part]
    else:
        obj.pop(part, None)
