"""What is refused of Deployments, StatefulSets, Jobs and their kin, at which field, in which words."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from netlab.api import kinds
from netlab.apiserver.strategies.apps import (
    ControllerRevisionStrategy,
    DaemonSetStrategy,
    DeploymentStrategy,
    StatefulSetStrategy,
)
from netlab.apiserver.strategies.base import Strategy
from netlab.apiserver.strategies.batch import CronJobStrategy, JobStrategy
from netlab.apiserver.validation import indexes, schedules
from netlab.apiserver.validation.errors import FieldError

Object = dict[str, Any]

DEPLOYMENT = DeploymentStrategy(kinds.resource("deployments.apps"))
DAEMONS = DaemonSetStrategy(kinds.resource("daemonsets.apps"))
STATEFUL = StatefulSetStrategy(kinds.resource("statefulsets.apps"))
REVISION = ControllerRevisionStrategy(kinds.resource("controllerrevisions.apps"))
JOB = JobStrategy(kinds.resource("jobs.batch"))
CRON = CronJobStrategy(kinds.resource("cronjobs.batch"))


def template(**changes: Any) -> Object:
    return {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}], **changes}}


def lasting(strategy: Strategy, /, **changes: Any) -> Object:
    return made(strategy, {"selector": {"matchLabels": {"a": "b"}}, "template": template(), **changes})


def job(*, name: str = "j", **changes: Any) -> Object:
    return made(JOB, {"template": template(restartPolicy="Never"), **changes}, name=name)


def cron(*, name: str = "c", inner: Object | None = None, **changes: Any) -> Object:
    return made(CRON, {"schedule": "* * * * *", "jobTemplate": {
        "spec": {"template": template(restartPolicy="OnFailure"), **(inner or {})}}, **changes}, name=name)


def made(strategy: Strategy, spec: Object, *, name: str = "n") -> Object:
    obj: Object = {"metadata": {"name": name, "namespace": "default", "uid": "u-1"}, "spec": spec}
    strategy.default(obj)
    strategy.prepare_create(obj)
    return obj


def said(errors: list[FieldError]) -> list[str]:
    return [str(error) for error in errors]


def changed(strategy: Strategy, obj: Object, part: str = "spec", /, **changes: Any) -> list[str]:
    new = copy.deepcopy(obj)
    new.setdefault(part, {}).update(changes)
    return said(strategy.validate_update(new, obj) if part == "spec" else strategy.validate_status(new, obj))


@pytest.mark.parametrize(("strategy", "good"), [
    (DEPLOYMENT, lasting(DEPLOYMENT)), (DAEMONS, lasting(DAEMONS)), (STATEFUL, lasting(STATEFUL)), (JOB, job()),
    (JOB, job(completionMode="Indexed", completions=3, backoffLimitPerIndex=1, maxFailedIndexes=2,
              successPolicy={"rules": [{"succeededIndexes": "0-1", "succeededCount": 2}]})),
    (JOB, job(podFailurePolicy={"rules": [{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [1, 2]}},
                                          {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}]})),
    (CRON, cron()), (CRON, cron(timeZone="Europe/Zurich", schedule="*/5 0-12 1,15 jan-mar mon")),
])
def test_good_ones(strategy: Strategy, good: Object) -> None:
    assert said(strategy.validate(good)) == []
    assert said(strategy.validate_update(copy.deepcopy(good), good)) == []


CASES: list[tuple[Strategy, Object, str]] = [
    (DEPLOYMENT, lasting(DEPLOYMENT, strategy={"type": "X"}), ('spec.strategy: Unsupported value: {"Type":"X",'
     '"RollingUpdate":null}: supported values: "Recreate", "RollingUpdate"')),
    (DEPLOYMENT, lasting(DEPLOYMENT, strategy={"rollingUpdate": {"maxSurge": "x"}}),
     ('spec.strategy.rollingUpdate.maxSurge: Invalid value: "x": a valid percent string must be a numeric string followed '
     "by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')")),
    (DEPLOYMENT, lasting(DEPLOYMENT, template=template(activeDeadlineSeconds=5)),
     "spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in ReplicaSet is not Supported"),
    (DEPLOYMENT, lasting(DEPLOYMENT, selector={"matchExpressions": [{"key": "a", "operator": "In", "values": ["a b"]}]}),
     ('spec.selector.matchExpressions[0].values[0]: Invalid value: "a b": a valid label must be an empty string or '
     "consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. "
     "'MyValue',  or 'my_value',  or '12345', regex used for validation is "
     "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')")),
    (DEPLOYMENT, lasting(DEPLOYMENT, selector={"matchExpressions": [{"key": "a", "operator": "Like"}]}),
     'spec.selector: Invalid value: {"matchExpressions":[{"key":"a","operator":"Like"}]}: invalid label selector'),
    (DAEMONS, lasting(DAEMONS, selector={}),
     "spec.selector: Invalid value: {}: empty selector is invalid for daemonset"),
    (DAEMONS, lasting(DAEMONS, updateStrategy={"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 1}}),
     "spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: 1: may not be set when maxUnavailable is non-zero"),
    (DAEMONS, lasting(DAEMONS, updateStrategy={"rollingUpdate": {"maxUnavailable": 0}}),
     "spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0"),
    (DAEMONS, lasting(DAEMONS, updateStrategy={"rollingUpdate": {"maxUnavailable": "101%"}}),
     'spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: "101%": must not be greater than 100%'),
    (STATEFUL, lasting(STATEFUL, updateStrategy={"type": "OnDelete", "rollingUpdate": {"partition": 1}}),
     ('spec.updateStrategy.rollingUpdate: Invalid value: {"partition":1}: only allowed for updateStrategy '
     "'RollingUpdate'")),
    (STATEFUL, lasting(STATEFUL, updateStrategy={"rollingUpdate": {"partition": -1}}),
     "spec.updateStrategy.rollingUpdate.partition: Invalid value: -1: must be greater than or equal to 0"),
    (STATEFUL, lasting(STATEFUL, updateStrategy={"rollingUpdate": {"maxUnavailable": 0}}),
     "spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: 0: cannot be 0"),
    (STATEFUL, lasting(STATEFUL, persistentVolumeClaimRetentionPolicy={"whenDeleted": "X"}),
     ('spec.persistentVolumeClaimRetentionPolicy.whenDeleted: Unsupported value: "X": supported values: "Retain", '
     '"Delete"')),
    (STATEFUL, lasting(STATEFUL, ordinals={"start": -1}),
     "spec.ordinals.start: Invalid value: -1: must be greater than or equal to 0"),
    (STATEFUL, lasting(STATEFUL, selector={}),
     "spec.selector: Invalid value: {}: empty selector is invalid for statefulset"),
    (STATEFUL, made(STATEFUL, lasting(STATEFUL)["spec"], name="a.b"),
     'metadata.name: Invalid value: "a.b": must not contain dots'),
    (STATEFUL, lasting(STATEFUL, serviceName="a.b"), 'spec.serviceName: Invalid value: "a.b": must not contain dots'),
    (JOB, made(JOB, {"template": template()}),
     'spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"'),
    (JOB, job(template=template(restartPolicy="X")),
     'spec.template.spec.restartPolicy: Unsupported value: "X": supported values: "OnFailure", "Never"'),
    (JOB, job(completionMode="Indexed", parallelism=1), "spec.completions: Required value: when completion mode is Indexed"),
    (JOB, job(completionMode="X"),
     'spec.completionMode: Unsupported value: "X": supported values: "NonIndexed", "Indexed"'),
    (JOB, job(backoffLimitPerIndex=1), "spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode"),
    (JOB, job(maxFailedIndexes=1),
     "spec.backoffLimitPerIndex: Required value: when maxFailedIndexes is specified"),
    (JOB, job(completionMode="Indexed", completions=1, parallelism=100001),
     "spec.parallelism: Invalid value: 100001: must be less than or equal to 100000 when completion mode is Indexed"),
    (JOB, job(completionMode="Indexed", completions=200000, backoffLimitPerIndex=1),
     "spec.maxFailedIndexes: Required value: must be specified when completions is above 100000"),
    (JOB, job(completionMode="Indexed", completions=10, name="x" * 62), (f'metadata.name: Invalid value: "{"x" * 62}": '
     f"will not able to create pod with invalid DNS label: {'x' * 62}-9")),
    (JOB, job(managedBy="mine"),
     'spec.managedBy: Invalid value: "mine": must be a domain-prefixed path (such as "acme.io/foo")'),
    (JOB, job(successPolicy={"rules": []}),
     'spec.successPolicy: Invalid value: {"rules":[]}: requires indexed completion mode'),
    (JOB, job(completionMode="Indexed", completions=3, successPolicy={"rules": [{"succeededIndexes": "0,2-9"}]}),
     ('spec.successPolicy.rules[0].succeededIndexes: Invalid value: "0,2-9": error parsing succeededIndexes: too large '
     'index: "9"')),
    (JOB, job(completionMode="Indexed", completions=3, successPolicy={"rules": [{"succeededCount": 4}]}),
     ("spec.successPolicy.rules[0].succeededCount: Invalid value: 4: must be less than or equal to 3 (the number of "
     "specified completions)")),
    (JOB, job(podFailurePolicy={"rules": [{"action": "FailJob"}]}), ("spec.podFailurePolicy.rules[0]: Invalid value: "
     "specifying one of OnExitCodes and OnPodConditions is required")),
    (JOB, job(podFailurePolicy={"rules": [{"onExitCodes": {"operator": "In", "values": [1]}}]}),
     'spec.podFailurePolicy.rules[0].action: Required value: valid values: ["Count" "FailIndex" "FailJob" "Ignore"]'),
    (JOB, job(podFailurePolicy={"rules": [{"action": "Count", "onExitCodes": {"operator": "In", "values": [2, 0, 2]}}]}),
     "spec.podFailurePolicy.rules[0].onExitCodes.values[1]: Invalid value: 0: must not be 0 for the In operator"),
    (JOB, job(podFailurePolicy={"rules": [{"action": "Count", "onExitCodes": {"operator": "In", "values": [2, 0, 2]}}]}),
     "spec.podFailurePolicy.rules[0].onExitCodes.values[2]: Duplicate value: 2"),
    (JOB, job(podFailurePolicy={"rules": [{"action": "FailIndex", "onPodConditions": [{"type": "A"}]}]}),
     'spec.podFailurePolicy.rules[0].action: Invalid value: "FailIndex": requires the backoffLimitPerIndex to be set'),
    (JOB, job(podFailurePolicy={"rules": []}, podReplacementPolicy="TerminatingOrFailed"),
     'spec.podReplacementPolicy: Unsupported value: "TerminatingOrFailed": supported values: "Failed"'),
    (JOB, job(template=template(restartPolicy="OnFailure"), podFailurePolicy={"rules": []}),
     ('spec.template.spec.restartPolicy: Invalid value: "OnFailure": only "Never" is supported when podFailurePolicy is '
     "specified")),
    (JOB, job(selector={"matchLabels": {"x": "y"}}),
     ('spec.selector: Invalid value: {"matchLabels":{"x":"y","batch.kubernetes.io/controller-uid":"u-1"}}: `selector` '
     "not auto-generated")),
    (JOB, job(template={"metadata": {"labels": {"job-name": "k"}}, "spec": template(restartPolicy="Never")["spec"]}),
     'spec.template.metadata.labels[job-name]: Invalid value: "k": must be \'j\''),
    (CRON, cron(schedule="TZ=UTC * * * * *"),
     'spec.schedule: Invalid value: "TZ=UTC * * * * *": cannot use TZ or CRON_TZ in schedule, use timeZone field instead'),
    (CRON, cron(schedule="a * * * *"), ('spec.schedule: Invalid value: "a * * * *": failed to parse int from a: '
     'strconv.Atoi: parsing "a": invalid syntax')),
    (CRON, cron(timeZone="Foo/Bar"), 'spec.timeZone: Invalid value: "Foo/Bar": unknown time zone Foo/Bar'),
    (CRON, cron(timeZone="../etc"), 'spec.timeZone: Invalid value: "../etc": unknown time zone ../etc'),
    (CRON, cron(timeZone=""), 'spec.timeZone: Invalid value: "": timeZone must be nil or non-empty string'),
    (CRON, cron(timeZone="Local"), ('spec.timeZone: Invalid value: "Local": timeZone must be an explicit time zone as '
     "defined in https://www.iana.org/time-zones")),
    (CRON, cron(name="x" * 53), f'metadata.name: Invalid value: "{"x" * 53}": must be no more than 52 characters'),
    (CRON, cron(failedJobsHistoryLimit=-1),
     "spec.failedJobsHistoryLimit: Invalid value: -1: must be greater than or equal to 0"),
    (CRON, cron(inner={"selector": {"matchLabels": {"a": "b"}}}),
     'spec.jobTemplate.spec.selector: Invalid value: {"matchLabels":{"a":"b"}}: `selector` will be auto-generated'),
    (CRON, cron(inner={"manualSelector": True}),
     'spec.jobTemplate.spec.manualSelector: Unsupported value: true: supported values: "nil", "false"'),
    (CRON, cron(inner={"template": template()}),
     'spec.jobTemplate.spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"'),
    (REVISION, {"metadata": {"name": "r", "namespace": "n"}, "revision": -1},
     "revision: Invalid value: -1: must be greater than or equal to 0"),
    (REVISION, {"metadata": {"name": "r", "namespace": "n"}, "revision": 1}, "data: Required value: data is mandatory"),
]


@pytest.mark.parametrize(("strategy", "obj", "wanted"), CASES, ids=[case[2][:70] for case in CASES])
def test_bad_ones(strategy: Strategy, obj: Object, wanted: str) -> None:
    assert wanted in said(strategy.validate(obj))


def test_a_stateful_pod_mounts_its_claims() -> None:
    spec = template()["spec"]
    spec["containers"][0]["volumeMounts"] = [{"name": "data", "mountPath": "/data"}]
    inner = {**template(), "spec": spec}
    assert said(STATEFUL.validate(lasting(STATEFUL, template=inner))) == \
        ['spec.template.spec.containers[0].volumeMounts[0].name: Not found: "data"']
    claims = [{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"]}}]
    assert said(STATEFUL.validate(lasting(STATEFUL, template=inner, volumeClaimTemplates=claims))) == []


@pytest.mark.parametrize(("strategy", "obj", "changes", "wanted"), [
    (STATEFUL, lasting(STATEFUL, serviceName="a"), {"serviceName": "b"},
     [("spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', "
      "'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are "
      "forbidden")]),
    (STATEFUL, lasting(STATEFUL, serviceName="Old.Name"), {"replicas": 3, "minReadySeconds": 5}, []),
    (JOB, job(), {"completions": 5}, ["spec.completions: Invalid value: 5: field is immutable"]),
    (JOB, job(), {"parallelism": 5, "suspend": True, "backoffLimit": 2}, []),
    (JOB, job(completionMode="Indexed", completions=3), {"completions": 4},
     ["spec.completions: Invalid value: 4: can only be modified in tandem with spec.parallelism"]),
    (JOB, job(completionMode="Indexed", completions=3), {"completions": 4, "parallelism": 4}, []),
    (JOB, job(), {"managedBy": "acme.io/x"}, ['spec.managedBy: Invalid value: "acme.io/x": field is immutable']),
    (CRON, cron(schedule="TZ=UTC 0 * * * *"), {"schedule": "TZ=UTC 1 * * * *"}, []),
    (CRON, cron(timeZone="Foo/Bar"), {"suspend": True}, []),
])
def test_what_may_change(strategy: Strategy, obj: Object, changes: Object, wanted: list[str]) -> None:
    assert changed(strategy, obj, **changes) == wanted


@pytest.mark.parametrize(("suspended", "status", "free"), [
    (True, {}, True), (False, {}, False), (True, {"startTime": "2026-01-01T00:00:00Z", "active": 1}, False),
    (True, {"startTime": "2026-01-01T00:00:00Z", "conditions": [{"type": "Suspended", "status": "True"}]}, True)])
def test_a_suspended_job_may_be_placed_anew(suspended: bool, status: Object, free: bool) -> None:
    obj = job(suspend=suspended)
    obj["status"] = status
    new = copy.deepcopy(obj["spec"]["template"])
    new["spec"] |= {"nodeSelector": {"a": "b"}, "affinity": {"nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "a", "operator": "Exists"}]}]}}}}
    new["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "1"}}
    new["metadata"]["labels"]["more"] = "x"
    assert [line.partition(" Invalid")[0] for line in changed(JOB, obj, template=new)] == ([] if free else
                                                                                          ["spec.template:"])
    new["spec"]["containers"][0]["image"] = "other"
    assert len(changed(JOB, obj, template=new)) == 1


@pytest.mark.parametrize(("schedule", "wanted"), [
    ("*/5 0-12/2 ? JAN,dec sun-sat", ""), ("@hourly", ""), ("@every 1h30m", ""), ("5/15 * * * *", ""),
    ("* * * *", "expected exactly 5 fields, found 4: [* * * *]"), ("@often", "unrecognized descriptor: @often"),
    ("@every x", 'failed to parse duration @every x: time: invalid duration "x"'),
    ("60 * * * *", "end of range (60) above maximum (59): 60"),
    ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
    ("30-10 * * * *", "beginning of range (30) beyond end of range (10): 30-10"),
    ("*/0 * * * *", "step of range should be a positive number: */0"), ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
    ("1/2/3 * * * *", "too many slashes: 1/2/3"), ("* * * * 7", "end of range (7) above maximum (6): 7"),
])
def test_schedules(schedule: str, wanted: str) -> None:
    assert schedules.complaint(schedule) == wanted


def test_indexes() -> None:
    assert indexes.intervals("0,2-4,9", 10) == [(0, 0), (2, 4), (9, 9)]
    for bad in ("3-1", "1,1", "1-2-3", "x", "10", "-1"):
        with pytest.raises(ValueError, match=r"."):
            indexes.intervals(bad, 10)
    assert indexes.overlap("0,2-4", "1,5-7", 10) is None
    assert indexes.overlap("0,2-4", "1,x,3-7", 10) == 3


def test_the_status_of_a_job() -> None:
    obj = job(completionMode="Indexed", completions=3)
    start, end = "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"
    met, done = {"type": "SuccessCriteriaMet", "status": "True"}, {"type": "Complete", "status": "True"}
    whole = {"startTime": start, "completionTime": end, "succeeded": 3, "conditions": [met, done]}
    assert changed(JOB, obj, "status", **whole) == []
    assert changed(JOB, obj, "status", **{**whole, "conditions": [done]}) == [
        ("status.conditions: Invalid value: cannot set Complete=True condition without the SuccessCriteriaMet=true "
        "condition")]
    assert changed(JOB, obj, "status", conditions=[met, done], startTime=start) == [
        "status.completionTime: Required value: completionTime is required for Complete jobs"]
    assert changed(JOB, obj, "status", completedIndexes="0-5") == [
        'status.completedIndexes: Invalid value: "0-5": error parsing completedIndexes: too large index: "5"']
    assert changed(JOB, obj, "status", active=1, ready=2) == [
        "status.ready: Invalid value: 2: cannot set more ready pods than active"]
    obj["status"] = whole
    assert changed(JOB, obj, "status", conditions=[met]) == [
        ("status.completionTime: Invalid value: \"2026-01-01T00:01:00Z\": cannot set completionTime when there is no "
        "Complete=True condition"),
        "status.conditions: Invalid value: cannot disable the terminal Complete=True condition"]
    assert changed(JOB, obj, "status", completionTime=start) == [
        f'status.completionTime: Invalid value: "{start}": completionTime cannot be mutated']
    assert changed(JOB, obj, "status", succeeded=1) == [
        "status.succeeded: Invalid value: 1: cannot decrease the succeeded counter"]


@pytest.mark.parametrize(("strategy", "status", "wanted"), [
    (DEPLOYMENT, {"replicas": 1, "readyReplicas": 2, "availableReplicas": 3}, [
        "status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas",
        "status.availableReplicas: Invalid value: 3: cannot be greater than status.replicas",
        "status.availableReplicas: Invalid value: 3: cannot be greater than readyReplicas"]),
    (STATEFUL, {"replicas": 1, "availableReplicas": 1}, [
        "status.availableReplicas: Invalid value: 1: cannot be greater than status.readyReplicas"]),
    (DAEMONS, {"numberReady": -1}, ["status.numberReady: Invalid value: -1: must be greater than or equal to 0"]),
    (DAEMONS, {"collisionCount": 1}, ["status.collisionCount: Invalid value: 1: cannot be decremented"]),
])
def test_counts_in_a_status(strategy: Strategy, status: Object, wanted: list[str]) -> None:
    obj = lasting(strategy)
    obj["status"] = {"collisionCount": 2}
    assert changed(strategy, obj, "status", **{"collisionCount": 2, **status}) == wanted


def test_a_revision_stays() -> None:
    old = {"metadata": {"name": "r", "namespace": "n"}, "revision": 1, "data": {"a": 1}}
    assert said(REVISION.validate_update({**old, "data": {"a": 2}}, old)) == [
        'data: Invalid value: {"a":2}: field is immutable']
    assert said(REVISION.validate_update({**old, "revision": 2}, old)) == []
