"""What a controller may write into a Job's status (batch/validation, KEP-4368: any controller may manage a Job).

A rule counts only when what it speaks of changes with this write: a status that was wrong before can still be mended.
"""

from __future__ import annotations

from collections.abc import Iterator

from netlab.api.meta import Object
from netlab.apiserver.validation import indexes
from netlab.apiserver.validation.amounts import counts
from netlab.apiserver.validation.errors import FieldError, duplicate, invalid, required, without_value

_LISTS = ("succeeded", "failed")


def job_status(obj: Object, old: Object) -> list[FieldError]:
    """Check the status of a Job against what it was."""
    now, before = _State(obj), _State(old)
    return [*counts(now.status, ("active", "succeeded", "failed", "ready", "terminating"), "status"),
            *_uncounted(now.status.get("uncountedTerminatedPods") or {}), *_ended(now, before),
            *_indexes(now, before), *_going_on(now, before)]


class _State:
    """A Job's status, with what its conditions say."""

    def __init__(self, obj: Object) -> None:
        self.spec: Object = obj.get("spec") or {}
        self.status: Object = obj.get("status") or {}
        self.true = frozenset(one.get("type") for one in self.status.get("conditions") or []
                              if one.get("status") == "True")
        self.complete, self.failed = "Complete" in self.true, "Failed" in self.true
        self.finished = self.complete or self.failed
        self.target, self.met = "FailureTarget" in self.true, "SuccessCriteriaMet" in self.true
        uncounted = self.status.get("uncountedTerminatedPods") or {}
        self.uncounted = [uid for part in _LISTS for uid in uncounted.get(part) or []]
        self.indexed = self.spec.get("completionMode") == "Indexed"

    def differs(self, other: _State, *parts: str) -> bool:
        return any(self.status.get(part) != other.status.get(part) for part in parts)


def _uncounted(found: Object) -> Iterator[FieldError]:
    seen: set[str] = set()
    for part in _LISTS:
        for at, uid in enumerate(found.get(part) or []):
            field = f"status.uncountedTerminatedPods.{part}[{at}]"
            if not uid:
                yield invalid(field, uid, "must not be empty")
            elif uid in seen:
                yield duplicate(field, uid)
            seen.add(uid)


def _ended(now: _State, before: _State) -> Iterator[FieldError]:
    """Check what belongs together when a Job ends."""
    status, conditions = now.status, "status.conditions"
    completed, failed = now.complete != before.complete, now.failed != before.failed
    finished = now.finished != before.finished
    start, end = status.get("startTime"), status.get("completionTime")
    started, ended = now.differs(before, "startTime"), now.differs(before, "completionTime")
    if (completed or failed) and now.complete and now.failed:
        yield without_value(conditions, "cannot set Complete=True and Failed=true conditions")
    if (completed or now.target != before.target) and now.complete and now.target:
        yield without_value(conditions, "cannot set Complete=True and FailureTarget=true conditions")
    if (completed or ended) and end is not None and not now.complete:
        yield invalid("status.completionTime", end,
                      "cannot set completionTime when there is no Complete=True condition")
    if (completed or ended) and end is None and now.complete:
        yield required("status.completionTime", "completionTime is required for Complete jobs")
    if (started or ended) and start is not None and end is not None and end < start:
        yield invalid("status.completionTime", end, "completionTime cannot be set before startTime")
    if (failed or now.differs(before, "failedIndexes")) and now.failed and not now.target:
        yield without_value(conditions, "cannot set Failed=True condition without the FailureTarget=true condition")
    if (completed or now.met != before.met) and now.complete and not now.met:
        yield without_value(conditions,
                            "cannot set Complete=True condition without the SuccessCriteriaMet=true condition")
    if not now.finished:
        return
    active = status.get("active") or 0
    if (finished or now.differs(before, "active")) and active > 0:
        yield invalid("status.active", active, "active>0 is invalid for finished job")
    nothing_to_do = now.spec.get("suspend") is True and now.spec.get("completions") == 0
    if (finished or started) and start is None and not nothing_to_do:
        yield required("status.startTime", "startTime is required for finished job")
    if (finished or now.uncounted != before.uncounted) and now.uncounted:
        yield invalid("status.uncountedTerminatedPods", status.get("uncountedTerminatedPods"),
                      "uncountedTerminatedPods needs to be empty for finished job")


def _indexes(now: _State, before: _State) -> Iterator[FieldError]:
    """Check the texts that tell which indexes are done."""
    done, failed = now.status.get("completedIndexes") or "", now.status.get("failedIndexes")
    done_changed, failed_changed = now.differs(before, "completedIndexes"), now.differs(before, "failedIndexes")
    completions, per_index = now.spec.get("completions"), now.spec.get("backoffLimitPerIndex")
    for part, text, changed in (("completedIndexes", done, done_changed), ("failedIndexes", failed, failed_changed)):
        if not changed or not text or completions is None or (part == "failedIndexes" and per_index is None):
            continue
        try:
            indexes.intervals(text, completions)
        except ValueError as error:
            yield invalid(f"status.{part}", text, f"error parsing {part}: {error}")
    if done_changed and done and not now.indexed:
        yield invalid("status.completedIndexes", done,
                      "cannot set non-empty completedIndexes when non-indexed completion mode")
    if failed_changed and failed is not None and per_index is None:
        yield invalid("status.failedIndexes", failed,
                      "cannot set non-null failedIndexes when backoffLimitPerIndex is null")
    if (done_changed or failed_changed) and failed and completions is not None:
        both = indexes.overlap(done, failed, completions)
        if both is not None:
            yield invalid("status.failedIndexes", failed,
                          f"failedIndexes and completedIndexes overlap at index: {both}")


def _going_on(now: _State, before: _State) -> Iterator[FieldError]:
    """Check counters, times and conditions that only move forward."""
    status, was, conditions = now.status, before.status, "status.conditions"
    terminating, ready = status.get("terminating") or 0, status.get("ready")
    if (now.finished != before.finished or now.differs(before, "terminating")) and terminating > 0 and now.finished:
        yield invalid("status.terminating", terminating, "terminating>0 is invalid for finished job")
    if now.differs(before, "ready", "active") and ready is not None and ready > (status.get("active") or 0):
        yield invalid("status.ready", ready, "cannot set more ready pods than active")
    if now.met and now.failed:
        yield without_value(conditions, "cannot set SuccessCriteriaMet=True and Failed=true conditions")
    if now.met and now.target:
        yield without_value(conditions, "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions")
    if now.spec.get("successPolicy") is not None and now.complete and not now.met:
        yield without_value(conditions,
                            "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True")
    for kind in ("Failed", "Complete", "FailureTarget"):
        if kind in before.true and kind not in now.true:
            yield without_value(conditions, f"cannot disable the terminal {kind}=True condition")
    scales = now.indexed and now.spec.get("completions") == now.spec.get("parallelism")
    for part, fixed in (("failed", True), ("succeeded", not scales)):
        if fixed and (status.get(part) or 0) < (was.get(part) or 0):
            yield invalid(f"status.{part}", status.get(part) or 0, f"cannot decrease the {part} counter")
    end, ended = status.get("completionTime"), was.get("completionTime")
    if end is not None and ended is not None and end != ended:
        yield invalid("status.completionTime", end, "completionTime cannot be mutated")
    start = was.get("startTime")
    resumed = "Suspended" in before.true and "Suspended" not in now.true and status.get("startTime") is not None
    if start is not None and start != status.get("startTime") and not now.spec.get("suspend") and not resumed:
        yield required("status.startTime", "startTime cannot be removed for unsuspended job")
    if before.met and not now.met:
        yield without_value(conditions, "cannot disable the SuccessCriteriaMet=True condition")
    if before.complete and not before.met and now.met:
        yield without_value(conditions,
                            "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions")
